"""Connections with callers: how many there may be, and how long one may dawdle.

aiohttp waits for a request's head as long as the caller likes, and for a reader who does not read.
Here each has its time, so that a thousand callers who say nothing, or never read what they asked
for, cost memory for a while and nobody else anything.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from rota.http import problems

logger = logging.getLogger(__name__)

#: The first request's head is whole after so long; of later ones the keep-alive time is the limit.
HEAD_S = 20.0
#: Before one is turned away for want of a head, the connection is read for so long once more.
AGAIN_S = 0.5
#: A reader that takes nothing for so long has gone: who follows comes back with where he was.
READER_S = 300.0
#: A timer that is so late tells of this process, which stood still: callers get their time anew.
LATE_S = 1.0
KEEP_ALIVE_S = 75.0
#: What a caller still sends after he was refused is read, so that he sees why, for so long.
LINGER_S = 5.0
#: So many connections at once, on TCP and on the Unix sockets each; and from one address.
MOST, MOST_OF_ADDRESS = 2048, 256
#: A request's line, each of its header's lines, and how many of these there are.
MAX_LINE = MAX_FIELD = 8190
MAX_FIELDS = 128
#: What a large body may be ahead of who writes it down; less, and both wait by turns.
READ_AHEAD = 1 << 20


def _nobody_counts(why: str) -> None:
    del why


class Connections:
    """Which connections there are: of all callers, and by their address.

    Args:
        refused: Is told why one was not served: ``full``, ``slow-head``, ``slow-reader``.
        most: How many there may be, on TCP and on the Unix sockets each.
        most_of_address: How many of these may be from one address.
    """

    def __init__(
        self,
        refused: Callable[[str], None] = _nobody_counts,
        *,
        most: int = MOST,
        most_of_address: int = MOST_OF_ADDRESS,
    ) -> None:
        self.refused = refused
        self._most, self._most_of_address = most, most_of_address
        self._count: Counter[str] = Counter()

    def admits(self, address: str) -> bool:
        """Whether one more from there may come; it counts from now on. ``""`` is a Unix socket."""
        kind = "tcp" if address else "unix"
        if self._count[kind] >= self._most:
            return False
        if address and self._count[address] >= self._most_of_address:
            return False
        self._count.update([kind, address] if address else [kind])
        return True

    def ended(self, address: str) -> None:
        """Let one that was admitted count no more."""
        for key in ("tcp", address) if address else ("unix",):
            self._count[key] -= 1
            if self._count[key] <= 0:
                del self._count[key]


class Runner(web.AppRunner):
    """Serves an application on connections that are watched over."""

    __slots__ = ("_connections", "_kept")

    def __init__(self, app: web.Application, connections: Connections, **kept: Any) -> None:
        super().__init__(
            app,
            access_log=None,
            # A caller that went away ends its stream at once; what changes something is shielded.
            handler_cancellation=True,
            shutdown_timeout=1.0,
        )
        self._connections, self._kept = connections, kept

    @property
    def server(self) -> Any:
        """Return what makes the protocol of each new connection."""
        return self._connection if self._server is not None else None

    def _connection(self) -> Connection:
        assert self._server is not None
        return Connection(self._server, self._connections, **self._kept)


class Connection(web.RequestHandler):
    """One connection."""

    __slots__ = ("_address", "_all", "_head", "_reader")

    def __init__(self, manager: Any, connections: Connections, *, logger: logging.Logger) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # so aiohttp is told to keep none
            logger=logger,
            keepalive_timeout=KEEP_ALIVE_S,
            lingering_time=LINGER_S,
            max_line_size=MAX_LINE,
            max_field_size=MAX_FIELD,
            max_headers=MAX_FIELDS,
            read_bufsize=READ_AHEAD,
        )
        self._all = connections
        self._address: str | None = None
        self._head: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless there are too many."""
        super().connection_made(transport)
        address = address_of(transport)
        if not self._all.admits(address):
            self._all.refused("full")
            self._turn_away(503 if not address else 429)
            return
        self._address = address
        self._head = self._loop.call_later(HEAD_S, self._look_again)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let it count no more."""
        for timer in (self._head, self._reader):
            if timer is not None:
                timer.cancel()
        if self._address is not None:
            self._all.ended(self._address)
            self._address = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give who does not read some time."""
        super().pause_writing()
        self._reader = self._loop.call_later(READER_S, self._no_reader)

    def resume_writing(self) -> None:
        """See that it is read again."""
        if self._reader is not None:
            self._reader.cancel()
        super().resume_writing()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request in our words: the caller's own, quoted, may hold a token."""
        super().handle_error(request, status, exc, message)
        response = problems.respond_malformed(*_fault(exc, status))
        response.force_close()
        return response

    def _look_again(self) -> None:
        # After the machine stood still, a wait ends with nothing but the timers that are due: the
        # head may have come in time, and lie in the socket unread.
        if self._request_count == 0:
            self._head = self._loop.call_later(AGAIN_S, self._no_head)

    def _no_head(self) -> None:
        if self._request_count == 0:
            self._all.refused("slow-head")
            self._turn_away(408)

    def _no_reader(self) -> None:
        if self._is_late(self._reader):
            self._reader = self._loop.call_later(READER_S, self._no_reader)
        elif self.transport is not None:
            logger.info("a caller reads nothing for %d s: its connection is closed", READER_S)
            self._all.refused("slow-reader")
            self.transport.abort()

    def _process_keepalive(self) -> None:
        if self._is_late(self._keepalive_handle):
            self._next_keepalive_close_time = self._loop.time() + KEEP_ALIVE_S
        super()._process_keepalive()

    def _is_late(self, timer: asyncio.Handle | None) -> bool:
        """Whether a timer that goes off now should have done so long ago."""
        return isinstance(timer, asyncio.TimerHandle) and self._loop.time() - timer.when() > LATE_S

    def _turn_away(self, status: int) -> None:
        if self.transport is not None:
            self.transport.write(problems.turned_away(status))
        self.force_close()


def address_of(transport: asyncio.BaseTransport | None) -> str:
    """Return from where a connection comes; nothing for a Unix socket.

    Who has one IPv6 address has 2 ** 64 of them: such a network counts as one.
    """
    opened = transport.get_extra_info("socket") if transport is not None else None
    if transport is None or opened is None or opened.family == socket.AF_UNIX:
        return ""
    peer = transport.get_extra_info("peername") or ("gone",)
    host = str(peer[0])
    return ":".join(host.split(":")[:4]) if ":" in host and "." not in host else host


def _fault(exc: BaseException | None, status: int) -> tuple[int, str, str]:
    """Return the status of what is no request, what is wrong with it, and what to do."""
    text = str(exc)
    if isinstance(exc, LineTooLong):
        line = exc.args[0] if exc.args else b""
        start = bytes(line[:1]) if isinstance(line, (bytes, bytearray)) else str(line)[:1].encode()
        if start == b"/":
            return 414, f"the URL has more than {MAX_LINE} bytes", "put long arguments into a body"
        return 431, f"a header has more than {MAX_FIELD} bytes", "send a shorter one"
    if "headers" in text.lower() and "many" in text.lower():
        return 431, f"more than {MAX_FIELDS} headers", "send fewer"
    return status, "this is no HTTP request that can be understood", "see RFC 9112, or use curl"
