"""A back-up of 10,000 builds that left 1 GB of artifacts, while nothing else runs: how long, how large.

The floor is what this disk takes to write a file of the same size and have it there.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from bench.agent import ROTA, Agent, running
from bench.case import Result, Setting
from bench.cases.burst import burst
from bench.figure import Figure

#: Of so many builds one leaves an artifact.
EACH = 100
PRINTS = "#!/bin/sh\nseq 100\n"
#: What is random is not made smaller by anybody.
LEAVES = """#!/bin/sh
# /// script
# [tool.rota]
# artifacts = ["out"]
# ///
head -c {size} /dev/urandom >out
"""
PIECE = 1 << 20


def run(setting: Setting) -> Result:
    """Run the builds, back all of it up twice, and once without artifacts."""
    count, mb = setting.size(10_000, 1000), setting.size(1000, 100)
    left = count // EACH
    target = setting.folder / "all.tar"
    with running(setting.data()) as agent:
        with agent.connect() as connection:
            connection.put("prints", PRINTS)
            connection.put("leaves", LEAVES.format(size=mb * 1_000_000 // left))
        burst(agent, "leaves", left)
        for _ in range(0, count - left, 500):
            burst(agent, "prints", min(500, count - left))
            agent.settle()
        cpu = agent.cpu()
        took = min(_backup_s(agent, target) for _ in range(2))
        used = agent.cpu().since(cpu)
        size = target.stat().st_size
        without = _backup_s(agent, setting.folder / "less.tar", "--no-artifacts", "--no-logs")
        small = (setting.folder / "less.tar").stat().st_size
        began = time.perf_counter()
        subprocess.run([ROTA, "backup", "--check", str(target)], check=True, capture_output=True)
        checked = time.perf_counter() - began
    floor = _written_s(target, setting.folder / "copy")
    return Result(
        figures=[
            Figure(
                what=f"back-up of {count} builds, {size >> 20} MiB",
                value=took,
                unit="s",
                reach=60,
                floor=floor,
                floor_name="cp+fsync",
            ),
            Figure(what="  of it, looking whether it is good", value=checked, unit="s", reach=30),
            Figure(
                what=f"without logs and artifacts, {small >> 10} KiB",
                value=without,
                unit="s",
                reach=10,
            ),
        ],
        notes=[f"the agent's CPU for one: {used.all / 2000:.1f} s"],
        raw={"bytes": size, "without_bytes": small},
    )


def _backup_s(agent: Agent, target: Path, *options: str) -> float:
    began = time.perf_counter()
    command = [ROTA, "backup", str(target), "--data", str(agent.data), *options]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def _written_s(source: Path, target: Path) -> float:
    began = time.perf_counter()
    with source.open("rb") as read, target.open("wb") as written:
        while piece := read.read(PIECE):
            written.write(piece)
        written.flush()
        os.fsync(written.fileno())
    target.unlink()
    return time.perf_counter() - began
