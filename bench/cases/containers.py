"""A build in a container, beside ``docker run`` of the same image by hand, in turns.

Where the engine is says ``DOCKER_HOST``, which image ``ROTA_BENCH_IMAGE`` (busybox unless it says so);
it must be on this machine.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
from pathlib import Path

from bench import agent, floor
from bench.case import Result, Setting
from bench.figure import Figure

TIMES = 30
WARM = 3
NETWORKS = ("bridge", "host")
SCRIPT = """#!/bin/sh
# /// script
# [tool.rota]
# image = "{image}"
# network = "{network}"
# ///
echo hello
"""


def run(setting: Setting) -> Result:
    """Run builds and plain containers in turns; both make, start, wait for and remove one."""
    image = os.environ.get("ROTA_BENCH_IMAGE", "busybox")
    docker = shutil.which("docker")
    if docker is None or not _has(docker, image):
        return Result(notes=[f"left out: there is no docker here, or no engine that has {image}"])
    figures: list[Figure] = []
    raw: dict[str, object] = {}
    with agent.running(setting.data()) as running, running.connect() as connection:
        for network in NETWORKS:
            word = "private" if network == "bridge" else network
            connection.put(f"c/{network}", SCRIPT.format(image=image, network=word))
            ours: list[float] = []
            plain: list[float] = []
            for turn in range(WARM + setting.size(TIMES, 5)):
                took = (
                    floor.timed_ms(
                        lambda: connection.wait(connection.run(f"c/{network}")["id"])  # noqa: B023
                    ),
                    floor.timed_ms(lambda: _plain(docker, image, network, setting.folder)),  # noqa: B023
                )
                if turn >= WARM:
                    ours.append(took[0])
                    plain.append(took[1])
            raw[network] = {"build_ms": ours, "docker_run_ms": plain}
            figures.append(
                Figure(
                    what=f"build in a container, network {network}",
                    value=statistics.median(ours),
                    unit="ms",
                    reach=1.1 * statistics.median(plain),
                    floor=statistics.median(plain),
                    floor_name="docker",
                )
            )
    note = "from the request over REST to its recorded end; the floor is `docker run --rm -v …` of the same"
    return Result(figures=figures, notes=[note], raw=raw)


def _has(docker: str, image: str) -> bool:
    asked = [docker, "image", "inspect", image]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _plain(docker: str, image: str, network: str, folder: Path) -> None:
    words = ("--network", network, "-v", f"{folder}:{folder}", "-w", str(folder))
    subprocess.run(
        [docker, "run", "--rm", *words, image, "/bin/sh", "-c", "echo hello"],
        stdout=subprocess.DEVNULL,
        check=True,
    )
