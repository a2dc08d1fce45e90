"""The guard of one attempt that has a lease: it ends the attempt when the lease runs out.

    python -I -S -c … HOME MARKER UNTIL

A process of its own, since a lease is for the case that the daemon is dead, stopped or hung. And
one that needs nothing once it stands: it forks and starts nothing, opens no file but of ``/proc``,
and writes nothing to a disk, so that neither a fork bomb nor a full disk nor an upgrade half done
keeps it from its work. (Where there is a control group, it writes to the kernel's files of that.) It costs 20 ms, then 11 MB and a look twice a second.

It reads lines from the FIFO ``HOME/lease``: a moment until when the lease is good from now on, or
"end". Moments are of ``CLOCK_BOOTTIME``, which goes on while the machine sleeps. On expiry it first
renames that FIFO, which says so for ever, and then kills until nothing is left.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

from rota.adapters.process import proc
from rota.adapters.process.home import Beginning, Home
from rota.adapters.process.kin import Marks, kill, members

#: A sleeping machine stops the timer of a wait, so no wait is longer.
_TICK_S = 0.5
#: Between two looks whether there is anything left to guard, where the daemon does not say so.
_LOOK_S = 10.0
_KILL_ROUND_S, _KILL_ROUNDS_S = 0.05, 2.0
_LINES_BYTES = 1 << 16
_DEAF = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def moment() -> float:
    """Return now, by the clock that leases run by: seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Guard:
    """Waits for the end of one lease."""

    def __init__(self, home: Path, marker: bytes, until: float) -> None:
        self._home = Home(home)
        self._marker = marker
        self._until = until
        self._beginning: Beginning | None = None
        # For reading and writing: so there is no end of file when a daemon closes its end.
        self._fifo = os.open(self._home.lease, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._torn = b""
        self._cgroup = self._home.group()

    def run(self) -> None:
        """Return when there is nothing to guard any more, or when all of it is killed."""
        poll = select.poll()
        poll.register(self._fifo, select.POLLIN)
        look_at = moment() + _LOOK_S
        while True:
            # What was written is read before the clock: each line is good by itself, however late.
            if self._has_ended():
                return
            left = self._until - moment()
            if left <= 0:
                self._expire()
                return
            if moment() >= look_at:
                look_at = moment() + _LOOK_S
                if self._is_over():
                    return
            poll.poll(min(left, _TICK_S) * 1000 + 1)

    def _has_ended(self) -> bool:
        """Read what the daemon wrote; say whether there is nothing to guard any more."""
        # A script may remove the record of who it is.
        self._beginning = self._beginning or self._home.beginning()
        try:
            lines = (self._torn + os.read(self._fifo, _LINES_BYTES)).split(b"\n")
        except BlockingIOError:
            return False
        self._torn = lines.pop()
        for line in lines:
            if line == b"end":
                return True
            try:
                self._until = float(line)
            except ValueError:
                continue  # not from a daemon
        return False

    def _expire(self) -> None:
        with contextlib.suppress(OSError):  # the script removed its home
            # The supervisor of a script that has not begun looks for the new name, and ends.
            self._home.lease.rename(self._home.expired)
        pause_s = _KILL_ROUND_S
        while kill(self._marks()):
            # For as long as it takes: what waits for a dead disk must not come back to life.
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _KILL_ROUNDS_S)
        if self._beginning is not None:
            # A script may have stopped it; it has the outcome to write down.
            proc.send(self._beginning.supervisor, signal.SIGCONT)

    def _is_over(self) -> bool:
        """Say whether script and supervisor are gone, and nothing else is left."""
        who = self._beginning
        if who is not None and (proc.is_alive(who.supervisor) or proc.is_alive(who.script)):
            return False
        return not members(self._marks(), proc.sweep(proc.all_pids()))

    def _marks(self) -> Marks:
        who = self._beginning or self._home.beginning()
        return Marks(
            supervisor=who.supervisor.pid if who and proc.is_alive(who.supervisor) else 0,
            session=self._session(who),
            marker=self._marker,
            output=self._home.printed_to(),
            cgroup=self._cgroup,
        )

    def _session(self, who: Beginning | None) -> int:
        """Return the script's session while its number surely is not another's by now, or 0."""
        if who is None:
            return 0
        now = proc.look(who.script.pid)
        return who.script.pid if now is None or now.start == who.script.start else 0


def main() -> None:
    """Begin to guard, in the background; the process that was started ends when that is so."""
    home, marker, until = sys.argv[1:]
    guard = Guard(Path(home), os.fsencode(marker), float(until))
    for signum in _DEAF:
        signal.signal(signum, signal.SIG_IGN)
    if os.fork():
        os._exit(0)  # the daemon reaps this one; init, the one that stays
    guard.run()
