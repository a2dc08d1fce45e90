"""Tells whoever started the daemon that it is ready: systemd, or a pipe."""

from __future__ import annotations

import contextlib
import os
import socket


def say_ready(ready_fd: int | None) -> None:
    """Say that builds are taken."""
    notify(f"READY=1\nMAINPID={os.getpid()}")
    if ready_fd is not None:
        with contextlib.suppress(OSError), os.fdopen(ready_fd, "w") as pipe:
            pipe.write("ready\n")


def notify(text: str) -> None:
    """Tell systemd, if it waits for us: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.sendto(text.encode(), address)
