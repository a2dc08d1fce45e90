"""The engine's client: one connection, kept for ever, with requests and feeds over it.

nats-py speaks the protocol. Reconnecting is done here, by a fresh client of nats-py for each
connection: the addresses are asked for anew, an error that nats-py closes for good is only one more
loss, and nothing that was meant for one connection is sent over the next.

Of several servers the one that answers is kept. It is left for another when the connection is lost,
and also when it takes what we ask and answers nothing: a server that hangs, or that is cut off from
the others, looks alive for a long time.

A request that the connection lost, or that nobody answered, raises
:class:`~rota.errors.UnavailableError`; whether to try again is the caller's to know. A feed says
with ``None`` that something may be missing, and the caller looks.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import msgspec
from nats import errors
from nats.aio.client import Client as Nats

from rota.adapters.nats.beside import beside
from rota.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

log = logging.getLogger(__name__)

CONNECT_S = 2.0
RECONNECT_S = 0.1
CLOSE_S = 1.0
#: How long a connection that is to be made anew waits for answers that are on their way.
SETTLE_S = 1.0
#: How often a connection is asked for a sign of life, and how many questions may stay unanswered.
PING_S = 3
MAX_PINGS = 2
#: A server that answers nothing for so long is left, if there is another.
DOUBT_S = 3.0
#: How a server begins to say that it does not let us in.
REFUSAL = "Authorization"
#: A connection that was lost sooner counts as none: the next try has to wait.
BRIEF_S = 1.0
#: What may wait for a server that reads slower than we write, before a request waits too.
MAX_UNSENT_BYTES = 4 << 20
UNSENT_LOOK_S = 0.01
#: What a message's headers may take of the server's limit for a message.
HEADERS_BYTES = 4 << 10
#: A lost connection shows as any of these; uvloop has RuntimeError for it.
_LOST = (errors.Error, OSError, RuntimeError)


class Address(msgspec.Struct, frozen=True):
    """Where an engine's server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Login(msgspec.Struct, frozen=True):
    """Who we are to the engine."""

    user: str
    password: str


class _Call:
    """A request that waits for its answer, or for all of several."""

    __slots__ = ("done", "is_last", "parts")

    def __init__(
        self,
        done: asyncio.Future[UnavailableError | None],
        is_last: Callable[[Msg], bool] | None,
    ) -> None:
        self.done = done
        self.is_last = is_last
        self.parts: list[Msg] = []

    def take(self, message: Msg) -> None:
        if self.done.done():
            return
        self.parts.append(message)
        if self.is_last is None or self.is_last(message):
            self.end(None)

    def end(self, error: UnavailableError | None) -> None:
        if not self.done.done():
            self.done.set_result(error)


class Feed:
    """Messages of a subject as they are published, for one reader.

    Bounded: a reader that lags more than ``limit_bytes`` behind loses what waits and is told so
    with ``None``, as it is after a reconnect.
    """

    def __init__(self, subject: str, limit_bytes: int) -> None:
        self.subject = subject
        self._queue: deque[Msg | None] = deque()
        self._limit = limit_bytes
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None

    async def take(self, message: Msg) -> None:
        """Add a message; nats-py wants it to be awaited."""
        self.push(message)

    def push(self, message: Msg | None) -> None:
        """Add a message; ``None`` for "something may be missing here"."""
        self._size += 0 if message is None else len(message.data) + 100
        if self._size > self._limit:
            self._queue.clear()
            self._size = 0
            message = None
        self._queue.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self, patience_s: float) -> Msg | None:
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
        tls: Callable[[], ssl.SSLContext] | None = None,
        tls_first: bool = True,
        copies: int = 1,
    ) -> None:
        self._servers = servers
        self._login = login
        self._name = name
        self._trouble = trouble
        self.complain = complain
        self._tls = tls
        self._tls_first = tls_first
        self.copies = copies
        """How many copies a new stream gets, where there is no other to go by."""
        self._inbox = f"_INBOX.{secrets.token_hex(8)}."
        self._calls: dict[str, _Call] = {}
        self._feeds: dict[Feed, Subscription | None] = {}
        self._nats: Nats | None = None
        self._leave = asyncio.Event()
        self._stays = False
        self._doubted_since: float | None = None
        self.address: Address | None = None
        """Where the connection goes, or went last."""
        self._why = ""
        self._up = asyncio.Event()
        self._serial = 0
        self._running: AbstractAsyncContextManager[asyncio.Task[None]] | None = None
        self._lost_at = 0.0
        self._loop: asyncio.AbstractEventLoop

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._lost_at = self._loop.time()
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
        return self._nats is not None

    @property
    def trouble(self) -> str | None:
        """What ails the engine, in plain words, if that is known."""
        return self._trouble()

    @property
    def is_out(self) -> bool:
        """Whether there has been no connection for longer than a change of servers takes."""
        return self._nats is None and self._loop.time() - self._lost_at > BRIEF_S

    @property
    def why(self) -> str:
        """Why there is no connection, as far as we were told; ``""`` while there is one."""
        return "" if self._nats is not None else self._why

    def leave(self) -> None:
        """Give up the connection and look for another server; the caller knows why."""
        self._leave.set()

    def renew(self) -> None:
        """Make the connection anew, at the same server; what was asked is answered first."""
        self._stays = True
        self._leave.set()

    async def connected(self, within_s: float) -> None:
        """Return as soon as there is a connection.

        Raises:
            UnavailableError: there is none ``within_s`` seconds.
        """
        if self._nats is not None:
            return
        try:
            async with asyncio.timeout(within_s):
                await self._up.wait()
        except TimeoutError:
            raise UnavailableError(
                f"the engine could not be reached within {within_s:.3g} s",
                hint=self.trouble or self._why or "there is no address to try",
            ) from None

    async def request(
        self,
        subject: str,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        within_s: float,
    ) -> Msg:
        """Return the answer to ``data``.

        Raises:
            InputError: ``data`` is larger than the engine takes in one message.
            UnavailableError: no connection, or no answer, in time.
        """
        return (await self.request_many(subject, data, headers, within_s=within_s))[0]

    async def request_many(
        self,
        subject: str,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        within_s: float,
        is_last: Callable[[Msg], bool] | None = None,
    ) -> list[Msg]:
        """Return the answers up to the one that ``is_last`` (without it, the first).

        Raises:
            InputError: ``data`` is larger than the engine takes in one message.
            UnavailableError: no connection, or not all of them, in time.
        """
        nats = self._nats
        if nats is None or nats.pending_data_size > MAX_UNSENT_BYTES:
            nats = await self._writable(within_s)
        self._serial += 1
        token = str(self._serial)
        call = self._calls[token] = _Call(self._loop.create_future(), is_last)
        timer = self._loop.call_later(within_s, self._give_up, call, within_s, self._loop.time())
        try:
            await self._publish(nats, subject, self._inbox + token, headers, data)
            error = await call.done
        finally:
            timer.cancel()
            del self._calls[token]
        if error is not None:
            raise error
        return call.parts

    async def _writable(self, within_s: float) -> Nats:
        """Return the connection once it takes more bytes; nats-py has no call that waits for it."""
        end = self._loop.time() + within_s
        await self.connected(within_s)
        while self._nats is not None and self._nats.pending_data_size > MAX_UNSENT_BYTES:
            if self._loop.time() >= end:
                raise UnavailableError(
                    f"the engine takes no bytes for {within_s:.3g} s", hint=self.trouble
                )
            await asyncio.sleep(UNSENT_LOOK_S)
        if self._nats is None:
            raise self._lost()
        return self._nats

    async def _publish(
        self, nats: Nats, subject: str, reply: str, headers: Mapping[str, str] | None, data: bytes
    ) -> None:
        # A message over the limit makes the server hang up on everybody who shares the connection.
        limit = nats.max_payload - HEADERS_BYTES
        if len(data) > limit:
            raise InputError(f"a message of {len(data)} bytes, the engine's limit is {limit}")
        try:
            await nats.publish(subject, data, reply, dict(headers) if headers else None)
        except _LOST as error:
            raise self._lost() from error

    def _give_up(self, call: _Call, within_s: float, began: float) -> None:
        """End a call that got no answer; one of too many from the same server, maybe."""
        self._doubt(began)
        call.end(UnavailableError(f"the engine did not answer within {within_s:.3g} s"))

    def _doubt(self, began: float) -> None:
        if self._doubted_since is None:
            self._doubted_since = began
        elif self._loop.time() - self._doubted_since > DOUBT_S and len(self._servers()) > 1:
            self._why = f"{self.address} answers nothing"
            self._leave.set()

    async def publish(self, subject: str, data: bytes) -> None:
        """Send ``data`` to whoever listens; without a connection, or a fast one, to nobody."""
        nats = self._nats
        if nats is not None and nats.pending_data_size <= MAX_UNSENT_BYTES:
            with suppress(UnavailableError):
                await self._publish(nats, subject, "", None, data)

    async def feed(self, subject: str, *, limit_bytes: int = 4 << 20) -> Feed:
        """Return a feed of ``subject`` from now on; give it back with :meth:`close_feed`.

        What is requested afterwards reaches the engine after it.
        """
        feed = Feed(subject, limit_bytes)
        self._feeds[feed] = None
        if self._nats is not None:
            with suppress(*_LOST):  # the next connection subscribes
                self._feeds[feed] = await _subscribe(self._nats, subject, feed.take)
        return feed

    async def close_feed(self, feed: Feed) -> None:
        """End a feed. Safe to call twice."""
        subscription = self._feeds.pop(feed, None)
        if subscription is not None:
            with suppress(*_LOST):
                await subscription.unsubscribe()

    async def _answer(self, message: Msg) -> None:
        call = self._calls.get(message.subject[len(self._inbox) :])
        if (message.headers or {}).get("Status") != "503":
            self._doubted_since = None
        elif call is not None:  # nobody is there to answer: that may be so, or we are cut off
            self._doubt(self._loop.time())
        if call is not None:
            call.take(message)

    async def _run(self) -> None:
        """Try the servers in turn, and stay at each one that takes us, for as long as it does."""
        left: Address | None = None
        while True:
            servers = self._servers()
            for address in [*(s for s in servers if s != left), *(s for s in servers if s == left)]:
                began = self._loop.time()
                served = await self._serve_once(address)
                _heed_cancellation()
                if served and self._loop.time() - began > BRIEF_S:
                    left = None if self._stays else address
                    break
            else:
                await asyncio.sleep(RECONNECT_S)

    async def _serve_once(self, address: Address) -> bool:
        """Connect, and stay until the connection is lost; return whether there was one."""
        nats = Nats()
        self._leave, self._doubted_since, served = asyncio.Event(), None, False
        self._stays = False
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connect(nats, address, self._leave)
            _heed_cancellation()
            self.address, served = address, True
            _on_end(nats, self._leave)
            await self._open(nats)
            while nats.is_connected and not self._leave.is_set():
                # A look now and then: nats-py says that it closed only once all it had was written;
                # a dead host, or a hung one, never takes that.
                with suppress(TimeoutError):
                    async with asyncio.timeout(PING_S):
                        await self._leave.wait()
            if self._stays:
                await self._settle(nats)
        except (*_LOST, ValueError) as error:  # ValueError: what answers there speaks no NATS
            await self._note(error)
        finally:
            self._close(nats)
            await _end(nats)
        return served

    async def _settle(self, nats: Nats) -> None:
        """Let what was asked over a connection be answered, a moment long, and nothing be asked."""
        self._nats, self._lost_at = None, self._loop.time()
        self._up.clear()
        asked = [call.done for call in self._calls.values()]
        if asked:
            await asyncio.wait(asked, timeout=SETTLE_S)
        self._nats = nats

    async def _connect(self, nats: Nats, address: Address, lost: asyncio.Event) -> None:
        async def closed() -> None:
            lost.set()

        context = None if self._tls is None else self._tls()
        await nats.connect(
            f"nats://{address}" if context is None else f"tls://{address}",
            tls=context,
            tls_handshake_first=context is not None and self._tls_first,
            name=self._name,
            user=self._login.user,
            password=self._login.password,
            error_cb=self._note,
            closed_cb=closed,
            allow_reconnect=False,
            max_reconnect_attempts=1,  # of the first connect; none at all would mean for ever
            reconnect_time_wait=0,
            ping_interval=PING_S,
            max_outstanding_pings=MAX_PINGS,
            # Without limits of its own nats-py never waits while it takes a message to send, and
            # so never loses a cancellation there; `_writable` is the limit.
            pending_size=0,
            flusher_queue_size=0,
        )

    async def _note(self, error: Exception) -> None:
        if isinstance(error, errors.NoServersError) and self._why:
            return  # only the sum of what was said before
        if isinstance(error, OSError | errors.UnexpectedEOF) and self._why.startswith(REFUSAL):
            return  # the server hangs up after what it said, sometimes before we read it
        why = str(error).removeprefix("nats: ").strip("'") or "it did not answer"
        if self._tls is not None and why.startswith("empty response"):
            why = "it hung up: it may know this agent's key no more, or not yet"
        self._why = why
        log.debug("the connection to the engine: %s", self._why)

    async def _open(self, nats: Nats) -> None:
        _ = await _subscribe(nats, f"{self._inbox}*", self._answer)
        self._nats, self._why = nats, ""
        self._up.set()
        for feed in tuple(self._feeds):
            self._feeds[feed] = await _subscribe(nats, feed.subject, feed.take)
            feed.push(None)

    def _close(self, nats: Nats) -> None:
        if self._nats is not nats:
            return
        self._nats = None
        self._lost_at = self._loop.time()
        self._up.clear()
        for call in self._calls.values():
            call.end(self._lost())

    def _lost(self) -> UnavailableError:
        return UnavailableError("the connection to the engine was lost", hint=self.trouble)


class _Hush(logging.Filter):
    """Drop a remark of asyncio's at each end of a TLS connection, on how nats-py opened it."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "eof_received() has no effect" not in str(record.msg)


logging.getLogger("asyncio").addFilter(_Hush())


async def _subscribe(
    nats: Nats, subject: str, take: Callable[[Msg], Coroutine[None, None, None]]
) -> Subscription:
    """Subscribe without a limit at which nats-py drops messages: ``take`` is the one who knows."""
    return await nats.subscribe(subject, cb=take, pending_msgs_limit=0, pending_bytes_limit=0)


def _heed_cancellation() -> None:
    """Raise a cancellation that was lost in nats-py: its `wait_for` drops one in Python 3.11."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _on_end(nats: Nats, ended: asyncio.Event) -> None:
    """Set ``ended`` as soon as nothing is read any more: nats-py does not always say so."""

    def note(reading: asyncio.Task[None]) -> None:
        ended.set()
        if not reading.cancelled() and (error := reading.exception()) is not None:
            log.debug("the connection to the engine ended with %s", error)

    if nats._reading_task is not None:  # noqa: SLF001 - there is no call for it
        nats._reading_task.add_done_callback(note)  # noqa: SLF001


async def _end(nats: Nats) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await nats.close()
    except (*_LOST, TimeoutError) as error:
        log.debug("the connection to the engine did not end well: %s", error)
    # Where a write fails while it closes, nats-py leaves its readers and the socket as they are.
    for subscription in tuple(nats._subs.values()):  # noqa: SLF001 - there is no call for it
        subscription._stop_processing()  # noqa: SLF001
    if nats._transport:  # noqa: SLF001
        nats._transport.close()  # type: ignore[no-untyped-call] # noqa: SLF001


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
