"""The files of an attempt's home, and what they say.

========== ============ ==========================================================================
file       written by   what
========== ============ ==========================================================================
log        the script   all it prints
supervisor the daemon   pid, start time, boot, out-of-memory kills so far: "1234 5678 BOOT 0 end"
pid        supervisor   its own pid and the script's line of ``/proc/PID/stat``
exit       supervisor   what sh said of the death, "code N", two lines of ``times``, "end"
stdin      the daemon   a FIFO the script reads; gone once the end of input was asked for
stdin.eof  the daemon   a FIFO; a line in it ends the input
========== ============ ==========================================================================

Each of the three records ends in a mark that a torn write lacks; a torn record is as none.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from rota.adapters.process.proc import Identity, parse_stat

_TIMES = r"(\d+)m(\d+[.,]\d+)s (\d+)m(\d+[.,]\d+)s\n"
_OUTCOME = re.compile(rf"(.*?)code (\d+)\n{_TIMES}{_TIMES}end\n", re.DOTALL)


class Supervisor(NamedTuple):
    """Who supervises the attempt, and when it began in terms of the kernel."""

    identity: Identity
    boot: str
    oom_kills: int


class Script(NamedTuple):
    """Who runs the script, and the supervisor's pid."""

    identity: Identity
    supervisor: int


class Outcome(NamedTuple):
    """What the supervisor wrote at the end; ``is_told`` if sh spoke of a death by signal."""

    code: int
    is_told: bool
    user_s: float
    system_s: float


class Home(NamedTuple):
    """An attempt's folder."""

    path: Path

    @property
    def log(self) -> Path:
        """What the script prints."""
        return self.path / "log"

    @property
    def stdin(self) -> Path:
        """The FIFO that the script reads."""
        return self.path / "stdin"

    @property
    def stdin_eof(self) -> Path:
        """The FIFO in which a line ends the input."""
        return self.path / "stdin.eof"

    def supervisor(self) -> Supervisor | None:
        """Return what the daemon wrote after the spawn."""
        return parse_supervisor(self._read("supervisor"))

    def script(self) -> Script | None:
        """Return what the supervisor wrote before the script began."""
        return parse_script(self._read("pid"))

    def has_begun(self) -> bool:
        """Say whether the supervisor came as far as the script.

        True on a full disk too, and where the script removed its home.
        """
        return (self.path / "pid").exists() or not self.path.exists()

    def outcome(self) -> Outcome | None:
        """Return what the supervisor wrote after the script ended."""
        return parse_outcome(self._read("exit"))

    def complaint(self) -> str:
        """Return what sh said when it could not start the script; mostly empty."""
        return self._read("exit").strip()

    def write_supervisor(self, supervisor: Supervisor) -> None:
        """Write the record :meth:`supervisor` reads.

        Raises:
            OSError: as of a full disk.
        """
        identity, boot, oom_kills = supervisor
        line = f"{identity.pid} {identity.start} {boot} {oom_kills} end\n"
        fd = os.open(
            self.path / "supervisor", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def parse_supervisor(text: str) -> Supervisor | None:
    """Return the record of ``home/supervisor``; ``None`` if it is torn."""
    match text.split(" "):
        case [pid, start, boot, oom_kills, "end\n"] if (pid + start + oom_kills).isdecimal():
            return Supervisor(Identity(int(pid), int(start)), boot, int(oom_kills))
        case _:
            return None


def parse_script(text: str) -> Script | None:
    """Return the record of ``home/pid``; ``None`` if it is torn."""
    supervisor, _, stat = text.partition(" ")
    process = parse_stat(stat.encode("utf-8", "replace"))
    if process is None or not text.endswith("\n") or not supervisor.isdecimal():
        return None
    return Script(process.identity, int(supervisor))


def parse_outcome(text: str) -> Outcome | None:
    """Return the record of ``home/exit``; ``None`` if it is torn."""
    record = _OUTCOME.fullmatch(text)
    if record is None:
        return None
    told, code, *times = record.groups()
    user_m, user_s, system_m, system_s = (float(part.replace(",", ".")) for part in times[4:])
    return Outcome(int(code), bool(told), user_m * 60 + user_s, system_m * 60 + system_s)
