"""The guard of one container whose attempt has a lease: it kills the container when the lease runs out.

    python -I -S -c … OWN CONTAINER SOCKET UNTIL

A process of its own, since a lease is for the case that the daemon is dead, stopped or hung; of the
standard library alone. It reads lines from the FIFO ``OWN/lease``: a moment until when the lease is
good from now on, or "end". Moments are of ``CLOCK_BOOTTIME``, which goes on while the machine sleeps.
On expiry it first renames that FIFO, which says so for ever, and then kills until nothing runs. It is
as good as the engine, which it needs for that.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

#: A sleeping machine stops the timer of a wait, so no wait is longer.
_TICK_S = 0.5
#: Between two looks whether the container is there, where the daemon does not say so.
_LOOK_S = 10.0
_ANSWER_S = 10.0
_ROUND_S = 0.05
#: An engine that is away for so long took its containers along.
_SILENT_S = 3600.0
_LINES_BYTES = 1 << 16
_DEAF = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def moment() -> float:
    """Return now, by the clock that leases run by: seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Guard:
    """Waits for the end of one lease."""

    def __init__(self, own: Path, container: str, engine: str, until: float) -> None:
        self._own = own
        self._path = f"/containers/{container}"
        self._engine = engine
        self._until = until
        # For reading and writing: so there is no end of file when a daemon closes its end.
        self._fifo = os.open(own / "lease", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._torn = b""

    def run(self) -> None:
        """Return when there is nothing to guard any more, or when it is killed."""
        poll = select.poll()
        poll.register(self._fifo, select.POLLIN)
        look_at = moment() + _LOOK_S
        while True:
            # What was written is read before the clock: each line is good by itself, however late.
            if self._has_ended():
                return
            left = self._until - moment()
            if left <= 0:
                self._expire()
                return
            if moment() >= look_at:
                look_at = moment() + _LOOK_S
                if self._state() in ("exited", "dead", "gone"):
                    return
            poll.poll(min(left, _TICK_S) * 1000 + 1)

    def _has_ended(self) -> bool:
        """Read what the daemon wrote; say whether there is nothing to guard any more."""
        try:
            lines = (self._torn + os.read(self._fifo, _LINES_BYTES)).split(b"\n")
        except BlockingIOError:
            return False
        self._torn = lines.pop()
        for line in lines:
            if line == b"end":
                return True
            with contextlib.suppress(ValueError):  # not from a daemon
                self._until = float(line)
        return False

    def _expire(self) -> None:
        with contextlib.suppress(OSError):
            # A supervisor whose script has not begun looks for the new name, and ends.
            (self._own / "lease").rename(self._own / "expired")
        pause_s, silent_since = _ROUND_S, moment()
        while not self._has_ended() and self._own.exists():
            state = self._state()
            if state in ("exited", "dead", "gone"):
                return
            if state:
                pause_s, silent_since = _ROUND_S, moment()
            elif moment() - silent_since > _SILENT_S:
                return
            # One that was made and not started must not be started any more.
            if state == "created":
                self._ask("DELETE", f"{self._path}?force=1&v=1")
            else:
                self._ask("POST", f"{self._path}/kill")
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _TICK_S)

    def _state(self) -> str:
        """Return the container's state; empty if the engine does not say."""
        status, text = self._ask("GET", f"{self._path}/json")
        if status == 404:
            return "gone"
        try:
            return str(json.loads(text)["State"]["Status"])
        except (ValueError, KeyError, TypeError):
            return ""

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("engine", timeout=_ANSWER_S)
        try:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(_ANSWER_S)
            connection.sock.connect(self._engine)
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


def main() -> None:
    """Begin to guard, in the background; the process that was started ends when that is so."""
    own, container, engine, until = sys.argv[1:]
    guard = Guard(Path(own), container, engine, float(until))
    for signum in _DEAF:
        signal.signal(signum, signal.SIG_IGN)
    if os.fork():
        os._exit(0)  # the daemon reaps this one; init, the one that stays
    guard.run()
