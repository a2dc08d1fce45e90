"""Many builds as fast as they can, and whether daemon and engine grow with their number.

An hour of `soak` says how an agent is after 18,000 builds; this says the same of 20,000 in some minutes, since what is
looked for grows with builds and not with time. What is bounded (recent events, deeds, page caches) is full after the first
5,000; what grows in the second half is kept for ever. Memory is what was written: what is a
file's, other processes share, and it comes and goes with them.
"""

from __future__ import annotations

import dataclasses
import time

from bench import usage
from bench.agent import Agent, running
from bench.case import Result, Setting
from bench.cases.burst import burst
from bench.figure import Figure
from bench.slope import slope

SCRIPT = "#!/bin/sh\necho hello\n"
AT_ONCE = 500
#: Freed memory is given back once a minute: `rota.daemon.heap`.
REST_S = 65


@dataclasses.dataclass(frozen=True)
class Sample:
    """What daemon and engine had after so many builds, at rest."""

    builds: int
    daemon_mb: float
    engine_mb: float
    descriptors: int


def run(setting: Setting) -> Result:
    """Build, rest, weigh, and again; the growth is the slope of the second half, by Theil and Sen."""
    step, rest_s = setting.size(2_000, 100), setting.size(REST_S, 1)
    with running(setting.data()) as agent:
        with agent.connect() as connection:
            connection.put("burst", SCRIPT)
        samples = [_weighed(agent, 0)]
        for number in range(1, 11):
            for count in _shares(step):
                burst(agent, "burst", count)
            agent.settle()
            time.sleep(rest_s)
            samples.append(_weighed(agent, number * step))
    half = samples[len(samples) // 2 :]
    return Result(
        figures=[
            Figure(
                what="10,000 builds: the daemon grows by",
                value=_slope(half, "daemon_mb"),
                unit="MB",
                reach=1,
            ),
            Figure(
                what="10,000 builds: the engine grows by",
                value=_slope(half, "engine_mb"),
                unit="MB",
                reach=4,
            ),
            Figure(
                what="descriptors more at the end",
                value=samples[-1].descriptors - samples[1].descriptors,
                unit="",
                reach=2,
            ),
        ],
        notes=[
            "builds: daemon/engine MB: "
            + ", ".join(f"{s.builds}: {s.daemon_mb:.1f}/{s.engine_mb:.1f}" for s in samples)
        ],
        raw={"samples": [dataclasses.asdict(sample) for sample in samples]},
    )


def _shares(count: int) -> list[int]:
    whole, rest = divmod(count, AT_ONCE)
    return [AT_ONCE] * whole + ([rest] if rest else [])


def _weighed(agent: Agent, builds: int) -> Sample:
    return Sample(
        builds,
        usage.anonymous_mb(agent.daemon),
        usage.anonymous_mb(agent.engine),
        usage.descriptors(agent.daemon),
    )


def _slope(samples: list[Sample], field: str) -> float:
    """Return what a figure grows by in 10,000 builds."""
    return 10_000 * slope((sample.builds, getattr(sample, field)) for sample in samples)
