"""Who is queued, and which of them may begin: derived from the builds, the policy and the rates.

Builds that ask for the same (labels, project, wish) stand in one *line*, sorted. Of a line that
wishes for nothing all are *ready*; of any other only the first ones, as many as there is room for
now. So ten thousand builds that wait for one limit cost an event no more than one does, and who
looks for work looks at what may begin. A change of a pool's use is noted when it is folded, and the
lines at that pool are looked at once, when somebody next asks: :meth:`Queue.look`.

**Nobody is passed over for ever.** A build that waits for room is *first* at a pool if no other that
waits there has an earlier turn: by age, where a point of priority is worth ``ageing`` events. Who is
first at each pool that has no room for it has its part of all its pools kept for it: later ones get
what is left. So a taker of three is not starved by many of one, nor who needs two limits by those
who need one of them. One build at a time is kept room for at a pool; nobody holds while it waits,
so that no two wait for each other.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from rota.core import rates
from rota.core.build import Build
from rota.core.demands import ALL, Demand, Pool, Wish, project_of, wish_of
from rota.core.policy import Policy
from rota.core.pools import ENDLESS, NOBODY, Besides, Pools
from rota.core.shares import QueueItem

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_S = 253_402_300_799.0  # the last second of the year 9999
Fits = Callable[[str], bool]
"""Whether there is an agent that takes builds with these labels."""


class Kind(NamedTuple):
    """What the builds of one line have in common."""

    labels: str
    project: str
    wish: Wish


class Line:
    """Builds of one kind; the first ``offered`` of them are ready. ``opens_at`` is its rate's."""

    __slots__ = ("items", "kind", "offered", "opens_at")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.items: list[QueueItem] = []
        self.offered = 0
        self.opens_at: float | None = None


class Kept(NamedTuple):
    """What is kept at a pool, for whom."""

    turn: int
    build: str
    take: int


class Spot:
    """The lines at one pool. ``mixed``: their demands differ, so that one could starve another."""

    __slots__ = ("kept", "lines", "mixed")

    def __init__(self) -> None:
        self.lines: dict[Kind, Line] = {}
        self.kept: Kept | None = None
        self.mixed = False


class Queue:
    """All queued builds. ``ready`` has, by labels and project, those that may begin, sorted."""

    def __init__(
        self, builds: Mapping[str, Build], policy: Policy, used_until: Mapping[str, float]
    ) -> None:
        self.policy = policy
        self.pools = Pools(policy.limits)
        self.ready: dict[str, dict[str, list[QueueItem]]] = {}
        self.lines: dict[Kind, Line] = {}
        #: Retries that wait for their time.
        self.delayed: dict[str, datetime] = {}
        #: By labels, how many are queued at all.
        self.waiting: dict[str, int] = {}
        self._builds, self._used_until = builds, used_until
        self._spots: dict[Pool, Spot] = {}
        self._alarms: list[tuple[datetime, str]] = []  # of `delayed`, and of what left it meanwhile
        self._openings: list[tuple[float, Kind]] = []  # the same of lines with a rate
        self._rated: dict[str, dict[Kind, None]] = {}  # the lines of jobs with a rate
        self._stale_pools: dict[Pool, None] = {}
        self._stale_lines: dict[Kind, None] = {}

    # -- in and out -----------------------------------------------------------------------------

    def enter(self, build: Build) -> None:
        """Take in a queued build."""
        labels = build.spec.labels
        self.waiting[labels] = self.waiting.get(labels, 0) + 1
        if build.not_before is None:
            self._line_up(build)
        else:
            self.delayed[build.id] = build.not_before
            heapq.heappush(self._alarms, (build.not_before, build.id))

    def leave(self, build: Build) -> None:
        """Take out a queued build, as it was taken in."""
        labels, project = build.spec.labels, project_of(build.job)
        self.waiting[labels] -= 1
        if not self.waiting[labels]:
            del self.waiting[labels]
        if self.delayed.pop(build.id, None) is not None:
            return
        item, kind = self.item(build), Kind(labels, project, wish_of(build))
        line = self.lines.get(kind)
        if line is None:
            self._withdraw(kind, item)
            return
        at = bisect.bisect_left(line.items, item)
        del line.items[at]
        if at < line.offered:
            line.offered -= 1
            self._withdraw(kind, item)
        self._changed(line)
        if not line.items:
            self._close(line)

    def hold(self, build: Build) -> None:
        """Let a build that runs have what it wished for."""
        self._use(build, self.pools.take)

    def free(self, build: Build) -> None:
        """Let a build that ran give it back."""
        self._use(build, self.pools.free)

    def _use(self, build: Build, change: Callable[[str, tuple[Demand, ...]], None]) -> None:
        wish = wish_of(build)
        change(build.id, wish.demands)
        for demand in wish.demands:
            if demand.pool in self._spots:
                self._stale_pools[demand.pool] = None

    def item(self, build: Build) -> QueueItem:
        """Return a build's place inside its project: priority, which grows with age; then age."""
        rank = build.stamp - build.spec.priority * self.policy.point
        return rank, build.requested_seq, build.id

    def turn(self, build: Build) -> int:
        """Return a build's place among those of all projects that wait for the same pool."""
        return build.requested_seq - build.spec.priority * self.policy.point

    def _line_up(self, build: Build) -> None:
        kind = Kind(build.spec.labels, project_of(build.job), wish_of(build))
        item = self.item(build)
        if not kind.wish.demands and kind.wish.rate is None:
            self._offer(kind, item)
            return
        line = self.lines.get(kind)
        if line is None:
            line = self.lines[kind] = Line(kind)
            if kind.wish.rate is not None:
                self._rated.setdefault(kind.wish.job, {})[kind] = None
            for demand in kind.wish.demands:
                spot = self._spots.setdefault(demand.pool, Spot())
                spot.lines[kind] = line
                spot.mixed = spot.mixed or _is_mixed(spot, kind, demand)
        at = bisect.bisect_left(line.items, item)
        line.items.insert(at, item)
        if at < line.offered:
            line.offered += 1
            self._offer(kind, item)
        self._changed(line)

    def _changed(self, line: Line) -> None:
        self._stale_lines[line.kind] = None
        for demand in line.kind.wish.demands:
            if self._spots[demand.pool].mixed:
                self._stale_pools[demand.pool] = None

    def _close(self, line: Line) -> None:
        del self.lines[line.kind]
        self._stale_lines.pop(line.kind, None)
        if line.kind.wish.rate is not None:
            del self._rated[line.kind.wish.job][line.kind]
            if not self._rated[line.kind.wish.job]:
                del self._rated[line.kind.wish.job]
        for demand in line.kind.wish.demands:
            spot = self._spots[demand.pool]
            del spot.lines[line.kind]
            if not spot.lines:
                del self._spots[demand.pool]
                self._stale_pools.pop(demand.pool, None)

    def _offer(self, kind: Kind, item: QueueItem) -> None:
        projects = self.ready.setdefault(kind.labels, {})
        bisect.insort(projects.setdefault(kind.project, []), item)

    def _withdraw(self, kind: Kind, item: QueueItem) -> None:
        projects = self.ready[kind.labels]
        queue = projects[kind.project]
        del queue[bisect.bisect_left(queue, item)]
        if not queue:
            del projects[kind.project]
            if not projects:
                del self.ready[kind.labels]

    # -- who may begin --------------------------------------------------------------------------

    def look(self, now: datetime, fits: Fits) -> datetime | None:
        """Bring ``ready`` in step with room and time; return when time changes it next.

        Cost: nothing, unless something changed; then what waits at the pools that changed, in lines,
        not in builds.
        """
        while self._alarms and self._alarms[0][0] <= now:
            due, build_id = heapq.heappop(self._alarms)
            if self.delayed.get(build_id) == due:
                del self.delayed[build_id]
                self._line_up(self._builds[build_id])
        second = now.timestamp()
        while self._openings and self._openings[0][0] <= second:
            opens, kind = heapq.heappop(self._openings)
            line = self.lines.get(kind)
            if line is not None and line.opens_at == opens:
                line.opens_at = None
                self._stale_lines[kind] = None
        if self._stale_pools or self._stale_lines:
            self._look_again(second, fits)
        while self._alarms and self.delayed.get(self._alarms[0][1]) != self._alarms[0][0]:
            heapq.heappop(self._alarms)
        dates = [alarm for alarm, _ in self._alarms[:1]]
        dates += [_date(opens) for opens, _ in self._openings[:1]]
        return min(dates, default=None)

    def agents_changed(self) -> None:
        """Note that other labels may be there than before: room is kept for who can use it."""
        self._stale_pools.update((pool, None) for pool, spot in self._spots.items() if spot.mixed)

    def _look_again(self, second: float, fits: Fits) -> None:
        pools = dict(self._stale_pools)
        for pool in self._stale_pools:
            spot = self._spots.get(pool)
            if spot is not None and spot.mixed:
                # What is kept elsewhere may be for somebody who waits here.
                pools.update(
                    (demand.pool, None) for kind in spot.lines for demand in kind.wish.demands
                )
        lines = {kind: self.lines[kind] for kind in self._stale_lines}
        for pool in pools:
            spot = self._spots.get(pool)
            if spot is not None:
                spot.kept = self._keep(pool, spot, fits) if spot.mixed else None
                lines |= spot.lines
        self._stale_pools.clear()
        self._stale_lines.clear()
        for line in lines.values():
            self._offer_some(line, second)

    def _keep(self, pool: Pool, spot: Spot, fits: Fits) -> Kept | None:
        """Return for whom room is kept at a pool."""
        first: Kept | None = None
        for line in spot.lines.values():
            turn, build_id = self._head(line)
            if first is not None and first.turn < turn:
                continue
            if fits(line.kind.labels) and self._is_first_in_need(line, turn):
                take = next(it.take for it in line.kind.wish.demands if it.pool == pool)
                first = Kept(turn, build_id, take)
        return first

    def _is_first_in_need(self, line: Line, turn: int) -> bool:
        needed = [it for it in line.kind.wish.demands if not self.pools.room(it)]
        return bool(needed) and all(
            turn <= self._head(other)[0]
            for demand in needed
            for other in self._spots[demand.pool].lines.values()
        )

    def _head(self, line: Line) -> tuple[int, str]:
        build = self._builds[line.items[0][2]]
        return self.turn(build), build.id

    def kept(self, pool: Pool) -> Kept | None:
        """Return what is kept at a pool, as of the last :meth:`look`."""
        spot = self._spots.get(pool)
        return spot.kept if spot is not None else None

    def kept_from(self, build: Build, pool: Pool) -> Besides:
        """Return what is kept at a pool, and is not for ``build``."""
        kept = self.kept(pool)
        if kept is None or kept.build == build.id or self.turn(build) < kept.turn:
            return NOBODY
        return NOBODY.and_take(kept.take)

    def _offer_some(self, line: Line, second: float) -> None:
        """Let as many of a line be ready as there is room for."""
        number = len(line.items)
        head = self._builds[line.items[0][2]]
        for demand in line.kind.wish.demands:
            besides = self.kept_from(head, demand.pool)
            number = min(number, self.pools.room(demand, besides))
        rate = line.kind.wish.rate
        if rate is not None:
            number = min(number, self._rate_room(line, second))
        for item in line.items[line.offered : number]:
            self._offer(line.kind, item)
        for item in line.items[number : line.offered]:
            self._withdraw(line.kind, item)
        line.offered = number

    def _rate_room(self, line: Line, second: float) -> int:
        rate, job = line.kind.wish.rate, line.kind.wish.job
        assert rate is not None
        used = self._used_until.get(job, 0.0)
        room = rates.room(used, rate, second)
        if room < min(len(line.items), rate.count):
            opens = rates.opens_at(used, rate) + room * rate.step_s
            if line.opens_at != opens:
                line.opens_at = opens
                heapq.heappush(self._openings, (opens, line.kind))
        return room

    def rate_changed(self, job: str) -> None:
        """Note that some of a job's rate was used, so that its lines are looked at."""
        self._stale_lines.update(self._rated.get(job, {}))

    # -- to judge and to explain ----------------------------------------------------------------

    def may_begin(self, build: Build, at: datetime) -> bool:
        """Whether a claim at that time exceeds nothing that all agents have in common."""
        wish = wish_of(build)
        if wish.rate is not None and not self.rate_room(build, at):
            return False
        return self.pools.fits(wish)

    def rate_room(self, build: Build, at: datetime) -> int:
        """Return how many builds of its job may begin at that time."""
        wish = wish_of(build)
        if wish.rate is None:
            return ENDLESS
        return rates.room(self._used_until.get(wish.job, 0.0), wish.rate, at.timestamp())

    def opens_at(self, build: Build) -> datetime | None:
        """Return from when on its rate lets the next build of its job begin; ``None``: it has none."""
        wish = wish_of(build)
        if wish.rate is None:
            return None
        return _date(rates.opens_at(self._used_until.get(wish.job, 0.0), wish.rate))

    def at_pool(self, pool: Pool, *, blocked: bool = True) -> Iterator[QueueItem]:
        """Yield all that are in line at a pool, in no order; or those too that may begin."""
        spot = self._spots.get(pool)
        for line in spot.lines.values() if spot is not None else ():
            yield from line.items[line.offered if blocked else 0 :]

    def behind(self, build: Build) -> list[QueueItem]:
        """Return those of a build's own line that may not begin yet."""
        line = self.lines.get(Kind(build.spec.labels, project_of(build.job), wish_of(build)))
        return line.items[line.offered :] if line is not None else []

    def pools_waited_at(self) -> Iterator[Pool]:
        """Yield the pools at which somebody is in line."""
        yield from self._spots

    def number(self) -> int:
        """Return how many are queued, retries that wait for their time included."""
        return sum(self.waiting.values())


def _date(second: float) -> datetime:
    return EPOCH + timedelta(seconds=min(max(second, 0.0), LAST_S))


def _is_mixed(spot: Spot, kind: Kind, demand: Demand) -> bool:
    """Whether a new line makes that one at the pool could pass over another one for ever."""
    if len(kind.wish.demands) > 1:
        return True
    takes = {it.take for other in spot.lines for it in other.wish.demands if it.pool == demand.pool}
    return len(takes) > 1 or demand.take == ALL
