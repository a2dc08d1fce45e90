"""A leader's duty: drop the logs and artifacts that are kept no longer.

What goes is decided by :mod:`rota.core.retention` from what the index says is left. It is dropped
first and recorded then (``build.swept``), so that a leader that dies between the two leaves nothing
behind: the next one finds it gone and only notes that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta

from rota.core.job import Keep
from rota.core.promotions import over, pinned
from rota.core.retention import (
    Limits,
    Remains,
    Room,
    Sieve,
    Swept,
    judge_artifacts,
    limits_of,
)
from rota.errors import RotaError
from rota.ports.blobs import Blobs
from rota.ports.clock import Clock
from rota.ports.index import Index
from rota.ports.logs import LogKey, Logs
from rota.service.artifacts import blob_name
from rota.service.world import World

logger = logging.getLogger(__name__)

#: Rows that are judged in one step: about two milliseconds.
PAGE = 250
#: Builds of which something is dropped at the same time, each by a few round trips.
AT_ONCE = 8
#: A sweep stops after so many; the next one goes on. A new leader's first one may find many.
MAX_BUILDS = 20_000
SWEEP_S = 600.0
TIDY_S = 86_400.0

Record = Callable[[tuple[Swept, ...]], Awaitable[None]]
Judge = Callable[[Remains], Swept | None]


async def _nobody(name: str) -> None:
    """Leave a promotion as it is."""


class Sweeper:
    """Sweeps for as long as this agent leads; :meth:`run` is the duty.

    ``record`` writes ``build.swept`` to the journal, fenced by the lease. ``demote`` ends a promotion
    whose time is over.
    """

    def __init__(
        self,
        *,
        world: World,
        index: Index,
        logs: Logs,
        blobs: Blobs,
        clock: Clock,
        record: Record,
        demote: Callable[[str], Awaitable[None]] = _nobody,
    ) -> None:
        self._world, self._index, self._logs, self._blobs = world, index, logs, blobs
        self._clock, self._record, self._demote = clock, record, demote

    async def run(self) -> None:
        """Sweep at once and every ten minutes, and tidy up once a day, for ever."""
        tidied_at: float | None = None
        while True:
            try:
                await self.sweep(self._clock.now())
                if tidied_at is None or self._clock.monotonic() - tidied_at >= TIDY_S:
                    await self._blobs.tidy(self._clock.now() - timedelta(seconds=TIDY_S))
                    tidied_at = self._clock.monotonic()
            except RotaError as error:
                # Nothing depends on it, and the next turn takes up where this one ended.
                logger.warning("old logs and artifacts stay for now: %s", error.message)
            await asyncio.sleep(SWEEP_S)

    async def sweep(self, now: datetime) -> int:
        """Drop what is over its limits at ``now``; return of how many builds something was.

        Cost: a few microseconds for each build of a job that limits number or bytes and for each
        build with artifacts, else only for what is dropped. It never holds the loop for more than
        a few milliseconds.

        Raises:
            UnavailableError: the engine or the index does not answer; what was dropped is recorded.
            FencedError: this agent leads no more.
        """
        settings = self._world.definitions.settings
        for name in over(self._world.definitions.promoted, now):
            await self._demote(name)
        count = 0
        for job in self._index.jobs_with_remains():
            limits = limits_of(self._keep(job), settings)
            count += await self._sift(job, Sieve(limits, now).judge, _newest(limits, now), count)
        room = Room(settings.artifacts.max_bytes)
        return count + await self._sift(None, lambda left: judge_artifacts(room, left), None, count)

    def _keep(self, job: str) -> Keep:
        """Return what the job says now; of one that was removed, the settings hold."""
        definition = self._world.definitions.jobs.get(job)
        return Keep() if definition is None else definition.job.spec.keep

    async def _sift(
        self, job: str | None, judge: Judge, before: tuple[datetime, str] | None, count: int
    ) -> int:
        """Judge what the builds of ``job`` left, from ``before`` on, and drop what goes."""
        swept = 0
        while count + swept < MAX_BUILDS:
            page = self._index.remains(job=job, before=before, limit=PAGE)
            if not page:
                break
            before = (page[-1].finished_at, page[-1].build)
            gone = [(left, verdict) for left in page if (verdict := self._verdict(left, judge))]
            swept += len(gone)
            if gone:
                await self._drop_all(gone)
            await asyncio.sleep(0)
        return swept

    def _verdict(self, left: Remains, judge: Judge) -> Swept | None:
        # One that was retried lives again: it is judged once it has finished.
        return None if left.build in self._world.cluster.picture.builds else judge(left)

    async def _drop_all(self, gone: Sequence[tuple[Remains, Swept]]) -> None:
        """Drop, then take note: in the journal of what was there, here of what was not."""
        dropped: list[Swept] = []
        missing: list[Swept] = []
        fault: BaseException | None = None
        for at in range(0, len(gone), AT_ONCE):
            some = gone[at : at + AT_ONCE]
            dropping = (self._drop(*each) for each in some)
            found = await asyncio.gather(*dropping, return_exceptions=True)
            for (_, verdict), was_there in zip(some, found, strict=True):
                if isinstance(was_there, BaseException):
                    fault = was_there
                else:
                    (dropped if was_there else missing).append(verdict)
            if fault is not None:
                break
        if missing:
            self._index.sweep(missing, None)
        if dropped:
            await self._record(tuple(dropped))
        if fault is not None:
            raise fault

    async def _drop(self, left: Remains, verdict: Swept) -> bool:
        """Drop what the verdict says; return whether anything of it was still there."""
        was_there = False
        if verdict.logs:
            for attempt in range(1, left.attempts + 1):
                key = LogKey(left.build, attempt)
                if await self._logs.end(key):
                    await self._logs.drop(key)
                    was_there = True
        if verdict.artifacts:
            for name in self._names(left.build):
                if await self._blobs.find(name) is not None:
                    await self._blobs.drop(name)
                    was_there = True
        return was_there

    def _names(self, build_id: str) -> Iterable[str]:
        """Return what the build's artifacts are stored as, but for what is promoted."""
        build = self._index.get(build_id)
        if build is None:
            return []
        stays = pinned(self._world.definitions.promoted.values())
        return [
            blob_name(build.id, it.path)
            for it in build.artifacts
            if (build.id, it.path) not in stays
        ]


def _newest(limits: Limits, now: datetime) -> tuple[datetime, str] | None:
    """Return where to begin: where only age counts, what is younger need not be looked at."""
    return (limits.oldest_kept(now), "") if limits.is_of_age_alone else None
