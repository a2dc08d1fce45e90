"""Speaks REST with one agent, and bears its restarts.

Requests that may be repeated (reads, definitions with a precondition, triggers with their key) are
tried again for a while when the connection breaks before the whole answer is here; any other says
that it cannot know. Each request has its own connection: nothing is shared, nothing goes stale.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from rota.cli.place import CONNECT_S, Place, connect_unix, unreachable
from rota.cli.wire import ROUTES
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    InvariantError,
    NotFoundError,
    RotaError,
    UnavailableError,
)

T = TypeVar("T")
Body = bytes | Callable[[], Any] | None
"""Bytes, or what opens a readable file anew for each try."""

#: How long an answer may take beyond the wait that was asked for.
ANSWER_S = 30.0
#: How long a broken connection is tried again: a daemon restarts in a second or two.
PATIENCE_S = 10.0
#: A build outlives its daemon's restart, upgrade included, and so does what it asks.
BUILD_PATIENCE_S = 120.0
PIECE = 64 * 1024


class BrokenError(UnavailableError):
    """The connection was there and broke before the whole answer was."""


class RefusedError(UnavailableError):
    """There was no connection: nothing was asked."""


class BusyError(UnavailableError):
    """The agent cannot now, and says that it soon can (``Retry-After``)."""


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return what the body says.

        Raises:
            InvariantError: it is no JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise InvariantError("the agent's answer is no JSON; is this the right URL?") from error


class Client:
    """Asks one agent. Holds no connection and no other state."""

    def __init__(self, place: Place, *, patience_s: float = PATIENCE_S, build: str = "") -> None:
        self.place = place
        self.patience_s = patience_s
        self._build = build

    def call(
        self,
        verb: str,
        *,
        repeat: bool | None = None,
        wait_s: float = 0.0,
        headers: Mapping[str, str] | None = None,
        **fields: object,
    ) -> Answer:
        """Return the answer to a verb, whole.

        Fields that are ``None`` are left out. ``repeat`` says that asking twice does no harm (by
        default: reads); ``wait_s`` is how long the agent was asked to wait with its answer.

        Raises:
            RotaError: the agent's own error, or one that says that it was not reached.
        """
        method, target, body = written(verb, fields)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        return self.send(
            method,
            target,
            body=body,
            headers={**sent, **(headers or {})},
            repeat=method == "GET" if repeat is None else repeat,
            wait_s=wait_s,
        )

    def send(
        self,
        method: str,
        target: str,
        *,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        repeat: bool = False,
        wait_s: float = 0.0,
    ) -> Answer:
        """Return the whole answer to one request; see :meth:`call`."""

        def once() -> Answer:
            with self._response(method, target, body, headers or {}, wait_s) as response:
                return Answer(response.status, dict(response.headers), b"".join(pieces(response)))

        return self.patiently(once, repeat=repeat)

    @contextmanager
    def opened(
        self, verb: str, *, headers: Mapping[str, str] | None = None, **fields: object
    ) -> Iterator[http.client.HTTPResponse]:
        """Give the answer to a verb as it arrives; read it with :func:`pieces`.

        One try: what was read cannot be taken back, so going on is the caller's. There is no limit
        to how long an answer may be silent (a script may be, too); a host that is gone is noticed
        by TCP keep-alive within a minute or so.
        """
        method, target, body = written(verb, fields)
        with self._response(method, target, body, headers or {}, None) as response:
            yield response

    def patiently(self, once: Callable[[], T], *, repeat: bool) -> T:
        """Return what ``once`` does; try again within ``patience_s`` where that may help."""
        began = time.monotonic()
        delay, connected = 0.05, False
        while True:
            try:
                return once()
            except UnavailableError as error:
                # Nobody there at all is an answer, unless somebody was a moment ago.
                known = connected or bool(self._build)
                if not (known if isinstance(error, RefusedError) else repeat):
                    raise
                if not (connected or isinstance(error, (RefusedError, BrokenError, BusyError))):
                    raise
                connected = connected or not isinstance(error, RefusedError)
                left = began + self.patience_s - time.monotonic()
                if left <= 0:
                    raise
            time.sleep(min(delay, left))
            delay = min(delay * 2, 1.0)

    @contextmanager
    def _response(
        self,
        method: str,
        target: str,
        body: Body,
        headers: Mapping[str, str],
        wait_s: float | None,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connected()
        try:
            with translated(self.place):
                if connection.sock is not None:
                    connection.sock.settimeout(None if wait_s is None else ANSWER_S + wait_s)
                _ask(connection, method, self.place.prefix + target, body, self._headers(headers))
                response = connection.getresponse()
            with response:
                if response.status >= 400:
                    raise _error(self.place, response)
                yield response
        finally:
            connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        connection = connection_to(self.place)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            refused = unreachable(self.place, error)
            raise RefusedError(refused.message, hint=refused.hint) from error
        if connection.sock.family != socket.AF_UNIX:
            _keep_alive(connection.sock)
        return connection

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        ours = {"Connection": "close", "Accept-Encoding": "identity", **headers}
        if self.place.token:
            ours["Authorization"] = f"Bearer {self.place.token}"
        if self._build:
            ours["Rota-Build"] = self._build
        return ours


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = connect_unix(self._path, CONNECT_S)


def client_from(place: Place, env: Mapping[str, str] = os.environ) -> Client:
    """Return a client as the environment wants it: patient and attributed inside a build."""
    build = env.get("ROTA_BUILD", "")
    patience_s = BUILD_PATIENCE_S if build else PATIENCE_S
    return Client(place, patience_s=patience_s, build=build)


def connection_to(place: Place) -> http.client.HTTPConnection:
    """Return a connection, not connected yet."""
    if place.is_local:
        return UnixConnection(place.path)
    if place.tls:
        return http.client.HTTPSConnection(place.host, place.port, timeout=CONNECT_S)
    return http.client.HTTPConnection(place.host, place.port, timeout=CONNECT_S)


def written(verb: str, fields: Mapping[str, object]) -> tuple[str, str, bytes | None]:
    """Return a verb's method, target and body with its fields in their places.

    Raises:
        KeyError: the verb has no such field: a fault of ours.
    """
    route = ROUTES[verb]
    given = {name: value for name, value in fields.items() if value is not None}
    path = route.path
    for name in list(given):
        route.fields[name]
        if f"{{{name}}}" in path:
            # A job's name and an artifact's path are several segments, a build is one.
            safe = "" if name == "build" else "/"
            path = path.replace(f"{{{name}}}", quote(str(given.pop(name)), safe=safe))
    if route.method in ("GET", "DELETE", "PUT"):
        query = urlencode([(name, _in_query(value)) for name, value in given.items()])
        return route.method, f"{path}?{query}" if query else path, None
    return route.method, path, json.dumps(given).encode()


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


def _in_query(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _error(place: Place, response: http.client.HTTPResponse) -> RotaError:
    """Return the error that an answer carries as problem details (RFC 9457)."""
    raw = b"".join(pieces(response))
    try:
        details = json.loads(raw)
    except ValueError:
        details = {}
    if not isinstance(details, dict):
        details = {}
    status = response.status
    text = str(details.get("detail") or details.get("title") or "")
    message = text or f"{place.url} answered {status} {response.reason}"
    hint = str(details["hint"]) if details.get("hint") else None
    problems = details.get("problems") or ()
    if status in (401, 403):
        if hint is None and status == 401:
            hint = "say who you are: rota login URL, or $ROTA_TOKEN"
        return DeniedError(message, known=status == 403, hint=hint)
    if status == 404:
        return NotFoundError(message, hint=hint)
    if status in (409, 412, 428):
        return ConflictError(message, hint=hint)
    if status in (429, 502, 503, 504):
        kind = BusyError if response.headers.get("Retry-After") else UnavailableError
        return kind(message, hint=hint)
    if status >= 500:
        return InvariantError(message, hint=hint)
    return InputError(message, problems=[_problem(it) for it in problems], hint=hint)


def _problem(problem: object) -> str:
    """Return a problem as ``path:line:column: message (hint)``, as far as it has these."""
    if not isinstance(problem, dict):
        return str(problem)
    place = str(problem.get("path") or "")
    if place and problem.get("line"):
        place += f":{problem['line']}"
        if problem.get("column"):
            place += f":{problem['column']}"
    message = str(problem.get("message") or problem.get("detail") or "")
    tail = f" ({problem['hint']})" if problem.get("hint") else ""
    return f"{place}: {message}{tail}" if place else message + tail
