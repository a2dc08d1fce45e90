"""Looks at ``/proc``: who runs, since when, under whom; and signals without hitting a stranger.

A pid alone names nobody, since pids are used again. Pid and start time together are an identity.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

_KERNEL_THREAD = 0x00200000  # PF_KTHREAD of linux/sched.h
_READ_BYTES = 1 << 14  # at a time; a shorter answer is the last of these files


_LATE_LOOKS = 5
_EXEC_LOOKS, _EXEC_LOOK_S = 20, 0.0005
_IN_FORK = 4  # a pid is given out a little before its process can be seen


class Identity(NamedTuple):
    """One process, for ever: ``start`` is in clock ticks since boot (field 22 of its stat)."""

    pid: int
    start: int


class Process(NamedTuple):
    """A process as it was when looked at; ``environ`` and ``outputs`` only where asked for.

    ``outputs`` are the files behind descriptors 1 and 2.
    """

    pid: int
    start: int
    state: str
    ppid: int
    group: int
    session: int
    environ: bytes = b""
    outputs: tuple[str, ...] = ()

    @property
    def identity(self) -> Identity:
        """Pid and start time."""
        return Identity(self.pid, self.start)


def parse_stat(line: bytes) -> Process | None:
    """Return the process of a ``/proc/PID/stat`` line; ``None`` for a kernel's thread or a torn line.

    The name in parentheses may hold anything, parentheses and spaces too: fields count from the
    last one.
    """
    head, _, tail = line.rpartition(b") ")
    fields = tail.split()
    try:
        if int(fields[6]) & _KERNEL_THREAD:
            return None
        pid = int(head.split(b" ", 1)[0])
        ppid, group, session = (int(field) for field in fields[1:4])
        return Process(pid, int(fields[19]), fields[0].decode("ascii"), ppid, group, session)
    except (IndexError, ValueError):
        return None


def look(pid: int) -> Process | None:
    """Return the process ``pid``, a zombie too; ``None`` if there is none. Costs about 10 µs."""
    return parse_stat(read(f"/proc/{pid}/stat"))


def snapshot(pids: Iterable[int]) -> list[Process]:
    """Return those of ``pids`` that run, with environment and outputs; zombies are left out.

    What may not be read (another user's process) is empty. Costs about 35 µs a process that
    exists, 3 µs for one that does not.
    """
    found = []
    for pid in pids:
        process = look(pid)
        if process is not None and process.state not in "ZX":
            environ = read(f"/proc/{pid}/environ") or _environ_after_exec(process)
            found.append(process._replace(environ=environ, outputs=_outputs(pid)))
    return found


def _environ_after_exec(process: Process) -> bytes:
    """Return the environment of one that showed none, once it is past its execve(2).

    In the middle of it, for a tenth of a millisecond or for as long as it is not given a processor,
    the kernel shows an empty environment: by that alone a process would get away. Who sleeps, or
    is another user's, has none to show, and is not waited for.
    """
    for _ in range(_EXEC_LOOKS):
        now = look(process.pid)
        if now is None or now.start != process.start or now.state not in "RD":
            return read(f"/proc/{process.pid}/environ")
        if environ := read(f"/proc/{process.pid}/environ"):
            return environ
        time.sleep(_EXEC_LOOK_S)
    return b""


def all_pids() -> list[int]:
    """Return the pids of all processes, youngest first as far as pids tell: they begin anew."""
    last = last_pid()
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdecimal()]
    return sorted(pids, key=lambda pid: (pid > last, -pid))


def given_out(after: int, last: int) -> Iterable[int]:
    """Return the pids given out after ``after`` up to ``last``, youngest first, across a wrap too."""
    if last >= after:
        return range(last, after, -1)
    return chain(range(last, 0, -1), range(most_pids(), after, -1))


def sweep(pids: Iterable[int]) -> list[Process]:
    """Return the processes of ``pids``, as :func:`snapshot`, and those that were born meanwhile.

    So one that forks and ends all the time, always a pid ahead, is seen as well: the last looks are
    at a handful of pids, and take less time than a fork.
    """
    last = last_pid()
    seen = snapshot(pids)
    for _ in range(_LATE_LOOKS):
        now = last_pid()
        if now == last:
            break
        seen += snapshot(given_out(max(0, last - _IN_FORK), now))
        last = now
    return seen


def last_pid() -> int:
    """Return the pid that was given out last in this pid namespace, threads included."""
    return int(read("/proc/loadavg").rsplit(b" ", 1)[-1] or 0)


def most_pids() -> int:
    """Return the number after which pids begin anew."""
    return int(read("/proc/sys/kernel/pid_max") or 32768)


def boot_id() -> str:
    """Return this boot's name: start times mean nothing in another one."""
    return read("/proc/sys/kernel/random/boot_id").decode("ascii", "replace").strip()


def arguments(pid: int) -> list[str]:
    """Return the command line of ``pid``; empty if it is gone or may not be read."""
    return os.fsdecode(read(f"/proc/{pid}/cmdline")).split("\0")[:-1]


def is_alive(identity: Identity) -> bool:
    """Say whether this very process runs; a zombie does not."""
    process = look(identity.pid)
    return process is not None and process.start == identity.start and process.state not in "ZX"


def open_pidfd(identity: Identity) -> int | None:
    """Return a descriptor that becomes readable when this very process ends; ``None`` if it has.

    The identity is read after the descriptor is there: from then on it cannot become another's.

    Raises:
        OSError: no more descriptors, or a kernel without them (before 5.3).
    """
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if is_alive(identity):
        return fd
    os.close(fd)
    return None


def send(identity: Identity, signum: int) -> bool:
    """Send a signal to this very process; False if it is gone or may not be signalled."""
    try:
        fd = open_pidfd(identity)
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, signum)
        finally:
            os.close(fd)
    except OSError:
        return False
    return True


def send_group(member: Process, signum: int) -> bool:
    """Send a signal to all of ``member``'s process group at once, forks under way included.

    While a member lives, its group's number cannot be used again.
    """
    now = look(member.pid)
    if now is None or now.start != member.start or now.group != member.group:
        return False
    try:
        os.killpg(member.group, signum)
    except OSError:
        return False
    return True


def _outputs(pid: int) -> tuple[str, ...]:
    return tuple(_link(f"/proc/{pid}/fd/{fd}") for fd in (1, 2))


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - a Path costs more than the call
    except OSError:
        return ""


def read(path: str, most: int | None = None) -> bytes:
    """Return a file's content, or its first ``most`` bytes; empty if it cannot be read.

    Whole files only of ``/proc`` or as small: an answer shorter than asked for is the last.
    """
    # os.open and not open(): half the system calls, and this is read thousands of times a sweep
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    size = most or _READ_BYTES
    try:
        content = os.read(fd, size)
        while not most and len(content) % size == 0 and (more := os.read(fd, size)):
            content += more
    except OSError:
        return b""
    finally:
        os.close(fd)
    return content
