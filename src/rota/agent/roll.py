"""The roll: who was heard of, and when. Every agent says its word; the leader listens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from rota.ports.clock import Clock
from rota.ports.presence import Presence, Word
from rota.service.world import World

SAY_S = 2.0


class Roll:
    """This agent's words, and its record of others'. :meth:`speak`, :meth:`listen` are tasks.

    Args:
        name: This agent.
        world: For the members, and for how far this agent has folded.
        presence: Carries the words.
        clock: Silence is counted by it.
        confirms: Whether an agent that asks may be told that its silence counts from now on: only
            by the leader, and of an agent that is not being recorded as lost already.
    """

    def __init__(
        self,
        name: str,
        world: World,
        presence: Presence,
        clock: Clock,
        *,
        confirms: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._name, self._world = name, world
        self._presence, self._clock = presence, clock
        self._confirms = confirms
        self._heard: dict[str, float] = {}
        self._since: float | None = None

    async def speak(self) -> None:
        """Say that this agent is there, for ever."""
        while True:
            await self._presence.say(Word(self._name, self._world.seq))
            await asyncio.sleep(SAY_S)

    async def is_heard(self, within_s: float) -> bool:
        """Say that this agent is there, and return whether the leader confirms that it heard."""
        return await self._presence.ask(Word(self._name, self._world.seq), within_s=within_s)

    async def listen(self) -> None:
        """Note who speaks, for ever; silence counts from the moment this begins."""
        self._since = self._clock.monotonic()
        self._heard.clear()
        try:
            async with contextlib.aclosing(self._presence.hear()) as words:
                async for word in words:
                    self._heard[word.agent] = self._clock.monotonic()
                    if word.answer and self._confirms(word.agent):
                        await self._presence.confirm(word)
        finally:
            self._since = None

    def noted(self, name: str) -> None:
        """Count an event of an agent as a word: whoever writes is there."""
        self._heard[name] = self._clock.monotonic()

    def silent(self) -> Mapping[str, float]:
        """Return the seconds since each agent was heard of; empty while nobody listens."""
        if self._since is None:
            return {}
        now, since = self._clock.monotonic(), self._since
        return {
            name: now - max(self._heard.get(name, since), since)
            for name in self._world.cluster.picture.agents
            if name != self._name
        }
