"""The guard of one attempt that has a lease: it ends the attempt when the lease runs out.

    python -I -S -c … HOME MARKER UNTIL

It reads the FIFO ``HOME/lease``, and needs nothing once it stands: it forks and starts nothing, opens
no file but of ``/proc``, and writes nothing to a disk, so that neither a fork bomb nor a full disk nor
an upgrade half done keeps it from its work. (Where there is a control group, it writes to the kernel's
files of that.) It costs 20 ms, then 11 MB and a look twice a second.

On expiry it first renames that FIFO, which says so for ever, and then kills until nothing is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from rota.adapters.process import proc
from rota.adapters.process.home import Beginning, Home
from rota.adapters.process.kin import Marks, kill, members
from rota.homes import guard

_KILL_ROUND_S, _KILL_ROUNDS_S = 0.05, 2.0


class Guard(guard.Guard):
    """Waits for the end of one lease of processes."""

    def __init__(self, home: Path, marker: bytes, until: float) -> None:
        self._home = Home(home)
        super().__init__(self._home.lease, until)
        self._marker = marker
        self._beginning: Beginning | None = None
        self._cgroup = self._home.group()

    def is_released(self) -> bool:
        """Read what the daemon wrote; say whether there is nothing to guard any more."""
        # A script may remove the record of who it is.
        self._beginning = self._beginning or self._home.beginning()
        return super().is_released()

    def expire(self) -> None:
        """Rename the FIFO, and kill until nothing of the attempt is left."""
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

    def is_over(self) -> bool:
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
    Guard(Path(home), os.fsencode(marker), float(until)).begin()
