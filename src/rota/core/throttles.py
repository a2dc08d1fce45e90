"""How many builds run whose labels ask for something, in all and on each agent.

Builds whose scripts wait for others do not count, as they leave their slots.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from rota.core.policy import Throttle
from rota.core.pools import ENDLESS


class Throttles:
    """The throttles of a policy and what runs under each."""

    def __init__(self, throttles: tuple[Throttle, ...]) -> None:
        self.throttles = throttles
        self.running: list[Counter[str]] = [Counter() for _ in throttles]  # by agent
        self.totals = [0 for _ in throttles]
        self._for: dict[str, tuple[int, ...]] = {}

    def which(self, labels: str) -> tuple[int, ...]:
        """Return the throttles that builds with that label expression are under, by number."""
        if not self.throttles:
            return ()
        found = self._for.get(labels)
        if found is None:
            found = tuple(n for n, it in enumerate(self.throttles) if it.is_for(labels))
            self._for[labels] = found
        return found

    def begin(self, labels: str, agent: str) -> None:
        """Count a build that runs."""
        for number in self.which(labels):
            self.running[number][agent] += 1
            self.totals[number] += 1

    def end(self, labels: str, agent: str) -> None:
        """Count it no more."""
        for number in self.which(labels):
            self.running[number][agent] -= 1
            self.totals[number] -= 1
            if not self.running[number][agent]:
                del self.running[number][agent]

    def room(self, labels: str, agent: str, besides: Mapping[int, int] | None = None) -> int:
        """Return how many more builds with these labels may run on an agent, besides others.

        ``besides`` has, by number of a throttle, how many are about to begin there.
        """
        room = ENDLESS
        for number in self.which(labels):
            throttle, more = self.throttles[number], (besides or {}).get(number, 0)
            if throttle.total is not None:
                room = min(room, throttle.total - self.totals[number] - more)
            if throttle.per_agent is not None:
                room = min(room, throttle.per_agent - self.running[number][agent] - more)
        return max(0, room)
