"""A leader's duty: the cluster is raised once every member can what a newer version brings.

What a member can is known of its last start, and of the words it says since: who was started anew
from a state that an older version kept has not seen the announcements of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

from rota.core.events import AgentStarted
from rota.core.levels import LEVEL, attainable
from rota.errors import StaleError
from rota.ports.journal import Entry
from rota.service.world import World

logger = logging.getLogger(__name__)

LOOK_S = 1.0
FOLD_S = 5.0

Raise = Callable[[int, tuple[str, ...]], Awaitable[int]]


class Levels:
    """Raises the cluster while this agent leads; :meth:`run` is the duty.

    ``record`` appends ``cluster.raised``, fenced by the lease, and returns its sequence. ``heard``
    has, by agent, what it last said; whoever listens to words sets it.
    """

    def __init__(self, world: World, record: Raise) -> None:
        self._world, self._record = world, record
        self.heard: dict[str, int] = {}
        self.look_s = LOOK_S

    def folded(self, entry: Entry) -> None:
        """Note a start: what that agent said before is of another program."""
        event = entry.event
        if isinstance(event, AgentStarted):
            self.heard.pop(event.agent, None)

    async def run(self) -> None:
        """Raise it when that is due. Ends once there is nothing to raise to."""
        picture = self._world.cluster.picture
        while picture.level < LEVEL:
            members = tuple(sorted(picture.agents))
            level = attainable(members, self._announced())
            if level > picture.level:
                logger.info("all members can level %d: the cluster is raised to it", level)
                # Refused where another agent leads by now: this one is told so in a moment.
                with contextlib.suppress(StaleError, TimeoutError):
                    await self._world.reached(await self._record(level, members), FOLD_S)
            await asyncio.sleep(self.look_s)
            picture = self._world.cluster.picture

    def _announced(self) -> Mapping[str, int]:
        agents = self._world.cluster.picture.agents.values()
        return {it.name: max(it.level, self.heard.get(it.name, 0)) for it in agents}
