"""What a machine says of itself."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from rota.core.labels import parse_agent_labels
from rota.core.settings import Settings


def log_bytes(settings: Settings, data: Path) -> int:
    """Return how much logs may take: as the settings say, but no more than half of the disk."""
    disk = os.statvfs(data)
    return min(settings.logs.max_bytes, disk.f_blocks * disk.f_frsize // 2)


def labels_of(name: str, given: str, tools: Mapping[str, str]) -> dict[str, str]:
    """Return what the agent carries at its start: what it was given goes above what is found."""
    items = (item for item in given.split(",") if item.strip())
    return {**found_labels(name), **tools, **parse_agent_labels(items)}


def found_labels(name: str) -> dict[str, str]:
    """Return what every machine says of itself."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system = platform.system().lower()
    return {
        "agent": name,
        system: "",
        "os": system,
        "arch": platform.machine(),
        "cores": str(os.cpu_count() or 1),
        "memory": f"{memory >> 30}G",
    }
