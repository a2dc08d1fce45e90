"""The queue at its largest: what a decision, an event and an explanation cost in one process.

Ten thousand builds are queued, and a thousand agents are there. What it is held against is one look
at all agents' labels, without which nobody can say whom a build fits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from bench.case import Result, Setting
from bench.figure import Figure
from rota.core.cluster import Cluster
from rota.core.decide import View, decide
from rota.core.events import AgentStarted, BuildRequested, BuildStarted, Event, LimitsSet
from rota.core.fold import apply
from rota.core.job import Rate, Spec, Take
from rota.core.labels import satisfies
from rota.core.policy import Policy, Throttle
from rota.service.queueing import queued

AT = datetime(2026, 1, 1, tzinfo=UTC)
LABELS = {"linux": "", "cores": "8"}
POLICY = Policy(limits={"licence": 3, "db": 5}, throttles=(Throttle("docker", per_agent=1),))


class Crowd:
    """A folded cluster with agents that are all busy, and builds that wait for them."""

    def __init__(self, agents: int, builds: int, expressions: int, limited: bool) -> None:
        self.cluster, self.seq = Cluster(), 0
        self.fold(LimitsSet(at=AT, policy=POLICY))
        for number in range(agents):
            labels = {**LABELS, "host": f"h{number}"}
            self.fold(AgentStarted(at=AT, agent=f"a{number}", labels=labels, slots=1))
        for number in range(agents - 1):  # one has a free slot
            self.fold(BuildRequested(at=AT, build=f"r{number}", job="busy/j", spec=Spec()))
            self.fold(BuildStarted(at=AT, agent=f"a{number + 1}", build=f"r{number}", attempt=1))
        for number in range(builds):
            self.fold(
                BuildRequested(
                    at=AT,
                    build=f"b{number}",
                    job=f"p{number % 20}/j{number % 100}",
                    spec=_spec(number, expressions, limited=limited),
                )
            )

    def fold(self, event: Event) -> None:
        self.seq += 1
        apply(self.cluster, self.seq, event)

    def decide(self) -> None:
        decide(self.cluster, View(name="a0", labels={**LABELS, "host": "h0"}, slots=1), AT)

    def why(self, build: str) -> str:
        return queued(self.cluster, self.cluster.picture.builds[build], AT, {}).text


def _spec(number: int, expressions: int, *, limited: bool) -> Spec:
    labels = f"linux || x{number % expressions}" if expressions > 1 else "linux"
    if not limited:
        return Spec(labels=labels)
    kinds = (
        {"limits": (Take("licence"),)},
        {"limits": (Take("db", 2), Take("licence"))},
        {"concurrency": 1},
        {"rate": Rate(5, 3600.0)},
    )
    return Spec(labels=labels, **kinds[number % 4])  # type: ignore[arg-type]  # one of several


def run(setting: Setting) -> Result:
    """Measure with one label expression and fifty, with limits and without."""
    agents, builds = setting.size(1000, 100), setting.size(10_000, 1000)
    result = Result()
    for expressions in (1, 50):
        for limited in (False, True):
            crowd = Crowd(agents, builds, expressions, limited)
            crowd.decide()
            name = f"{expressions} expr{', limits' if limited else ''}"
            least = _least(lambda c=crowd: _look_at_all(c))  # type: ignore[misc]  # for mypy no default
            last = f"b{builds - 1}"
            first_ms = _took_ms(lambda c=crowd, b=last: c.why(b))  # type: ignore[misc]  # the same
            result.figures += [
                _figure(f"why, first, {name}", first_ms, least, reach=100),
                _figure(f"why, {name}", _least(lambda c=crowd, b=last: c.why(b)), least, reach=100),  # type: ignore[misc]  # the same
                _figure(f"decide, {name}", _least(crowd.decide), least),
            ]
            result.notes.append(f"{name}: {crowd.why(last)}"[:200])
    result.figures.append(
        Figure(what="fold of a request, 10,000 queued", value=_fold_us(crowd), unit="µs")
    )
    return result


def _look_at_all(crowd: Crowd) -> int:
    return sum(satisfies("linux", it.labels) for it in crowd.cluster.picture.agents.values())


def _fold_us(crowd: Crowd) -> float:
    number = 2000
    events = [BuildRequested(at=AT, build=f"n{it}", job="p/j", spec=Spec()) for it in range(number)]
    began = time.perf_counter()
    for event in events:
        crowd.fold(event)
    return (time.perf_counter() - began) / number * 1e6


def _figure(what: str, value: float, floor: float, reach: float | None = None) -> Figure:
    return Figure(what=what, value=value, unit="ms", reach=reach, floor=floor, floor_name="looks")


def _took_ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _least(call: Callable[[], object], times: int = 30) -> float:
    return min(_took_ms(call) for _ in range(times))
