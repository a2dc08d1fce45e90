"""What is known of a saved cache."""

from __future__ import annotations

import msgspec

from rota.core.instant import Instant
from rota.core.job import Int


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One saved cache: for each path of the header a packed tree, one after the other in one file.

    ``parts`` are the bytes that each path takes of it, 0 for one that was not there. ``size`` and the
    hex ``sha256`` are those of the packed file; ``build`` saved it.
    """

    scope: str
    key: str
    paths: tuple[str, ...]
    parts: tuple[Int, ...]
    size: Int
    sha256: str
    saved_at: Instant
    build: str = ""


class SharedCache(msgspec.Struct, frozen=True):
    """A cache that all agents share, and when one of them used it last, to the day."""

    entry: Entry
    used_at: Instant


def name_of(scope: str, key: str) -> str:
    """Return what tells a cache from all others; a scope has no spaces."""
    return f"{scope} {key}"
