"""A process of which supervisors of plain attempts are forked, and not started anew.

Run as a file, by itself: nothing of rota is imported here, and little of Python, since all of it is copied with
each fork. Its standard input is the daemon's socket (``SOCK_SEQPACKET``: one message, one request), and its
end is the end of this process; the supervisors stay.

A supervisor does what ``supervise.sh`` does, leaves the same files, and carries the output as well, from the pipe
to the log by ``splice``: so no ``setsid``, no ``cat`` and no ``sh`` has to be started for an attempt. It is made a
child of the daemon, and no grandchild, so that the daemon learns its end from the kernel.

Each has a line to the daemon, a socket of its own. One whose attempt ended with nothing left of it, neither a
process nor an open pipe, says so there and attends another: a fork for each would be half the cost of it. Any other,
and one that hears nobody any more, ends as the attempt did.

========== ====================================================================================
message    what it is, by :mod:`marshal`
========== ====================================================================================
request    number, home, folder, program, arguments, environment, first line of ``home/pid``; to the
           server with the supervisor's end of its line
answer     number, pid of the supervisor or 0, what went wrong; number 0 says: ready
report     0, exit code, whether a signal ended it, seconds as user and in the kernel, largest process
           in KiB, the script's pid and start: nothing is left of it, and the log is whole
========== ====================================================================================
"""

# ruff: noqa: SIM105, PTH108 - contextlib and pathlib would be copied with each fork
from __future__ import annotations

import _socket  # all of `socket` would be copied as well
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
_PR_SET_CHILD_SUBREAPER = 36
#: More of them, and what a process gathers over time might count.
_MOST_ATTEMPTS = 1000
#: What the script left to itself and has ended is let go of at least so often.
_REAP_MS = 10_000
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
    daemon = _socket.socket(fileno=os.dup(0))
    os.dup2(null, 0, inheritable=False)
    gc.disable()
    gc.freeze()
    _answer(daemon.fileno(), 0, 0, "")
    while True:
        message, line = _received(daemon, most_bytes)
        if not message:
            return
        request, home, *what = marshal.loads(message)  # noqa: S302 - of our daemon
        pid, fault, log = 0, "", None
        try:
            log = _opened(home)
            pid = libc.syscall(clone, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
            if pid == 0:
                daemon.close()
                _child(libc, line, most_bytes, null, home, log, what)
            if pid < 0:
                pid, fault = 0, os.strerror(ctypes.get_errno())
        except OSError as error:
            fault = str(error.strerror)
        if log is not None:
            log.close()
        if line >= 0:
            os.close(line)
        os.dup2(null, 0, inheritable=False)
        _answer(daemon.fileno(), request, pid, fault)


def _received(daemon: _socket.socket, most_bytes: int) -> tuple[bytes, int]:
    """Return a request, and the line that came with it."""
    message, extras, _, _ = daemon.recvmsg(most_bytes, _socket.CMSG_SPACE(4))
    line = int.from_bytes(extras[0][2][:4], sys.byteorder) if extras else -1
    if line >= 0:
        os.set_inheritable(line, False)
    return message, line


def _opened(home: bytes) -> Log:
    """Return the log of an attempt, and become the reader of its output.

    Both before the daemon is answered: so who looks for the reader of this pipe finds the supervisor.
    """
    log = Log(home + b"/log")
    try:
        fifo = home + b"/output"
        reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        log.close()
        raise
    os.dup2(reading, 0, inheritable=False)
    os.close(reading)
    return log


def _answer(daemon: int, request: int, pid: int, fault: str) -> None:
    try:
        os.write(daemon, marshal.dumps((request, pid, fault)))
    except OSError:
        pass  # it is gone: that is read next


def _child(
    libc: ctypes.PyDLL,
    line: int,
    most_bytes: int,
    null: int,
    home: bytes,
    log: Log,
    what: list[Any],
) -> NoReturn:
    code = _NOT_RUN
    try:
        os.setsid()
        libc.prctl(_PR_SET_NAME, b"rota-supervisor")
        # What the script leaves behind becomes a child of this process: if that has none, nothing is left.
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        os.dup2(null, _STDERR)
        code = _attend(line, most_bytes, null, home, log, what)
    finally:
        os._exit(code)


def _attend(line: int, most_bytes: int, null: int, home: bytes, log: Log, what: list[Any]) -> int:
    """Supervise one attempt after the other, as long as nothing is left of any; return the last one's code."""
    code = 0
    for _ in range(_MOST_ATTEMPTS):
        code, report = _supervise(home, log, *what)
        if report is None:
            return code
        log.close()
        os.dup2(null, 0, inheritable=False)
        try:
            os.write(line, marshal.dumps(report))
        except OSError:
            return code  # nobody hears it: what is written has to do
        message = os.read(line, most_bytes)
        if not message:
            return code
        request, home, *what = marshal.loads(message)  # noqa: S302 - of our daemon
        try:
            log = _opened(home)
        except OSError as error:
            _answer(line, request, 0, str(error.strerror))
            return _NOT_RUN
        _answer(line, request, os.getpid(), "")
    return code


def _supervise(
    home: bytes,
    log: Log,
    folder: bytes,
    program: bytes,
    words: list[bytes],
    env: dict[bytes, bytes],
    start: bytes,
) -> tuple[int, tuple[Any, ...] | None]:
    """Run a script to its end, its output into the log.

    Return the exit code that sh would have, and what is to be reported if nothing is left of the attempt.
    """
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
        _tell(told, "", code, Used())
        return code, None
    os.chdir("/")
    line = _stat(script)
    _note(home + b"/pid", start, line)
    used = Used()
    _carry_while(log, os.pidfd_open(script), script, used)
    os.close(keeps)
    is_whole = log.carry(_LAST_MOVES)
    if is_whole:
        _remove(output)  # nobody has it open any more: the log is whole
    elif os.fork() == 0:
        _carry_on(log)
        os._exit(0)
    status = used.status
    code = 128 - status if status < 0 else status
    is_told = _tell(told, "ended by a signal\n" if status < 0 else "", code, used)
    os.close(told)
    if not (is_whole and is_told and used.is_alone):
        return code, None
    began = int(line.rpartition(b") ")[2].split()[19])
    return code, (0, code, status < 0, used.user_s, used.system_s, used.most_kib, script, began)


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


def _note(path: bytes, start: bytes, script: bytes) -> None:
    """Write down who is who. What the disk does not take, a later daemon finds out by looking."""
    try:
        note = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        os.write(note, b"\n".join([start, _stat("self"), script, b""]))
        os.close(note)
    except OSError:
        pass


def _stat(pid: str | int) -> bytes:
    file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    line = os.read(file, 4096)
    os.close(file)
    return line.rstrip(b"\n")


class Used:
    """How the script ended, and what it and all that it left to this process have used."""

    def __init__(self) -> None:
        self.status = 0
        self.user_s = self.system_s = 0.0
        self.most_kib = 0
        self.is_alone = False

    def take(self, script: int) -> bool:
        """Let go of all that has ended; say whether the script has, and note whether nothing else is left."""
        is_over = False
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self.is_alone = True
                return is_over
            if not pid:
                return is_over
            self.user_s += used.ru_utime
            self.system_s += used.ru_stime
            self.most_kib = max(self.most_kib, used.ru_maxrss)
            if pid == script:
                self.status = os.waitstatus_to_exitcode(status)
                is_over = True


def _carry_while(log: Log, pidfd: int, script: int, used: Used) -> None:
    """Carry until the script has ended."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(_REAP_MS)}
        if pidfd in ready or not ready:
            if used.take(script):
                os.close(pidfd)
                return
            continue
        log.carry(_MOVES)
        if log.is_stuck:
            # The script waits as soon as the pipe is full; whether it has ended is looked at meanwhile.
            only = select.poll()
            only.register(pidfd, select.POLLIN)
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


def _tell(told: int, word: str, code: int, used: Used) -> bool:
    """Write down how it ended, as sh does: the exit code tells the same should the disk be full."""
    times = f"{_minutes(used.user_s)} {_minutes(used.system_s)}\n"
    line = f"{word}code {code}\n{times}{times}end\n".encode()
    try:
        return os.write(told, line) == len(line)
    except OSError:
        return False


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
