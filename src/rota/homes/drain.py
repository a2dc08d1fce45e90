"""Carries what a script prints into its log: a FIFO, and a ``cat`` that outlives the daemon.

A script that had the log itself as its output could empty it, by nothing worse than ``>/dev/stderr``: to
open that is to open the file anew, and ``>`` truncates. What was printed into a pipe is out of reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from rota.errors import ExecutionError
from rota.homes import pipe

#: More than a ``cat`` has in hand, which is lost with it: 128 KiB.
_IN_HAND = 256 * 1024
#: More than a pipe and a ``cat`` hold together. Once the log has grown by that, what was there before is in it.
_IN_FLIGHT = 2 * 1024 * 1024
#: How long a script's end waits for what it printed, on a disk that takes nothing.
_CATCH_UP_S = 10.0
#: From the end of all of an attempt to the end of its ``cat`` by itself.
_END_S = 0.05
#: How long it is waited for otherwise, while it is not the disk that it waits for.
_FINISH_S = 5.0
_LOOKS_S = (0.0005, 0.02)
_AGAIN_S = (0.02, 2.0)
_RESET = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_Action: TypeAlias = tuple[Any, ...]  # of posix_spawn


class OutputFiles(Protocol):
    """Where the output of an attempt goes."""

    @property
    def output(self) -> Path:
        """The FIFO that the script prints to."""
        ...

    @property
    def log(self) -> Path:
        """The file that all of it comes to stand in."""
        ...


class Drain:
    """Carries what is printed to ``home.output`` into ``home.log``.

    While the script may print, this process keeps both ends of the FIFO open: so the ``cat`` comes to no
    end, and what waits there is not lost with one that is killed. When this process is killed, the
    supervisor does the same, and the ``cat`` ends after the last of the attempt.

    Args:
        home: Of the attempt.
        keeps: Whether the ``cat`` is to stay although nobody has come to open the FIFO, as long as it takes.

    Cost: 0.5 ms of CPU of this process for each attempt, and 0.9 ms in the ``cat``.
    """

    def __init__(self, home: OutputFiles, *, keeps: bool = False) -> None:
        self._home, self._keeps = home, keeps
        self._loop = asyncio.get_running_loop()
        self._fifo = -1  # both ends while the script may print, then the reading one
        self._pid, self._pidfd = 0, -1
        self._is_over = self._is_dropped = False
        self._cause = ""  # why there is a gap in the log, until it says so
        self._pause_s = _AGAIN_S[0]
        self._timer: asyncio.TimerHandle | None = None
        self._whole = asyncio.Event()

    def begin(self) -> None:
        """Make the FIFO and start to carry; before the supervisor is started.

        Raises:
            ExecutionError: there is no ``cat``.
            OSError: no FIFO, descriptor or process is left.
        """
        self.make()
        self._start()

    def make(self) -> None:
        """Make the FIFO alone: a supervisor is to carry, or else :meth:`carry` is called.

        It is kept open for reading here: should that supervisor be killed, the script waits for another to read.

        Raises:
            OSError: no FIFO or descriptor is left.
        """
        os.mkfifo(self._home.output, 0o600)
        # Who a script becomes by `su` may print, too. No other comes this far: the folder is closed.
        self._home.output.chmod(0o622)
        self._fifo = pipe.opened(self._home.output, os.O_RDONLY)

    def carry(self) -> None:
        """Start to carry.

        Raises:
            ExecutionError: there is no ``cat``.
            OSError: no descriptor or process is left.
        """
        self._start()

    def adopt(self, supervisor: int = 0) -> None:
        """Take over from a former daemon.

        An attempt of an older version has no FIFO, and one of which all is in the log has none any more.

        Args:
            supervisor: Its pid, while it lives: it may be the one that carries.

        Raises:
            OSError: no descriptor is left.
        """
        try:
            self._fifo = pipe.opened(self._home.output, os.O_RDONLY)
            found = pipe.reader(self._home.output)
            if found is not None and found[0] == supervisor:
                os.close(found[1])
                return
            reading, self._fifo = self._fifo, pipe.opened(self._home.output, os.O_RDWR)
            os.close(reading)
        except FileNotFoundError:
            self._set_whole()
            return
        if found is None:
            self._again()
        else:
            self._pid, pidfd = found
            self._watch(pidfd)

    def all_carried(self) -> None:
        """Take a supervisor's word that nobody prints any more, and all of it is in the log."""
        self._is_over = True
        self._set_whole()

    def supervisor_ended(self) -> None:
        """Look who carries, if it was the supervisor: who it left for that, or else somebody new.

        Cost: where it was not, or all is in the log, 10 µs.
        """
        if self._pid or self._timer is not None or self._whole.is_set():
            return
        if not os.path.lexists(
            self._home.output
        ):  # so a supervisor says that nobody prints any more
            self._set_whole()
            return
        found = pipe.reader(self._home.output)
        if found is None:
            self._again()
        else:
            self._pid, pidfd = found
            self._watch(pidfd)

    def script_ended(self) -> None:
        """Say that the script has ended: with the last of what it left, so does the output."""
        if self._is_over:
            return
        self._is_over = True
        if self._fifo >= 0:
            reading = -1
            with contextlib.suppress(OSError):  # without a name, what waits there is not kept
                reading = pipe.opened(self._home.output, os.O_RDONLY)
            os.close(self._fifo)
            self._fifo = reading

    async def caught_up(self) -> None:
        """Return when what was printed so far is in the log, whatever is printed meanwhile.

        A disk that takes nothing is not waited for: :meth:`finish` comes later.
        """
        deadline, until = self._loop.time() + _CATCH_UP_S, self._size() + _IN_FLIGHT
        pause_s, most_s = _LOOKS_S
        while not self._has_caught_up() and self._size() < until and self._loop.time() < deadline:
            await self._until_whole(pause_s)
            pause_s = min(pause_s * 2, most_s)

    async def finish(self) -> None:
        """Return when the log is whole: nothing of the attempt is left to print.

        Should something have got away and print for ever, it is cut off.
        """
        self.script_ended()
        if not self._keeps:
            await self._until_whole(_END_S)
        deadline, until = self._loop.time() + _FINISH_S, self._size() + _IN_FLIGHT
        pause_s, most_s = _LOOKS_S
        while not self._whole.is_set():
            is_stuck = self._loop.time() > deadline and pipe.state(self._pid) != "D"
            if self._has_caught_up() or self._size() >= until or is_stuck:
                self.drop()
            await self._until_whole(pause_s)
            pause_s = min(pause_s * 2, most_s)

    def drop(self) -> None:
        """Carry no more: there is nothing, or nobody to want it. Safe to call again."""
        self._is_over = self._is_dropped = True
        if self._pidfd < 0:
            self._set_whole()
        else:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def forget(self) -> None:
        """Leave it alone: it goes on without this process."""
        self._unwatch()
        self._set_whole()

    def _start(self) -> None:
        """Start a ``cat``. With both ends open here it does not wait for anybody while it is started."""
        cat = _cat()
        both = pipe.opened(self._home.output, os.O_RDWR)
        try:
            self._pid = os.posix_spawn(
                cat,
                ["cat"],
                {"LC_ALL": "C"},  # a process without any environment looks like one in its execve
                file_actions=self._actions(),
                setsid=True,
                setsigmask=[],
                setsigdef=_RESET,
            )
        except OSError:
            os.close(both)
            raise
        try:
            self._watch(os.pidfd_open(self._pid))
        except OSError:
            os.kill(self._pid, signal.SIGKILL)  # nobody would know when it ends
            os.close(both)
            raise
        if self._is_over:
            os.close(both)
        else:
            self._close()
            self._fifo = both

    def _actions(self) -> list[_Action]:
        log = (self._home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        actions: list[_Action] = [
            (os.POSIX_SPAWN_OPEN, 0, self._home.output, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, *log),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        if self._keeps:
            actions.append((os.POSIX_SPAWN_OPEN, 3, self._home.output, os.O_RDWR, 0))
        return actions

    def _ended(self) -> None:
        """The ``cat`` has: when all was read, or before its time."""
        self._unwatch()
        code = _reap(self._pid)
        if code == 0 or self._is_dropped or (self._is_over and not self._waiting()):
            self._set_whole()
            return
        if (
            code is None
        ):  # a former daemon's; both ends are open here, so it had not come to the end
            self._cause = "something ended"
        else:
            self._cause = f"signal {-code} ended" if code < 0 else "the disk did not take it from"
        self._later()

    def _later(self) -> None:
        """Try again, less and less often."""
        self._timer = self._loop.call_later(self._pause_s, self._again)
        self._pause_s = min(self._pause_s * 2, _AGAIN_S[1])

    def _again(self) -> None:
        """Start another ``cat``, as soon as there is room for what it will write."""
        try:
            self._note()
            self._start()
        except FileNotFoundError:
            self._set_whole()  # a script may have removed its home: there is nowhere to go
        except (OSError, ExecutionError):
            self._later()

    def _note(self) -> None:
        """Say in the log what is missing there.

        Raises:
            OSError: there is no room for it, or not for what comes after it.
        """
        if not self._cause:
            return
        room = os.statvfs(self._home.log)
        if room.f_bavail * room.f_frsize < _IN_HAND:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        text = f"\nrota: output is missing here, 128 KiB at most: {self._cause} what carries it to this log\n"
        log = os.open(self._home.log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(log, text.encode("ascii"))
        finally:
            os.close(log)
        self._cause = ""

    def _has_caught_up(self) -> bool:
        if self._whole.is_set():
            return True
        return self._pidfd >= 0 and not self._waiting() and pipe.has_written(self._pid)

    def _size(self) -> int:
        try:
            return os.stat(self._home.log).st_size  # noqa: PTH116 - a Path costs more than the call
        except OSError:
            return 0

    def _waiting(self) -> int:
        """Return the bytes in the FIFO; 0 if its name is gone, and nobody can tell."""
        if self._fifo < 0:
            return 0
        return pipe.waiting(self._fifo)

    async def _until_whole(self, within_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._whole.wait()

    def _set_whole(self) -> None:
        self._whole.set()
        self._close()
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self._loop.add_reader(pidfd, self._ended)

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _close(self) -> None:
        if self._fifo >= 0:
            os.close(self._fifo)
            self._fifo = -1


@cache
def _cat() -> str:
    found = shutil.which("cat")
    if found is None:
        raise ExecutionError("cat is not on PATH", hint="install coreutils")
    return found


def _reap(pid: int) -> int | None:
    """Return how a process ended: its exit code, or less than 0 a signal; ``None`` if not our child."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if found else None
