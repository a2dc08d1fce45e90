"""Who is asking: the kernel says it on the Unix socket, a token on TCP."""

from __future__ import annotations

import base64
import hmac
import os
import pwd
import socket
import struct
from collections.abc import Callable

from aiohttp import web

from rota.core.ids import is_build_id
from rota.errors import DeniedError
from rota.service.context import Principal
from rota.service.verbs import Role

_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


class Access:
    """Says who a request is by. ``token`` is what TCP callers must show."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def principal(self, request: web.Request) -> Principal:
        """Return who is asking.

        Raises:
            DeniedError: nobody that is known here.
        """
        build = request.headers.get("Rota-Build", "")
        peer = _peer(request)
        name = self._local(peer) if peer is not None else self._by_token(request)
        return Principal(name=name, role=Role.ADMIN, build=build if is_build_id(build) else "")

    def _local(self, uid: int) -> str:
        if uid not in (os.geteuid(), 0):
            raise DeniedError(
                f"{_user(uid)} is not the user that this agent runs as",
                known=True,
                hint=f"become that user: sudo -u {_user(os.geteuid())} rota …",
            )
        return _user(uid)

    def _by_token(self, request: web.Request) -> str:
        given = _token(request.headers.get("Authorization", ""))
        if given is None:
            raise DeniedError(
                "no credential",
                hint="send `Authorization: Bearer TOKEN`; the token is in the agent's data folder",
            )
        user, token = given
        if not hmac.compare_digest(token, self._token):
            raise DeniedError("the token is not known here", hint="rota login URL asks for it")
        return user or "admin"


def _peer(request: web.Request) -> int | None:
    """Return the caller's user id on a Unix socket, ``None`` on TCP."""
    transport = request.transport
    if transport is None:
        raise DeniedError("the connection is gone")
    opened = transport.get_extra_info("socket")
    if opened is None or opened.family != socket.AF_UNIX:
        return None
    # Under uvloop this is a stand-in without getsockopt: ask the descriptor itself.
    with socket.socket(fileno=os.dup(opened.fileno())) as real:
        raw = real.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


def _token(header: str) -> tuple[str, bytes] | None:
    """Return user and token of a Bearer or (for git) Basic credential."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer" and value:
        # aiohttp keeps what is not UTF-8 as halves of characters; here they are bytes again.
        return "", value.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(value.strip(), validate=True).partition(b":")
        except ValueError:
            return None
        # Basic names a user, but the token alone is believed: there is one for all of TCP so far.
        del user
        return "", password
    return None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid{uid}"


Authenticate = Callable[[web.Request], Principal]
