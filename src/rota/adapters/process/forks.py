"""The daemon's side of the fork server: started when builds come, ended when none does for a while.

So are the supervisors that it forked and that wait for another attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import marshal
import os
import platform
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rota.adapters.process.reserve import go_first, keep_back
from rota.adapters.process.supervisor import ANSWER_S, Supervisor

logger = logging.getLogger(__name__)

# Not imported: it is a program of its own, and brings what no daemon needs.
_PROGRAM = str(Path(__file__).with_name("forkserver.py"))
_MOST_BYTES = 128 * 1024  # of a request; a larger one is not sent
#: The number of clone(2), where it takes its flags first.
_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220}
_OPTIONS = ("-I", "-S", "-B")  # nothing of this machine's, and no module that is not asked for
_IDLE_S = 30.0
#: More supervisors than these do not wait for another attempt. Each is 2 MB.
_MOST_IDLE = 16
_START_S = 30.0
#: A server that ends so often of itself cannot work on this machine.
_MOST_FAILURES = 3
_RESET = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class Forks:
    """Has supervisors forked. Of the task group of nobody: it lives in callbacks of the loop.

    Args:
        idle_s: How long it stays without being asked; it is 6 MB.

    Cost of a supervisor: 0.1 ms of CPU here, 0.6 ms there and in the supervisor; of one that waited, half of it.
    """

    def __init__(self, idle_s: float = _IDLE_S) -> None:
        self._idle_s = idle_s
        self._socket: socket.socket | None = None
        self._pid, self._pidfd = 0, -1
        self._up = asyncio.Event()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._idle: asyncio.TimerHandle | None = None
        self._used_at = 0.0
        self._waiting_ones: list[Supervisor] = []
        self._all: set[Supervisor] = set()
        self._failures = 0 if platform.machine() in _CLONE else _MOST_FAILURES

    @property
    def pid(self) -> int:
        """The server's process id; 0 when there is none."""
        return self._pid

    async def fork(
        self,
        home: Path,
        cwd: Path,
        program: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        start: str,
    ) -> Supervisor | None:
        """Return a supervisor that attends this; None if there is none, or not yet, and nothing is begun.

        The first call is answered with None at once, since a build does not wait for a Python to start.

        Raises:
            TimeoutError: who was asked ended, or had to be, before it answered: maybe it has begun.
        """
        if self._failures >= _MOST_FAILURES:
            return None
        loop = asyncio.get_running_loop()
        number = next(self._numbers)
        message = marshal.dumps(
            (
                number,
                os.fsencode(home),
                os.fsencode(cwd),
                os.fsencode(program),
                [os.fsencode(word) for word in argv],
                {os.fsencode(name): os.fsencode(value) for name, value in env.items()},
                os.fsencode(start),
            )
        )
        if len(message) > _MOST_BYTES:
            return None
        self._used_at = loop.time()
        while self._waiting_ones:
            supervisor = self._waiting_ones.pop()
            if await supervisor.ask(message):
                return supervisor
        if self._socket is None:
            self._begin(loop)
        if not self._up.is_set() or self._socket is None:
            return None
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            return None
        ours.setblocking(False)
        with theirs, contextlib.ExitStack() as closing:
            closing.enter_context(ours)
            pid = await self._forked(loop, number, message, theirs)
            if not pid:
                return None
            supervisor = Supervisor(pid, ours, idle=self._is_idle, gone=self._is_gone)
            closing.pop_all()
        self._all.add(supervisor)
        return supervisor

    async def _forked(
        self, loop: asyncio.AbstractEventLoop, number: int, message: bytes, line: socket.socket
    ) -> int:
        """Return the pid of a new supervisor; 0 if there is none."""
        assert self._socket is not None
        try:
            socket.send_fds(self._socket, [message], [line.fileno()])
        except OSError:
            return 0  # it is busy, or gone
        answer: asyncio.Future[int]
        answer = self._waiting[number] = loop.create_future()
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            logger.warning("the fork server does not answer, and is ended")
            self._kill()
            raise
        finally:
            self._waiting.pop(number, None)

    def _is_idle(self, supervisor: Supervisor) -> None:
        self._used_at = asyncio.get_running_loop().time()
        if self._idle is None or len(self._waiting_ones) >= _MOST_IDLE:
            supervisor.hang_up()  # nobody would tell it to end later
        else:
            self._waiting_ones.append(supervisor)

    def _is_gone(self, supervisor: Supervisor) -> None:
        self._all.discard(supervisor)
        if supervisor in self._waiting_ones:
            self._waiting_ones.remove(supervisor)

    async def ready(self) -> None:
        """Return once there is a server that answers.

        Raises:
            TimeoutError: there is none.
        """
        if self._socket is None:
            self._begin(asyncio.get_running_loop())
        async with asyncio.timeout(_START_S):
            await self._up.wait()

    def close(self) -> None:
        """Let all of them end; what runs lives on, and nothing is heard of it here."""
        self._end()
        for supervisor in self._all:
            supervisor.leave()
        self._all.clear()

    def _end(self) -> None:
        """Let the server end, and who waits for an attempt."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._up.clear()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(TimeoutError("the fork server has ended"))
        while self._waiting_ones:
            self._waiting_ones.pop().hang_up()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            return
        with theirs:
            try:
                self._pid = os.posix_spawn(
                    sys.executable,
                    [
                        sys.executable,
                        *_OPTIONS,
                        _PROGRAM,
                        str(_CLONE[platform.machine()]),
                        str(_MOST_BYTES),
                    ],
                    {"LC_ALL": "C"},
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    ],
                    setsid=True,
                    setsigmask=[],
                    setsigdef=_RESET,
                )
            except OSError:
                ours.close()
                return
        try:
            # What it forks is like it.
            keep_back(self._pid)
            go_first(self._pid)
            self._pidfd = os.pidfd_open(self._pid)
        except OSError:
            ours.close()  # it ends by that, and is reaped with the daemon
            return
        ours.setblocking(False)
        self._socket = ours
        loop.add_reader(self._pidfd, self._ended, self._pid, self._pidfd)
        loop.add_reader(ours.fileno(), self._answered, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End them if nobody came for a while; look again when that may be."""
        left = self._used_at + self._idle_s - loop.time()
        if left <= 0:
            self._end()
        else:
            self._idle = loop.call_later(left, self._look, loop)

    def _answered(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._socket is not None
        try:
            message = self._socket.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            loop.remove_reader(self._socket.fileno())  # its end is told by its pidfd
            return
        number, pid, fault = marshal.loads(message)  # noqa: S302 - of a child of ours
        if number == 0:
            self._up.set()
            self._used_at = loop.time()
            self._look(loop)
            return
        self._failures = 0
        if fault:
            logger.debug("a supervisor was not forked: %s", fault)
        answer = self._waiting.get(number)
        if answer is not None and not answer.done():
            answer.set_result(pid)

    def _ended(self, pid: int, pidfd: int) -> None:
        """The server has ended: as it was told to, or of itself."""
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if pid != self._pid:
            return
        self._pid = 0
        if self._socket is not None:
            self._failures += 1
            if self._failures == _MOST_FAILURES:
                logger.warning("the fork server does not work here: builds are started by sh")
            self._end()

    def _kill(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._end()
