"""Promotions: artifacts of a build that were given a name, and stay under it.

``promoted/NAME.json`` on ``main`` says what is promoted, from which build, by whom and why. The bytes
are the build's: as long as the file is there retention passes over them, and nothing replaces them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from rota.core.build import Artifact
from rota.core.instant import Instant

PROMOTED = "promoted/"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


class Promotion(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``promoted/NAME.json`` says. ``build`` is an id, ``ref`` its name; without ``until``, for ever."""

    build: str
    ref: str
    at: Instant
    by: str
    artifacts: tuple[Artifact, ...]
    why: str = ""
    until: Instant | None = None


_decoder = msgspec.json.Decoder(Promotion)


def promotion_name_fault(name: str) -> str | None:
    """Return what is wrong with a promotion's name, or ``None``."""
    if _NAME.fullmatch(name):
        return None
    return "up to 100 letters, digits and . _ + -, the first no sign"


def encode_promotion(promotion: Promotion) -> bytes:
    """Return the file's bytes."""
    return msgspec.json.format(msgspec.json.encode(promotion), indent=1) + b"\n"


def parse_promotion(data: bytes) -> Promotion | None:
    """Return what a file says; ``None`` if it cannot be read. Never raises."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def pinned(promotions: Iterable[Promotion]) -> set[tuple[str, str]]:
    """Return what stays: ids of builds, each with a path."""
    return {(it.build, artifact.path) for it in promotions for artifact in it.artifacts}


def promoted_as(promotions: Mapping[str, Promotion], build: str, path: str) -> str | None:
    """Return the name under which a build's file stays; ``None`` if it is under none."""
    for name, promotion in promotions.items():
        if promotion.build == build and any(it.path == path for it in promotion.artifacts):
            return name
    return None


def over(promotions: Mapping[str, Promotion], now: datetime) -> list[str]:
    """Return the names of those whose time is over."""
    return [name for name, it in promotions.items() if it.until is not None and it.until <= now]
