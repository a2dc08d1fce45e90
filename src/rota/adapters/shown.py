"""Logs that are shown as they come, and files that are only measured: for `rota exec`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import datetime

from rota.errors import NotFoundError, StaleError
from rota.ports.blobs import Blob
from rota.ports.logs import LogKey

NOTHING: tuple[bytes, ...] = ()


class ShownLogs:
    """Hands each piece on, in order, and keeps none; reading finds nothing."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._ends: dict[LogKey, int] = {}

    async def append(self, key: LogKey, offset: int, data: bytes) -> int:
        """Show ``data``, which must begin at the end."""
        if offset != self._ends.get(key, 0):
            raise StaleError(f"the log ends at {self._ends.get(key, 0)}, not {offset}")
        self._write(data)
        self._ends[key] = offset + len(data)
        return self._ends[key]

    async def end(self, key: LogKey) -> int:
        """Return how many bytes were taken."""
        return self._ends.get(key, 0)

    async def read(
        self, key: LogKey, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield nothing."""
        for piece in NOTHING:
            yield piece

    async def follow(self, key: LogKey, start: int = 0) -> AsyncGenerator[bytes]:
        """Yield nothing."""
        for piece in NOTHING:
            yield piece

    async def drop(self, key: LogKey) -> None:
        """Forget the count."""
        self._ends.pop(key, None)


class MeasuredBlobs:
    """Takes files, measures them, and forgets them."""

    async def put(self, name: str, data: AsyncIterator[bytes]) -> Blob:
        """Return the size and hash of ``data``."""
        digest, size = hashlib.sha256(), 0
        async for piece in data:
            digest.update(piece)
            size += len(piece)
        return Blob(name, size, digest.hexdigest())

    async def get(self, name: str, offset: int = 0) -> AsyncGenerator[bytes]:
        """Raise: there is never anything."""
        for piece in _nothing_of(name):
            yield piece

    async def find(self, name: str) -> Blob | None:
        """Return ``None``: nothing is kept."""
        return None

    async def drop(self, name: str) -> None:
        """Do nothing."""

    async def tidy(self, before: datetime) -> int:
        """Do nothing."""
        return 0


def _nothing_of(name: str) -> tuple[bytes, ...]:
    raise NotFoundError(f"no {name!r}: `rota exec` keeps no artifacts")
