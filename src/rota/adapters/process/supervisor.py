"""A forked supervisor, as the daemon has it: what it attends, what it says, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from rota.adapters.process import proc
from rota.adapters.process.proc import Identity

_ANSWER_BYTES = 4096
#: It answers within a millisecond; one that was stopped is ended.
ANSWER_S = 10.0


class Report(NamedTuple):
    """How an attempt ended of which nothing is left: no process, and all it printed is in its log."""

    code: int
    is_signal: bool
    user_s: float
    system_s: float
    most_kib: int
    script: Identity


#: Is told how an attempt ended, or with None that its supervisor has, and is to be reaped.
Told: TypeAlias = Callable[[Report | None], None]


class Supervisor:
    """One that was forked, and the line to it. It attends one attempt after the other.

    Args:
        pid: Its process id; a child of this process.
        line: Our end of the line.
        idle: Is called when it is free for another attempt.
        gone: Is called when it has ended.

    Raises:
        OSError: no descriptor is left.
    """

    def __init__(
        self,
        pid: int,
        line: socket.socket,
        *,
        idle: Callable[[Supervisor], None],
        gone: Callable[[Supervisor], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._line, self._idle, self._gone = line, idle, gone
        self._pidfd = os.pidfd_open(pid)
        process = proc.look(pid)  # our child: a zombie at worst, never a stranger
        self.identity = Identity(pid, process.start if process else 0)
        self._answer: asyncio.Future[bool] | None = None
        self._is_busy = True
        self._told: Told | None = None
        self._untold: list[Report | None] = []
        self._loop.add_reader(self._pidfd, self._ended)
        self._loop.add_reader(line.fileno(), self._heard)

    async def ask(self, message: bytes) -> bool:
        """Ask it, while it is idle, to attend an attempt; say whether it does. If not, it ends.

        Raises:
            TimeoutError: it ended, or had to be, before it answered: maybe it had begun.
        """
        try:
            self._line.send(message)
        except OSError:
            return False
        self._is_busy = True
        self._answer = self._loop.create_future()
        timer = self._loop.call_later(ANSWER_S, self._kill)
        try:
            self._is_busy = await self._answer
        finally:
            timer.cancel()
            self._answer = None
        return self._is_busy

    def attend(self, told: Told) -> None:
        """Have the end of the attempt told, also if it has ended by now."""
        self._told = told
        for report in self._untold:
            self._loop.call_soon(self._tell, report)
        self._untold.clear()

    def leave(self) -> None:
        """Hear nothing of it any more. It goes on with what it attends, and ends after that."""
        self._told = None
        self._unwatch()
        self.hang_up()
        self._fail("nobody waits for the supervisor any more")

    def hang_up(self) -> None:
        """Ask for nothing any more: it ends as soon as it attends nothing, and that is told."""
        if self._line.fileno() >= 0:
            self._loop.remove_reader(self._line.fileno())
            self._line.close()

    def _heard(self) -> None:
        try:
            message = self._line.recv(_ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self.hang_up()
            return
        number, *rest = marshal.loads(message)  # noqa: S302 - of a child of ours
        if number:
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(rest[0] != 0)
            return
        code, is_signal, user_s, system_s, most_kib, script, start = rest
        self._is_busy = False
        self._tell(
            Report(code, is_signal, user_s, system_s, most_kib, script=Identity(script, start))
        )
        self._idle(self)

    def _ended(self) -> None:
        if self._line.fileno() >= 0:
            self._heard()  # its last word may be there unread
        self._unwatch()
        self.hang_up()
        self._gone(self)
        self._fail("the supervisor has ended")
        if self._is_busy:
            self._tell(None)
        else:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.identity.pid, os.WNOHANG)

    def _fail(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(TimeoutError(why))

    def _tell(self, report: Report | None) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(report)
        else:
            self._untold.append(report)

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _kill(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
