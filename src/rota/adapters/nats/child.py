"""The server as a process: started so that it outlives us, and found again after we died."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from rota.adapters.nats.config import Pid

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where the kernel has no pidfd, the process table is looked at this often.
LOOK_S = 0.2


class Child:
    """A living process, whether we started it or one before us did. Made in a running loop.

    ``gone`` is done once it has ended and, if it was ours, has been reaped.
    """

    def __init__(self, pid: Pid) -> None:
        self.pid = pid
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._fd: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch()

    def _watch(self) -> None:
        try:
            self._fd = os.pidfd_open(self.pid.number)
        except ProcessLookupError:
            self._end()
            return
        except OSError:
            self._look()
            return
        self._loop.add_reader(self._fd, self._end)
        if not is_running(self.pid):
            self._end()

    def _look(self) -> None:
        if is_running(self.pid):
            self._timer = self._loop.call_later(LOOK_S, self._look)
        else:
            self._end()

    def _end(self) -> None:
        self.release()
        reap(self.pid.number)
        if not self.gone.done():
            self.gone.set_result(None)

    def release(self) -> None:
        """Stop watching it; it lives on. Safe to call twice."""
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None
        if self._timer is not None:
            self._timer.cancel()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; to nobody else, and to nobody at all once it has ended."""
        if self.gone.done():
            return
        try:
            if self._fd is not None:
                signal.pidfd_send_signal(self._fd, number)
            elif is_running(self.pid):
                os.kill(self.pid.number, number)
        except ProcessLookupError:
            return

    async def end(self, grace_s: float) -> None:
        """End it: SIGTERM, ``grace_s``, SIGKILL. Safe to call twice."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        await asyncio.wait([self.gone], timeout=grace_s)
        self.send(signal.SIGKILL)
        await asyncio.wait([self.gone], timeout=grace_s + 5)


def spawn(argv: list[str], env: Mapping[str, str], log: Path) -> Pid:
    """Start a program in a session of its own, its output appended to ``log``.

    Cost: about a millisecond, whatever our own size (posix_spawn).

    Raises:
        OSError: it cannot be executed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    number = os.posix_spawn(
        argv[0],
        argv,
        env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.fspath(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    )
    return identify(number) or Pid(number=number, started=0, boot="")


def identify(number: int) -> Pid | None:
    """Return who the process with that number is; ``None`` if there is none, or a dead one."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return Pid(number=number, started=int(fields[19]), boot=boot)


def is_running(pid: Pid) -> bool:
    """Whether it is this very process, and alive."""
    return identify(pid.number) == pid


def reap(number: int) -> None:
    """Take note of a child's end, if it was ours and has ended."""
    try:
        os.waitpid(number, os.WNOHANG)
    except ChildProcessError:
        return


def find_running(conf: Path) -> list[Pid]:
    """Return the processes that were started on the configuration ``conf``.

    Cost: one pass over the process table, some 20 µs a process.
    """
    names = [entry.name for entry in Path("/proc").iterdir()]
    found = [identify(int(name)) for name in names if name.isdigit() and _runs_on(name, conf)]
    return [pid for pid in found if pid is not None]


def is_ours(pid: Pid, conf: Path) -> bool:
    """Whether it is this very process, alive, and was started on the configuration ``conf``."""
    return is_running(pid) and _runs_on(str(pid.number), conf)


def _runs_on(number: str, conf: Path) -> bool:
    try:
        argv = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(conf) in argv
