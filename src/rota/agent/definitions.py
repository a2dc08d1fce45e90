"""Keeps the definitions in step with the store's ``main``, and says so in the journal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from rota.agent.patience import persist
from rota.core.definitions import check, wanted
from rota.core.events import StoreMoved
from rota.core.settings import Settings
from rota.errors import StaleError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.journal import Journal
from rota.ports.store import MAIN, Store
from rota.service.world import World

logger = logging.getLogger(__name__)


class Follower:
    """Reads ``main`` into the world whenever it moved. Calls take their turns."""

    def __init__(
        self,
        name: str,
        world: World,
        store: Store,
        journal: Journal,
        clock: Clock,
        configure: Callable[[Settings], Awaitable[None]],
    ) -> None:
        self._name, self._world, self._store = name, world, store
        self._journal, self._clock = journal, clock
        self._configure = configure
        self._turn = asyncio.Lock()

    async def pushed(self, old: str, new: str, principal: str) -> None:
        """Follow a push; the journal then has who it was by."""
        await self.follow(by=principal)

    async def follow(self, by: str = "") -> None:
        """Bring the definitions to where ``main`` is. Cost: what was changed, and one ls-tree."""
        async with self._turn:
            commit = await self._store.head(MAIN)
            if commit == self._world.commit:
                return
            tree = await self._store.tree(commit)
            hashes = wanted(tree, self._world.definitions)
            blobs = await self._store.blobs(hashes)
            definitions, problems = check(tree, blobs, self._world.definitions)
            for problem in problems:
                logger.warning("main: %s", problem)
            self._world.definitions, self._world.commit = definitions, commit
            await self._take(definitions.settings)
            await self._announce(commit, by)

    async def _take(self, settings: Settings) -> None:
        try:
            await self._configure(settings)
        except UnavailableError as error:
            logger.warning("the settings take effect later: %s", error.message)

    async def _announce(self, commit: str, by: str) -> None:
        known = self._world.cluster.picture.refs.get(MAIN, "")
        if known == commit:
            return
        event = StoreMoved(
            at=self._clock.now(),
            by=by or self._name,
            agent=self._name,
            ref=MAIN,
            old=known,
            new=commit,
        )
        try:
            await persist("main moved", lambda: self._journal.append(event))
        except StaleError:
            return
