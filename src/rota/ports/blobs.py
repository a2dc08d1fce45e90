"""Artifacts: files that builds leave, by name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Protocol

import msgspec

from rota.core.settings import Settings


class Blob(msgspec.Struct, frozen=True):
    """What is known of a stored file: its size in bytes and the hex SHA-256 of its bytes."""

    name: str
    size: int
    sha256: str


class Blobs(Protocol):
    """Named byte strings of any size, streamed both ways: nothing ever holds one in memory."""

    async def put(self, name: str, data: AsyncIterator[bytes]) -> Blob:
        """Store ``data`` under ``name``, replacing what was there only once all of it arrived.

        Raises:
            UnavailableError: the engine or the disk cannot take it.
        """
        ...

    def get(self, name: str, offset: int = 0) -> AsyncGenerator[bytes]:
        """Yield the bytes, from the one at ``offset`` on.

        Raises:
            NotFoundError: nothing of that name (at the first step).
        """
        ...

    async def find(self, name: str) -> Blob | None:
        """Return what is stored under ``name``, without its bytes. Cost: one round trip.

        Raises:
            UnavailableError: the engine does not answer.
        """
        ...

    async def drop(self, name: str) -> None:
        """Forget it. Safe to call twice."""
        ...

    async def tidy(self, before: datetime) -> int:
        """Give back the space of uploads that broke off; return how many there were.

        An upload that got a piece since ``before`` may still be under way.

        Cost: a list of all names; for once a day.

        Raises:
            UnavailableError: the engine does not answer; some may have been forgotten.
        """
        ...


class Named(Blobs, Protocol):
    """Blobs that can be listed."""

    async def names(self) -> list[str]:
        """Return the names of all that is stored."""
        ...


ReadSecret = Callable[[str], Awaitable[bytes]]
"""Returns the value of a secret of the cluster; see :meth:`rota.ports.secrets.Secrets.read`."""
Make = Callable[[Settings, ReadSecret], Blobs | None]
"""Returns the store that the settings describe; ``None`` if they describe none."""
