"""What of a machine and an agent's folder can be looked at without an agent that runs."""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

#: What was found, and what to do about it.
Found = tuple[str, str]

MIN_FREE_BYTES = 1 << 30
MIN_FREE_PART, MIN_INODES_PART = 0.05, 0.05
#: An event is acknowledged once it is synced: at this pace twenty a second.
SLOW_SYNC_S = 0.05
SYNCS = 5
MIN_FILES = 1024
FILES_SHARE = 0.8
#: Whoever reads one of these can be the agent, or whoever it knows the secrets of.
SECRET = (
    "token",
    "join-tokens.json",
    "tls/agent.key",
    "tls/next.key",
    "tls/ca.key",
    "tls/secrets.key",
    "engine/engine.json",
    "engine/nats.conf",
)
#: Wherever there is time zone data these are in it.
ZONES = frozenset({"Europe/Berlin", "America/New_York", "Asia/Tokyo"})
#: Folders that only the agent's user may look into.
CLOSED = ("tls", "engine")


def disk(data: Path) -> Iterator[Found]:
    """Look at room, inodes, and how long it takes until something is on disk."""
    found = os.statvfs(data)
    free, whole = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if free < min(MIN_FREE_BYTES, MIN_FREE_PART * whole):
        yield (
            f"the disk of {data} has {free >> 20} MiB left of {whole >> 20}",
            "free some space; what takes how much: du -xsh " + str(data) + "/*",
        )
    if found.f_files and found.f_favail < MIN_INODES_PART * found.f_files:
        yield (
            f"the disk of {data} has {found.f_favail} inodes left of {found.f_files}",
            "many small files: workspaces, caches; `rota workspaces`, `rota caches`",
        )
    try:
        took = sync_s(data)
    except OSError as error:
        # A full disk is found above as well; that nothing can be written is more than that.
        yield (
            f"nothing can be written to the disk of {data}: {error.strerror}",
            "free some space, or mount it so that the agent's user may write",
        )
        return
    if took > SLOW_SYNC_S:
        yield (
            f"the disk of {data} takes {took * 1000:.0f} ms until something is on it",
            "every event waits for that; a local disk does better than one over a network",
        )


def sync_s(folder: Path) -> float:
    """Return how long a small write takes until it is on disk, in the median of a few tries."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            file.flush()
            begun = time.monotonic()
            os.fsync(file.fileno())
            times.append(time.monotonic() - begun)
    return statistics.median(times)


def limits() -> Iterator[Found]:
    """Look at how many files this process may open, and has open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MIN_FILES:
        may = "" if hard != soft else f", and no more than that: the hard limit is {hard}"
        yield (
            f"the agent may open {soft} files{may}",
            "LimitNOFILE=65536 in its unit, or `ulimit -n 65536` before it is started",
        )
    used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    if soft != resource.RLIM_INFINITY and used > FILES_SHARE * soft:
        yield (
            f"the agent has {used} files open, and may open {soft}",
            "LimitNOFILE=65536 in its unit; connections that nobody closes: ls -l /proc/PID/fd",
        )


def zones() -> Iterator[Found]:
    """Look at time zone data: is it there."""
    missing = sorted(ZONES - zoneinfo.available_timezones())
    if missing:
        yield (
            f"time zone data lacks {', '.join(missing[:5])}",
            "schedules fire wrongly there: install the system's tzdata, or: pip install tzdata",
        )


def permissions(data: Path) -> Iterator[Found]:
    """Look at who can read what is secret."""
    for name in SECRET:
        yield from _open_to_others(data / name, 0o077)
    for name in CLOSED:
        yield from _open_to_others(data / name, 0o077)


def _open_to_others(path: Path, mask: int) -> Iterator[Found]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        yield f"{path} cannot be looked at: {error.strerror}", "is it another user's?"
        return
    if found.st_mode & mask:
        mode = "700" if path.is_dir() else "600"
        yield (
            f"{path} can be read by others ({found.st_mode & 0o777:o})",
            f"chmod {mode} {path}; if somebody may have read it: rota agents --rotate NAME",
        )
    if found.st_uid != os.geteuid():
        yield (
            f"{path} belongs to user {found.st_uid}, and the agent runs as {os.geteuid()}",
            f"chown -R {os.geteuid()} {path}",
        )
