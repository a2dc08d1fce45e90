"""What confining a script costs: from its start to its end with nothing left, beside a plain one."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from bench.case import Result, Setting
from bench.figure import Figure
from rota.adapters.process import ProcessExecutor
from rota.adapters.process.confiner import confiner_of
from rota.core.confinement import ABILITIES, Confinement
from rota.core.resources import Resources
from rota.ports.executor import Task

TIMES = 40
WARM = 3
LIMITS = Resources(cpus=8, memory_bytes=1 << 30, pids=500)
LIMITED = ("cpus", "memory", "pids")
ALL = Confinement(
    resources=LIMITS,
    user="nobody",
    network="none",
    no_new_privs=True,
    private_tmp=True,
    private_pids=True,
)


def run(setting: Setting) -> Result:
    """Start scripts that say nothing, one after the other, in turn with each confinement."""
    return asyncio.run(_run(setting.data(), setting.size(TIMES, 3), setting.spawn_ms))


async def _run(data: Path, times: int, floor_ms: float) -> Result:
    data.mkdir(parents=True)
    (data / "builds").mkdir()
    script = data / "script"
    script.write_text("#!/bin/sh\ntrue\n")
    script.chmod(0o755)
    confiner = confiner_of(data)
    labels = await asyncio.to_thread(confiner.labels)
    kinds: dict[str, Confinement | None] = {"plain": None, **dict(_kinds(labels))}
    executor = ProcessExecutor(confiner=confiner)
    took: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(times + WARM):
        for name, asked in kinds.items():
            home = data / "builds" / f"{name.replace(' ', '-')}{number}" / "1"
            for folder in ("work", "tmp"):
                (home / folder).mkdir(parents=True)
            env = {"PATH": "/usr/bin:/bin", "ROTA_ATTEMPT_ID": home.parent.name}
            task = Task(
                home=home,
                argv=(str(script),),
                cwd=home / "work",
                env=env,
                marker=f"ROTA_ATTEMPT_ID={home.parent.name}",
                confinement=asked,
            )
            began = time.perf_counter()
            running = await executor.start(task)
            ended = await running.wait()
            await running.terminate(0)
            assert ended.code == 0, (home / "log").read_text()
            if number >= WARM:
                took[name].append((time.perf_counter() - began) * 1000)
    executor.close()
    return Result(
        figures=[
            Figure(
                what=f"start → end, {name}",
                value=statistics.median(values),
                unit="ms",
                floor=floor_ms,
            )
            for name, values in took.items()
        ],
        notes=["a script of one word; supervisor, control group and its removal included"],
        raw={"took_ms": took},
    )


def _kinds(labels: Collection[str]) -> Iterator[tuple[str, Confinement]]:
    """Yield what this machine allows, by name."""
    kinds = {
        "limits": (LIMITED, Confinement(resources=LIMITS)),
        "no_new_privs": (("no_new_privs",), Confinement(no_new_privs=True)),
        "network none": (("network",), Confinement(network="none")),
        "private_tmp": (("private_tmp",), Confinement(private_tmp=True)),
        "private_pids": (("private_pids",), Confinement(private_pids=True)),
        "user": (("user",), Confinement(user="nobody")),
        "all of it": (tuple(ABILITIES), ALL),
    }
    for name, (needed, asked) in kinds.items():
        if all(ABILITIES[each] in labels for each in needed):
            yield name, asked
