"""What an agent counts for who watches: events as it folds them, requests as it answers them.

Nothing is counted before somebody looked for the first time: who is not watched pays nothing. What
was before is not told then, as after a restart; who reads counters reckons with that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime

from rota.core.build import Build
from rota.core.events import (
    AgentLost,
    BuildFinished,
    BuildStarted,
    LeaderElected,
    SchedulesFired,
)
from rota.core.exposition import Histogram, Names
from rota.core.fold import Change
from rota.core.job import Reason
from rota.core.states import Result, State
from rota.ports.journal import Entry

SHORT_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
WAIT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400)
RUN_S = (0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
LATE_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300, 3600)


class Counts:
    """All that is counted. ``attach`` lets the loop tell of what it folds, once.

    Args:
        now: The agent's clock.
        jobs: How many jobs have numbers of their own.
    """

    def __init__(self, now: Callable[[], datetime], jobs: Callable[[], int]) -> None:
        self.is_on = False
        self.attach: Callable[[], None] = lambda: None
        self.engine_restarts: Callable[[], int] = lambda: 0
        self._now, self._jobs = now, jobs
        self._names = Names(0)
        self.events = 0
        self.elections = 0
        self.agents_lost = 0
        self.log_bytes = 0
        self.results: dict[tuple[str, Result], int] = {}
        self.totals: dict[Result, int] = dict.fromkeys(Result, 0)
        self.reasons: dict[Reason, int] = dict.fromkeys(Reason, 0)
        self.retries = 0
        self.waits = Histogram(WAIT_S)
        self.runs: dict[str, Histogram] = {}
        self.fired = 0
        self.skipped = 0
        self.lateness = Histogram(LATE_S)
        self.lag = Histogram(SHORT_S)
        self.appends = Histogram(SHORT_S)
        self.failed_appends = 0
        self.requests: dict[tuple[str, int], int] = {}
        self.request_s: dict[str, Histogram] = {}
        self.spans_sent = self.spans_dropped = 0
        self.streams: dict[str, int] = {"events": 0, "log": 0, "shell": 0}
        self.refusals: dict[str, int] = {}

    def begin(self) -> None:
        """Count from now on; only the first call does anything."""
        if not self.is_on:
            self.is_on = True
            self.attach()

    # -- the journal ----------------------------------------------------------------------------

    def folded(self, entry: Entry, change: Change) -> None:
        """Count an event that was folded. Cost: 1 to 3 µs."""
        event = entry.event
        self.events += 1
        self.lag.take((self._now() - event.at).total_seconds())
        match event:
            case BuildStarted():
                self._started(change.build, entry.seq)
            case BuildFinished():
                self._ended(event, change.build, entry.seq)
            case LeaderElected():
                self.elections += 1
            case AgentLost():
                self.agents_lost += 1
            case SchedulesFired():
                self.fired += len(event.fires)
                self.skipped += len(event.skips)
                for fire in event.fires:
                    self.lateness.take((event.at - fire.at).total_seconds())
            case _:
                pass
        for build in change.builds:
            if build.state is State.FINISHED and build.seq == entry.seq:
                self._finished(build)

    def _started(self, build: Build | None, seq: int) -> None:
        if build is not None and build.fence == seq and build.started_at is not None:
            ended_at = build.former[-1].finished_at if build.former else None
            since = ended_at or build.requested_at
            self.waits.take((build.started_at - since).total_seconds())

    def _ended(self, event: BuildFinished, build: Build | None, seq: int) -> None:
        if build is None or build.seq != seq:
            return  # somebody else had ended that attempt
        self.reasons[event.reason] += 1
        self.log_bytes += event.log_bytes
        if build.state is not State.FINISHED:
            self.retries += 1

    def _finished(self, build: Build) -> None:
        if build.result is None:
            return
        self._names.limit = self._jobs()
        job = self._names.of(build.job)
        self.totals[build.result] += 1
        key = job, build.result
        self.results[key] = self.results.get(key, 0) + 1
        if build.started_at is not None and build.finished_at is not None:
            runs = self.runs.get(job)
            if runs is None:
                runs = self.runs[job] = Histogram(RUN_S)
            runs.take((build.finished_at - build.started_at).total_seconds())

    # -- what this agent does -------------------------------------------------------------------

    def answered(self, verb: str, status: int, seconds: float | None) -> None:
        """Count a request; ``verb`` is one of the table, or of few others."""
        key = verb, status
        self.requests[key] = self.requests.get(key, 0) + 1
        if seconds is None:
            return
        taken = self.request_s.get(verb)
        if taken is None:
            taken = self.request_s[verb] = Histogram(SHORT_S)
        taken.take(seconds)

    def refused(self, why: str) -> None:
        """Count a connection or a request that a limit refused; always: who floods is no matter of course."""
        self.refusals[why] = self.refusals.get(why, 0) + 1

    @contextlib.contextmanager
    def listening(self, verb: str) -> Iterator[None]:
        """Count an answer that goes on, for as long as the context is open."""
        self.streams[verb] = self.streams.get(verb, 0) + 1
        try:
            yield
        finally:
            self.streams[verb] -= 1
