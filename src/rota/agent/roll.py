"""The roll: who was heard of, and when. Every agent says its word; the leader listens.

Voters listen all the time, so that a new leader among them knows already who has been silent: where
a host died that was much to the engine, its builds do not wait for an election and then once more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from rota.core.levels import LEVEL
from rota.core.skew import Skews
from rota.ports.clock import Clock
from rota.ports.presence import Presence, Word
from rota.service.ticks import tick
from rota.service.world import World

SAY_S = 2.0
#: A leader says nothing of others' silence before it has led so long: whoever is there has said a
#: word by then, also after this agent was cut off, or slept.
SETTLE_S = 3.0
LOOK_S = 1.0
TROUBLE = "clock"


class Roll:
    """This agent's words, and its record of others'.

    :meth:`speak` and :meth:`attend` are tasks, :meth:`lead` is a duty.

    Args:
        name: This agent.
        world: For the members, and for how far this agent has folded.
        presence: Carries the words.
        clock: Silence is counted by it.
        level: What this agent says that it can, until the cluster is above it.
        confirms: Whether an agent that asks may be told that its silence counts from now on: only
            by the leader, and of an agent that is not being recorded as lost already.
    """

    def __init__(
        self,
        name: str,
        world: World,
        presence: Presence,
        clock: Clock,
        level: int = LEVEL,
        *,
        confirms: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._name, self._world = name, world
        self._presence, self._clock = presence, clock
        self._confirms, self._level = confirms, level
        self._heard: dict[str, float] = {}
        self._skews = Skews()
        self._since: float | None = None
        self._led_at: float | None = None
        self._spoke_at = clock.monotonic()

    async def speak(self) -> None:
        """Say that this agent is there, for ever."""
        while True:
            await self._presence.say(self._word())
            await tick(SAY_S)
            self._spoke_at = self._clock.monotonic()

    async def attend(self) -> None:
        """Listen while this agent leads or is a voter, for ever."""
        listening: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            while True:
                is_voter = self._name in self._world.cluster.picture.voters
                is_wanted = is_voter or self._led_at is not None
                if is_wanted and listening is None:
                    listening = group.create_task(self.listen(), name="presence heard")
                elif not is_wanted and listening is not None:
                    listening.cancel()
                    listening = None
                await tick(LOOK_S)

    async def lead(self) -> None:
        """Let silence count while this agent leads."""
        self._led_at = self._clock.monotonic()
        try:
            await asyncio.Event().wait()
        finally:
            self._led_at = None

    async def is_heard(self, within_s: float) -> bool:
        """Say that this agent is there, and return whether the leader confirms that it heard."""
        return await self._presence.ask(self._word(), within_s=within_s)

    async def listen(self) -> None:
        """Note who speaks, for ever; silence counts from the moment this begins."""
        self._since = self._clock.monotonic()
        self._heard.clear()
        self._world.levels.clear()
        try:
            async with contextlib.aclosing(self._presence.hear()) as words:
                async for word in words:
                    self._heard[word.agent] = self._clock.monotonic()
                    self._world.levels[word.agent] = word.level
                    self._compare(word)
                    if word.answer and self._confirms(word.agent):
                        await self._presence.confirm(word)
        finally:
            self._since = None
            self._world.troubles.pop(TROUBLE, None)

    def _word(self) -> Word:
        level = max(self._level, self._world.cluster.picture.level)
        return Word(self._name, self._world.seq, at=self._clock.now(), level=level)

    def _compare(self, word: Word) -> None:
        """Note how far a speaker's clock is from this agent's, as a trouble if it is far."""
        now_s = self._clock.monotonic()
        if word.at is not None and word.agent != self._name:
            self._skews.note(word.agent, (word.at - self._clock.now()).total_seconds(), now_s)
        trouble = self._skews.trouble(self._name, now_s)
        if trouble is None:
            self._world.troubles.pop(TROUBLE, None)
        else:
            self._world.troubles[TROUBLE] = trouble

    def noted(self, name: str) -> None:
        """Count an event of an agent as a word: whoever writes is there."""
        self._heard[name] = self._clock.monotonic()

    def led_s(self) -> float:
        """Return the seconds since this agent leads; 0 while it does not."""
        return 0.0 if self._led_at is None else self._clock.monotonic() - self._led_at

    def silent(self) -> Mapping[str, float]:
        """Return the seconds since each agent was heard of; empty where this one cannot know."""
        now = self._clock.monotonic()
        if self._since is None or self._led_at is None or now - self._led_at < SETTLE_S:
            return {}
        if now - self._spoke_at > 2 * SAY_S:
            self._led_at = now  # this agent slept: what it has not heard says nothing
            return {}
        since = self._since
        return {
            name: now - max(self._heard.get(name, since), since)
            for name in self._world.cluster.picture.agents
            if name != self._name
        }
