"""What people look at: the cluster in one answer.

The cost is nearly flat: whatever there is of agents, queued builds and history, only the rows that
are asked for are made, and numbers come from the indexes of the fold. A filter looks at all live builds.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import heapq
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from rota.core.agents import Agent
from rota.core.build import Build
from rota.core.events import EPOCH
from rota.core.people import open_questions
from rota.core.states import Result, State
from rota.core.trend import BAD, TYPICAL_OF, expected_s, seconds
from rota.service import overview_messages as o
from rota.service.agents import view
from rota.service.chat import chat_troubles
from rota.service.context import Principal, Service
from rota.service.queueing import first_queued
from rota.service.schedules import late_schedules
from rota.service.sight import everything
from rota.service.world import World

MINUTES = 30
#: How often a wait looks whether the voters are still heard: nothing happens when they are not.
LOOK_S = 1.0
#: So many bad builds are looked through for those of the jobs that are wanted.
MAX_PASSED_OVER = 500

Wanted = Callable[[str], object]

_ORDERS: dict[str, Callable[[Build], tuple[object, ...]]] = {
    "longest": lambda it: (it.started_at or EPOCH, it.id),
    "newest": lambda it: (-(it.started_at or EPOCH).timestamp(), it.id),
    "job": lambda it: (it.job, it.number),
    "agent": lambda it: (it.agent or "", it.started_at or EPOCH, it.id),
}


async def overview(service: Service, request: o.OverviewRequest, who: Principal) -> o.Overview:
    """Show the cluster at one look; with ``wait``, once it is another one."""
    await _wait(service.world, request)
    world, now = service.world, service.clock.now()
    cluster = world.cluster
    picture = cluster.picture
    wanted = _wanted(request.match, who)
    seen = everything if who.sees_all else who.sees
    is_all = request.match == "*" and who.sees_all
    live = _all_live(world) if is_all else _some_live(world, wanted)
    up = [agent for agent in picture.agents.values() if agent.is_up]
    late = late_schedules(world, now, who.sees)
    return o.Overview(
        seq=world.seq,
        at=now,
        agent=service.me.name,
        version=service.me.version,
        leader=picture.leader,
        leader_since=picture.leader_since if picture.leader_since != EPOCH else None,
        voters=tuple(sorted(picture.voters)),
        stale_since=world.stale_since,
        trouble=(*world.troubles.values(), *chat_troubles(world), *([late] if late else [])),
        members=len(picture.agents),
        up=len(up),
        slots=sum(agent.slots for agent in up),
        used=sum(cluster.used_slots(agent.name) for agent in up),
        running=len(live.runs),
        queued=live.queued,
        held=live.held,
        oldest_at=live.oldest_at,
        agents=tuple(view(world, agent) for agent in _first_agents(world, request.rows)),
        runs=_runs(world, live, request.rows, request.sort),
        waiting=first_queued(cluster, now, request.rows, wanted, seen),
        failures=_failures(world, live.bad, request.rows, wanted),
        # It counts what everybody's builds did, and is told to those who see them all.
        finished=world.per_minute(now, MINUTES) if who.sees_all else (),
    )


async def _wait(world: World, request: o.OverviewRequest) -> None:
    """Return once something happened after a sequence, the voters fell silent, or time is over."""
    if request.after is None or not request.wait:
        return
    stale = world.stale_since
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(request.wait):
            while world.seq <= request.after and (world.stale_since is None) == (stale is None):
                with contextlib.suppress(TimeoutError):
                    await world.reached(request.after + 1, LOOK_S)


def _wanted(glob: str, who: Principal) -> Wanted:
    fits = re.compile(fnmatch.translate(glob)).match if glob != "*" else None
    if who.sees_all:
        return fits or everything
    return lambda job: who.sees(job) and (fits is None or fits(job))


class _Live:
    """What is told of the builds in memory: numbers, and those of which there are rows."""

    def __init__(self) -> None:
        self.queued = self.held = 0
        self.oldest_at: datetime | None = None
        self.runs: list[Build] = []
        self.bad: list[Build] = []
        self.passed: dict[str, list[Build]] = {}

    def finished(self, build: Build) -> None:
        if build.result in BAD:
            self.bad.append(build)
        elif build.result is Result.PASSED:
            self.passed.setdefault(build.job, []).append(build)


def _all_live(world: World) -> _Live:
    """Return what is told of all builds, by the indexes of the fold."""
    cluster, live = world.cluster, _Live()
    builds = cluster.picture.builds
    live.runs = [builds[it] for ids in cluster.running.values() for it in ids]
    live.queued = cluster.queue.number()
    for build in (*(builds[it] for it in cluster.unsealed), *world.unindexed()):
        live.finished(build)
    live.held = len(builds) - len(live.runs) - live.queued - len(cluster.unsealed)
    # They stand in the order in which they came; only one that is tried again came before.
    oldest = (it.requested_at for it in builds.values() if it.state is State.QUEUED)
    live.oldest_at = next(oldest, None)
    return live


def _some_live(world: World, wanted: Wanted) -> _Live:
    """Return what is told of the wanted jobs' builds, by a look at all of them."""
    live = _Live()
    for build in world.live():
        if not wanted(build.job):
            continue
        match build.state:
            case State.QUEUED:
                live.queued += 1
                if live.oldest_at is None or build.requested_at < live.oldest_at:
                    live.oldest_at = build.requested_at
            case State.RUNNING:
                live.runs.append(build)
            case State.HELD:
                live.held += 1
            case State.FINISHED:
                live.finished(build)
    return live


def _first_agents(world: World, rows: int) -> list[Agent]:
    cluster = world.cluster

    def rank(agent: Agent) -> tuple[int, float, str]:
        if agent.state == "lost":
            wrong = 0
        elif not agent.is_up or agent.draining:
            wrong = 1
        else:
            wrong = 2
        return wrong, -cluster.used_slots(agent.name) / max(agent.slots, 1), agent.name

    return heapq.nsmallest(rows, cluster.picture.agents.values(), key=rank)


def _runs(world: World, live: _Live, rows: int, sort: str) -> tuple[o.RunningView, ...]:
    shown = heapq.nsmallest(rows, live.runs, key=_ORDERS[sort])
    passed = {job: _passed(world, job, live.passed) for job in {it.job for it in shown}}
    return tuple(
        o.RunningView(
            build=build.ref,
            id=build.id,
            agent=build.agent or "",
            attempt=build.attempt,
            started_at=build.started_at or EPOCH,
            typical_s=expected_s(build, passed[build.job]),
            waits_for="answer" if open_questions(build) else "builds" if build.is_waiting else "",
        )
        for build in shown
    )


def _passed(world: World, job: str, live: Mapping[str, Sequence[Build]]) -> list[Build]:
    """Return a job's last passes, newest first; more than say what is typical, to choose from."""
    past = world.past(job=job, result=Result.PASSED, before=None, limit=2 * TYPICAL_OF)
    return [*reversed(live.get(job, ())), *past]


def _failures(
    world: World, live: Sequence[Build], rows: int, wanted: Wanted
) -> tuple[o.FailureView, ...]:
    if not rows:
        return ()
    found = {build.id: build for build in live}
    for result in BAD:
        found |= {build.id: build for build in _bad(world, result, rows, wanted)}
    latest = heapq.nlargest(rows, found.values(), key=lambda it: (it.finished_at or EPOCH, it.id))
    return tuple(
        o.FailureView(
            build=build.ref,
            id=build.id,
            result=str(build.result),
            agent=build.agent or "",
            finished_at=build.finished_at or EPOCH,
            ran_s=seconds(build),
            step=build.step,
            message=build.message,
        )
        for build in latest
    )


def _bad(world: World, result: Result, rows: int, wanted: Wanted) -> Iterator[Build]:
    """Yield the last builds with a result, of the wanted jobs, as far as they are soon found."""
    before, found, seen = None, 0, 0
    while found < rows and seen < MAX_PASSED_OVER:
        page = world.past(job=None, result=result, before=before, limit=rows)
        fitting = [build for build in page if wanted(build.job)]
        yield from fitting
        if len(page) < rows:
            return
        before, found, seen = page[-1].requested_seq, found + len(fitting), seen + len(page)
