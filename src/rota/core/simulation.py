"""Schedules in virtual time: the agenda that the leader goes by, with builds that last as assumed.

What is asked of it is what a year of these schedules comes to: how many builds, when, and how many of
them at once; and what would be skipped, also where nobody leads for a while.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from rota.core.agenda import Agenda, Due
from rota.core.schedules import Instants, Scheduled, build_id, fired, skipped

HOURS = 24
HOUR_S = 3600.0


class Assumed(msgspec.Struct, frozen=True):
    """What a build of a job is taken for: its label expression, and how long it runs."""

    labels: str
    seconds: float


class Away(msgspec.Struct, frozen=True):
    """A time when nobody leads."""

    start: datetime
    end: datetime


class Load(msgspec.Struct):
    """What one label expression has to carry. Hours are of the day, in UTC."""

    builds: int = 0
    busy_s: list[float] = msgspec.field(default_factory=lambda: [0.0] * HOURS)
    peak: list[int] = msgspec.field(default_factory=lambda: [0] * HOURS)


class Outcome(msgspec.Struct):
    """What came of it. ``skips`` counts instants by what became of them, in words."""

    start: datetime
    end: datetime
    loads: dict[str, Load] = {}
    builds: dict[str, int] = {}
    skips: dict[str, int] = {}
    latest_s: float = 0.0  # how late an instant fired at most


class Simulation:
    """Runs schedules from ``start`` to ``end``.

    Args:
        schedules: As they are at the start; it moves their cursors.
        made: Makes a rule's instants.
        assumed: By job; of every job that has a schedule.
        away: When nobody leads, in order.
    """

    def __init__(
        self,
        schedules: dict[str, Scheduled],
        instants: Mapping[str, Instants],
        assumed: Mapping[str, Assumed],
        start: datetime,
        end: datetime,
        away: Sequence[Away] = (),
    ) -> None:
        self._schedules, self._assumed = schedules, assumed
        self._away, self._now = list(away), start
        self._agenda = Agenda(lambda: schedules, lambda id_, _: instants.get(id_))
        self._ends: list[tuple[datetime, str, str]] = []  # when, schedule, build
        self._until: dict[str, datetime] = {}  # of each build that has not ended
        self._running: dict[str, dict[str, None]] = {}
        self._active: dict[str, list[datetime]] = {}
        self.outcome = Outcome(start, end)

    def run(self) -> Iterator[datetime]:
        """Let time pass; yields it now and then, so that somebody may be told."""
        self._work()
        while (top := self._agenda.next_due()) is not None and top[0] < self.outcome.end:
            self._now = self._led(max(self._now, top[0]))
            if self._now >= self.outcome.end:
                return
            self._finish()
            round_ = self._agenda.due(self._now, self._unfinished)
            for skip in round_.skips:
                if skipped(self._schedules, skip):
                    why = skip.why.partition("; ")[2] or skip.why
                    count = self.outcome.skips.get(why, 0) + skip.count
                    self.outcome.skips[why] = count
            for due in round_.fires:
                self._fire(due)
            self._agenda.look(round_.schedules)
            self._work()
            yield self._now

    def _led(self, now: datetime) -> datetime:
        """Return the first moment from ``now`` on at which somebody leads."""
        while self._away and self._away[0].end <= now:
            self._away.pop(0)
        if self._away and self._away[0].start <= now:
            return self._away[0].end
        return now

    def _work(self) -> None:
        while self._agenda.work():
            pass

    def _unfinished(self, schedule: str) -> Sequence[str]:
        return tuple(self._running.get(schedule, ()))

    def _finish(self) -> None:
        while self._ends and self._ends[0][0] <= self._now:
            _, schedule, build = heapq.heappop(self._ends)
            self._forget(schedule, build)

    def _forget(self, schedule: str, build: str) -> None:
        self._until.pop(build, None)
        builds = self._running.get(schedule, {})
        builds.pop(build, None)
        if not builds:
            self._running.pop(schedule, None)

    def _fire(self, due: Due) -> None:
        scheduled = self._schedules[due.schedule]
        fired(self._schedules, due.schedule, due.at)
        late_s = (self._now - due.at).total_seconds() - scheduled.rule.jitter_s
        self.outcome.latest_s = max(self.outcome.latest_s, late_s)
        for former in due.ends:
            self._forget(due.schedule, former)
        begins = max([self._now, *(self._until[it] for it in due.after if it in self._until)])
        assumed = self._assumed[scheduled.job]
        ends = begins + timedelta(seconds=assumed.seconds)
        build = build_id(due.schedule, due.at)
        self._until[build] = ends
        self._running.setdefault(due.schedule, {})[build] = None
        heapq.heappush(self._ends, (ends, due.schedule, build))
        self.outcome.builds[scheduled.job] = self.outcome.builds.get(scheduled.job, 0) + 1
        self._carry(assumed.labels, begins, ends)

    def _carry(self, labels: str, begins: datetime, ends: datetime) -> None:
        load = self.outcome.loads.setdefault(labels, Load())
        load.builds += 1
        active = self._active.setdefault(labels, [])
        while active and active[0] <= begins:
            heapq.heappop(active)
        heapq.heappush(active, ends)
        load.peak[begins.hour] = max(load.peak[begins.hour], len(active))
        for hour, seconds in _hours(begins, min(ends, self.outcome.end)):
            load.busy_s[hour] += seconds


def _hours(begins: datetime, ends: datetime) -> Iterator[tuple[int, float]]:
    """Yield the hours of the day that a time has a part in, and how many seconds of each."""
    whole, rest = divmod(max(0.0, (ends - begins).total_seconds()), HOURS * HOUR_S)
    for hour in range(HOURS if whole else 0):
        yield hour, whole * HOUR_S
    at = begins.minute * 60 + begins.second + begins.microsecond / 1e6
    hour = begins.hour
    while rest > 0:
        part = min(rest, HOUR_S - at)
        yield hour, part
        rest, at, hour = rest - part, 0.0, (hour + 1) % HOURS
