"""Being watched: what a page of numbers costs, what an event costs an agent that is watched, and a trace.

A world of a thousand agents, ten thousand queued builds with fifty label expressions and a thousand
jobs of which so many as may have numbers of their own. What it is held against is one pass over the builds in
memory; for an event, its fold.
"""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import cast

from bench.case import Result, Setting
from bench.cases.why import AT, Crowd
from bench.figure import Figure
from rota.adapters.clocks import SystemClock
from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex
from rota.core.build import Build
from rota.core.definitions import Definitions
from rota.core.events import BuildFinished, BuildRequested, BuildStarted, Event
from rota.core.fold import apply
from rota.core.job import Reason, Spec
from rota.core.spans import Seen, build_spans, encode_spans, trace_of
from rota.core.states import Result as Ended
from rota.core.states import State
from rota.core.steps import Step
from rota.ports.journal import Entry
from rota.service.context import Service
from rota.service.counts import Counts
from rota.service.meters import page
from rota.service.world import World


def run(setting: Setting) -> Result:
    """Measure a page at its largest, and the counting."""
    return asyncio.run(_run(setting))


async def _run(setting: Setting) -> Result:
    agents, builds = setting.size(1000, 100), setting.size(10_000, 1000)
    jobs = setting.size(1000, 100)
    crowd = Crowd(agents, builds, 50, limited=True)
    world = World(MemoryJournal(), MemoryIndex(), crowd.cluster)
    world.definitions = Definitions()
    clock = SystemClock()
    counts = Counts(clock.now, lambda: 100)
    me = types.SimpleNamespace(name="a0", version="0", data=Path("/"))
    service = cast(Service, types.SimpleNamespace(world=world, clock=clock, me=me, counts=counts))
    watched, plain = _per_event(crowd, counts, jobs)
    for number in range(70):
        for status in (200, 201, 404):
            counts.answered(f"verb{number}", status, 0.001)
    passes = _least(lambda: sum(it.state is State.QUEUED for it in world.live()))
    took = _least(lambda: page(service))
    size = len(page(service))
    return Result(
        figures=[
            Figure(
                what=f"a page, {agents} agents, {builds} queued, {jobs} jobs",
                value=took,
                unit="ms",
                reach=20,
                floor=passes,
                floor_name="passes",
            ),
            Figure(what="its size", value=size / 1024, unit="KiB"),
            Figure(
                what="counting an event",
                value=watched,
                unit="µs",
                reach=10,
                floor=plain,
                floor_name="folds",
            ),
            Figure(what="a build as spans, told", value=_told_us(), unit="µs", reach=500),
        ]
    )


def _per_event(crowd: Crowd, counts: Counts, jobs: int) -> tuple[float, float]:
    """Return what counting and what folding the events of finished builds takes, in µs an event."""
    events: list[Event] = []
    for number in range(jobs):
        at = AT + timedelta(seconds=number)
        id_, job = f"n{number}", f"w/j{number}"
        events += [
            BuildRequested(at=at, build=id_, job=job, spec=Spec()),
            BuildStarted(at=at, agent="a0", build=id_, attempt=1),
            BuildFinished(
                at=at + timedelta(seconds=9),
                agent="a0",
                build=id_,
                attempt=1,
                reason=Reason.SCRIPT,
                exit_code=0,
            ),
        ]
    began, told = time.perf_counter(), []
    for event in events:
        crowd.seq += 1
        told.append((Entry(crowd.seq, event), apply(crowd.cluster, crowd.seq, event)))
    folded = time.perf_counter()
    for entry, change in told:
        counts.folded(entry, change)
    over = time.perf_counter()
    return (over - folded) / len(events) * 1e6, (folded - began) / len(events) * 1e6


def _told_us() -> float:
    """Return what it takes to make the spans of an ordinary build, and to write them."""
    steps = tuple(
        Step(name=f"step {it}", offset=it, started_at=AT, ended_at=AT + timedelta(seconds=it))
        for it in range(5)
    )
    builds = [
        Build(
            id=f"t{number}",
            job="w/j",
            number=number,
            state=State.FINISHED,
            result=Ended.PASSED,
            attempt=1,
            agent="a0",
            requested_at=AT,
            started_at=AT,
            finished_at=AT + timedelta(seconds=9),
            steps=steps,
        )
        for number in range(100)
    ]

    def tell() -> None:
        spans = [it for one in builds for it in build_spans(one, trace_of(one.id, ""), Seen())]
        encode_spans(spans, version="0")

    return _least(tell) * 1000 / len(builds)


def _least(call: Callable[[], object], times: int = 15) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return min(took) * 1000
