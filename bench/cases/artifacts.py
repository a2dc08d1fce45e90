"""An artifact of 1 GB: kept by a script's `rota artifacts put`, and fetched by `rota artifacts get`.

The floor is what this disk takes to copy the same file and have it there: `cp`, then `fsync`. The
daemon's memory is looked at as it was before, and at its peak.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from pathlib import Path

from bench import usage
from bench.agent import ROTA, Agent, running
from bench.case import Result, Setting
from bench.figure import Figure

TIMES = 3
PIECE = 1 << 20


def run(setting: Setting) -> Result:
    """Put and get it some times, with the floor before each; take medians."""
    size = setting.size(1000, 100) * 1_000_000
    source = setting.folder / "source"
    digest = _write(source, size)
    ups: list[float] = []
    downs: list[float] = []
    floors: list[float] = []
    with running(setting.data()) as agent:
        with agent.connect() as connection:
            connection.put("hang", "#!/bin/sh\nexec sleep 3600\n")
            build = connection.run("hang")["id"]
            while connection.call("GET", f"/v1/builds/{build}")["state"] != "running":
                time.sleep(0.05)
        _rota(agent, "artifacts", "put", str(source), "warm", "--build", build)
        before = usage.rss_peak_mb(agent.daemon)
        usage.forget_peak(agent.daemon)
        for number in range(TIMES):
            floors.append(_copied_s(source, setting.folder / "copy"))
            began = time.perf_counter()
            _rota(agent, "artifacts", "put", str(source), f"file{number}", "--build", build)
            ups.append(time.perf_counter() - began)
            target = setting.folder / "got"
            began = time.perf_counter()
            _rota(agent, "artifacts", "get", build, f"file{number}", "-o", str(target))
            downs.append(time.perf_counter() - began)
            _check(target, digest)
            target.unlink()
        peak = usage.rss_peak_mb(agent.daemon)
    floor = sorted(floors)[TIMES // 2]
    mb = size // 1_000_000
    return Result(
        figures=[
            Figure(
                what=f"{mb} MB kept by `artifacts put`",
                value=sorted(ups)[TIMES // 2],
                unit="s",
                reach=2 * floor,
                floor=floor,
                floor_name="cp+fsync",
            ),
            Figure(
                what=f"{mb} MB fetched by `artifacts get`",
                value=sorted(downs)[TIMES // 2],
                unit="s",
                reach=2 * floor,
                floor=floor,
                floor_name="cp+fsync",
            ),
            Figure(
                what="  the daemon's memory at its peak: more",
                value=peak - before,
                unit="MB",
                reach=40,
            ),
        ],
        notes=[
            (
                f"put {_speeds(mb, ups)} MB/s, get {_speeds(mb, downs)}, cp+fsync {_speeds(mb, floors)}; "
                f"daemon {before:.0f} MB after the first one, {peak:.0f} MB at the peak"
            )
        ],
        raw={"put_s": ups, "get_s": downs, "floor_s": floors, "rss_mb": [before, peak]},
    )


def _speeds(mb: int, seconds: list[float]) -> str:
    return " ".join(f"{mb / each:.0f}" for each in seconds)


def _write(path: Path, size: int) -> str:
    """Write a file that does not compress, and return its hash."""
    digest, block = hashlib.sha256(), os.urandom(PIECE)
    with path.open("wb") as file:
        for number in range(size // PIECE + 1):
            piece = number.to_bytes(8, "big") + block[8:]
            piece = piece[: max(0, size - number * PIECE)]
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _copied_s(source: Path, target: Path) -> float:
    began = time.perf_counter()
    subprocess.run(["cp", str(source), str(target)], check=True)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    took = time.perf_counter() - began
    target.unlink()
    return took


def _rota(agent: Agent, *arguments: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ROTA_")}
    subprocess.run(
        [ROTA, "--data", str(agent.data), *arguments], env=env, check=True, capture_output=True
    )


def _check(path: Path, digest: str) -> None:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            found.update(piece)
    if found.hexdigest() != digest:
        raise ValueError("what came back is not what was kept")
