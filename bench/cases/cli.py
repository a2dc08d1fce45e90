"""What the command line adds to the start of Python itself."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from bench import floor
from bench.agent import ROTA, running
from bench.case import Result, Setting
from bench.figure import Figure


def run(setting: Setting) -> Result:
    """Run the commands in turn with `python -c pass`, so that all see the same machine."""
    with running(setting.data()) as agent:
        with agent.connect() as connection:
            for number in range(10):
                connection.put(f"web/job-{number}", "#!/bin/sh\ntrue\n")
        commands = {
            "python": [sys.executable, "-c", "pass"],
            "rota --version": [ROTA, "--version"],
            "rota jobs": [ROTA, "--data", str(agent.data), "jobs"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(setting.size(20, 5)):
            for name, command in commands.items():
                times[name].append(_ms(command, setting.folder / "out"))
    medians = {name: statistics.median(values) for name, values in times.items()}
    python = medians.pop("python")
    reach = {"rota --version": 40.0, "rota jobs": 40.0}
    return Result(
        figures=[
            Figure(
                what=f"{name} over python -c pass",
                value=median - python,
                unit="ms",
                reach=reach[name],
                floor=python,
                floor_name="python",
            )
            for name, median in medians.items()
        ],
        notes=[f"`python -c pass` takes {python:.1f} ms; medians of {len(times['python'])}"],
        raw=dict(times),
    )


def _ms(command: list[str], output: Path) -> float:
    return floor.timed_ms(lambda: floor.run(command, output))
