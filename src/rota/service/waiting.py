"""Scripts that wait for other builds: while they do, their slots are free for those.

A script waits where it asks, from inside its build, for a build that has not finished, and the answer
is to come once it has. That is written down (``build.waiting``) when the first such request comes, and
taken back when the awaited build has ended and none is left; one that breaks off without that, or
whose daemon was killed, is taken back by :meth:`Waits.run` a little later: its caller may come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from rota.core.build import Build
from rota.core.events import BuildWaiting
from rota.core.states import State
from rota.errors import RotaError, StaleError
from rota.ports.clock import Clock
from rota.ports.journal import Journal
from rota.service.ticks import tick
from rota.service.world import World

logger = logging.getLogger(__name__)

LOOK_S = 2.0
#: A caller whose request broke off, or timed out, comes again sooner than this.
LINGER_S = 6.0
TRIES = 20


class Waits:
    """The waiting scripts of this agent's builds. :meth:`run` is a task of the agent."""

    def __init__(self, agent: str, world: World, journal: Journal, clock: Clock) -> None:
        self._agent, self._world, self._journal, self._clock = agent, world, journal, clock
        self._counts: dict[str, int] = {}
        self._left_at: dict[str, float] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    @contextlib.asynccontextmanager
    async def of(self, waiter: str, awaited: str) -> AsyncIterator[None]:
        """Count a wait of a build's script for another build, for as long as the context is open."""
        if not waiter or waiter == awaited or self._mine(waiter) is None:
            yield
            return
        self._counts[waiter] = self._counts.get(waiter, 0) + 1
        try:
            await self._settle(waiter)
            yield
        finally:
            self._counts[waiter] -= 1
            self._left_at[waiter] = self._clock.monotonic()
            if not self._counts[waiter]:
                del self._counts[waiter]
            found = self._world.find(awaited)
            if found is None or found.state is State.FINISHED:
                await self._settle(waiter)

    async def run(self) -> None:
        """Take back what nobody waits for any more, for ever."""
        while True:
            await tick(LOOK_S)
            now = self._clock.monotonic()
            for build_id in tuple(self._world.cluster.waiting.get(self._agent, ())):
                left_at = self._left_at.setdefault(build_id, now)
                if build_id not in self._counts and now - left_at >= LINGER_S:
                    await self._settle(build_id)
            for build_id in [it for it in self._left_at if self._mine(it) is None]:
                del self._left_at[build_id]
                self._turns.pop(build_id, None)

    async def _settle(self, build_id: str) -> None:
        """Write down whether a build waits, unless that is known; whatever fails, nothing hangs on it."""
        async with self._turns.setdefault(build_id, asyncio.Lock()):
            for _ in range(TRIES):
                build = self._mine(build_id)
                is_waiting = build_id in self._counts
                if build is None or build.is_waiting == is_waiting:
                    return
                event = BuildWaiting(
                    at=self._clock.now(),
                    by=self._agent,
                    agent=self._agent,
                    build=build_id,
                    attempt=build.attempt,
                    over=not is_waiting,
                )
                try:
                    seq = await self._journal.append(event, expect=build.last_seq)
                    await self._world.reached(seq, LOOK_S)
                except StaleError:
                    await self._world.changed(build_id, 0.2)
                except (RotaError, TimeoutError) as error:
                    logger.warning("%s waits, and its slot stays taken: %s", build.ref, error)
                    return

    def _mine(self, build_id: str) -> Build | None:
        build = self._world.cluster.picture.builds.get(build_id)
        is_mine = build is not None and build.state is State.RUNNING and build.agent == self._agent
        return build if is_mine else None
