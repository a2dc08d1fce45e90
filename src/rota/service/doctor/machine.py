"""What of a machine and an agent's folder can be looked at without an agent that runs."""

from __future__ import annotations

import os
import tempfile
import time
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

from rota.core.agent_file import NAME, parse_agent_file
from rota.core.growth import Growth, full_in_s, rate

#: What was found, and what to do about it.
Found = tuple[str, str]

MIN_FREE_BYTES = 1 << 30
MIN_FREE_PART, MIN_INODES_PART = 0.05, 0.05
#: An event is acknowledged once it is synced: at this pace twenty a second.
SLOW_SYNC_S = 0.05
SYNCS = 5
#: Of a disk that will be full within so many days is told.
FULL_DAYS = 14
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


def growing(data: Path, growth: Growth) -> Iterator[Found]:
    """Look at how the room goes: when nothing is left, if it goes on like that."""
    found = os.statvfs(data)
    left = full_in_s(growth, found.f_bavail * found.f_frsize)
    if left is None or left > FULL_DAYS * 86400:
        return
    a_day = (rate(growth.samples) or 0.0) * 86400
    when = f"{left / 86400:.0f} days" if left > 2 * 86400 else f"{left / 3600:.0f} hours"
    yield (
        f"the disk of {data} is full in {when}, if it goes on as it does: {_amount(a_day)} a day",
        f"what takes how much: rota du, and du -xsh {data}/*; what bounds it: docs/retention.md",
    )


def _amount(count: float) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"


def own_file(data: Path) -> Iterator[Found]:
    """Look whether an agent would start with the file that says what it is to be."""
    path = data / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        yield f"{path} cannot be read: {error}", "it does not start with one: mend it, or remove it"
        return
    for problem in parse_agent_file(text, str(path))[1]:
        yield (
            f"an agent would not start here: {problem}",
            "mend it; `rota reload` takes it over, or says what else is wrong. docs/operations.md",
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
    import statistics  # it brings fractions and decimals, which an idle daemon never needs

    return statistics.median(times)


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
