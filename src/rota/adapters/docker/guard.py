"""The guard of one container whose attempt has a lease: it kills the container when the lease runs out.

    python -I -S -c … OWN CONTAINER SOCKET UNTIL

It reads the FIFO ``OWN/lease``, and is of the standard library alone. On expiry it first renames that
FIFO, which says so for ever, and then kills until nothing runs. It is as good as the engine, which it
needs for that.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import time
from pathlib import Path

from rota.homes import guard
from rota.homes.guard import TICK_S, moment

_ANSWER_S = 10.0
_ROUND_S = 0.05
#: An engine that is away for so long took its containers along.
_SILENT_S = 3600.0
_OVER = ("exited", "dead", "gone")


class Guard(guard.Guard):
    """Waits for the end of one lease of a container."""

    def __init__(self, own: Path, container: str, engine: str, until: float) -> None:
        super().__init__(own / "lease", until)
        self._own = own
        self._path = f"/containers/{container}"
        self._engine = engine

    def is_over(self) -> bool:
        """Say whether the container does not run any more."""
        return self._state() in _OVER

    def expire(self) -> None:
        """Rename the FIFO, and kill until the container does not run."""
        with contextlib.suppress(OSError):
            # A supervisor whose script has not begun looks for the new name, and ends.
            (self._own / "lease").rename(self._own / "expired")
        pause_s, silent_since = _ROUND_S, moment()
        while not self.is_released() and self._own.exists():
            state = self._state()
            if state in _OVER:
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
            pause_s = min(pause_s * 2, TICK_S)

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
    Guard(Path(own), container, engine, float(until)).begin()
