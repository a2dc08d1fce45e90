"""The same jobs under rota and under Buildbot, in turn, on this machine: what is measured of both, as a ratio.

The scripts write the moment of their first instruction into a file, so that nobody's log is in the way. In the
table the floor is Buildbot: 0.1 is ten times as quick, or a tenth as much.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from bench import buildbot, usage
from bench.agent import running
from bench.case import Result, Setting
from bench.cases import text
from bench.figure import Figure

CONNECTIONS = 4


class System(NamedTuple):
    """What is asked of both."""

    run: Callable[[str], int | str]
    wait: Callable[[int | str], None]
    unfinished: Callable[[], int]
    cpu_ms: Callable[[], float]
    pss_mb: Callable[[], float]


class Measured(NamedTuple):
    """What one did."""

    start_s: float
    idle_mb: float
    begin_ms: float
    rate: float
    cpu_ms: float
    log_s: float


def run(setting: Setting) -> Result:
    """Measure one after the other, the quicker one first."""
    size = setting.size(100, 1) * 1_000_000
    scripts = _scripts(setting.folder, size)
    ours = _rota(setting, scripts)
    theirs = _buildbot(setting, scripts)
    return Result(
        figures=[
            _figure("start → a build can be taken", ours.start_s, theirs.start_s, "s"),
            _figure("idle: PSS of all processes", ours.idle_mb, theirs.idle_mb, "MB"),
            _figure("trigger → first instruction, p50", ours.begin_ms, theirs.begin_ms, "ms"),
            Figure(
                what="trivial builds at once",
                value=ours.rate,
                unit="/s",
                at_least=True,
                floor=1000 / theirs.rate,
                floor_name="buildbot",
            ),
            _figure("CPU of each", ours.cpu_ms, theirs.cpu_ms, "ms"),
            _figure(f"{size // 1_000_000} MB printed: result there", ours.log_s, theirs.log_s, "s"),
        ],
        notes=[
            (
                f"Buildbot {buildbot.VERSION}, master and worker here, SQLite, no merging of requests: "
                f"start {theirs.start_s:.1f} s, {theirs.idle_mb:.0f} MB, {theirs.begin_ms:.1f} ms, "
                f"{theirs.rate:.1f}/s, {theirs.cpu_ms:.0f} ms a build, log {theirs.log_s:.1f} s"
            ),
            "rota syncs each step to disk before it answers; Buildbot's SQLite does at each commit",
        ],
        raw={"rota": ours._asdict(), "buildbot": theirs._asdict()},
    )


def _figure(what: str, ours: float, theirs: float, unit: str) -> Figure:
    return Figure(what=what, value=ours, unit=unit, floor=theirs, floor_name="buildbot")


def _scripts(folder: Path, size: int) -> dict[str, str]:
    """Write the scripts and the text; return the scripts' paths."""
    text.write(folder / "text", size)
    texts = {
        "quick": "#!/bin/sh\necho hello\n",
        "stamp": f"#!/bin/bash\necho $EPOCHREALTIME >{folder}/began\n",
        "large": f"#!/bin/sh\nexec cat {folder}/text\n",
    }
    for name, script in texts.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return {name: str(folder / name) for name in texts}


def _rota(setting: Setting, scripts: dict[str, str]) -> Measured:
    began = time.perf_counter()
    with running(setting.data()) as agent, agent.connect() as connection:
        start_s = time.perf_counter() - began
        for name, path in scripts.items():
            connection.put(name, Path(path).read_text())

        def trigger(job: str) -> str:
            with agent.connect() as own:
                return str(own.run(job)["id"])

        system = System(
            run=trigger,
            wait=lambda build: connection.wait(str(build)) and None,
            unfinished=connection.unfinished,
            cpu_ms=lambda: agent.cpu().all,
            pss_mb=lambda: usage.pss_mb(agent.daemon) + usage.pss_mb(agent.engine),
        )
        return _measured(setting, system, start_s)


def _buildbot(setting: Setting, scripts: dict[str, str]) -> Measured:
    with buildbot.running(setting.data(), scripts) as (bot, start_s):
        system = System(
            bot.run, lambda it: bot.wait(int(it)), bot.unfinished, bot.cpu_ms, bot.pss_mb
        )
        return _measured(setting, system, start_s)


def _measured(setting: Setting, system: System, start_s: float) -> Measured:
    time.sleep(setting.size(20, 2))
    idle_mb = system.pss_mb()
    times = [_begin_ms(setting, system) for _ in range(setting.size(20, 5))]
    count = setting.size(100, 20)
    before, began = system.cpu_ms(), time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(system.run, ["quick"] * count))
    while system.unfinished():
        time.sleep(0.02)
    took_s = time.perf_counter() - began
    time.sleep(2)
    used = system.cpu_ms() - before
    began = time.perf_counter()
    system.wait(system.run("large"))
    log_s = time.perf_counter() - began
    return Measured(start_s, idle_mb, statistics.median(times), count / took_s, used / count, log_s)


def _begin_ms(setting: Setting, system: System) -> float:
    asked = time.time_ns()
    system.wait(system.run("stamp"))
    return float((setting.folder / "began").read_text()) * 1000 - asked / 1e6
