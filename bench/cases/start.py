"""From the command that starts an agent to the first build it takes."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bench import agent
from bench.case import Result, Setting
from bench.figure import Figure

TIMES = 3
SCRIPT = "#!/bin/sh\necho hello\n"


def run(setting: Setting) -> Result:
    """Start agents in new folders, and again in the same."""
    first: list[float] = []
    again: list[float] = []
    for _ in range(setting.size(TIMES, 1)):
        data = setting.data()
        first.append(_started_s(data, is_new=True))
        again.append(_started_s(data, is_new=False))
    return Result(
        figures=[
            Figure(
                what=f"start → first build taken, {name}",
                value=statistics.median(values),
                unit="s",
                reach=1.2,
                floor=setting.spawn_ms / 1000,
            )
            for name, values in (("first boot", first), ("restart", again))
        ],
        notes=["the whole command `rota agent --daemon`; at first boot the job's commit too"],
        raw={"first_s": first, "again_s": again},
    )


def _started_s(data: Path, *, is_new: bool) -> float:
    began = time.perf_counter()
    agent.start(data)
    running = agent.found(data)
    try:
        with running.connect() as connection:
            if is_new:
                connection.put("hello", SCRIPT)
            build = connection.run("hello")["id"]
            took = time.perf_counter() - began
            connection.wait(build)
    finally:
        agent.stop(running)
    return took
