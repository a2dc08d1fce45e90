"""Where the daemon listens: a Unix socket, TCP for people, TLS for other agents."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from rota.daemon.folder import DataFolder
from rota.errors import InputError, UnavailableError

#: sun_path of unix(7) holds 108 bytes with the final NUL; a longer path goes through /proc.
MAX_SOCKET_PATH = 107
BACKLOG = 512
LOOPBACK = "127.0.0.1"


def tcp_socket(given: str | None, folder: DataFolder) -> socket.socket:
    """Return the socket for people: where it was told to, else the port of the last time.

    Raises:
        UnavailableError: nothing can listen where it was told to.
    """
    where = given or folder.read("listen")
    host, port = host_port(where) if where else (LOOPBACK, 0)
    try:
        listening = bound(host, port)
    except OSError as error:
        if given:
            raise UnavailableError(f"cannot listen on {given}: {error.strerror}") from error
        listening = bound(LOOPBACK, 0)
    folder.write("listen", address(listening))
    return listening


def peer_socket(host: str, folder: DataFolder) -> socket.socket:
    """Return the socket for other agents on ``host``, on the port of the last time if it is free.

    Raises:
        UnavailableError: this machine has no such address.
    """
    former = folder.read("peer")
    port = host_port(former)[1] if former else 0
    try:
        listening = bound(host, port)
    except OSError:
        try:
            listening = bound(host, 0)
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {host}: {error.strerror}",
                hint="give an address of this machine: --listen HOST:PORT",
            ) from error
    folder.write("peer", address(listening))
    return listening


def bound(host: str, port: int) -> socket.socket:
    """Return a TCP socket that listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def address(listening: socket.socket) -> str:
    """Return ``HOST:PORT``, an IPv6 address in brackets."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_port(text: str) -> tuple[str, int]:
    """Return what ``HOST:PORT`` says.

    Raises:
        InputError: it is not of that form.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise InputError(f"bad address {text!r}", hint="HOST:PORT, such as 127.0.0.1:8010")
    return host.strip("[]") or LOOPBACK, int(port)


def reachable_host(listen: str | None) -> str:
    """Return the host by which others reach this machine, as far as ``--listen`` says; or ``""``."""
    if not listen:
        return ""
    host = host_port(listen)[0]
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            return ""
    return host


@contextlib.contextmanager
def unix_socket(path: Path, *, mode: int = 0o600) -> Iterator[socket.socket]:
    """Listen on a Unix socket, by its ``mode`` for this user alone; it is removed at the end."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{folder}/{path.name}"
        listening.bind(str(path) if len(os.fsencode(path)) <= MAX_SOCKET_PATH else short)
        path.chmod(mode)
    finally:
        os.close(folder)
    try:
        yield listening
    finally:
        listening.close()
        path.unlink(missing_ok=True)
