"""What an agent may claim, besides what it has claimed and not yet seen folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from rota.core.build import Build
from rota.core.demands import Pool, wish_of
from rota.core.pools import NOBODY, Besides
from rota.core.queue import Queue
from rota.core.throttles import Throttles


class Trial:
    """Begins builds one after the other, in thought: whether there is room for the next.

    What the journal's order makes of it the fold says; what is refused here it would refuse as well.
    """

    def __init__(
        self,
        queue: Queue,
        throttles: Throttles,
        agent: str,
        now: datetime,
        claimed: Iterable[Build] = (),
    ) -> None:
        self._queue, self._throttles = queue, throttles
        self._agent, self._now = agent, now
        self._pools: dict[Pool, Besides] = {}
        self._begun: Counter[int] = Counter()
        self._rates: Counter[str] = Counter()
        for build in claimed:
            self._take(build)

    def begins(self, build: Build) -> bool:
        """Let a build begin if there is room for it, and say so."""
        wish = wish_of(build)
        if not self._throttles.room(build.spec.labels, self._agent, self._begun):
            return False
        if wish.rate is not None:
            left = self._queue.rate_room(build, self._now) - self._rates[wish.job]
            if left <= 0:
                return False
        for demand in wish.demands:
            besides = self._pools.get(demand.pool, NOBODY)
            kept = self._queue.kept_from(build, demand.pool)
            both = Besides(besides.used + kept.used, besides.all or kept.all)
            if not self._queue.pools.room(demand, both):
                return False
        self._take(build)
        return True

    def _take(self, build: Build) -> None:
        wish = wish_of(build)
        self._begun.update(self._throttles.which(build.spec.labels))
        if wish.rate is not None:
            self._rates[wish.job] += 1
        for demand in wish.demands:
            besides = self._pools.get(demand.pool, NOBODY)
            self._pools[demand.pool] = besides.and_take(demand.take)
