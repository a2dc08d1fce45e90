"""Logs: what attempts print, kept by byte offset so that any agent can answer for any part."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec

#: The largest piece one append takes.
MAX_CHUNK_BYTES = 512 << 10


class LogKey(msgspec.Struct, frozen=True):
    """Names one attempt's log."""

    build: str
    attempt: int


class Logs(Protocol):
    """Append-only byte strings, one an attempt. One writer a key; any number of readers.

    A reader sees a prefix of what the script wrote, always: no gap, no repeat, byte for byte.
    """

    async def append(self, key: LogKey, offset: int, data: bytes) -> int:
        """Add ``data``, which starts at byte ``offset``, and return the new end once it is on disk.

        It may be called for the next pieces before the former have returned: they are compressed at
        the same time and written in order, and if one fails, those behind it raise StaleError and
        are not written. Two to four under way are enough. Cancelling leaves open whether it was
        written, as UnavailableError does.

        Repeating a piece that is there already changes nothing, so a shipper that died between
        sending and hearing the answer asks :meth:`end` and goes on from there.

        Args:
            key: The attempt.
            offset: Must be the present end, counting what is under way.
            data: 1 byte to 512 KiB, as written; how it is compressed is the adapter's business.

        Raises:
            InputError: ``data`` is empty or too large.
            StaleError: ``offset`` is not the present end; nothing was written.
            UnavailableError: not acknowledged in time; it may still have been written.
        """
        ...

    async def end(self, key: LogKey) -> int:
        """Return how many bytes are there; 0 for a log nobody wrote."""
        ...

    def read(self, key: LogKey, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        """Yield the bytes from ``start`` up to ``stop`` (or what is there now), in pieces.

        Cost: memory of a few pieces, whatever the log's size; starting late does not read what
        lies before.

        Raises:
            NotFoundError: the log's beginning is no longer kept, and ``start`` lies in it.
            UnavailableError: the engine does not answer.
        """
        ...

    def follow(self, key: LogKey, start: int = 0) -> AsyncGenerator[bytes]:
        """Yield the bytes from ``start``, then new ones as they come. Ends only when closed.

        Goes on through a restart of the engine.

        Raises:
            NotFoundError: as for :meth:`read`.
            UnavailableError: the engine does not answer at the very start.
        """
        ...

    async def drop(self, key: LogKey) -> None:
        """Forget a log. Safe to call twice."""
        ...
