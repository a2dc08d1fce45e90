"""Where an agent is, and what to show there; nothing here connects.

The first of these that is there decides:

1. ``--at URL``, or ``--data DIR`` given with the command: somebody named this very agent;
2. ``$ROTA_SOCKET``, which builds have: the agent that runs them;
3. ``$ROTA_URL``;
4. the saved login;
5. the local agent's socket, in ``$ROTA_DATA`` or the default data folder.

Over a Unix socket the kernel says who is calling; a token goes over TCP only, and a saved token
only to the URL that it was saved for, and to agents that prove by their certificate that they are
of the same cluster: see :func:`elsewhere`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from rota.client.login import login_path, read_login
from rota.errors import InputError

SOCKET_NAME = "rota.sock"


class Place(NamedTuple):
    """One agent's address. ``path`` is a Unix socket's; empty means ``host`` and ``port``.

    ``ca`` is the certificate of the cluster's CA in PEM, where it is known; ``is_pinned`` says that
    this very agent has to show one of that CA. Else a public CA vouches for it, such as a proxy's.
    """

    url: str
    origin: str  # what named it, for messages
    path: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False
    prefix: str = ""  # what stands before /v1, behind a proxy
    token: str = ""
    ca: str = ""
    is_pinned: bool = False

    @property
    def is_local(self) -> bool:
        """Whether it is a Unix socket."""
        return bool(self.path)

    @property
    def is_plain_loopback(self) -> bool:
        """Whether it is reached over plain HTTP on this machine."""
        return not self.path and not self.tls and is_loopback(self.host)

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
        return with_credentials(parse_place(at, "--at"), env)
    if data:
        return folder_place(data, "--data")
    if env.get("ROTA_SOCKET"):
        return socket_place(env["ROTA_SOCKET"], "$ROTA_SOCKET")
    if env.get("ROTA_URL"):
        return with_credentials(parse_place(env["ROTA_URL"], "$ROTA_URL"), env)
    login = read_login(env)
    if login:
        return with_credentials(parse_place(login.url, f"the login in {login_path(env)}"), env)
    if env.get("ROTA_DATA"):
        return folder_place(env["ROTA_DATA"], "$ROTA_DATA")
    return folder_place(default_data(env), "the default data folder")


def parse_place(text: str, origin: str) -> Place:
    """Return the place that ``text`` names: a URL, ``unix:PATH``, a socket, or a data folder.

    ``origin`` says where the text is from, for messages. The place has no token.
    """
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
    if "\0" in path:
        raise InputError(f"{origin}: {path!r} is no path", hint="a data folder, or its rota.sock")
    path = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - pathlib: 8 ms
    return Place(url=f"unix:{path}", origin=origin, path=path)


def default_data(env: Mapping[str, str]) -> str:
    """Return the data folder of an agent that was not given one."""
    if os.geteuid() == 0:
        return "/var/lib/rota"
    state = env.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111
    return f"{state}/rota"


def with_credentials(place: Place, env: Mapping[str, str]) -> Place:
    """Return ``place`` with the token and the CA that belong to it, as far as there are any."""
    if place.is_local:
        return place
    login = read_login(env)
    if login and login.url.rstrip("/") == place.url:
        place = place._replace(token=login.token, ca=login.ca, is_pinned=login.is_pinned)
    if env.get("ROTA_TOKEN"):
        place = place._replace(token=env["ROTA_TOKEN"])
    if env.get("ROTA_CA"):
        place = place._replace(ca=read_ca(env["ROTA_CA"], "$ROTA_CA"), is_pinned=True)
    return place


def read_ca(path: str, origin: str) -> str:
    """Return the certificate in a file, as PEM.

    Raises:
        InputError: it cannot be read, or holds none.
    """
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123 - pathlib: 8 ms
            text = file.read()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"{origin}: cannot read the CA in {path}: {reason}") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise InputError(
            f"{origin}: {path} holds no certificate",
            hint="the CA of a cluster lies in each agent's data folder, in tls/ca.crt",
        )
    return text


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine's loopback, by its name alone."""
    numbers = host.split(".")
    is_ip4 = len(numbers) == 4 and all(number.isdigit() for number in numbers)
    return host in ("localhost", "::1") or (is_ip4 and numbers[0] == "127")


def local_credentials(place: Place) -> Place:
    """Return the place of a Unix socket with what its agent keeps beside it: token and CA."""
    folder = os.path.dirname(place.path)  # noqa: PTH120 - pathlib: 8 ms
    return place._replace(token=_read(f"{folder}/token"), ca=_read(f"{folder}/tls/ca.crt"))


def elsewhere(named: Place, url: str) -> Place | None:
    """Return the place of another agent, with ``named``'s token; ``None`` if it must not go there.

    The token is for agents of one cluster. Who has a certificate of the cluster's CA is one. Over
    plain HTTP anybody may answer: that is done on this machine's loopback alone, and only where
    the agent that was named is asked so, too.
    """
    try:
        found = _tcp_place(url, "an agent's answer")
    except InputError:
        return None
    if found.tls and named.ca:
        return found._replace(token=named.token, ca=named.ca, is_pinned=True)
    if found.is_plain_loopback and named.is_plain_loopback:
        return found._replace(token=named.token, ca=named.ca)
    return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123 - pathlib: 8 ms
            return file.read().strip()
    except (OSError, UnicodeError):
        return ""


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
