"""One request on one connection: TCP, TLS or a Unix socket. Nothing is shared, nothing goes stale.

An agent that hangs keeps its connections; so where one says nothing for :data:`SILENCE_S`, it is
asked on another whether it is there. A script may be silent for hours: then the agent says so.
"""

from __future__ import annotations

import functools
import http.client
import io
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

from rota.client.answer import BrokenError, Headers, RefusedError, error_of
from rota.client.place import Place
from rota.errors import UnavailableError

Body = bytes | Callable[[], Any] | None
"""Bytes, or what opens a readable file anew for each try."""

#: sizeof(sun_path) is 108 on Linux, and a zero byte ends it.
MAX_SOCKET_PATH = 107
CONNECT_S = 10.0
#: How long an answer may take beyond the wait that was asked for.
ANSWER_S = 30.0
#: After so long without a byte the agent is asked whether it is there, and has so long to say yes.
SILENCE_S, PROBE_S = 3.0, 3.0
#: So much of a file is read and sent at once.
BLOCK = 1 << 17
PIECE = 64 * 1024


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout, blocksize=BLOCK)
        self._path = path
        self._timeout = timeout

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = connect_unix(self._path, self._timeout)


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
) -> Iterator[http.client.HTTPResponse]:
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
                response = _begun(place, connection.sock, method, limit_s)
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
        if response.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            with translated(place):
                raw = response.read()
            raise error_of(place.url, response.status, response.reason, response.headers, raw)
        handshake.check(response.headers.get("Sec-WebSocket-Accept"))
        response.close()
        sock, connection.sock = connection.sock, None
        assert sock is not None
        return sock
    finally:
        connection.close()


def connected(place: Place, timeout_s: float = CONNECT_S) -> http.client.HTTPConnection:
    """Return a connection to an agent, open.

    Raises:
        RefusedError: nobody is there, or somebody else is.
    """
    connection = connection_to(place, timeout_s)
    try:
        connection.connect()
    except (OSError, UnicodeError) as error:
        connection.close()
        refused = unreachable(place, error)
        raise RefusedError(refused.message, hint=refused.hint) from error
    return connection


def connection_to(place: Place, timeout_s: float = CONNECT_S) -> http.client.HTTPConnection:
    """Return a connection, not connected yet."""
    if place.is_local:
        return UnixConnection(place.path, timeout_s)
    if place.tls:
        context = tls_context(place.ca if place.is_pinned else "")
        return http.client.HTTPSConnection(
            place.host, place.port, timeout=timeout_s, context=context, blocksize=BLOCK
        )
    return http.client.HTTPConnection(place.host, place.port, timeout=timeout_s, blocksize=BLOCK)


@functools.lru_cache(maxsize=4)
def tls_context(ca: str) -> ssl.SSLContext:
    """Return what verifies an agent: by this CA and no other; without one by the system's."""
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
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"its certificate is not to be trusted: {error.verify_message}"
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
    except (OSError, http.client.HTTPException):
        return False
    else:
        return True
    finally:
        connection.close()


def pieces(response: http.client.HTTPResponse, size: int = PIECE) -> Iterator[bytes]:
    """Yield the body as it arrives.

    Raises:
        BrokenError: it ended before its end.
    """
    while True:
        with translated():
            piece = response.read1(size)
            if not piece and response.length:
                raise http.client.IncompleteRead(b"", response.length)
        if not piece:
            return
        yield piece


def lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
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
    except (OSError, http.client.HTTPException) as error:
        where = f" to {place.url}" if place else ""
        raise BrokenError(
            f"the connection{where} broke before the answer was here",
            hint="if the agent was restarted, see what it did: rota builds, rota jobs",
        ) from error


class _Watched(io.RawIOBase):
    """A socket's bytes; each silence is looked into. ``is_over`` once there are no more."""

    def __init__(self, sock: socket.socket, on_silence: Callable[[], None]) -> None:
        self._sock = sock
        self._on_silence = on_silence
        self.is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                count = self._sock.recv_into(buffer)
            except TimeoutError:
                self._on_silence()
            else:
                self.is_over = not count
                return count

    def makefile(self, _: str) -> io.BufferedReader:
        """Return what reads this, as http.client asks a socket for it."""
        return io.BufferedReader(self)


def _begun(
    place: Place, sock: socket.socket, method: str, limit_s: float | None
) -> http.client.HTTPResponse:
    """Return the answer, its head read."""
    until = None if limit_s is None else time.monotonic() + limit_s
    sock.settimeout(SILENCE_S if limit_s is None else min(SILENCE_S, limit_s))

    def on_silence() -> None:
        is_over = until is not None and time.monotonic() >= until
        if is_over or not is_there(place):
            raise TimeoutError("silent")

    source = _Watched(sock, on_silence)
    response = http.client.HTTPResponse(cast("socket.socket", source), method=method)
    response.begin()
    # To http.client half a head is a head, and without a length any end is the end.
    if source.is_over or (response.length is None and not response.chunked):
        raise http.client.IncompleteRead(b"")
    return response


def _ask(
    connection: http.client.HTTPConnection,
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
