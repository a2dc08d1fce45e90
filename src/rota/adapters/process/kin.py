"""Finds the processes of an attempt, wherever they went.

A process belongs to an attempt if it is in the script's session, carries the attempt's marker in
its environment, prints where the attempt prints, is a child of the attempt's supervisor, is in its
control group, or descends from one that belongs. The supervisor and this process never belong.

What gets away: a process that left the session, *and* whose parents have ended, *and* whose
environment was emptied, *and* whose output was redirected. And what another service was asked to
run (docker, systemd-run, at). From a control group the former do not get away.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Set
from typing import NamedTuple

from rota.adapters.process import proc
from rota.adapters.process.cgroup import NO_CGROUP, Cgroup
from rota.adapters.process.proc import Process

_WINDOW = 256  # pids; looking at as many that do not exist costs less than a millisecond
_FORKS_PER_S = 20_000  # more than a machine forks for long; bounds how soon pids wrap
_LOOKS = 200
_QUIET_LOOKS = 3


class Marks(NamedTuple):
    """By what an attempt's processes are known; 0 and "" where it is not known or not safe."""

    supervisor: int = 0
    session: int = 0
    marker: bytes = b""
    output: str = ""
    cgroup: Cgroup = NO_CGROUP


def members(
    marks: Marks, processes: Iterable[Process], known: Set[int] = frozenset()
) -> list[Process]:
    """Return those of ``processes`` that belong to the attempt, the script first where it is there.

    Args:
        marks: What to know them by.
        processes: As :func:`proc.snapshot` returns them.
        known: Pids found earlier that are stopped, and so still who they were.
    """
    spared = {os.getpid(), marks.supervisor}
    # a daemon that was started from within the attempt carries the marker, and so does its engine
    within = marks.marker != b"" and marks.marker in _own_environ()
    candidates = [
        process
        for process in processes
        if process.pid not in spared and not (within and process.ppid == os.getpid())
    ]
    # After the look at the processes: a pid that is in the group now is no stranger's then.
    held = marks.cgroup.pids()
    found = {p.pid: p for p in candidates if p.pid in held or _belongs(marks, p)}
    before = -1
    while len(found) != before:
        before = len(found)
        found |= {p.pid: p for p in candidates if p.ppid in found or p.ppid in known}
    return sorted(found.values(), key=lambda process: (process.start, process.pid))


def _own_environ() -> list[bytes]:
    return [name + b"=" + value for name, value in os.environb.items()]


def _belongs(marks: Marks, process: Process) -> bool:
    return (
        (marks.session != 0 and process.session == marks.session)
        or (marks.supervisor != 0 and process.ppid == marks.supervisor)
        or (marks.marker != b"" and marks.marker in process.environ.split(b"\0"))
        or (marks.output != "" and marks.output in process.outputs)
    )


def window(after: int, age_s: float) -> range | None:
    """Return the pids given out since ``after``, if they are few and surely did not wrap.

    A process is younger than its ancestors. So all of an attempt have pids after its supervisor's,
    and to see that nothing is left of a short one it is enough to look at those few, for tens of
    microseconds, where a look at all of ``/proc`` takes tens of milliseconds.
    """
    last = proc.last_pid()
    if not after <= last <= after + _WINDOW or age_s * _FORKS_PER_S > proc.most_pids():
        return None
    return range(last, after, -1)


def carriers(marker: bytes, pids: Iterable[int]) -> list[int]:
    """Return those of ``pids`` that have the marker in their environment, or may have.

    That is all to be looked for where it is known that nothing descends from the script any more: what it had
    a service start with that environment. Cost: 3 µs for a pid that nobody has, 10 µs else.
    """
    return [pid for pid in pids if _may_carry(marker, pid)]


def _may_carry(marker: bytes, pid: int) -> bool:
    environ = proc.read(f"/proc/{pid}/environ")
    # Without any it may be one that ended, a kernel's, or in the middle of its execve.
    return marker in environ if environ else bool(proc.snapshot([pid]))


def kill(marks: Marks) -> list[Process]:
    """Send SIGKILL to all processes of the attempt, stopped before, and return them."""
    marks.cgroup.kill()
    found = _freeze(marks)
    for process in found:
        proc.send(process.identity, signal.SIGKILL)
    return found


def _freeze(marks: Marks) -> list[Process]:
    """Stop all processes of the attempt and return them; none forks away any more.

    After the first look at everything, only pids given out meanwhile are looked at: that is fast
    enough to catch one that forks and ends a thousand times a second.
    """
    found: dict[int, Process] = {}
    before = last = proc.last_pid()
    pids: Iterable[int] = proc.all_pids()
    quiet = 0
    for _ in range(_LOOKS):
        fresh = [p for p in members(marks, proc.snapshot(pids), found.keys()) if p.pid not in found]
        _stop(marks, fresh)
        found.update({process.pid: process for process in fresh})
        quiet = 0 if fresh else quiet + 1
        if quiet == _QUIET_LOOKS:
            break
        # from the look before the last on: a pid is given out before its process can be seen
        now = proc.last_pid()
        pids = proc.given_out(before, now)
        before, last = last, now
    return list(found.values())


def _stop(marks: Marks, processes: Iterable[Process]) -> None:
    groups: set[int] = set()
    for process in processes:
        # by group first: a whole group stops at once, however fast it forks
        if process.session == marks.session and process.group not in groups:
            groups.add(process.group)
            proc.send_group(process, signal.SIGSTOP)
        proc.send(process.identity, signal.SIGSTOP)
