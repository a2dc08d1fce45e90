"""Takes over the definitions of a commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from rota.core.definitions import check, wanted
from rota.ports.store import Store
from rota.service.world import World

logger = logging.getLogger(__name__)


class Follower:
    """Reads definitions into the world. Only one caller at a time: the agent's :class:`Mover`.

    ``told`` are called after each change.
    """

    def __init__(self, world: World, store: Store) -> None:
        self._world, self._store = world, store
        self.told: list[Callable[[], object]] = []

    async def follow(self, commit: str) -> None:
        """Let the definitions be those of ``commit``. Cost: what was changed, and one ls-tree.

        Raises:
            UnavailableError: the store cannot be read.
        """
        if commit == self._world.commit:
            return
        tree = await self._store.tree(commit)
        hashes = wanted(tree, self._world.definitions)
        blobs = await self._store.blobs(hashes)
        # Counting what repeats in an iCalendar file may take a second, in which others wait.
        changed = {path for path, blob in tree.items() if blob in hashes}
        if any(path.endswith(".ics") for path in changed):
            definitions, problems = await asyncio.to_thread(
                check, tree, blobs, self._world.definitions
            )
        else:
            definitions, problems = check(tree, blobs, self._world.definitions)
        for problem in problems:
            logger.warning("main: %s", problem)
        self._world.definitions, self._world.commit = definitions, commit
        for told in self.told:
            told()
