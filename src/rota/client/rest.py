"""Speaks REST with the agents of a cluster, one at a time, and bears their deaths and restarts.

Requests that may be repeated (reads, definitions with a precondition, triggers with their key) are
tried again, here or at another agent, when the connection breaks before the whole answer is here;
any other says that it cannot know. Each request has its own connection.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Self, TypeVar

from rota.client.answer import Answer, ClosedError, RefusedError
from rota.client.connection import ANSWER_S, Body, exchange, pieces, upgraded
from rota.client.http1 import Response
from rota.client.moves import Patience, Whereabouts
from rota.client.place import Place
from rota.client.wire import ROUTES
from rota.errors import DeniedError, UnavailableError

T = TypeVar("T")

#: How long it is tried again when nobody answers: a daemon restarts in a second or two.
PATIENCE_S = 10.0
#: How long all agents may be away before a follower gives up. Counted anew after each byte.
FOLLOW_PATIENCE_S = 120.0
#: A build outlives its daemon's restart, upgrade included, and so does what it asks.
BUILD_PATIENCE_S = 120.0
#: What RFC 3986 leaves as it is anywhere.
_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


class Rest:
    """Asks whatever agent answers. Holds no connection."""

    def __init__(
        self,
        where: Whereabouts,
        *,
        patience_s: float = PATIENCE_S,
        answer_s: float = ANSWER_S,
        build: str = "",
        headers: Mapping[str, str] = {},
    ) -> None:
        self._own_headers = headers
        self.where = where
        self.patience_s = patience_s
        self.answer_s = answer_s
        self._build = build
        self._lines = _Lines()

    def close(self) -> None:
        """End what is asked and followed now, and refuse what comes; from any thread.

        Whoever waits for an answer gets a ``ClosedError`` within about a second.
        """
        self._lines.close()

    def staying(self) -> Self:
        """Return a client for the agent where this one is, which goes nowhere else."""
        return self._of(self.where.staying())

    def _of(self, where: Whereabouts) -> Self:
        """Return a client of the same caller; closing this one closes it, too."""
        other = object.__new__(
            type(self)
        )  # `copy` takes a tenth of the time of a command to import
        other.__dict__.update(self.__dict__, where=where, _lines=_Lines(self._lines))
        return other

    @property
    def renews(self) -> bool:
        """Whether a token that is turned away is renewed, and nobody is asked."""
        return self.where.renews

    @property
    def place(self) -> Place:
        """The agent that is asked next: the one that was named, until the client moved on."""
        return self.where.place

    def call(
        self,
        verb: str,
        *,
        repeat: bool | None = None,
        wait_s: float = 0.0,
        headers: Mapping[str, str] | None = None,
        **fields: object,
    ) -> Answer:
        """Return the answer to a verb, whole; verbs and their fields are those of the REST API.

        Fields that are ``None`` are left out. ``repeat`` says that asking twice does no harm (by
        default: reads, and verbs of which that is known); ``wait_s`` is how long the agent was asked to wait with its answer.

        Raises:
            RotaError: the agent's own error, or one that says that none was reached.
        """
        method, target, body = written(verb, fields)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        return self.send(
            method,
            target,
            body=body,
            headers={**sent, **(headers or {})},
            repeat=method == "GET" or ROUTES[verb].repeats if repeat is None else repeat,
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
                return Answer(response.status, response.headers.named(), b"".join(pieces(response)))

        return self.patiently(once, repeat=repeat)

    @contextmanager
    def opened(
        self, verb: str, *, headers: Mapping[str, str] | None = None, **fields: object
    ) -> Iterator[Response]:
        """Give the answer to a verb as it arrives; read it with ``connection.pieces``.

        One try: what was read cannot be taken back, so going on is the caller's. There is no limit
        to how long an answer may be silent (a script may be, too), as long as the agent is there.
        """
        method, target, body = written(verb, fields)
        with self._response(method, target, body, headers or {}, None) as response:
            yield response

    def upgraded(self, verb: str, **fields: object) -> socket.socket:
        """Return the socket of a WebSocket at a verb, at the first agent that opens one.

        Raises:
            RotaError: the agent's own error, or one that says that none was reached.
        """
        _, target, _ = written(verb, fields)

        def begun() -> socket.socket:
            return upgraded(
                self.where.place,
                target,
                headers=self._headers({}),
                heard=self.where.heard,
                connect_s=min(self.where.connect_s, self.answer_s),
            )

        def once() -> socket.socket:
            with _strangers(self.where):
                try:
                    return begun()
                except DeniedError as error:
                    if error.known or not self.where.renewed():
                        raise
                    return begun()

        return self.patiently(once, repeat=True)

    @property
    def inside(self) -> str:
        """The id of the build from inside which this asks; empty outside of any."""
        return self._build

    def patience(self) -> Patience:
        """Return what bears the trouble of one request."""
        return Patience(self.where, self.patience_s, is_sure=bool(self._build))

    def patiently(self, once: Callable[[], T], *, repeat: bool) -> T:
        """Return what ``once`` does; try again, here or elsewhere, where that may help."""
        patience = self.patience()
        while True:
            try:
                return once()
            except UnavailableError as error:
                patience.bear(error, repeat=repeat)

    @contextmanager
    def _response(
        self,
        method: str,
        target: str,
        body: Body,
        headers: Mapping[str, str],
        wait_s: float | None,
    ) -> Iterator[Response]:
        where = self.where
        self._lines.check()
        with _strangers(where), ExitStack() as stack:

            def begun() -> Response:
                return stack.enter_context(
                    exchange(
                        where.place,
                        method,
                        target,
                        body=body,
                        headers=self._headers(headers),
                        heard=where.heard,
                        limit_s=None if wait_s is None else self.answer_s + wait_s,
                        connect_s=min(where.connect_s, self.answer_s),
                        opened=self._lines.opened,
                    )
                )

            try:
                response = begun()
            except DeniedError as error:
                # Who is not known has changed nothing: it is asked again, if all of it is still here.
                if error.known or not where.renewed() or not isinstance(body, bytes | None):
                    raise
                response = begun()
            yield response

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        place, seq = self.where.place, self.where.seq
        ours = {
            "Connection": "close",
            "Accept-Encoding": "identity",
            **self._own_headers,
            **headers,
        }
        if place.token and not place.is_local:
            ours["Authorization"] = f"Bearer {place.token}"
        if seq:
            # What this client has seen happen, another agent is to know before it answers.
            ours["Rota-Seq"] = str(seq)
        if self._build:
            ours["Rota-Build"] = self._build
        return ours


class _Lines:
    """The connections of a client, and of those made of it; another thread may end them."""

    def __init__(self, above: _Lines | None = None) -> None:
        self._above = above
        self._socks: set[socket.socket] = set()
        self._is_closed = False

    def close(self) -> None:
        """Break the connections there are, and refuse others."""
        self._is_closed = True
        for sock in tuple(self._socks):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def opened(self, sock: socket.socket) -> Iterator[None]:
        """Keep a connection in mind while it is used."""
        self._socks.add(sock)
        try:
            self.check()
            with self._above.opened(sock) if self._above else nullcontext():
                yield
        finally:
            self._socks.discard(sock)

    def check(self) -> None:
        """Go on only if it is not closed.

        Raises:
            ClosedError: it is.
        """
        if self._is_closed:
            raise ClosedError("ended")
        if self._above is not None:
            self._above.check()


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
            safe = "/" if name in ("job", "path") else ""
            path = path.replace(f"{{{name}}}", _escaped(str(given.pop(name)), safe))
    # Of these two the body is the bytes themselves.
    if route.method in ("GET", "DELETE") or verb in ("put", "keep"):
        query = "&".join(f"{_escaped(it)}={_escaped(_in_query(given[it]))}" for it in given)
        return route.method, f"{path}?{query}" if query else path, None
    return route.method, path, json.dumps(given).encode()


@contextmanager
def _strangers(where: Whereabouts) -> Iterator[None]:
    """Pass by an agent elsewhere that does not know the caller: another may."""
    try:
        yield
    except DeniedError as error:
        if where.place == where.home:
            raise
        raise RefusedError(f"{where.place.url}: {error.message}", hint=error.hint) from error


def _escaped(text: str, safe: str = "") -> str:
    """Return ``text`` as it stands in a URL. ``urllib.parse`` is a twentieth of a command's time."""
    plain = _PLAIN + safe.encode()
    return "".join(chr(it) if it in plain else f"%{it:02X}" for it in text.encode())


def _in_query(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
