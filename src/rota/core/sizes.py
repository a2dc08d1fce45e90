"""Sizes in bytes as people write them: ``8G``, ``512M``, ``1.5T``.

A letter stands for a power of 1024; ``iB`` or ``B`` may follow it. No letter means bytes.
"""

from __future__ import annotations

import re

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
#: Digits are bounded so that no text, however long, costs more than a glance.
_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,6}))?([KMGT])(?:i?B)?")
_PLAIN = re.compile(r"[0-9]{1,18}")


def parse_size(text: str) -> int | None:
    """Return the bytes that ``text`` says, rounded down, or ``None`` if it is no size."""
    if _PLAIN.fullmatch(text):
        return int(text)
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    whole, fraction, unit = match.groups()
    size = int(whole) * _UNITS[unit]
    if fraction:
        size += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
    return size
