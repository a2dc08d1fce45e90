"""Output of a container as the engine keeps it: both streams in one, in frames."""

from __future__ import annotations

import struct

_HEAD = struct.Struct(">BxxxI")


def lines_of(data: bytes) -> list[str]:
    """Return the lines of a container's output, whichever stream they are of.

    What is not in frames is taken as it is, which is how a terminal's output comes.
    """
    text, at = b"", 0
    while at + _HEAD.size <= len(data):
        stream, length = _HEAD.unpack_from(data, at)
        if stream > 2 or at + _HEAD.size + length > len(data):
            break
        text += data[at + _HEAD.size : at + _HEAD.size + length]
        at += _HEAD.size + length
    if at == 0:
        text = data
    return text.decode("utf-8", "replace").splitlines()
