"""The engine's client: one connection, kept for ever, with requests and feeds over it.

Lean on purpose: a build costs a handful of round trips, and each is one write and one read callback
here. A request that the connection lost, or that nobody answered, raises
:class:`~rota.errors.UnavailableError`; whether to try again is the caller's to know. A feed says
with ``None`` that something may be missing, and the caller looks.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from typing import TYPE_CHECKING, Self

import msgspec

from rota.adapters.nats.beside import beside
from rota.adapters.nats.wire import Message, Wire
from rota.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

log = logging.getLogger(__name__)

CONNECT_S = 2.0
RECONNECT_S = 0.1
_REPLIES = b"1"


class Address(msgspec.Struct, frozen=True):
    """Where an engine's server listens."""

    host: str
    port: int


class Login(msgspec.Struct, frozen=True):
    """Who we are to the engine."""

    user: str
    password: str


class _Call:
    """A request that waits for its answer, or for all of several."""

    __slots__ = ("future", "is_last", "parts")

    def __init__(
        self,
        future: asyncio.Future[list[Message]],
        is_last: Callable[[Message], bool] | None,
    ) -> None:
        self.future = future
        self.is_last = is_last
        self.parts: list[Message] = []

    def take(self, message: Message) -> None:
        self.parts.append(message)
        if (self.is_last is None or self.is_last(message)) and not self.future.done():
            self.future.set_result(self.parts)


class Feed:
    """Messages of a subject as they are published, for one reader.

    Bounded: a reader that lags more than ``limit_bytes`` behind loses what waits and is told so
    with ``None``, as it is after a reconnect.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._queue: deque[Message | None] = deque()
        self._limit = limit_bytes
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None

    def push(self, message: Message | None) -> None:
        """Add a message; ``None`` for "something may be missing here"."""
        self._size += 0 if message is None else len(message.data) + 100
        if self._size > self._limit:
            self._queue.clear()
            self._size = 0
            message = None
        self._queue.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self, patience_s: float) -> Message | None:
        """Return the next message, or ``None`` if the reader should look for what it missed.

        ``None`` comes also after ``patience_s`` of silence.
        """
        if not self._queue and not await self._wait(patience_s):
            return None
        message = self._queue.popleft()
        self._size -= 0 if message is None else len(message.data) + 100
        return message

    async def _wait(self, patience_s: float) -> bool:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(patience_s, _release, self._waiter)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
        return bool(self._queue)


class Client:
    """Use as an async context manager: it connects and reconnects in the background until the end.

    ``servers`` is asked anew for every attempt, so that a server that had to change its port is
    found again. Passwords are never taken from an address.
    """

    def __init__(
        self,
        servers: Callable[[], Sequence[Address]],
        login: Login,
        *,
        name: str = "rota",
        trouble: Callable[[], str | None] = lambda: None,
        complain: Callable[[], None] = lambda: None,
    ) -> None:
        self._servers = servers
        self._login = login
        self._name = name
        self._trouble = trouble
        self.complain = complain
        self._inbox = b"_INBOX.%b." % secrets.token_hex(8).encode()
        self._calls: dict[bytes, _Call] = {}
        self._handlers: dict[bytes, Callable[[Message], None]] = {_REPLIES: self._answer}
        self._subjects: dict[bytes, bytes] = {_REPLIES: self._inbox + b"*"}
        self._feeds: dict[Feed, bytes] = {}
        self._wire: Wire | None = None
        self._why = ""
        self._up = asyncio.Event()
        self._serial = 1
        self._running: AbstractAsyncContextManager[asyncio.Task[None]] | None = None
        self._loop: asyncio.AbstractEventLoop

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._running = beside(self._run(), "engine-client")
        _ = await self._running.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._running is not None:
            await self._running.__aexit__(None, None, None)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection right now."""
        return self._wire is not None

    @property
    def trouble(self) -> str | None:
        """What ails the engine, in plain words, if that is known."""
        return self._trouble()

    async def connected(self, within_s: float) -> None:
        """Return as soon as there is a connection.

        Raises:
            UnavailableError: there is none ``within_s`` seconds.
        """
        if self._wire is not None:
            return
        try:
            async with asyncio.timeout(within_s):
                await self._up.wait()
        except TimeoutError:
            raise UnavailableError(
                f"the engine could not be reached within {within_s:.3g} s",
                hint=self.trouble or self._why or None,
            ) from None

    async def request(
        self, subject: bytes, data: bytes = b"", headers: bytes = b"", *, within_s: float
    ) -> Message:
        """Return the answer to ``data``.

        Raises:
            UnavailableError: no connection, or no answer, in time.
        """
        return (await self.request_many(subject, data, headers, within_s=within_s))[0]

    async def request_many(
        self,
        subject: bytes,
        data: bytes = b"",
        headers: bytes = b"",
        *,
        within_s: float,
        is_last: Callable[[Message], bool] | None = None,
    ) -> list[Message]:
        """Return the answers up to the one that ``is_last`` (without it, the first).

        Raises:
            UnavailableError: no connection, or not all of them, in time.
        """
        wire = self._wire
        if wire is None or wire.paused:
            wire = await self._writable(within_s)
        token = b"%d" % self._serial
        self._serial += 1
        future: asyncio.Future[list[Message]] = self._loop.create_future()
        self._calls[token] = _Call(future, is_last)
        timer = self._loop.call_later(within_s, _fail, future, within_s)
        try:
            wire.publish(subject, self._inbox + token, headers, data)
            return await future
        finally:
            timer.cancel()
            del self._calls[token]

    async def _writable(self, within_s: float) -> Wire:
        await self.connected(within_s)
        wire = self._wire
        if wire is None:
            raise UnavailableError("the connection to the engine was lost", hint=self.trouble)
        if wire.paused:
            await asyncio.wait([wire.ping()], timeout=within_s)
            if wire.paused:
                raise UnavailableError(
                    f"the engine takes no bytes for {within_s:.3g} s", hint=self.trouble
                )
        return wire

    def feed(self, subject: bytes, *, limit_bytes: int = 4 << 20) -> Feed:
        """Return a feed of ``subject`` from now on; give it back with :meth:`close_feed`."""
        self._serial += 1
        sid = b"%d" % self._serial
        feed = Feed(limit_bytes)
        self._feeds[feed] = sid
        self._handlers[sid] = feed.push
        self._subjects[sid] = subject
        if self._wire is not None:
            self._wire.subscribe(subject, sid)
        return feed

    def close_feed(self, feed: Feed) -> None:
        """End a feed. Safe to call twice."""
        sid = self._feeds.pop(feed, None)
        if sid is None:
            return
        del self._handlers[sid], self._subjects[sid]
        if self._wire is not None:
            self._wire.unsubscribe(sid)

    def _answer(self, message: Message) -> None:
        call = self._calls.get(message.subject[len(self._inbox) :])
        if call is not None:
            call.take(message)

    async def _run(self) -> None:
        turn = 0
        while True:
            servers = self._servers()
            if servers:
                await self._serve_once(servers[turn % len(servers)])
                turn += 1
            await asyncio.sleep(RECONNECT_S)

    async def _serve_once(self, address: Address) -> None:
        """Connect, and stay until the connection is lost."""
        wire = Wire(self._handlers)
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._loop.create_connection(lambda: wire, address.host, address.port)
                await self._greet(wire)
            if not wire.lost.done():
                self._open(wire)
            await wire.lost
        except (OSError, TimeoutError) as error:
            self._why = str(error) or "it did not answer"
            log.debug("no connection to %s:%d: %s", address.host, address.port, self._why)
        finally:
            self._why = wire.error or self._why
            self._close(wire)

    async def _greet(self, wire: Wire) -> None:
        await wire.greeted
        hello = {
            "user": self._login.user,
            "pass": self._login.password,
            "name": self._name,
            "lang": "rota",
            "version": "1",
            "protocol": 1,
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
        }
        wire.write(b"CONNECT " + msgspec.json.encode(hello) + b"\r\n")
        await wire.ping()

    def _open(self, wire: Wire) -> None:
        for sid, subject in self._subjects.items():
            wire.subscribe(subject, sid)
        self._wire = wire
        self._up.set()
        for feed in self._feeds:
            feed.push(None)

    def _close(self, wire: Wire) -> None:
        wire.abort()
        if self._wire is not wire:
            return
        self._wire = None
        self._up.clear()
        for call in self._calls.values():
            if not call.future.done():
                call.future.set_exception(
                    UnavailableError("the connection to the engine was lost", hint=self.trouble)
                )


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _fail(future: asyncio.Future[list[Message]], within_s: float) -> None:
    if not future.done():
        future.set_exception(UnavailableError(f"the engine did not answer within {within_s:.3g} s"))
