"""Who is asking: the kernel says it on the Unix socket, a certificate or a token on TCP."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import os
import re
import socket
import struct
from collections.abc import Callable, Container, Iterable
from typing import Protocol
from urllib.parse import unquote

from aiohttp import web
from msgspec.structs import replace

from rota.core.certificate import read_certificate
from rota.core.ids import is_build_id
from rota.core.rights import Rights, Role
from rota.core.tokens import PREFIX as TOKEN_PREFIX
from rota.errors import DeniedError, InputError, UnavailableError
from rota.service.account import name_of
from rota.service.context import Principal

_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
#: For whom a peer or a speaker asks, as ``NAME;ROLE``, the name percent-encoded.
PRINCIPAL = "Rota-Principal"
#: With that, the id of the token that they showed, if any.
SHOWN = "Rota-Token"
#: With that, the chat command that is carried out.
VIA = "Rota-Via"
MAX_VIA = 600
#: With that, from where they asked.
ADDRESS = "Rota-Address"
#: An address of version 4, as a socket of version 6 has it.
_MAPPED = "::ffff:"
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9._-]{1,15})?")
_LOOPBACK = ("127.", "::1", "::ffff:127.")


def _nobody(pin: str) -> str | None:
    return None


def _no_builds() -> frozenset[int]:
    return frozenset()


def _never() -> bool:
    return False


def _no_speaker(token: bytes) -> bool:
    return False


class Known(Protocol):
    """Takes the tokens of users, and knows what users may."""

    def principal(self, text: str, build: str = "") -> Principal:
        """Return who shows a token.

        Raises:
            DeniedError: nobody.
        """
        ...

    def rights(self, name: str, role: Role, token: str = "") -> Rights:
        """Return what somebody may for whom another asks, by a role and the token that they showed.

        Raises:
            DeniedError: that token does not hold.
            UnavailableError: it is not known here yet.
        """
        ...


class Nobody:
    """Knows no users."""

    def principal(self, text: str, build: str = "") -> Principal:
        """Know nobody.

        Raises:
            DeniedError: always.
        """
        raise DeniedError("the token is not known here", hint="rota login URL asks for it")

    def rights(self, name: str, role: Role, token: str = "") -> Rights:
        """Return that role."""
        return Rights(role)


class Access:
    """Says who a request is by.

    Args:
        token: What TCP callers show to this agent.
        tokens: The SHA-256, in hex, of what they show to any agent: as good as ours.
        member_of: The name of the member whose key has this pin, or ``None``.
        uids: The users of this machine as whom builds run here now, besides our own. They may ask for
            what a build may: less than who could change what builds may.
        users: Knows the tokens of users, and what users may.
        is_behind: Whether what this agent knows of members is old: then it turns nobody away for good.
        speaks: Whether a token is that of a process of this agent that speaks for users: the
            one on the chat networks, while it lives.
    """

    def __init__(
        self,
        token: str,
        *,
        tokens: Callable[[], Iterable[str]] = tuple,
        member_of: Callable[[str], str | None] = _nobody,
        uids: Callable[[], Container[int]] = _no_builds,
        users: Known | None = None,
        speaks: Callable[[bytes], bool] = _no_speaker,
        is_behind: Callable[[], bool] = _never,
    ) -> None:
        self._token = hashlib.sha256(token.encode()).hexdigest()
        self._tokens, self._member_of, self._uids = tokens, member_of, uids
        self._is_behind = is_behind
        self._speaks, self._users = speaks, users or Nobody()

    def principal(self, request: web.Request) -> Principal:
        """Return who is asking, and from where.

        Raises:
            DeniedError: as of :meth:`_principal`.
            InputError: likewise.
        """
        who = self._principal(request)
        if PRINCIPAL not in request.headers:
            address = address_of(request)
        else:
            said = request.headers.get(ADDRESS, "") if who.peer else ""
            address = said if _ADDRESS.fullmatch(said) else ""
        return replace(who, address=address) if address else who

    def _principal(self, request: web.Request) -> Principal:
        """Return who is asking.

        Raises:
            DeniedError: nobody that is known here.
            InputError: a peer speaks for somebody, and does not say it as it should.
        """
        given = request.headers.get("Rota-Build", "")
        build = given if is_build_id(given) else ""
        shown = certificate(request)
        if shown is not None:
            return self._peer(shown, request, build)
        if PRINCIPAL in request.headers:
            # Never less is asked of it than this: who spoke for a user yesterday is no admin today.
            return self._spoken_for(request)
        uid = _caller(request)
        if uid is not None and uid not in (os.geteuid(), 0) and uid in self._uids():
            return Principal(name=name_of(uid), role=Role.BUILDER, build=build, builds=True)
        if uid is None:
            return self._by_token(request, build)
        return Principal(name=self._local(uid), role=Role.ADMIN, build=build)

    def _peer(self, shown: bytes, request: web.Request, build: str) -> Principal:
        """Return the peer with that certificate, or the person it speaks for."""
        agent = self._member_of(_pin(shown))
        if agent is None and self._is_behind():
            # Whoever joined since then would take it for the cluster's word, and go.
            raise UnavailableError(
                "it waits for a quorum of the voters, and cannot tell who is a member by now",
                hint="start the other agents",
            )
        if agent is None:
            raise DeniedError(
                "this machine is no member any more",
                known=True,
                hint="it left or was removed; to join again: rota agent --join TOKEN",
            )
        if PRINCIPAL not in request.headers:
            return Principal(name=agent, role=Role.ADMIN, build=build, peer=agent)
        name, role = _named(request.headers[PRINCIPAL])
        token = request.headers.get(SHOWN, "")
        rights = self._users.rights(name, role, token)
        return Principal(
            name=name, role=rights.everywhere, build=build, peer=agent, token=token, rights=rights
        )

    def _spoken_for(self, request: web.Request) -> Principal:
        """Return the user for whom a process of this agent speaks, at this machine alone."""
        given = _token(request.headers.get("Authorization", ""))
        if given is None or not self._speaks(given) or not _is_here(request):
            raise DeniedError(
                f"the header {PRINCIPAL} speaks for another, which its sender may not",
                hint="leave it out; or, on a chat network: the process that spoke is gone, try again",
            )
        name, role = _named(request.headers[PRINCIPAL])
        via = unquote(request.headers.get(VIA, ""))[:MAX_VIA]
        rights = self._users.rights(name, role)
        return Principal(name=name, role=rights.everywhere, via=via, speaks=True, rights=rights)

    def _local(self, uid: int) -> str:
        if uid not in (os.geteuid(), 0):
            raise DeniedError(
                f"{name_of(uid)} is not the user that this agent runs as",
                known=True,
                hint=f"become that user: sudo -u {name_of(os.geteuid())} rota …",
            )
        return name_of(uid)

    def _by_token(self, request: web.Request, build: str) -> Principal:
        token = _token(request.headers.get("Authorization", ""))
        if token is None:
            raise DeniedError(
                "no credential",
                hint="send `Authorization: Bearer TOKEN`; rota token create --for NAME makes one",
            )
        if token.startswith(TOKEN_PREFIX.encode()):
            return self._users.principal(token.decode("utf-8", "surrogateescape"), build)
        if not self._is_known(hashlib.sha256(token).hexdigest()):
            raise DeniedError("the token is not known here", hint="rota login URL asks for it")
        return Principal(name="admin", role=Role.ADMIN, build=build)

    def _is_known(self, digest: str) -> bool:
        # All are compared, wherever one fits: the time that it takes says nothing.
        fits = [hmac.compare_digest(digest, known) for known in (self._token, *self._tokens())]
        return any(fits)


def _named(header: str) -> tuple[str, Role]:
    name, _, role = header.partition(";")
    if not name or role not in Role.__members__:
        raise InputError(f"bad header {PRINCIPAL}: {header!r}", hint="NAME;ROLE")
    return unquote(name), Role[role]


def address_of(request: web.Request) -> str:
    """Return the IP address that a request came from; empty on a Unix socket."""
    remote = request.remote or ""
    remote = remote.removeprefix(_MAPPED)
    return remote if _ADDRESS.fullmatch(remote) else ""


def _is_here(request: web.Request) -> bool:
    """Whether the caller is on this machine."""
    return _caller(request) is not None or (request.remote or "").startswith(_LOOPBACK)


def certificate(request: web.Request) -> bytes | None:
    """Return the certificate (DER) that the caller showed, if any; TLS has verified it."""
    transport = request.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    shown: bytes | None = tls.getpeercert(binary_form=True) if tls is not None else None
    return shown


@functools.lru_cache(maxsize=256)
def _pin(shown: bytes) -> str:
    return read_certificate(shown).pin


def _caller(request: web.Request) -> int | None:
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


def _token(header: str) -> bytes | None:
    """Return the token of a Bearer or (for git) Basic credential; whose it is, it says itself."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer" and value:
        # aiohttp keeps what is not UTF-8 as halves of characters; here they are bytes again.
        return value.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except ValueError:
            return None
    return None


Authenticate = Callable[[web.Request], Principal]
