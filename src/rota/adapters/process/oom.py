"""The kernel's count of out-of-memory kills: a heuristic, since it does not say of whom.

``/proc/vmstat`` counts the machine's, the memory cgroup's file (v2 ``memory.events``, v1
``memory.oom_control``) those of the cgroup this process is in, which its attempts share.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

_COUNT = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)
_FRESH_S = 1.0  # of one count for all attempts that start within it; a read costs 50 µs


class OomCounter:
    """Reads the sum of some ``oom_kill`` counters; by default those that concern this process."""

    def __init__(self, files: Sequence[Path] | None = None) -> None:
        self._files = tuple(_files() if files is None else files)
        self._read_at = float("-inf")
        self._count = 0

    def count(self) -> int:
        """Return the count as of now."""
        self._count = sum(_count(file) for file in self._files)
        self._read_at = time.monotonic()
        return self._count

    def recent(self) -> int:
        """Return a count at most a second old: for a start, where an old one errs on one side."""
        if time.monotonic() - self._read_at > _FRESH_S:
            return self.count()
        return self._count


def _count(file: Path) -> int:
    try:
        found = _COUNT.search(file.read_bytes())
    except OSError:
        return 0
    return int(found.group(1)) if found else 0


def _files() -> list[Path]:
    files = [Path("/proc/vmstat")]
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return files
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            files += [Path(f"/sys/fs/cgroup{path}/memory.events")]
        elif "memory" in controllers.split(","):
            files += [Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control")]
    return [file for file in files if file.exists()]
