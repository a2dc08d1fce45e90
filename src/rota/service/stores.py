"""Where artifacts are stored: one place for what is new, and all in which older ones still lie.

The settings choose: the engine, a folder that all agents share, or a bucket. While an agent is the
only one of its cluster, the engine's copy would be on the same disk, only slower: so then files of
the agent's own folder are used, and handed over to the engine once others join.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from datetime import datetime

from rota.core.settings import Settings
from rota.errors import NotFoundError, RotaError, UnavailableError
from rota.ports.blobs import Blob, Blobs, Make, Named, ReadSecret
from rota.service.ticks import tick

logger = logging.getLogger(__name__)

ENGINE, OWN, FILES, BUCKET = "engine", "own", "files", "bucket"
#: How soon it is looked again whether own files are to be handed over.
LOOK_S = 5.0


class Stores:
    """See :class:`rota.ports.blobs.Blobs`."""

    def __init__(
        self,
        engine: Blobs,
        own: Named | None,
        make: Mapping[str, Make],
        *,
        settings: Callable[[], Settings],
        is_alone: Callable[[], bool],
        read_secret: ReadSecret,
        since: datetime,
    ) -> None:
        self._engine, self._own, self._make = engine, own, make
        self._settings, self._is_alone, self._read_secret = settings, is_alone, read_secret
        self._since = since  # what is older and unfinished is of a daemon that is dead
        self._made: dict[str, tuple[object, Blobs]] = {}

    @property
    def chosen(self) -> str:
        """Where new ones go."""
        wanted = self._settings().artifacts.store
        if wanted:
            return wanted
        return OWN if self._own is not None and self._is_alone() else ENGINE

    def _stores(self) -> list[Blobs]:
        """Return all stores, that of new ones first."""
        found: dict[str, Blobs] = {ENGINE: self._engine}
        if self._own is not None:
            found = {OWN: self._own, **found}
        settings = self._settings()
        for kind, make in self._make.items():
            key = (settings.bucket, settings.artifacts.path)
            known = self._made.get(kind)
            if known is None or known[0] != key:
                made = make(settings, self._read_secret)
                if made is None:
                    self._made.pop(kind, None)
                    continue
                known = self._made[kind] = (key, made)
            found[kind] = known[1]
        chosen = self.chosen
        if chosen not in found:
            raise UnavailableError(
                f"artifacts are to go to {chosen!r}, which this agent has not",
                hint="correct [artifacts] store in the settings",
            )
        return [found.pop(chosen), *found.values()]

    async def put(self, name: str, data: AsyncIterator[bytes]) -> Blob:
        """Store ``data`` where new ones go, and forget an older one elsewhere."""
        first, *others = self._stores()
        blob = await first.put(name, data)
        for other in others:
            try:
                if await other.find(name) is not None:
                    await other.drop(name)
            except UnavailableError as error:
                logger.warning("an older %r may be left somewhere: %s", name, error.message)
        return blob

    async def get(self, name: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from the first store that has it."""
        found = await self._where(name)
        if found is None:
            raise NotFoundError(f"nothing is stored as {name!r}")
        async with contextlib.aclosing(found[0].get(name, offset)) as pieces:
            async for piece in pieces:
                yield piece

    async def find(self, name: str) -> Blob | None:
        """Return what is stored under ``name``, wherever."""
        found = await self._where(name)
        return None if found is None else found[1]

    async def find_own(self, name: str) -> Blob | None:
        """Return what is stored under ``name`` in the engine or in this agent's folder alone."""
        for store in (self._own, self._engine):
            if store is not None and (blob := await store.find(name)) is not None:
                return blob
        return None

    async def _where(self, name: str) -> tuple[Blobs, Blob] | None:
        fault: UnavailableError | None = None
        for store in self._stores():
            try:
                blob = await store.find(name)
            except UnavailableError as error:
                fault = fault or error
                continue
            if blob is not None:
                return store, blob
        if fault is not None:
            raise fault  # it may be there
        return None

    async def drop(self, name: str) -> None:
        """Forget it everywhere."""
        for store in self._stores():
            await store.drop(name)

    async def tidy(self, before: datetime) -> int:
        """Give back what broke off, everywhere; a store that is away is left for next time."""
        count = 0
        for store in self._stores():
            try:
                count += await store.tidy(before)
            except UnavailableError as error:
                logger.warning("uploads that broke off stay for now: %s", error.message)
        return count

    async def run(self) -> None:
        """Hand over own files once they are no longer where new ones go, for ever."""
        is_tidy = self._own is None
        while True:
            try:
                if self._own is not None and not is_tidy:
                    await self._own.tidy(self._since)
                    is_tidy = True
                if self._own is not None and self.chosen != OWN:
                    await self.hand_over()
            except RotaError as error:
                logger.warning("artifacts stay in this agent's folder for now: %s", error.message)
            await tick(LOOK_S)

    async def hand_over(self) -> int:
        """Move own files to where new ones go, one after another; return how many.

        Raises:
            UnavailableError: some are left.
        """
        count = 0
        if self._own is None:
            return count
        for name in await self._own.names():
            first = self._stores()[0]
            if first is self._own:
                break
            # One that was kept anew meanwhile is there already, and newer.
            if await first.find(name) is None:
                async with contextlib.aclosing(self._own.get(name)) as pieces:
                    await first.put(name, pieces)
            await self._own.drop(name)
            count += 1
        if count:
            logger.info("%d artifacts were handed over from this agent's folder", count)
        return count
