"""A session: a program on a pseudo-terminal or on pipes, which ends with who asked for it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import struct
import termios
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from rota.adapters.process import proc
from rota.adapters.process.census import Census
from rota.adapters.process.cgroup import NO_CGROUP, Cgroup
from rota.adapters.process.confiner import Launch, handed
from rota.adapters.process.ending import Ending
from rota.adapters.process.kin import Marks
from rota.adapters.process.reserve import go_first, keep_back
from rota.errors import ExecutionError
from rota.ports.session import STDERR, STDOUT, Tty

PIECE = 64 * 1024
#: From the hang-up to SIGKILL.
GRACE_S = 1.0
#: What a terminal still has to say after its program's end is on its way for microseconds.
LAST_WORDS_S = 1.0
#: Of each session another: by it, processes that left the session are found.
MARKER = "ROTA_SHELL_ID"
_EOF = b"\x04"
_RESET = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
#: sh takes the folder and the program's words as they are, and looks for the program by its PATH.
_LAUNCH = 'cd -- "$1" || exit 126; shift; exec "$@"'


_Action: TypeAlias = tuple[Any, ...]  # of posix_spawn
_Start: TypeAlias = Callable[[Sequence[_Action]], int]


def new_marker() -> str:
    """Return the entry of an environment by which a new session is known."""
    return f"{MARKER}={secrets.token_hex(12)}"


class ProcessSession:
    """Implements :class:`rota.ports.session.Session` with a process of this machine.

    Args:
        census: Shared by all that look for processes.
        pid: Of the program: leader of a session of its own, and our child.
        marker: The entry of its environment that no other session has.
        cgroup: Its own control group, which goes with it; mostly none.
        told: A file in which it stands if it could not be confined; it goes with it, too.
        outputs: Its output, by our descriptors: which stream each is.
        writing: Our descriptor of its input.
        is_tty: Whether both are one terminal.
    """

    def __init__(
        self,
        census: Census,
        pid: int,
        marker: str,
        outputs: Mapping[int, int],
        writing: int,
        *,
        is_tty: bool,
        cgroup: Cgroup = NO_CGROUP,
        told: Path | None = None,
    ) -> None:
        self._cgroup, self._told = cgroup, told
        self._loop = asyncio.get_running_loop()
        self._pid, self._outputs, self._writing = pid, dict(outputs), writing
        self._is_tty = is_tty
        self._pidfd = os.pidfd_open(pid)
        self._code: int | None = None
        self._over_at: float | None = None
        self._is_reaped = False
        self._ending = Ending(
            census,
            marks=lambda: Marks(session=pid, marker=os.fsencode(marker)),
            is_settled=lambda: True,
            supervisor=None,
        )
        self._ended = False
        for fd in {*outputs, writing}:
            os.set_blocking(fd, False)

    @classmethod
    def start(
        cls,
        census: Census,
        launch: Launch,
        *,
        cwd: Path,
        marker: str,
        tty: Tty | None,
        told: Path | None = None,
    ) -> ProcessSession:
        """Start a program.

        Raises:
            ExecutionError: the machine has no room for it. That there is no such program is
                printed by sh, with exit code 127.
        """
        command = ["/bin/sh", "-c", _LAUNCH, "rota", str(cwd), *launch.words]
        try:
            with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
                start = partial(
                    _spawn, command, launch.env, theirs.enter_context(handed(launch.secret_env))
                )
                if tty is not None:
                    pid, outputs, writing = _on_terminal(start, tty, ours, theirs)
                else:
                    pid, outputs, writing = _on_pipes(start, ours, theirs)
                session = cls(
                    census,
                    pid,
                    marker,
                    outputs,
                    writing,
                    is_tty=tty is not None,
                    cgroup=launch.cgroup,
                    told=told,
                )
                ours.pop_all()
        except (OSError, ValueError) as error:
            launch.cgroup.remove()
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ExecutionError(f"cannot start a shell: {reason}") from error
        return session

    @property
    def code(self) -> int | None:
        """Its exit code as a shell would say it; ``None`` while it runs."""
        if self._code is None and not self._is_reaped:
            # Left unreaped: as long as it is, its number is nobody else's session.
            found = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if found is not None:
                is_exit = found.si_code == os.CLD_EXITED
                self._code = found.si_status if is_exit else 128 + found.si_status
                self._over_at = self._loop.time()
        return self._code

    async def read(self) -> tuple[int, bytes] | None:
        """Return what it printed next; ``None`` once it is over."""
        while True:
            is_over = self.code is not None  # asked first: what it printed before is there then
            for fd, stream in list(self._outputs.items()):
                data = _read(fd)
                if data:
                    # The other stream is asked first next time: neither starves.
                    self._outputs[fd] = self._outputs.pop(fd)
                    return stream, data
                if data is not None:
                    self._forget(fd)
            is_silent = not self._outputs or not self._is_tty
            if is_over and (is_silent or self._loop.time() - (self._over_at or 0.0) > LAST_WORDS_S):
                return self._complaint()
            waited = (*self._outputs, *(() if is_over else (self._pidfd,)))
            await self._until(waited, LAST_WORDS_S if is_over else None)

    async def write(self, data: bytes) -> None:
        """Give it input; return once it was taken."""
        view = memoryview(data)
        while view and self._writing >= 0:
            try:
                view = view[os.write(self._writing, view) :]
            except BlockingIOError:
                if self.code is not None:
                    return
                await self._until_taken()
            except OSError:
                return  # nobody reads it any more

    async def close_input(self) -> None:
        """Say that there is no more input."""
        if self._writing < 0:
            return
        if self._is_tty:
            await self.write(_EOF)
        else:
            os.close(self._writing)
            self._writing = -1

    def resize(self, rows: int, columns: int) -> None:
        """Say how large the terminal is now."""
        if self._is_tty and self._writing >= 0:
            _set_size(self._writing, rows, columns)

    async def end(self) -> None:
        """Hang up, then kill it and all that it left running."""
        if self._ended:
            return
        self._ended = True
        if self.code is None:
            # A terminal that is closed hangs up by itself, as far as its foreground goes.
            process = proc.look(self._pid)
            if process is not None:
                proc.send_group(process, signal.SIGHUP)
                proc.send_group(process, signal.SIGCONT)
        for fd in {*self._outputs, self._writing} - {-1}:
            os.close(fd)
        self._outputs, self._writing = {}, -1
        if self.code is None:
            await self._until((self._pidfd,), GRACE_S)
        try:
            await self._ending.end(0.0, is_over=self.code is not None)
        finally:
            if self._told is not None:
                self._told.unlink(missing_ok=True)
            await asyncio.to_thread(self._cgroup.kill) if self._cgroup else None
            self._cgroup.remove()
            if self.code is not None:
                self._is_reaped = True
                os.waitpid(self._pid, os.WNOHANG)  # noqa: ASYNC222 - it has ended
            os.close(self._pidfd)

    def _complaint(self) -> tuple[int, bytes] | None:
        """Return why it could not be confined, once; ``None`` if it was, or was not to be."""
        told, self._told = self._told, None
        if told is None:
            return None
        with contextlib.suppress(OSError):
            text = told.read_bytes()
            told.unlink()
            if text and not text.endswith(b"ok\n"):
                return STDERR, b"rota: it could not be confined: " + text
        return None

    def _forget(self, fd: int) -> None:
        del self._outputs[fd]
        if fd != self._writing:
            os.close(fd)

    async def _until(self, fds: Iterable[int], timeout_s: float | None = None) -> None:
        """Wait until there is something to read, or the time is over."""
        ready = asyncio.Event()
        watched = list(fds)
        for fd in watched:
            self._loop.add_reader(fd, ready.set)
        try:
            async with asyncio.timeout(timeout_s):
                await ready.wait()
        except TimeoutError:
            return
        finally:
            for fd in watched:
                self._loop.remove_reader(fd)

    async def _until_taken(self) -> None:
        """Wait until there is room for input, or nobody left to read it."""
        ready = asyncio.Event()
        fd = self._writing
        self._loop.add_writer(fd, ready.set)
        try:
            # A terminal whose program has ended stays full: looked at once in a while.
            async with asyncio.timeout(LAST_WORDS_S):
                await ready.wait()
        except TimeoutError:
            return
        finally:
            self._loop.remove_writer(fd)


def _on_terminal(
    start: _Start,
    tty: Tty,
    ours: contextlib.ExitStack,
    theirs: contextlib.ExitStack,
) -> tuple[int, dict[int, int], int]:
    main, side = os.openpty()
    ours.callback(os.close, main)
    theirs.callback(os.close, side)
    _set_size(main, tty.rows, tty.columns)
    # Opened by its name after setsid: so it becomes the terminal that the session is controlled by.
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.ttyname(side), os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
    ]
    return start(actions), {main: STDOUT}, main


def _on_pipes(
    start: _Start,
    ours: contextlib.ExitStack,
    theirs: contextlib.ExitStack,
) -> tuple[int, dict[int, int], int]:
    def pipe(*, reads: bool) -> tuple[int, int]:
        reading, writing = os.pipe()
        mine, other = (reading, writing) if reads else (writing, reading)
        ours.callback(os.close, mine)
        theirs.callback(os.close, other)
        return mine, other

    writing, stdin = pipe(reads=False)
    reading, stdout = pipe(reads=True)
    reading_too, stderr = pipe(reads=True)
    actions = [
        (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_DUP2, stdout, 1),
        (os.POSIX_SPAWN_DUP2, stderr, 2),
    ]
    return start(actions), {reading: STDOUT, reading_too: STDERR}, writing


def _spawn(
    command: list[str], env: Mapping[str, str], given: Sequence[_Action], actions: Sequence[_Action]
) -> int:
    pid = os.posix_spawn(
        command[0],
        command,
        env,
        file_actions=[*actions, *given],
        setsid=True,
        setsigmask=[],
        setsigdef=_RESET,
    )
    keep_back(pid)
    go_first(pid)
    return pid


def _set_size(fd: int, rows: int, columns: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _read(fd: int) -> bytes | None:
    """Return what there is; ``None`` if there is nothing now, empty if never any more."""
    try:
        return os.read(fd, PIECE)
    except BlockingIOError:
        return None
    except OSError:
        return b""  # EIO: the other side of a terminal is closed
