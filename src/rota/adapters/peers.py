"""HTTPS between agents: both sides show certificates of the cluster's CA, and are told by their pin.

The other side's key is looked at within the TLS handshake, so that nothing is sent to a wrong one.
Hosts' names are not compared: an agent is who it is wherever it is reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from rota.core.address import Address
from rota.core.certificate import certificates, read_certificate
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    NotFoundError,
    OlderError,
    RotaError,
    StaleError,
    UnavailableError,
)
from rota.ports.channel import MAX_MESSAGE
from rota.ports.credentials import Credentials
from rota.ports.peers import MAX_ANSWER_BYTES, Peer

#: One context each: 50 KB or so; more peers than these are asked rarely.
MAX_CONTEXTS = 64
MAX_ERROR_BYTES = 64 << 10
#: How long a peer may take to answer that a channel is closed.
CLOSE_S = 2.0
_JSON = {"Content-Type": "application/json"}


class _Problem(msgspec.Struct):
    """What is read of problem details."""

    code: str = ""
    detail: str = ""
    hint: str | None = None


def server_context(credentials: Credentials) -> ssl.SSLContext:
    """Return the TLS settings of a listener for peers: it asks for a certificate, and takes none.

    After a renewal, ``load_cert_chain`` on it is enough for connections from then on.

    Raises:
        UnavailableError: a file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL
    return _loaded(context, credentials)


class HttpsPeers:
    """See :class:`rota.ports.peers.Peers`. Close it, or use it as a context manager."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._contexts: dict[tuple[tuple[str, ...], int], ssl.SSLContext] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpsPeers:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Safe to call twice."""
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        peer: Peer,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] = {},
        within_s: float = 10.0,
    ) -> bytes:
        """Return the body of the peer's answer."""
        if self._session is None:
            self._session = _session()
        if not peer.url or not peer.pin:
            raise UnavailableError(f"agent {peer.name} has no address and key for other agents")
        who = f"agent {peer.name} at {peer.url}"
        with _translated(who, within_s, UnavailableError):
            async with self._session.request(
                method,
                URL(peer.url.rstrip("/") + path, encoded=True),
                data=body or None,
                headers={**(_JSON if body else {}), **headers},
                ssl=self._context(peer.pins),
                timeout=aiohttp.ClientTimeout(total=within_s),
                allow_redirects=False,
            ) as response:
                return await _answer(response, who)

    async def open(
        self, peer: Peer, path: str, *, headers: Mapping[str, str] = {}, within_s: float = 10.0
    ) -> PeerChannel:
        """Return a channel to a peer."""
        if not peer.url or not peer.pin:
            raise UnavailableError(f"agent {peer.name} has no address and key for other agents")
        who = f"agent {peer.name} at {peer.url}"
        session = _session()  # its own: a channel is held for hours, and requests have a limit
        try:
            with _translated(who, within_s, UnavailableError):
                async with asyncio.timeout(within_s):
                    socket = await session.ws_connect(
                        URL(peer.url.rstrip("/") + path, encoded=True),
                        headers=headers,
                        ssl=self._context(peer.pins),
                        max_msg_size=MAX_MESSAGE,
                        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                    )
                return PeerChannel(session, socket)
        except BaseException as error:
            await session.close()
            if not isinstance(error.__cause__, aiohttp.WSServerHandshakeError):
                raise
        # An answer that is no upgrade comes without its body: asked again it says what is wrong.
        await self.request(peer, "GET", path, headers=headers, within_s=within_s)
        raise UnavailableError(f"{who} opens no channel")

    def _context(self, pins: tuple[str, ...]) -> ssl.SSLContext:
        """Return the TLS settings towards a peer; new ones once our certificate was renewed."""
        try:
            key = (pins, self._credentials.cert.stat().st_mtime_ns)
        except OSError as error:
            raise UnavailableError(
                f"cannot read {self._credentials.cert}: {error.strerror}"
            ) from error
        context = self._contexts.pop(key, None)
        if context is None:
            context = _loaded(_client_context(), self._credentials)
            context.sslobject_class = _pinned(pins)
            while len(self._contexts) >= MAX_CONTEXTS:
                del self._contexts[next(iter(self._contexts))]
        self._contexts[key] = context
        return context


class PeerChannel:
    """See :class:`rota.ports.channel.Channel`."""

    def __init__(
        self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse
    ) -> None:
        self._session, self._socket = session, socket

    async def receive(self) -> bytes | str | None:
        """Return the next message; ``None`` once it is closed."""
        message = await self._socket.receive()
        is_data = message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT)
        return message.data if is_data else None

    async def send(self, message: bytes | str) -> None:
        """Send a message."""
        if isinstance(message, bytes):
            await self._socket.send_bytes(message)
        else:
            await self._socket.send_str(message)

    async def close(self) -> None:
        """Close it."""
        await self._socket.close()
        await self._session.close()


class HttpsStranger:
    """See :class:`rota.ports.peers.Stranger`."""

    async def ca(self, address: Address, *, within_s: float = 10.0) -> bytes:
        """Return what is said to be the CA's certificate."""
        context = _client_context()
        context.verify_mode = ssl.CERT_NONE
        return await _once(address, context, "GET", "/peer/ca", b"", within_s)

    async def post(
        self, address: Address, ca: bytes, path: str, body: bytes, *, within_s: float = 20.0
    ) -> bytes:
        """Return the answer to JSON sent to a server whose certificate is of ``ca``."""
        context = _client_context()
        found = certificates(ca)
        if not found:
            raise InputError("that CA is no certificate")
        context.load_verify_locations(cadata=found[0])
        return await _once(address, context, "POST", path, body, within_s)

    async def own_address(self, towards: Address) -> str:
        """Return the IP address that this machine has on its way to ``towards``."""
        return await asyncio.to_thread(own_address, towards)


def own_address(towards: Address | None = None) -> str:
    """Return this machine's IP address on its way to ``towards``, or to anywhere.

    Nothing is sent. ``127.0.0.1`` without a network. Blocks as long as the host's name needs to be
    looked up.
    """
    if towards is not None:
        with contextlib.suppress(OSError):
            found = socket.getaddrinfo(towards.host, towards.port, type=socket.SOCK_DGRAM)
            for family, kind, _, _, address in found:
                if own := _source(family, kind, address):
                    return own
    # Addresses that are for examples only: there is a way to them if there is a default route.
    return (
        _source(socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 9))
        or _source(socket.AF_INET6, socket.SOCK_DGRAM, ("2001:db8::1", 9))
        or "127.0.0.1"
    )


def _source(family: int, kind: int, address: tuple[Any, ...]) -> str:
    """Return the address from which the system would send; empty if it would not."""
    try:
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return ""


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    return context


def _loaded(context: ssl.SSLContext, credentials: Credentials) -> ssl.SSLContext:
    try:
        context.load_verify_locations(credentials.ca)
        context.load_cert_chain(credentials.cert, credentials.key)
    except OSError as error:
        folder = credentials.cert.parent
        raise UnavailableError(f"cannot use the certificates in {folder}: {error}") from error
    return context


def _pinned(pins: tuple[str, ...]) -> type[ssl.SSLObject]:
    """Return a kind of TLS connection whose handshake fails unless the server has such a key."""

    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            if _pin(self.getpeercert(binary_form=True)) not in pins:
                raise _OtherKeyError

    return Pinned


def _pin(shown: bytes | None) -> str:
    try:
        return read_certificate(shown or b"").pin
    except InputError:
        return ""


class _OtherKeyError(ssl.SSLCertVerificationError):
    """The server is of the cluster, and not the agent that we mean."""


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit_per_host=8, keepalive_timeout=30.0)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def _once(
    address: Address, context: ssl.SSLContext, method: str, path: str, body: bytes, within_s: float
) -> bytes:
    who = f"the agent at {address}"
    with _translated(who, within_s, DeniedError):
        async with (
            _session() as session,
            session.request(
                method,
                f"https://{address}{path}",
                data=body or None,
                headers=_JSON if body else {},
                ssl=context,
                timeout=aiohttp.ClientTimeout(total=within_s),
                allow_redirects=False,
            ) as response,
        ):
            return await _answer(response, who)


async def _answer(response: aiohttp.ClientResponse, who: str) -> bytes:
    limit = MAX_ANSWER_BYTES if response.status < 300 else MAX_ERROR_BYTES
    pieces = bytearray()
    async for piece in response.content.iter_any():
        pieces += piece
        if len(pieces) > limit:
            raise UnavailableError(f"{who} answers with more than {limit} bytes")
    if response.status >= 300:
        raise _error(response.status, bytes(pieces), who)
    return bytes(pieces)


#: What a route is answered with that an agent does not have.
_UNKNOWN = frozenset({"http.404", "http.405"})


def _error(status: int, body: bytes, who: str) -> RotaError:
    """Return what a peer answered as the error that it was there."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.MsgspecError, UnicodeError):
        problem = _Problem()
    if not problem.detail:
        return UnavailableError(f"{who} answers with status {status}, and is no agent of ours")
    for kind in (StaleError, ConflictError, NotFoundError, InputError):
        if problem.code == kind.code:
            return kind(problem.detail, hint=problem.hint)
    if problem.code == DeniedError.code:
        return DeniedError(problem.detail, known=status == 403, hint=problem.hint)
    if problem.code in _UNKNOWN:
        return OlderError(
            f"{who} runs an older rota: {problem.detail}",
            hint="install the new one there and restart it: docs/upgrade.md",
        )
    return UnavailableError(f"{who}: {problem.detail}", hint=problem.hint)


@contextlib.contextmanager
def _translated(who: str, within_s: float, refused: type[RotaError]) -> Iterator[None]:
    """Turn what can go wrong with a connection into our errors; ``refused`` for a wrong key."""
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        why, hint = _refusal(error.certificate_error)
        raise refused(f"{who} {why}; nothing was sent to it", hint=hint) from error
    except aiohttp.ClientConnectorError as error:
        raise UnavailableError(f"cannot reach {who}: {_system_error(error.os_error)}") from error
    except TimeoutError as error:
        raise UnavailableError(f"{who} does not answer within {within_s:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        why = str(error) or type(error).__name__
        raise UnavailableError(f"the connection to {who} broke: {why}") from error


def _system_error(error: OSError) -> str:
    """Return the system's own words: asyncio's have the address once more."""
    is_own = isinstance(error, (ssl.SSLError, socket.gaierror)) or not error.errno
    return error.strerror or str(error) if is_own else os.strerror(error.errno or 0)


def _refusal(error: Exception) -> tuple[str, str]:
    """Return what is wrong with a server's certificate, and what to do about it."""
    if isinstance(error, _OtherKeyError):
        return (
            "has another key than that agent",
            "another agent may have its address by now; see: rota agents",
        )
    why = getattr(error, "verify_message", "") or str(error)
    return (
        f"shows a certificate that does not hold: {why}",
        "either it is of another cluster, or one of the two clocks is wrong",
    )
