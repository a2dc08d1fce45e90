"""A leader's duty: the cluster is raised once every member can what a newer version brings.

What a member can is known of its last start, and of the words it says since: who was started anew
from a state that an older version kept has not seen the announcements of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

from rota.core.agents import Agent
from rota.core.cluster import Picture
from rota.core.events import AgentStarted
from rota.core.levels import FIRST, LEVEL, attainable, just_gone, too_new
from rota.errors import ConflictError, StaleError
from rota.ports.clock import Clock
from rota.ports.journal import Entry
from rota.service.world import World

logger = logging.getLogger(__name__)

LOOK_S = 1.0
FOLD_S = 5.0
#: One that is silent for so long, a word being said every two seconds, may be down.
SILENT_S = 5.0

Raise = Callable[[int, tuple[str, ...]], Awaitable[int]]
Dismiss = Callable[[str], Awaitable[None]]


def refuse_too_new(picture: Picture) -> None:
    """Do nothing if this program may fold on.

    Raises:
        ConflictError: the cluster is at a level that it does not know.
    """
    if fault := too_new(picture.level):
        newer = [it for it in picture.agents.values() if it.level >= picture.level and it.version]
        versions = ", ".join(sorted({it.version for it in newer}))
        raise ConflictError(
            fault,
            hint=f"install the rota of the other agents here{f', {versions}' if versions else ''}",
        )


async def dismiss_nobody(name: str) -> None:
    """Let an agent that knows too little go on."""


def nobody_is_silent() -> Mapping[str, float]:
    """Return that nobody is missed."""
    return {}


class Levels:
    """Raises the cluster while this agent leads; :meth:`run` is the duty.

    Args:
        name: This agent.
        world: For the members, and what they said.
        clock: For how long somebody has been down.
        record: Appends ``cluster.raised``, fenced by the lease, and returns its sequence.
        dismiss: Asks an agent to finish what it runs and to leave.
        silent: How long each member was not heard of, in seconds, as far as that is known.
    """

    def __init__(
        self,
        name: str,
        world: World,
        clock: Clock,
        record: Raise,
        dismiss: Dismiss = dismiss_nobody,
        silent: Callable[[], Mapping[str, float]] = nobody_is_silent,
    ) -> None:
        self._name, self._world, self._clock, self._silent = name, world, clock, silent
        self._record, self._dismiss = record, dismiss
        self.look_s = LOOK_S
        self._low: set[str] = set()
        self._news = asyncio.Event()

    def folded(self, entry: Entry) -> None:
        """Note a start: what that agent said before is of another program."""
        event = entry.event
        if isinstance(event, AgentStarted):
            self._world.levels.pop(event.agent, None)
            is_low = max(event.level, FIRST) < self._world.cluster.picture.level
            (self._low.add if is_low else self._low.discard)(event.agent)
        if self._low:
            self._news.set()

    async def attend(self) -> None:
        """Have leave, for ever, whoever comes up below the cluster's level.

        It was down when the cluster was raised, and another rota was installed since. It does not
        know that it must not; but it knows how to leave. Not the leader's alone: it may be the one.
        """
        while True:
            if self._is_to_dismiss():
                for outdated in self._outdated():
                    why = "%s runs a rota that does not know level %d: it is asked to leave"
                    logger.warning(why, outdated.name, self._world.cluster.picture.level)
                    await self._dismiss(outdated.name)
            await self._news.wait()
            self._news.clear()

    def _outdated(self) -> list[Agent]:
        """Return who is up and has said, since this agent has folded, that it knows too little."""
        picture = self._world.cluster.picture
        found = (picture.agents.get(name) for name in self._low)
        return [
            it for it in found if it and it.is_up and not it.leaving and it.level < picture.level
        ]

    def _is_to_dismiss(self) -> bool:
        picture = self._world.cluster.picture
        able = (it.name for it in picture.agents.values() if it.is_up and it.name not in self._low)
        does_lead = picture.leader and picture.leader not in self._low
        return bool(self._low) and self._name == (
            picture.leader if does_lead else min(able, default="")
        )

    def _is_anybody_away(self) -> bool:
        """Whether a member went down just now: it may come back as the version before."""
        agents = self._world.cluster.picture.agents
        silent = (s for name, s in self._silent().items() if name in agents and agents[name].is_up)
        return any(s > SILENT_S for s in silent) or bool(
            just_gone(agents.values(), self._clock.now())
        )

    async def run(self) -> None:
        """Raise it when that is due. Ends once there is nothing to raise to."""
        picture = self._world.cluster.picture
        while picture.level < LEVEL:
            members = tuple(sorted(picture.agents))
            known = {it.name: self._world.level_of(it) for it in picture.agents.values()}
            level = attainable(members, known)
            if level > picture.level and not self._is_anybody_away():
                logger.info("all members can level %d: the cluster is raised to it", level)
                # Refused where another agent leads by now: this one is told so in a moment.
                with contextlib.suppress(StaleError, TimeoutError):
                    await self._world.reached(await self._record(level, members), FOLD_S)
            await asyncio.sleep(self.look_s)
            picture = self._world.cluster.picture
