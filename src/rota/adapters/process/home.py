"""The files of an attempt's home, and what they say.

========= ========== ===============================================================================
file      written by what
========= ========== ===============================================================================
output    the script a FIFO; all it prints
log       a ``cat``  the same, out of the script's reach
pid       supervisor boot and out-of-memory kills so far; its own, and the script's line of
                     ``/proc/PID/stat``
exit      supervisor what sh said of the death, "code N", two lines of ``times``, "end"
stdin     the daemon a FIFO the script reads; gone once the end of input was asked for
stdin.eof the daemon a FIFO; a line in it ends the input
lease     the daemon a FIFO; a line in it is a moment until when the attempt may run, or "end"
expired   the guard  the same FIFO after that moment has passed
cgroup    the daemon the folders of the attempt's control group, a line each
confined  the script what could not be confined as it should; "ok" stands there if all could
========= ========== ===============================================================================

Both records end in a mark that a torn write lacks; a torn record is as none.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from rota.adapters.process.cgroup import Cgroup
from rota.adapters.process.proc import Identity, parse_stat, read

_TIMES = r"(\d+)m(\d+[.,]\d+)s (\d+)m(\d+[.,]\d+)s\n"
_OUTCOME = re.compile(rf"(.*?)code (\d+)\n{_TIMES}{_TIMES}end\n", re.DOTALL)


class Beginning(NamedTuple):
    """What the supervisor wrote before the script began: who is who, and since when."""

    supervisor: Identity
    script: Identity
    boot: str
    oom_kills: int


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
    def output(self) -> Path:
        """The FIFO that the script prints to."""
        return self.path / "output"

    @property
    def log(self) -> Path:
        """What the script printed."""
        return self.path / "log"

    def printed_to(self) -> str:
        """Return what processes of the attempt have as their output; of an older version's, the log."""
        output = os.path.realpath(self.output)
        return output if os.path.lexists(output) else os.path.realpath(self.log)

    @property
    def stdin(self) -> Path:
        """The FIFO that the script reads."""
        return self.path / "stdin"

    @property
    def stdin_eof(self) -> Path:
        """The FIFO in which a line ends the input."""
        return self.path / "stdin.eof"

    @property
    def lease(self) -> Path:
        """The FIFO of which the guard reads; there for an attempt with a lease that is good."""
        return self.path / "lease"

    @property
    def expired(self) -> Path:
        """What :attr:`lease` is called once the lease has run out."""
        return self.path / "expired"

    @property
    def exit(self) -> Path:
        """How the script ended."""
        return self.path / "exit"

    @property
    def cgroup(self) -> Path:
        """Which control group the attempt is in; there only if it has one."""
        return self.path / "cgroup"

    @property
    def confined(self) -> Path:
        """How confining it went; there only if it was to be confined."""
        return self.path / "confined"

    def group(self) -> Cgroup:
        """Return the control group that the attempt was put into; an empty one if into none."""
        return Cgroup(tuple(self._read("cgroup").split("\n")[:-1]))

    def refusal(self) -> str:
        """Return why the attempt could not be confined; empty if it was, or was not to be."""
        told = self._read("confined").strip()
        # After it, `unshare` may have a word on how the script was killed.
        return "" if "ok" in told.split("\n") else told

    def beginning(self) -> Beginning | None:
        """Return what the supervisor wrote before the script began."""
        return parse_beginning(self._read("pid"))

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

    def _read(self, name: str) -> str:
        return read(f"{self.path}/{name}").decode("utf-8", "replace")


def start_line(boot: str, oom_kills: int) -> str:
    """Return the first line of ``home/pid``: what only the daemon knows."""
    return f"{boot} {oom_kills}"


def parse_beginning(text: str) -> Beginning | None:
    """Return the record of ``home/pid``; ``None`` if it is torn."""
    match text.split("\n"):
        case [start, supervisor_line, script_line, ""]:
            boot, _, oom_kills = start.partition(" ")
            supervisor = parse_stat(supervisor_line.encode("utf-8", "replace"))
            script = parse_stat(script_line.encode("utf-8", "replace"))
        case _:
            return None
    if supervisor is None or script is None or not oom_kills.isdecimal():
        return None
    return Beginning(supervisor.identity, script.identity, boot, int(oom_kills))


def parse_outcome(text: str) -> Outcome | None:
    """Return the record of ``home/exit``; ``None`` if it is torn."""
    record = _OUTCOME.fullmatch(text)
    if record is None:
        return None
    told, code, *times = record.groups()
    user_m, user_s, system_m, system_s = (float(part.replace(",", ".")) for part in times[4:])
    return Outcome(int(code), bool(told), user_m * 60 + user_s, system_m * 60 + system_s)
