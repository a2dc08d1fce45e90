"""An hour of builds, and whether daemon and engine are as large at its end as before.

Builds of three sizes come at a steady pace, some fail, one in sixty prints a megabyte; somebody lists, somebody
follows. Nothing here is as fast as it can: what is looked for grows with the number of builds, not with the load.
"""

from __future__ import annotations

import dataclasses
import threading
import time

from bench import usage
from bench.agent import Agent, running
from bench.case import Result, Setting
from bench.figure import Figure
from bench.slope import slope

BUILDS_PER_S = 5.0
SAMPLE_S = 10.0
SCRIPTS = {
    "soak/quick": "#!/bin/sh\necho hello\n",
    "soak/fails": "#!/bin/sh\necho no >&2\nexit 3\n",
    "soak/talks": "#!/bin/sh\nhead -c 40000 /dev/urandom | od -v\n",
    "soak/large": "#!/bin/sh\nhead -c 300000 /dev/urandom | od -v\n",
}
#: Which job each build is of, in turn: quick ones mostly.
ORDER = ["soak/quick", "soak/talks", "soak/quick", "soak/fails", "soak/quick", "soak/quick"]
LARGE_EVERY = 60


@dataclasses.dataclass(frozen=True)
class Sample:
    """What daemon and engine had at one moment; ``at`` in seconds since the beginning."""

    at: float
    daemon_mb: float
    engine_mb: float
    descriptors: int
    builds: int


def run(setting: Setting) -> Result:
    """Run builds for an hour; the growth is the slope of the second half, by Theil and Sen."""
    lasts = setting.size(3600, 20)
    with running(setting.data()) as agent:
        with agent.connect() as connection:
            for name, script in SCRIPTS.items():
                connection.put(name, script)
        load = _Load(agent)
        samples = _watch(agent, load, lasts)
        load.stop()
        agent.settle()
        time.sleep(setting.size(60, 1))
        rest = _sample(agent, load, time.perf_counter())
    half = samples[len(samples) // 2 :]
    return Result(
        figures=[
            Figure(
                what="soak: the daemon grows by",
                value=_slope(half, "daemon_mb"),
                unit="MB/h",
                reach=2,
            ),
            Figure(
                what="soak: the engine grows by",
                value=_slope(half, "engine_mb"),
                unit="MB/h",
                reach=4,
            ),
            Figure(
                what="soak: descriptors more at rest",
                value=rest.descriptors - samples[0].descriptors,
                unit="",
                reach=2,
            ),
        ],
        notes=[
            f"{load.builds} builds in {lasts} s; daemon/engine MB: " + ", ".join(_told(samples)),
            f"at rest afterwards {rest.daemon_mb:.1f}/{rest.engine_mb:.1f} MB",
        ],
        raw={"samples": [dataclasses.asdict(sample) for sample in [*samples, rest]]},
    )


def _watch(agent: Agent, load: _Load, lasts: float) -> list[Sample]:
    began, samples = time.perf_counter(), [_sample(agent, load, time.perf_counter())]
    load.start()
    step = min(SAMPLE_S, lasts / 20)
    while samples[-1].at < lasts:
        time.sleep(step)
        samples.append(_sample(agent, load, began))
    return samples


def _sample(agent: Agent, load: _Load, began: float) -> Sample:
    return Sample(
        at=time.perf_counter() - began,
        daemon_mb=usage.pss_mb(agent.daemon),
        engine_mb=usage.pss_mb(agent.engine),
        descriptors=usage.descriptors(agent.daemon),
        builds=load.builds,
    )


def _told(samples: list[Sample]) -> list[str]:
    """Return some of the samples as words, evenly spread."""
    shown = [samples[round(i * (len(samples) - 1) / 6)] for i in range(7)]
    return [f"{s.at / 60:.0f} min {s.daemon_mb:.1f}/{s.engine_mb:.1f}" for s in shown]


def _slope(samples: list[Sample], field: str) -> float:
    """Return what a figure grows by in an hour."""
    return 3600 * slope((sample.at, getattr(sample, field)) for sample in samples)


class _Load:
    """Triggers, lists and follows, until told to stop."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._trigger, self._read)]
        self.builds = 0

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _trigger(self) -> None:
        due = time.perf_counter()
        with self._agent.connect() as connection:
            while not self._over.wait(max(0.0, due - time.perf_counter())):
                is_large = self.builds % LARGE_EVERY == LARGE_EVERY - 1
                connection.run("soak/large" if is_large else ORDER[self.builds % len(ORDER)])
                self.builds += 1
                due = max(due + 1 / BUILDS_PER_S, time.perf_counter() - 1.0)

    def _read(self) -> None:
        while not self._over.wait(2.0):
            with self._agent.connect() as connection:
                for build in connection.call("GET", "/v1/builds?limit=20")[:2]:
                    for _ in connection.stream(f"/v1/builds/{build['id']}/log?follow"):
                        pass
                connection.call("GET", "/v1/overview")
