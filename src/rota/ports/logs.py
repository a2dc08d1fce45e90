"""Logs: what attempts print, kept by byte offset so that any agent can answer for any part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec


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

        Repeating a piece that is there already changes nothing, so a shipper that died between
        sending and hearing the answer asks :meth:`end` and goes on from there.

        Args:
            key: The attempt.
            offset: Must be the present end.
            data: 1 byte to 512 KiB, as written; how it is compressed is the adapter's business.

        Raises:
            StaleError: ``offset`` is not the present end.
            UnavailableError: not acknowledged in time; it may still have been written.
        """
        ...

    async def end(self, key: LogKey) -> int:
        """Return how many bytes are there; 0 for a log nobody wrote."""
        ...

    def read(self, key: LogKey, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop`` (or what is there now), in pieces.

        Cost: memory of a few pieces, whatever the log's size; starting late does not read what
        lies before.
        """
        ...

    def follow(self, key: LogKey, start: int = 0) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start``, then new ones as they come. Ends only when closed."""
        ...

    async def drop(self, key: LogKey) -> None:
        """Forget a log. Safe to call twice."""
        ...
