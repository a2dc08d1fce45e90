"""One request on one connection: TCP, TLS or a Unix socket. Nothing is shared, nothing goes stale.

An agent that hangs keeps its connections; so where one says nothing for :data:`SILENCE_S`, it is
asked on another whether it is there. A script may be silent for hours: then the agent says so.
"""

from __future__ import annotations

import functools
import io
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from rota.client.answer import BrokenError, Headers, RefusedError, error_of
from rota.client.http1 import BLOCK, Connection, ProtocolError, Response, over_tcp
from rota.client.place import Place
from rota.errors import UnavailableError

if TYPE_CHECKING:
    import ssl

Body = bytes | Callable[[], Any] | None
"""Bytes, or what opens a readable file anew for each try."""

#: sizeof(sun_path) is 108 on Linux, and a zero byte ends it.
MAX_SOCKET_PATH = 107
CONNECT_S = 10.0
#: How long an answer may take beyond the wait that was asked for.
ANSWER_S = 30.0
#: After so long without a byte the agent is asked whether it is there, and has so long to say yes.
SILENCE_S, PROBE_S = 3.0, 3.0
PIECE = 64 * 1024
SWITCHING = 101


@contextmanager
def exchange(
    place: Place,
    method: str,
    target: str,
    *,
    body: Body = None,
    headers: Mapping[str, str],
    heard: Callable[[int, Headers], None],
    limit_s: float | None = None,
    connect_s: float = CONNECT_S,
    opened: Callable[[socket.socket], AbstractContextManager[None]] | None = None,
) -> Iterator[Response]:
    """Give the answer to one request as it arrives; read it with :func:`pieces`.

    ``limit_s`` is how long the whole answer may take; ``None`` is for ever, as long as the agent
    is there. ``heard`` is told each answer's status and headers, an error's too. The
    connection is used within ``opened``.

    Raises:
        RotaError: the agent's own error; or that it was not reached, or the connection broke.
    """
    connection = connected(place, connect_s)
    try:
        with opened(connection.sock) if opened else nullcontext():
            with translated(place):
                connection.sock.settimeout(ANSWER_S)
                _ask(connection, method, place.prefix + target, body, dict(headers))
                response = _begun(place, connection, limit_s)
            with response:
                heard(response.status, response.headers)
                if response.status >= 400:
                    raw = b"".join(pieces(response))
                    raise error_of(
                        place.url, response.status, response.reason, response.headers, raw
                    )
                yield response
    finally:
        connection.close()


def upgraded(
    place: Place,
    target: str,
    *,
    headers: Mapping[str, str],
    heard: Callable[[int, Headers], None],
    connect_s: float = CONNECT_S,
) -> socket.socket:
    """Return the socket of a connection that became a WebSocket; nothing has passed on it yet.

    Raises:
        RotaError: the agent's own error; or that it was not reached, or the connection broke.
    """
    from rota.client.websocket import Handshake  # few commands want it, and it is not light

    handshake = Handshake()
    connection = connected(place, connect_s)
    try:
        with translated(place):
            connection.sock.settimeout(ANSWER_S)
            connection.request(
                "GET", place.prefix + target, headers={**headers, **handshake.headers}
            )
            response = connection.getresponse()
        heard(response.status, response.headers)
        if response.status != SWITCHING:
            with translated(place):
                raw = response.read()
            raise error_of(  # noqa: TRY301 - the connection is closed for this, too
                place.url, response.status, response.reason, response.headers, raw
            )
        handshake.check(response.headers.get("Sec-WebSocket-Accept"))
        response.close()
    except BaseException:
        connection.close()
        raise
    return connection.sock


def connected(place: Place, timeout_s: float = CONNECT_S) -> Connection:
    """Return a connection to an agent, open.

    Raises:
        RefusedError: nobody is there, or somebody else is.
    """
    try:
        if place.is_local:
            return Connection(connect_unix(place.path, timeout_s), "localhost")
        context = tls_context(place.ca if place.is_pinned else "") if place.tls else None
        return over_tcp(place.host, place.port, timeout_s, context)
    except (OSError, UnicodeError) as error:
        refused = unreachable(place, error)
        raise RefusedError(refused.message, hint=refused.hint) from error


@functools.lru_cache(maxsize=4)
def tls_context(ca: str) -> ssl.SSLContext:
    """Return what verifies an agent: by this CA and no other; without one by the system's."""
    import ssl  # only with a place beyond this machine

    return ssl.create_default_context(cadata=ca or None)


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


def unreachable(place: Place, error: OSError | UnicodeError) -> UnavailableError:
    """Return the error that says where an agent was looked for, and how to have one."""
    reason = getattr(error, "strerror", None) or str(error)
    hint = "start one: rota agent --daemon" if place.is_local else "is the agent up, the URL right?"
    if isinstance(error, PermissionError):
        hint = "the socket belongs to somebody else; use the URL and a token: rota login URL"
    untrusted = getattr(error, "verify_message", None)  # ssl.SSLCertVerificationError has one
    if untrusted is not None:
        reason = f"its certificate is not to be trusted: {untrusted}"
        hint = "give the cluster's CA: rota login URL --ca FILE, or $ROTA_CA"
    return UnavailableError(f"no agent at {place}: {reason}", hint=hint)


def is_there(place: Place) -> bool:
    """Whether an agent answers at all, within a few seconds. It is shown no token."""
    try:
        connection = connected(place, PROBE_S)
    except RefusedError:
        return False
    try:
        connection.sock.settimeout(PROBE_S)
        connection.request("GET", f"{place.prefix}/health", headers={"Connection": "close"})
        connection.getresponse().close()
    except (OSError, ProtocolError):
        return False
    else:
        return True
    finally:
        connection.close()


def pieces(response: Response, size: int = PIECE) -> Iterator[bytes]:
    """Yield the body as it arrives.

    Raises:
        BrokenError: it ended before its end.
    """
    while True:
        with translated():
            piece = response.read1(size)
            if not piece and response.length:
                raise ProtocolError("it ended before its end")
        if not piece:
            return
        yield piece


def lines(response: Response) -> Iterator[bytes]:
    """Yield the body's lines without their ends; see :func:`pieces`."""
    rest = b""
    for piece in pieces(response):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest


@contextmanager
def translated(place: Place | None = None) -> Iterator[None]:
    """Turn what goes wrong on a connection into :class:`BrokenError`."""
    try:
        yield
    except TimeoutError as error:
        where = f" from {place.url}" if place else ""
        raise BrokenError(
            f"no answer{where} in time", hint="the agent may be busy or stuck: rota status"
        ) from error
    except (OSError, ProtocolError) as error:
        where = f" to {place.url}" if place else ""
        raise BrokenError(
            f"the connection{where} broke before the answer was here",
            hint="if the agent was restarted, see what it did: rota builds, rota jobs",
        ) from error


class _Watched(io.RawIOBase):
    """A socket's bytes; each silence is looked into."""

    def __init__(self, sock: socket.socket, on_silence: Callable[[], None]) -> None:
        self._sock = sock
        self._on_silence = on_silence

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                self._on_silence()


def _begun(place: Place, connection: Connection, limit_s: float | None) -> Response:
    """Return the answer, its head read."""
    sock = connection.sock
    until = None if limit_s is None else time.monotonic() + limit_s
    sock.settimeout(SILENCE_S if limit_s is None else min(SILENCE_S, limit_s))

    def on_silence() -> None:
        is_over = until is not None and time.monotonic() >= until
        if is_over or not is_there(place):
            raise TimeoutError("silent")

    source = _Watched(sock, on_silence)
    response = connection.getresponse(io.BufferedReader(source, BLOCK))
    if response.length is None and not response.chunked:
        raise ProtocolError("any end would be its end")
    return response


def _ask(
    connection: Connection,
    method: str,
    target: str,
    body: Body,
    headers: dict[str, str],
) -> None:
    with body() if callable(body) else nullcontext(body) as source:
        try:
            connection.request(method, target, body=source, headers=headers)
        except (BrokenPipeError, ConnectionResetError):
            # Refused half-way, such as for its size: the answer is there already and says why.
            if source is None:
                raise
