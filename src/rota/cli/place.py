"""Where the agent is that a command speaks to, and with what credential.

The first of these that is there decides:

1. ``--at URL``, or ``--data DIR`` given with the command: somebody named this very agent;
2. ``$ROTA_SOCKET``, which builds have: the agent that runs them;
3. ``$ROTA_URL``;
4. the saved login;
5. the local agent's socket, in ``$ROTA_DATA`` or the default data folder.

Over a Unix socket the kernel says who is calling; a token goes over TCP only, and a saved token
only to the URL that it was saved for.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from typing import NamedTuple

from rota.errors import InputError, UnavailableError

SOCKET_NAME = "rota.sock"
#: sizeof(sun_path) is 108 on Linux, and a zero byte ends it.
MAX_SOCKET_PATH = 107
CONNECT_S = 10.0


class Place(NamedTuple):
    """One agent's address. ``path`` is a Unix socket's; empty means ``host`` and ``port``."""

    url: str
    origin: str  # what named it, for messages
    path: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False
    prefix: str = ""  # what stands before /v1, behind a proxy
    token: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is a Unix socket."""
        return bool(self.path)

    def __str__(self) -> str:
        return f"{self.url} (from {self.origin})"


def find_place(at: str | None, data: str | None, env: Mapping[str, str]) -> Place:
    """Return where to look for the agent; nothing is connected to.

    Raises:
        InputError: ``at`` or a variable is neither a URL nor a path; both ``at`` and ``data``.
    """
    if at and data:
        raise InputError("--at and --data name two agents", hint="give one of them")
    if at:
        return with_token(parse_place(at, "--at"), env)
    if data:
        return folder_place(data, "--data")
    if env.get("ROTA_SOCKET"):
        return socket_place(env["ROTA_SOCKET"], "$ROTA_SOCKET")
    if env.get("ROTA_URL"):
        return with_token(parse_place(env["ROTA_URL"], "$ROTA_URL"), env)
    login = read_login(env)
    if login:
        return with_token(parse_place(login["url"], f"the login in {login_path(env)}"), env)
    if env.get("ROTA_DATA"):
        return folder_place(env["ROTA_DATA"], "$ROTA_DATA")
    return folder_place(default_data(env), "the default data folder")


def parse_place(text: str, origin: str) -> Place:
    """Return the place that ``text`` names: a URL, ``unix:PATH``, a socket, or a data folder."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "unix":
        return socket_place(rest.removeprefix("//"), origin)
    if colon and scheme in ("http", "https") and rest.startswith("//"):
        return _tcp_place(text, origin)
    if "://" in text:
        raise InputError(
            f"{origin}: {text!r} is no address of an agent",
            hint="http://HOST:PORT, https://HOST, unix:/PATH/rota.sock, or a data folder",
        )
    if text.endswith(".sock"):
        return socket_place(text, origin)
    return folder_place(text, origin)


def folder_place(folder: str, origin: str) -> Place:
    """Return the place of the agent that lives in a data folder."""
    return socket_place(os.path.join(folder, SOCKET_NAME), origin)  # noqa: PTH118 - pathlib: 8 ms


def socket_place(path: str, origin: str) -> Place:
    """Return the place of a Unix socket."""
    path = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - pathlib: 8 ms
    return Place(url=f"unix:{path}", origin=origin, path=path)


def default_data(env: Mapping[str, str]) -> str:
    """Return the data folder of an agent that was not given one."""
    if os.geteuid() == 0:
        return "/var/lib/rota"
    state = env.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111
    return f"{state}/rota"


def login_path(env: Mapping[str, str]) -> str:
    """Return where ``rota login`` keeps what it was told."""
    config = env.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    return f"{config}/rota/login.json"


def read_login(env: Mapping[str, str]) -> dict[str, str] | None:
    """Return the saved ``url`` and ``token``, or ``None``.

    Raises:
        InputError: the file is there and cannot be read.
    """
    path = login_path(env)
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib: 8 ms
            login = json.load(file)
        return {"url": str(login["url"]), "token": str(login["token"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"cannot read the login in {path}: {error}", hint="make it anew: rota login URL"
        ) from error


def with_token(place: Place, env: Mapping[str, str]) -> Place:
    """Return ``place`` with the token that belongs to it, if there is one."""
    if place.is_local:
        return place
    if env.get("ROTA_TOKEN"):
        return place._replace(token=env["ROTA_TOKEN"])
    login = read_login(env)
    if login and login["url"].rstrip("/") == place.url:
        return place._replace(token=login["token"])
    return place


def connect_unix(path: str, timeout: float = CONNECT_S) -> socket.socket:
    """Return a connected stream socket. A path too long for the kernel is reached by its folder."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            sock.connect(path)
            return sock
        folder, name = os.path.split(path)
        handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        try:
            sock.connect(f"/proc/self/fd/{handle}/{name}")
        finally:
            os.close(handle)
    except BaseException:
        sock.close()
        raise
    return sock


def unreachable(place: Place, error: OSError) -> UnavailableError:
    """Return the error that says where an agent was looked for, and how to have one."""
    reason = error.strerror or str(error)
    hint = "start one: rota agent --daemon" if place.is_local else "is the agent up, the URL right?"
    if isinstance(error, PermissionError):
        hint = "the socket belongs to somebody else; use the URL and a token: rota login URL"
    return UnavailableError(f"no agent at {place}: {reason}", hint=hint)


def _tcp_place(text: str, origin: str) -> Place:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{origin}: {text!r} is no URL: {error}") from error
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        raise InputError(
            f"{origin}: {text!r} is no address of an agent",
            hint="such as http://build-1:7070; the token comes from $ROTA_TOKEN or rota login",
        )
    tls = parts.scheme == "https"
    return Place(
        url=text.rstrip("/"),
        origin=origin,
        host=parts.hostname,
        port=port or (443 if tls else 80),
        tls=tls,
        prefix=parts.path.rstrip("/"),
    )
