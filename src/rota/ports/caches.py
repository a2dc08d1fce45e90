"""Caches on this agent's disk: packed trees under keys."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec

from rota.core.cache_entry import Entry


class Kept(msgspec.Struct, frozen=True):
    """A cache that lies here, and when it was saved or used last."""

    entry: Entry
    used_at: datetime


class Caches(Protocol):
    """Packed trees by scope and key. What is under a key never changes; one that is broken goes.

    Every call but :meth:`all` may take as long as its bytes; cancelling any leaves nothing behind.
    """

    async def all(self) -> Sequence[Kept]:
        """Return what is here. Cost: none, after the first call."""
        ...

    async def save(self, entry: Entry, trees: Sequence[Path], *, limit: int) -> Entry:
        """Pack the trees that are there and keep them under the entry's scope and key.

        Of ``entry`` scope, key, paths and who saves it count; what is returned says the rest. If
        another one was quicker, that one stays and is returned.

        Args:
            entry: What to call it.
            trees: The folder, or file, of each of its paths; one that is missing is left out.
            limit: More bytes than that are not kept.

        Raises:
            NotFoundError: none of them is there.
            ExecutionError: something cannot be read, it is larger, or the disk is full.
        """
        ...

    async def add(self, entry: Entry, data: AsyncIterator[bytes]) -> None:
        """Keep what another agent packed.

        Raises:
            ExecutionError: these are not the bytes of the entry, or the disk is full.
        """
        ...

    def read(self, entry: Entry) -> AsyncGenerator[bytes]:
        """Yield the packed bytes.

        Raises:
            NotFoundError: it is not here any more (at the first step).
        """
        ...

    async def restore(self, entry: Entry, trees: Sequence[Path]) -> None:
        """Unpack an entry: each path's tree as the one of ``trees``; it counts as used.

        One that turns out to be damaged is dropped before anything is unpacked.

        Raises:
            NotFoundError: it is not here any more.
            ExecutionError: it is damaged, or the disk cannot take it; trees may be there in part.
        """
        ...

    async def drop(self, entry: Entry) -> None:
        """Forget it. Safe to call twice."""
        ...

    async def bound(self, max_bytes: int) -> Sequence[Entry]:
        """Drop those whose use is longest ago until the others fit; return what went."""
        ...
