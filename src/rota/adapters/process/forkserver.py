"""A process that becomes, once for each plain attempt, its supervisor: forked, and not started anew.

Run as a file, by itself: nothing of rota is imported here, and little of Python, since all of it is copied with
each fork. Its standard input is the daemon's socket (``SOCK_SEQPACKET``: one message, one request), and its
end is the end of this process; the supervisors stay.

A supervisor does what ``supervise.sh`` does, leaves the same files, and carries the output as well, from the pipe
to the log by ``splice``: so no ``setsid``, no ``cat`` and no ``sh`` has to be started for an attempt. It is made a
child of the daemon, and no grandchild, so that the daemon learns its end from the kernel.

========== ====================================================================================
message    what it is, by :mod:`marshal`
========== ====================================================================================
request    number, home, folder, program, arguments, environment, first line of ``home/pid``
answer     number, pid of the supervisor or 0, what went wrong; number 0 says: ready
========== ====================================================================================
"""

# ruff: noqa: SIM105, PTH108 - contextlib and pathlib would be copied with each fork
from __future__ import annotations

import ctypes
import errno
import gc
import marshal
import os
import select
import signal
import sys
from typing import Any, NoReturn

_CLONE_PARENT = 0x8000
_PR_SET_NAME = 15
_MOVE_BYTES = 1 << 20
_MOVES = 64  # before a look at whether the script has ended
#: Whatever is in a pipe when the script ends was printed before that: at most so much.
_LAST_MOVES = 2
_AGAIN_MS = (20, 2000)
_IGNORED = ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "PIPE"]
_RESET = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_STDERR = 2
_NOT_FOUND, _NOT_RUN = 127, 126


def main(clone: int, most_bytes: int) -> None:
    """Serve until the daemon is gone.

    Args:
        clone: The number of that system call, here.
        most_bytes: Of a request.
    """
    libc = ctypes.PyDLL(None, use_errno=True)
    for name in _IGNORED:
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    daemon = os.dup(0)
    os.dup2(null, 0, inheritable=False)
    gc.disable()
    gc.freeze()
    _answer(daemon, 0, 0, "")
    while message := os.read(daemon, most_bytes):
        request, home, *what = marshal.loads(message)  # noqa: S302 - of our daemon
        pid, fault, log = 0, "", None
        try:
            log = Log(home + b"/log")  # it is there when the daemon is answered
            # Before the fork: so whoever looks for the reader of this pipe finds the supervisor from its first moment.
            _become_reader(home + b"/output")
            pid = libc.syscall(clone, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
            if pid == 0:
                _child(libc, daemon, null, home, log, what)
            if pid < 0:
                pid, fault = 0, os.strerror(ctypes.get_errno())
        except OSError as error:
            fault = str(error.strerror)
        if log is not None:
            log.close()
        os.dup2(null, 0, inheritable=False)
        _answer(daemon, request, pid, fault)


def _answer(daemon: int, request: int, pid: int, fault: str) -> None:
    try:
        os.write(daemon, marshal.dumps((request, pid, fault)))
    except OSError:
        pass  # it is gone: that is read next


def _become_reader(fifo: bytes) -> None:
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    os.dup2(reading, 0, inheritable=False)
    os.close(reading)


def _child(
    libc: ctypes.PyDLL, daemon: int, null: int, home: bytes, log: Log, what: list[Any]
) -> NoReturn:
    code = _NOT_RUN
    try:
        os.close(daemon)
        os.setsid()
        libc.prctl(_PR_SET_NAME, b"rota-supervisor")
        os.dup2(null, _STDERR)
        code = _supervise(home, log, *what)
    finally:
        os._exit(code)


def _supervise(
    home: bytes,
    log: Log,
    folder: bytes,
    program: bytes,
    words: list[bytes],
    env: dict[bytes, bytes],
    start: bytes,
) -> int:
    """Run a script to its end, its output into the log; return the exit code that sh would have."""
    output = home + b"/output"
    told = os.open(home + b"/exit", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    keeps = os.open(
        output, os.O_WRONLY | os.O_CLOEXEC
    )  # so that no end comes while the script may print
    try:
        os.chdir(folder)
        script = _spawn(program, words, env, output)
    except OSError as error:
        what = os.fsdecode(error.filename or program)
        log.write(
            f"rota: {what} could not be started: {error.strerror}\n".encode("utf-8", "replace")
        )
        code = _NOT_FOUND if error.errno == errno.ENOENT else _NOT_RUN
        _tell(told, "", code)
        return code
    os.chdir("/")
    _note(home + b"/pid", start, script)
    _carry_while(log, os.pidfd_open(script))
    status = os.waitstatus_to_exitcode(os.waitpid(script, 0)[1])
    os.close(keeps)
    if log.carry(_LAST_MOVES):
        _remove(output)  # nobody has it open any more: the log is whole
    elif os.fork() == 0:
        _carry_on(log)
        os._exit(0)
    code = 128 - status if status < 0 else status
    _tell(told, "ended by a signal\n" if status < 0 else "", code)
    return code


def _remove(path: bytes) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # the script may have removed it


def _spawn(program: bytes, words: list[bytes], env: dict[bytes, bytes], output: bytes) -> int:
    """Start the script in a session of its own; by sh, if it does not say what runs it."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        return os.posix_spawn(
            program, words, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=_RESET
        )
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    words = [b"sh", program, *words[1:]]
    return os.posix_spawn(
        b"/bin/sh", words, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=_RESET
    )


def _note(path: bytes, start: bytes, script: int) -> None:
    """Write down who is who. What the disk does not take, a later daemon finds out by looking."""
    try:
        lines = b"\n".join([start, _stat("self"), _stat(str(script))])
        note = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        os.write(note, lines + b"\n")
        os.close(note)
    except OSError:
        pass


def _stat(pid: str) -> bytes:
    file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    line = os.read(file, 4096)
    os.close(file)
    return line.rstrip(b"\n")


def _carry_while(log: Log, script: int) -> None:
    """Carry until the script has ended."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(script, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if script in ready:
            os.close(script)
            return
        log.carry(_MOVES)
        if log.is_stuck:
            # The script waits as soon as the pipe is full; whether it has ended is looked at meanwhile.
            only = select.poll()
            only.register(script, select.POLLIN)
            only.poll(log.pause_ms)


def _carry_on(log: Log) -> None:
    """Carry what the script left running prints, to the end of that."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    while not log.carry(_MOVES):
        if log.is_stuck:
            select.poll().poll(log.pause_ms)
        else:
            poll.poll()


def _tell(told: int, word: str, code: int) -> None:
    """Write down how it ended, as sh does: the exit code tells the same should the disk be full."""
    times = os.times()
    lines = [f"{_minutes(times.user)} {_minutes(times.system)}"]
    lines += [f"{_minutes(times.children_user)} {_minutes(times.children_system)}"]
    try:
        os.write(told, f"{word}code {code}\n{lines[0]}\n{lines[1]}\nend\n".encode())
    except OSError:
        pass  # the exit code says it, too


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)}m{seconds % 60:.6f}s"


class Log:
    """The log, and the way of the output there: within the kernel, where the file system can."""

    def __init__(self, path: bytes) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._splices = True
        self._rest = b""
        self.pause_ms = 0

    @property
    def is_stuck(self) -> bool:
        """Whether the disk takes nothing just now."""
        return self.pause_ms > 0

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)

    def write(self, data: bytes) -> None:
        """Put something at the end."""
        os.lseek(self._file, 0, os.SEEK_END)
        os.write(self._file, data)

    def carry(self, most: int) -> bool:
        """Move what is in the pipe, in so many moves at most; say whether nobody prints any more."""
        for _ in range(most):
            try:
                if not self._move():
                    return True
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EINVAL and self._splices:
                    self._splices = False
                    continue
                self.pause_ms = min(max(2 * self.pause_ms, _AGAIN_MS[0]), _AGAIN_MS[1])
                return False
        self.pause_ms = 0
        return False

    def _move(self) -> int:
        # What is at the end by now: others may have written a line of theirs.
        os.lseek(self._file, 0, os.SEEK_END)
        if self._splices:
            return os.splice(0, self._file, _MOVE_BYTES)
        data = self._rest or os.read(0, _MOVE_BYTES)
        self._rest = data
        if data:
            self._rest = data[os.write(self._file, data) :]
        return len(data)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
