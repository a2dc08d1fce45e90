"""A leader's duty: drop the caches that all agents share and nobody uses, or that are too many.

They are dropped first and that is recorded then, as with what builds leave: who dies in between
finds nothing left to drop, and records it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from rota.core.caches import blob_of, sweep
from rota.errors import RotaError
from rota.ports.blobs import Blobs
from rota.ports.clock import Clock
from rota.service.world import World

logger = logging.getLogger(__name__)

SWEEP_S = 600.0

Record = Callable[[tuple[str, ...], str], Awaitable[None]]
"""Writes that these caches were dropped, and by which rule, fenced by the lease."""


class CacheSweeper:
    """Sweeps for as long as this agent leads; :meth:`run` is the duty."""

    def __init__(self, world: World, blobs: Blobs, clock: Clock, record: Record) -> None:
        self._world, self._blobs, self._clock, self._record = world, blobs, clock, record

    async def run(self) -> None:
        """Sweep at once and every ten minutes, for ever."""
        while True:
            try:
                await self.sweep()
            except RotaError as error:
                logger.warning("shared caches stay for now: %s", error.message)
            await asyncio.sleep(SWEEP_S)

    async def sweep(self) -> int:
        """Drop what is over its limits; return how many that were.

        Raises:
            UnavailableError: the store does not answer; what was dropped is recorded.
            FencedError: this agent leads no more.
        """
        limits, count = self._world.definitions.settings.caches, 0
        shared = self._world.cluster.picture.caches
        going = sweep(
            shared,
            self._clock.now(),
            max_age_s=limits.max_age_s,
            max_bytes=limits.shared_bytes,
        )
        for rule, names in going.items():
            for name in names:
                await self._blobs.drop(blob_of(shared[name].entry))
            if names:
                await self._record(tuple(names), rule)
                count += len(names)
        return count
