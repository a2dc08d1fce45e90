"""How a job's last builds went."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from rota.core.build import Build
from rota.core.states import Result, State
from rota.core.trend import BAD, first_of_streak, seconds, typical_s
from rota.service import overview_messages as o
from rota.service.builds import refuse_unknown_job
from rota.service.context import Principal, Service
from rota.service.world import World

#: How far back the pass is sought that a job's failures came after.
MAX_STREAK = 1000


async def trend(service: Service, request: o.TrendRequest, who: Principal) -> o.TrendView:
    """Say how a job's last builds went."""
    world = service.world
    refuse_unknown_job(world, request.job)
    builds = latest_of(world, request.job, request.limit)
    counted = [
        build
        for build in builds
        if build.state is State.FINISHED and build.result is not Result.CANCELLED
    ]
    first = first_of_streak(builds)
    streak, last_passed = 0, None
    if first is not None:
        first, streak, last_passed = _streak(world, request.job, builds, first)
    return o.TrendView(
        job=request.job,
        marks=tuple(_mark(build) for build in reversed(builds)),
        passed=sum(build.result is Result.PASSED for build in counted),
        finished=len(counted),
        typical_s=typical_s(builds),
        broken=streak,
        broken_since=first.ref if first is not None else None,
        broken_at=first.finished_at if first is not None else None,
        last_passed=last_passed.ref if last_passed is not None else None,
    )


def latest_of(world: World, job: str, limit: int) -> list[Build]:
    """Return a job's builds, newest first, wherever they are. Cost: all live ones, and ``limit``."""
    found = {
        build.id: build for build in world.past(job=job, result=None, before=None, limit=limit)
    }
    found |= {build.id: build for build in world.live() if build.job == job}
    return heapq.nlargest(limit, found.values(), key=lambda build: build.requested_seq)


def _streak(
    world: World, job: str, builds: Sequence[Build], first: Build
) -> tuple[Build, int, Build | None]:
    """Return the first of a job's failures in a row, how many these are, and the pass before it."""
    passed = next((build for build in builds if build.result is Result.PASSED), None)
    if passed is None:
        builds = latest_of(world, job, MAX_STREAK)
        first = first_of_streak(builds) or first
        # One that is not sealed yet is in no index, and newer than all that are.
        passed = next((build for build in builds if build.result is Result.PASSED), None)
    if passed is None:
        past = world.past(job=job, result=Result.PASSED, before=None, limit=1)
        passed = past[0] if past else None
    bad = [it for it in builds if it.state is State.FINISHED and it.result in BAD]
    since = [it for it in bad if it.requested_seq >= first.requested_seq]
    return first, len(since), passed


def _mark(build: Build) -> o.MarkView:
    waited = (
        max(0.0, (build.started_at - build.requested_at).total_seconds())
        if build.started_at is not None
        else None
    )
    return o.MarkView(
        number=build.number,
        id=build.id,
        state=build.state,
        result=build.result,
        waited_s=waited,
        ran_s=seconds(build),
    )


class LastResults:
    """How jobs' last finished builds ended. Cost: all live builds once, then ``count`` a job."""

    def __init__(self, world: World, count: int) -> None:
        self._world, self._count = world, count
        self._live: dict[str, list[Build]] = {}
        for build in world.live() if count else ():
            if build.state is State.FINISHED:
                self._live.setdefault(build.job, []).append(build)

    def of(self, job: str) -> tuple[str, ...]:
        """Return the results of a job's last finished builds, oldest first."""
        if not self._count:
            return ()
        past = self._world.past(job=job, result=None, before=None, limit=self._count)
        found = {build.id: build for build in (*past, *self._live.get(job, ()))}
        last = heapq.nlargest(self._count, found.values(), key=lambda it: it.requested_seq)
        return tuple(str(build.result) for build in reversed(last) if build.result is not None)
