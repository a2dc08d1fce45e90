"""Tells whoever started the daemon that it is ready: systemd, or a pipe."""

from __future__ import annotations

import contextlib
import os
import socket
import time

#: How much longer systemd waits after each word.
_MORE_S = 60


def say_ready(ready_fd: int | None) -> None:
    """Say that builds are taken."""
    notify(f"READY=1\nMAINPID={os.getpid()}")
    if ready_fd is not None:
        with contextlib.suppress(OSError), os.fdopen(ready_fd, "w") as pipe:
            pipe.write("ready\n")


class Starting:
    """Says that the start takes longer, and goes on; not oftener than whoever waits has to hear it.

    Args:
        ready_fd: The pipe of whoever waits, if somebody does.
        every_s: Between two words.
    """

    def __init__(self, ready_fd: int | None, every_s: float = 5.0) -> None:
        self._ready_fd, self._every_s = ready_fd, every_s
        self._said_at = time.monotonic()

    def still(self) -> None:
        """Say so, if it is time."""
        now = time.monotonic()
        if now - self._said_at < self._every_s:
            return
        self._said_at = now
        notify(f"EXTEND_TIMEOUT_USEC={_MORE_S * 1_000_000}\nSTATUS=reading the history")
        if self._ready_fd is not None:
            with contextlib.suppress(OSError):
                os.write(self._ready_fd, b"starting\n")


def notify(text: str) -> None:
    """Tell systemd, if it waits for us: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.sendto(text.encode(), address)
