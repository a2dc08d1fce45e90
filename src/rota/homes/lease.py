"""An attempt's lease, as the daemon holds it: starts the guard, renews, releases."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Protocol

import rota
from rota.errors import ExecutionError
from rota.homes import pipe
from rota.homes.guard import moment

_BEGIN_S = 20.0  # it takes 50 ms; longer only on a machine that is as good as hung
_SOURCE = str(Path(rota.__file__).parents[1])
# Without -S it would load what the interpreter's environment has, for nothing.
_WORDS = ("-I", "-S", "-c")
_GUARD = f"import sys; sys.path.insert(0, {_SOURCE!r}); from MODULE import main; main()"


class LeaseFiles(Protocol):
    """Where the lease of an attempt is."""

    @property
    def lease(self) -> Path:
        """The FIFO of which the guard reads; there while the lease is good."""
        ...

    @property
    def expired(self) -> Path:
        """What it is called once the lease has run out."""
        ...


class Lease:
    """The lease of the attempt in ``home``."""

    def __init__(self, home: LeaseFiles) -> None:
        self._home = home

    @property
    def has_expired(self) -> bool:
        """Whether it ran out: all of the attempt was killed for it, or is just now."""
        return self._home.expired.exists()

    async def begin(self, guard: str, *words: str, until: float) -> None:
        """Start the guard, and return when it stands.

        Args:
            guard: The module that is the guard of such attempts: its ``main`` is called.
            words: What it is told, before ``until``.
            until: The moment until when the lease is good at first.

        Raises:
            ExecutionError: it does not start; nothing of it runs.
            OSError: the FIFO or the process cannot be made.
        """
        os.mkfifo(self._home.lease, 0o600)
        pid = _spawn(_GUARD.replace("MODULE", guard), *words, repr(until))
        if not await _has_ended(pid):
            os.kill(pid, signal.SIGKILL)
            await _has_ended(pid)
        _reap(pid)
        if not self.renew(until) and not self.has_expired:
            raise ExecutionError("the guard of the attempt's lease could not be started")
        # It sees to it as soon as it gets a processor; before, a short script would be through.
        while until <= moment() and not self.has_expired:  # noqa: ASYNC110 - a file of another process
            await asyncio.sleep(0.005)

    def renew(self, until: float) -> bool:
        """Set when it runs out; False if nobody guards the attempt."""
        return _tell(self._home.lease, f"{until!r}\n")

    def release(self) -> None:
        """Let the guard go: nothing of the attempt is left. Safe to call again."""
        if not _tell(self._home.lease, "end\n"):
            _tell(self._home.expired, "end\n")


def _spawn(code: str, *words: str) -> int:
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *_WORDS, code, *words],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)],
        setsid=True,
        setsigmask=[],
    )


async def _has_ended(child: int) -> bool:
    """Wait for the end of a child; say whether it came in time."""
    try:
        pidfd = os.pidfd_open(child)
    except ProcessLookupError:
        return True
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(_BEGIN_S):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return True


def _reap(child: int) -> None:
    with contextlib.suppress(ChildProcessError):  # reaped by another who waits for any child
        os.waitpid(child, os.WNOHANG)


def _tell(fifo: Path, line: str) -> bool:
    try:
        fd = pipe.opened(fifo, os.O_WRONLY)
    except OSError:
        return False  # nobody holds it open, or its name is gone
    try:
        os.write(fd, line.encode("ascii"))
    except BlockingIOError:
        pass  # it was stopped for long, and thousands of lines wait there
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
