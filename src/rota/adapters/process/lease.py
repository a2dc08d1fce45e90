"""An attempt's lease, as the daemon holds it: starts the guard, renews, releases."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import rota
from rota.adapters.process.gone import until_gone
from rota.adapters.process.guard import moment
from rota.adapters.process.home import Home
from rota.adapters.process.proc import look
from rota.errors import ExecutionError

__all__ = ["Lease", "moment"]

_BEGIN_S = 20.0  # it takes 20 ms; longer only on a machine that is as good as hung
_SOURCE = str(Path(rota.__file__).parents[1])
# Without -S it would load what the interpreter's environment has, for nothing.
_WORDS = ("-I", "-S", "-c")
_GUARD = f"import sys; sys.path.insert(0, {_SOURCE!r}); from rota.adapters.process.guard import main; main()"


class Lease:
    """The lease of the attempt in ``home``."""

    def __init__(self, home: Home) -> None:
        self._home = home

    @property
    def has_expired(self) -> bool:
        """Whether it ran out: all of the attempt was killed for it, or is just now."""
        return self._home.expired.exists()

    async def begin(self, marker: str, until: float) -> None:
        """Start the guard, and return when it stands.

        Raises:
            ExecutionError: it does not start; nothing of it runs.
            OSError: the FIFO or the process cannot be made.
        """
        os.mkfifo(self._home.lease, 0o600)
        pid = self._spawn(marker, until)
        process = look(pid)  # our child: a zombie at worst, never a stranger
        if process is not None and not await until_gone([process], _BEGIN_S):
            os.kill(pid, signal.SIGKILL)
            await until_gone([process], _BEGIN_S)
        _reap(pid)
        if not self.renew(until) and not self.has_expired:
            raise ExecutionError("the guard of the attempt's lease could not be started")
        # It sees to it as soon as it gets a processor; before, a short script would be through.
        while until <= moment() and not self.has_expired:  # noqa: ASYNC110 - a file of another process
            await asyncio.sleep(0.005)

    def renew(self, until: float) -> bool:
        """Set when it runs out; False if nobody guards the attempt."""
        return self._tell(f"{until!r}\n".encode("ascii"))

    def release(self) -> None:
        """Let the guard go: nothing of the attempt is left. Safe to call again."""
        self._tell(b"end\n")

    def _tell(self, line: bytes) -> bool:
        try:
            fd = os.open(self._home.lease, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False  # nobody holds it open, or its name is gone
        try:
            os.write(fd, line)
        except BlockingIOError:
            pass  # it was stopped for long, and thousands of lines wait there
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def _spawn(self, marker: str, until: float) -> int:
        words = [sys.executable, *_WORDS, _GUARD, str(self._home.path.absolute()), marker]
        return os.posix_spawn(
            sys.executable,
            [*words, repr(until)],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)],
            setsid=True,
            setsigmask=[],
        )


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # reaped by another who waits for any child
        os.waitpid(pid, os.WNOHANG)
