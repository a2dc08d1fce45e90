"""Leaving for good: finish what runs, hand over what a voter keeps, say so, and stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from rota.agent.leadership import Leadership
from rota.agent.patience import persist
from rota.core.events import AgentLeft
from rota.ports.clock import Clock
from rota.ports.journal import Journal
from rota.service.world import World

logger = logging.getLogger(__name__)


class Leaving:
    """Carries out what ``rota leave`` asked for; :meth:`run` is its task."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        journal: Journal,
        clock: Clock,
        leadership: Leadership,
        stop: Callable[[], None],
        is_claiming: Callable[[], bool],
        hand_over: Callable[[], Awaitable[int]],
    ) -> None:
        self._name, self._world, self._journal = name, world, journal
        self._clock, self._leadership, self._stop = clock, leadership, stop
        self._is_claiming, self._hand_over = is_claiming, hand_over
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Something happened that may have been waited for."""
        self._changed.set()

    async def run(self) -> None:
        """Wait until this agent is to leave and can; then it is gone."""
        while not self._is_done():
            if self._is_leaving():
                await self._leadership.resign(f"{self._name} leaves")
            await self._changed.wait()
            self._changed.clear()
        # What it kept while it was alone would go with its disk.
        await persist("artifacts", self._hand_over)
        event = AgentLeft(
            at=self._clock.now(), by=self._name, agent=self._name, name=self._name, why="it left"
        )
        await persist("leave", lambda: self._journal.append(event))
        logger.info("%s left the cluster", self._name)
        self._stop()

    def _is_leaving(self) -> bool:
        myself = self._world.cluster.picture.agents.get(self._name)
        return myself is not None and myself.leaving

    def _is_done(self) -> bool:
        cluster = self._world.cluster
        # What it asked for before it was to leave may still become its own.
        is_busy = bool(cluster.running.get(self._name)) or self._is_claiming()
        return self._is_leaving() and not is_busy and self._name not in cluster.picture.voters
