"""The files of an attempt that runs in a container, and what they say.

========== ============ =========================================================================
file       written by   what
========== ============ =========================================================================
log        the script   all it prints
container/
  record   the daemon   the container's name, and what people call its image; before it is made
  pid      contain.sh   the script's line of ``/proc/PID/stat``, as seen in the container
  refused  contain.sh   what the image lacks; the script did not begin
  exit     contain.sh   how the script ended
  verdict  the daemon   how the container ended, where contain.sh could not say it
  stdin    the daemon   as for processes
  stdin.eof
========== ============ =========================================================================
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

FOLDER = "container"
_TIMES = r"(\d+)m(\d+[.,]\d+)s (\d+)m(\d+[.,]\d+)s\n"
_OUTCOME = re.compile(rf"(.*?)code (\d+)\npeak (\d+)\noom (\d+)\n{_TIMES}{_TIMES}end\n", re.DOTALL)


_Kind = TypeVar("_Kind")


class Record(msgspec.Struct, frozen=True):
    """Which container it is, for a daemon that comes after; ``called`` is its image."""

    name: str
    called: str


class Verdict(msgspec.Struct, frozen=True):
    """How a container ended of which the supervisor could not write down the outcome."""

    code: int | None = None
    oom_killed: bool = False
    killed: bool = False  # by us
    note: str = ""


class Outcome(NamedTuple):
    """What the supervisor wrote at the end; ``is_told`` if sh spoke of a death by signal."""

    code: int
    is_told: bool
    memory_bytes: int
    oom_kills: int
    user_s: float
    system_s: float


class Home(NamedTuple):
    """An attempt's folder."""

    path: Path

    @property
    def run(self) -> Path:
        """What the supervisor and the daemon write to each other."""
        return self.path / FOLDER

    @property
    def log(self) -> Path:
        """What the script prints; of a finaliser that is its build's."""
        return (self.path / "log").resolve()

    @property
    def stdin(self) -> Path:
        """The FIFO that the script reads."""
        return self.run / "stdin"

    @property
    def stdin_eof(self) -> Path:
        """The FIFO in which a line ends the input."""
        return self.run / "stdin.eof"

    def has_begun(self) -> bool:
        """Say whether the supervisor came as far as the script."""
        return (self.run / "pid").exists()

    def pid(self) -> int:
        """Return the script's process id as seen in its container; 0 before it began."""
        word = self._read("pid").partition(" ")[0]
        return int(word) if word.isdecimal() else 0

    def refused(self) -> str:
        """Return which program the image lacks; empty if it lacks none."""
        return self._read("refused").strip()

    def outcome(self) -> Outcome | None:
        """Return what the supervisor wrote after the script ended."""
        return parse_outcome(self._read("exit"))

    def record(self) -> Record | None:
        """Return which container it is; ``None`` before one was made."""
        return self._decoded("record", Record)

    def verdict(self) -> Verdict | None:
        """Return how the container ended, if that had to be written down."""
        return self._decoded("verdict", Verdict)

    def write(self, name: str, value: Record | Verdict) -> None:
        """Write a record or a verdict.

        Raises:
            OSError: the disk does not take it.
        """
        aside = self.run / f"{name}.new"
        aside.write_bytes(msgspec.json.encode(value))
        aside.rename(self.run / name)

    def _decoded(self, name: str, kind: type[_Kind]) -> _Kind | None:
        try:
            return msgspec.json.decode((self.run / name).read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError):
            return None

    def _read(self, name: str) -> str:
        try:
            return (self.run / name).read_text("utf-8", "replace")
        except OSError:
            return ""


def parse_outcome(text: str) -> Outcome | None:
    """Return the record of ``container/exit``; ``None`` if it is torn."""
    found = _OUTCOME.fullmatch(text)
    if found is None:
        return None
    told, code, peak, oom, *times = found.groups()
    user_m, user_s, system_m, system_s = (float(part.replace(",", ".")) for part in times[4:])
    return Outcome(
        code=int(code),
        is_told=bool(told),
        memory_bytes=int(peak),
        oom_kills=int(oom),
        user_s=user_m * 60 + user_s,
        system_s=system_m * 60 + system_s,
    )
