"""What the system lets an agent and its builds have at once: open files, processes."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from rota.service.doctor.machine import Found

#: An agent that builds nothing has some 30 files open; connections and followers come to that.
OWN_FILES = 256
#: What an attempt takes of the agent's: pipe, log, checkout, artifacts on their way.
FILES_EACH = 16
FILES_SHARE = 0.8
#: What a build may well start at once; a thread counts as a process does.
TASKS_EACH = 64
MIN_FILES = 1024


def limits(slots: int) -> Iterator[Found]:
    """Look at files and processes: what is open, what may be, and what that many slots need."""
    yield from _files(slots)
    yield from _processes(slots)


def _files(slots: int) -> Iterator[Found]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    needed = max(MIN_FILES, OWN_FILES + FILES_EACH * slots)
    if soft < needed:
        may = " (the hard limit as well)" if hard == soft else ""
        yield (
            f"the agent may open {soft} files{may}; with {_slots(slots)} it should be {needed}",
            "LimitNOFILE=65536 in its unit, or `ulimit -n 65536` before it is started",
        )
    used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    if used > FILES_SHARE * soft:
        yield (
            f"the agent has {used} files open, and may open {soft}",
            "LimitNOFILE=65536 in its unit; connections that nobody closes: ls -l /proc/PID/fd",
        )


def _processes(slots: int) -> Iterator[Found]:
    needed = TASKS_EACH * slots
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    # Root is not held to it.
    if soft != resource.RLIM_INFINITY and os.geteuid() != 0:
        left = soft - tasks_of(os.geteuid())
        if left < needed:
            yield (
                f"the agent's user may start {max(left, 0)} more processes (of {soft}):"
                + _wanted(slots),
                "LimitNPROC= in its unit, `ulimit -u`, or fewer slots: `slots` in agent.toml",
            )
    for path, most, now in bounded_groups():
        if most - now < needed:
            yield (
                f"the control group {path} has room for {max(most - now, 0)} more processes"
                f" (of {most}):" + _wanted(slots),
                "TasksMax= in the agent's unit, --pids-limit of its container, or fewer slots",
            )


def _wanted(slots: int) -> str:
    return f" builds in {_slots(slots)} may want {TASKS_EACH * slots}"


def _slots(count: int) -> str:
    return f"{count} slot{'' if count == 1 else 's'}"


def tasks_of(user: int, proc: Path = Path("/proc")) -> int:
    """Return how many threads a user's processes have. Cost: a look at each process there is."""
    count = 0
    for process in proc.iterdir():
        try:
            if process.name.isdigit() and process.stat().st_uid == user:
                count += sum(1 for _ in (process / "task").iterdir())
        except OSError:
            continue  # it ended meanwhile
    return count


def bounded_groups(
    proc: Path = Path("/proc"), mounted: Path = Path("/sys/fs/cgroup")
) -> Iterator[tuple[str, int, int]]:
    """Yield the control groups above this process that bound processes: path, the most, how many are."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, kinds, inside = line.split(":", 2)
        if "pids" in kinds.split(","):
            root = mounted / "pids"
        elif number == "0" and not kinds:
            root = mounted
        else:
            continue
        folder = root / inside.lstrip("/")
        while folder.is_relative_to(root):
            try:
                most, now = (
                    (folder / name).read_text().strip() for name in ("pids.max", "pids.current")
                )
                if most != "max":
                    yield str(folder), int(most), int(now)
            except (OSError, ValueError):
                pass  # none is bounded there: the root of all has no such files
            folder = folder.parent
