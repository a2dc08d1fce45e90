"""The files of an attempt that runs in a container, and what they say.

========== ============ =========================================================================
file       written by   what
========== ============ =========================================================================
output     the script   a FIFO; all it prints; the container has it, and not its name
log        a ``cat``    the same, out of the script's reach
container/              what the container may write to, and so anything may be in it
  pid      contain.sh   the script's line of ``/proc/PID/stat``, as seen in the container
  refused  contain.sh   what the image lacks; the script did not begin
  exit     contain.sh   how the script ended
container.own/          what the container may read
  record   the daemon   the container's name, and what people call its image; before it is made
  verdict  the daemon   how the container ended, where contain.sh could not say it
  stdin    the daemon   FIFOs, as for processes
  stdin.eof
  lease    the daemon   a FIFO to the guard, for an attempt that has one; ``expired`` once it ran out
========== ============ =========================================================================
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

FOLDER = "container"
_MOST = 64 * 1024  # of a file that a container may write
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
        """What the container may write to: nothing there is to be believed or followed."""
        return self.path / FOLDER

    @property
    def own(self) -> Path:
        """What the daemon writes, and the container may read."""
        return self.path / f"{FOLDER}.own"

    @property
    def output(self) -> Path:
        """The FIFO that the script prints to."""
        return self.path / "output"

    @property
    def log(self) -> Path:
        """What the script printed; of a finaliser that is its build's."""
        return (self.path / "log").resolve()

    @property
    def folders(self) -> tuple[Path, Path]:
        """The attempt's temporary files, and a home folder of its own; they need not be there."""
        attempt = self.log.parent
        return attempt / "tmp", attempt / "home"

    @property
    def stdin(self) -> Path:
        """The FIFO that the script reads."""
        return self.own / "stdin"

    @property
    def stdin_eof(self) -> Path:
        """The FIFO in which a line ends the input."""
        return self.own / "stdin.eof"

    @property
    def lease(self) -> Path:
        """The FIFO of which the guard reads; there for an attempt with a lease that is good."""
        return self.own / "lease"

    @property
    def expired(self) -> Path:
        """What :attr:`lease` is called once the lease has run out."""
        return self.own / "expired"

    def has_begun(self) -> bool:
        """Say whether the supervisor came as far as the script."""
        return os.path.lexists(self.run / "pid")

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
        aside = self.own / f"{name}.new"
        aside.write_bytes(msgspec.json.encode(value))
        aside.rename(self.own / name)

    def _decoded(self, name: str, kind: type[_Kind]) -> _Kind | None:
        try:
            return msgspec.json.decode((self.own / name).read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError):
            return None

    def _read(self, name: str) -> str:
        """Return what the supervisor wrote, or what is there instead: never of another file, and not much."""
        try:
            opened = os.open(
                self.run / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError:
            return ""
        try:
            is_file = stat.S_ISREG(os.fstat(opened).st_mode)
            return os.read(opened, _MOST).decode("utf-8", "replace") if is_file else ""
        finally:
            os.close(opened)


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
