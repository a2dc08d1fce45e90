"""The engine's line protocol, as bytes on one TCP connection.

``Wire`` is an :class:`asyncio.Protocol`: it cuts what arrives into messages and hands each to the
handler of its subscription, in the read callback, without a task or a queue in between. What is
written goes out at once. It knows nothing of reconnecting; :mod:`~rota.adapters.nats.client` does.

Protocol: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

#: A connection that was silent for this long is asked for a sign of life; after two unanswered
#: questions it is given up.
PING_S = 3.0
MAX_PINGS = 2
_M, _H = b"MH"


class Message(msgspec.Struct, gc=False):
    """What a subscription gets. ``headers`` is the raw block, empty if there is none."""

    subject: bytes
    reply: bytes
    headers: bytes
    data: bytes


class Info(msgspec.Struct):
    """What a server says of itself when it is dialled."""

    server_name: str = ""
    max_payload: int = 1 << 20
    tls_required: bool = False


class Wire(asyncio.Protocol):
    """One connection. ``lost`` is done when it is over; ``greeted`` once the server has spoken."""

    def __init__(self, handlers: Mapping[bytes, Callable[[Message], None]]) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._handlers = handlers
        self._rest = bytearray()
        self._need = 0
        self._transport: asyncio.Transport | None = None
        self._pongs: list[asyncio.Future[None]] = []
        self._unanswered = 0
        self._heard = False
        self._pinger: asyncio.TimerHandle | None = None
        self.info = Info()
        self.error = ""
        self.paused = False
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to ask for signs of life."""
        self._transport = cast("asyncio.Transport", transport)
        self._pinger = self._loop.call_later(PING_S, self._ping_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        if self._pinger is not None:
            self._pinger.cancel()
        for future in (self.greeted, self.lost, *self._pongs):
            if not future.done():
                future.set_result(None)
        log.debug("connection to the engine lost: %s", exc or self.error or "closed")

    def pause_writing(self) -> None:
        """Note that the server does not read as fast as we write."""
        self.paused = True

    def resume_writing(self) -> None:
        """Note that it caught up."""
        self.paused = False

    def data_received(self, data: bytes) -> None:
        """Hand on every whole message; keep the rest."""
        self._heard = True
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        done = self._cut(data)
        if done < len(data):
            self._rest += data[done:]

    def _cut(self, data: bytes) -> int:
        """Hand on messages and return how many bytes they took."""
        at, size, handlers = 0, len(data), self._handlers
        self._need = 0
        while (eol := data.find(b"\r\n", at)) >= 0:
            first = data[at]
            if first not in (_M, _H):
                self._control(data[at:eol])
                at = eol + 2
                continue
            words = data[at:eol].split(b" ")
            start = eol + 2
            end = start + int(words[-1])
            if end + 2 > size:
                self._need = end + 2 - at
                break
            body = start if first == _M else start + int(words[-2])
            handler = handlers.get(words[2])
            if handler is not None:
                reply = words[3] if len(words) == (5 if first == _M else 6) else b""
                handler(Message(words[1], reply, data[start:body], data[body:end]))
            at = end + 2
        return at

    def _control(self, line: bytes) -> None:
        word = line[:4].upper()
        if word == b"PING":
            self.write(b"PONG\r\n")
        elif word == b"PONG":
            self._unanswered = 0
            if self._pongs and not (future := self._pongs.pop(0)).done():
                future.set_result(None)
        elif word == b"INFO":
            self.info = msgspec.json.decode(line[5:], type=Info)
            if not self.greeted.done():
                self.greeted.set_result(None)
        elif word == b"-ERR":
            self.error = line[5:].decode(errors="replace").strip(" '")
            log.debug("the engine complains: %s", self.error)

    def _ping_if_silent(self) -> None:
        if not self._heard:
            self._unanswered += 1
            if self._unanswered > MAX_PINGS:
                self.error = "no sign of life"
                self.abort()
                return
            _ = self.ping()
        self._heard = False
        self._pinger = self._loop.call_later(PING_S, self._ping_if_silent)

    def ping(self) -> asyncio.Future[None]:
        """Ask for a sign of life. The future is done when it came, or when the wire broke."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._pongs.append(future)
        self.write(b"PING\r\n")
        return future

    def write(self, data: bytes) -> None:
        """Send ``data``; dropped without a word once the connection is over."""
        if self._transport is not None and not self.lost.done():
            self._transport.write(data)

    def publish(self, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        """Send one message. ``headers`` is a whole block, or empty."""
        if headers:
            size = len(headers)
            line = b"HPUB %b %b %d %d\r\n" % (subject, reply, size, size + len(data))
        else:
            line = b"PUB %b %b %d\r\n" % (subject, reply, len(data))
        self.write(b"".join((line, headers, data, b"\r\n")))

    def subscribe(self, subject: bytes, sid: bytes) -> None:
        """Ask for the messages of ``subject``."""
        self.write(b"SUB %b %b\r\n" % (subject, sid))

    def unsubscribe(self, sid: bytes) -> None:
        """Ask for no more."""
        self.write(b"UNSUB %b\r\n" % sid)

    def abort(self) -> None:
        """Break the connection at once. Safe to call twice."""
        if self._transport is not None:
            self._transport.abort()
