"""The leases of exclusive attempts: how long each may run on if this agent is heard no more.

The leader records an agent as lost when it has not heard it for ``agents.lost_after``, and then what
ran there may begin elsewhere. So an exclusive attempt may run for a part of that time after a word
of which the leader *confirmed* that it heard it, counted from before the word was said. Its guard
ends it then, whether or not this daemon lives. To hear others proves nothing: a network can be cut
in one direction, or between this agent and the leader alone.

For an agent that is alone there is nobody who could begin the build elsewhere: its attempts run
without a limit, until a second agent joins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterator

from rota.ports.executor import Executor, Running
from rota.service.world import World

logger = logging.getLogger(__name__)

#: How many `lost_after` a lease lasts: longer than the engine takes to elect, and shorter than the
#: leader waits for an exclusive attempt (core/decide.py); between the two is time for the killing.
SHARE = 1.1
LEAST_S = 2.0
#: Between renewals, and between tries where there was no answer.
RENEW_S = 1.0
RETRY_S = 0.25
#: How long an answer may take.
ANSWER_S = 1.0


class Leases:
    """The leases of this agent's exclusive attempts. :meth:`run` is its task.

    Args:
        world: For the settings, and for who else there is.
        executor: By its clock leases run.
        leads: Whether this agent leads now: nobody else can record it as lost.
        is_heard: Says a word, and returns whether the leader confirmed it within some seconds.

    Costs nothing while there is no exclusive attempt; then a word a second, for all of them.
    """

    def __init__(
        self,
        world: World,
        executor: Executor,
        *,
        leads: Callable[[], bool],
        is_heard: Callable[[float], Awaitable[bool]],
    ) -> None:
        self._world, self._executor = world, executor
        self._leads, self._is_heard = leads, is_heard
        self._kept: dict[Running, Callable[[], None]] = {}
        self._some = asyncio.Event()

    async def lend(self, is_wanted: Callable[[], bool]) -> float | None:
        """Return until what moment an attempt may run that is started now.

        Waits until the leader has confirmed a word, for as long as ``is_wanted``; then ``None``.
        """
        while is_wanted():
            until = await self._until()
            if until is not None:
                return until
            await asyncio.sleep(RETRY_S)
        return None

    @contextlib.contextmanager
    def kept(self, running: Running, unguarded: Callable[[], None]) -> Iterator[None]:
        """Renew an attempt's lease while the context is open; call ``unguarded`` if nobody can."""
        self._kept[running] = unguarded
        self._some.set()
        try:
            yield
        finally:
            self._kept.pop(running, None)
            if not self._kept:
                self._some.clear()

    async def run(self) -> None:
        """Renew, for ever."""
        while True:
            await self._some.wait()
            until = await self._until()
            if until is not None:
                self._renew(until)
            await asyncio.sleep(RENEW_S if until is not None else RETRY_S)

    def _renew(self, until: float) -> None:
        for running, unguarded in tuple(self._kept.items()):
            if not running.renew(until):
                logger.warning("process %d: its lease ran out, or its guard is gone", running.pid)
                self._kept.pop(running)
                unguarded()

    async def _until(self) -> float | None:
        """Return the moment until which this agent cannot be recorded as lost, less a margin."""
        if len(self._world.cluster.picture.agents) <= 1:
            return math.inf
        # Before the word: what comes later is on our side of the promise.
        moment = self._executor.moment()
        if not (self._leads() or await self._is_heard(ANSWER_S)):
            return None
        lost_after_s = self._world.definitions.settings.agents.lost_after_s
        return moment + max(LEAST_S, SHARE * lost_after_s)
