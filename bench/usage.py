"""What processes used, as /proc tells it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


class Cpu(NamedTuple):
    """CPU milliseconds so far: of the daemon, of its children that ended or fork for it, of the engine."""

    daemon: float
    children: float
    engine: float

    @property
    def all(self) -> float:
        """All of it."""
        return sum(self)

    def since(self, before: Cpu) -> Cpu:
        """Return what was used after ``before``."""
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))

    def each(self, count: int) -> str:
        """Return its parts for one of ``count`` builds, as words."""
        return ", ".join(f"{name} {ms / count:.2f}" for name, ms in self._asdict().items())


def cpu(daemon: int, engine: int) -> Cpu:
    """Return what daemon and engine used since they began, in steps of 10 ms."""
    own, children = _times(daemon)
    forking = sum(
        sum(_times(pid)) for pid in _forking(daemon)
    )  # counted with the ended once it ends
    return Cpu(own, children + forking, _times(engine)[0])


def _forking(daemon: int) -> list[int]:
    """Return the daemon's fork server, if it has one, and the supervisors that were forked of it."""
    try:
        found = Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
        return [int(pid) for pid in found if _is_forking(pid)]
    except FileNotFoundError:
        return []


def _is_forking(pid: str) -> bool:
    try:
        return b"forkserver.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _times(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, children_user, children_system = (int(field) for field in fields[11:15])
    return (user + system) * TICK_MS, (children_user + children_system) * TICK_MS


def whole_cpu(pid: int) -> float:
    """Return the CPU milliseconds of a process and of its ended children."""
    return sum(_times(pid))


def pss_mb(pid: int) -> float:
    """Return the memory of a process, what it shares with others counted by its share."""
    return _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") * 1024 / 1e6


def anonymous_mb(pid: int) -> float:
    """Return the memory that a process has written and no file has: what grows if it keeps something."""
    return _kib(Path(f"/proc/{pid}/smaps_rollup"), "Anonymous:") * 1024 / 1e6


def descriptors(pid: int) -> int:
    """Return how many files a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss_peak_mb(pid: int) -> float:
    """Return the most memory a process had resident, since the start or :func:`forget_peak`."""
    return _kib(Path(f"/proc/{pid}/status"), "VmHWM:") * 1024 / 1e6


def forget_peak(pid: int) -> None:
    """Let the peak of a process begin anew at what it has now: proc(5), clear_refs."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _kib(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise LookupError(f"{path} has no {name}")
