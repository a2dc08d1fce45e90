"""Limits and who holds them. A demand is granted whole or not at all, and nobody holds while it waits.

Derived from the running builds and the policy, in step with the fold; it judges claims, so it says
the same on every agent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rota.core.demands import ALL, BY_SETTINGS, Demand, Pool, Wish

#: More than anybody has: the room for who asks for nothing.
ENDLESS = 1 << 40


class Use:
    """What is taken of one pool: ``used`` by ordinary holders, and by how many who have ``all``."""

    __slots__ = ("all", "holders", "used")

    def __init__(self) -> None:
        self.holders: dict[str, int] = {}
        self.used = self.all = 0

    def take(self, build: str, take: int) -> None:
        """Note a holder."""
        self.holders[build] = take
        self._count(take, 1)

    def free(self, build: str) -> None:
        """Note that it holds nothing any more."""
        self._count(self.holders.pop(build), -1)

    def _count(self, take: int, sign: int) -> None:
        if take == ALL:
            self.all += sign
        else:
            self.used += sign * take


EMPTY = Use()


class Besides(NamedTuple):
    """What others are to have of a pool, who do not hold it yet: ``used``, or ``all``."""

    used: int = 0
    all: bool = False

    def and_take(self, take: int) -> Besides:
        """Return the same with one more who takes so much."""
        return Besides(self.used, all=True) if take == ALL else self._replace(used=self.used + take)


NOBODY = Besides()


class Pools:
    """All pools of which something is taken, and how much there is of each."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = limits
        self.uses: dict[Pool, Use] = {}

    def take(self, build: str, demands: Iterable[Demand]) -> None:
        """Let a build hold what it demands."""
        for demand in demands:
            self.uses.setdefault(demand.pool, Use()).take(build, demand.take)

    def free(self, build: str, demands: Iterable[Demand]) -> None:
        """Let a build hold nothing any more."""
        for demand in demands:
            use = self.uses[demand.pool]
            use.free(build)
            if not use.holders:
                del self.uses[demand.pool]

    def use(self, pool: Pool) -> Use:
        """Return what is taken of a pool."""
        return self.uses.get(pool, EMPTY)

    def capacity(self, demand: Demand) -> int:
        """Return how much there is of what is demanded; 0 for a limit that no settings name."""
        if demand.capacity != BY_SETTINGS:
            return demand.capacity
        return self.limits.get(demand.pool.name, 0)

    def room(self, demand: Demand, besides: Besides = NOBODY) -> int:
        """Return how many builds with this demand could begin now, ``besides`` others."""
        use = self.uses.get(demand.pool, EMPTY)
        if use.all or besides.all:
            return 0
        used = use.used + besides.used
        if demand.take == ALL:
            return int(used == 0 and self.capacity(demand) > 0)
        return max(0, self.capacity(demand) - used) // demand.take

    def fits(self, wish: Wish) -> bool:
        """Whether there is room for all that is demanded."""
        return all(self.room(demand) > 0 for demand in wish.demands)
