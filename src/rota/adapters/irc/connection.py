"""One connection to a server: bytes, TLS, and no more lines than it takes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

from rota.adapters.irc.lines import MAX_READ, Line, line_of, parse
from rota.errors import InputError

CONNECT_S = 30.0
#: Who wakes so much later than it wanted was stopped, with its machine or by somebody: seconds.
STOOD_S = 3.0
#: What servers do not count, or wait for.
_AT_ONCE = frozenset({"AUTHENTICATE", "CAP", "PASS", "PING", "PONG", "USER"})
#: A peer that is gone without a word is noticed by the kernel after so long.
KEEPALIVE_S = 60


class LostError(Exception):
    """The connection is no more, or never was; says why."""


class Flow:
    """How many lines may be sent: a bucket that fills by one every so many seconds (RFC 1459, 8.10)."""

    def __init__(self, every_s: float, burst: int) -> None:
        self._every_s, self._burst = every_s, burst
        self._full_at = 0.0  # when nothing of it is missing any more

    def wait_s(self, now: float) -> float:
        """Return for how long the next line has to wait."""
        return max(self._full_at - now - self._every_s * (self._burst - 1), 0.0)

    def sent(self, now: float) -> None:
        """Take note of a line."""
        self._full_at = max(self._full_at, now) + self._every_s


def tls_context(ca: str, certificate: str) -> ssl.SSLContext:
    """Return how servers are checked, and what we show them.

    Args:
        ca: A file of certificates instead of the machine's.
        certificate: Key and certificate of ours, as PEM; nothing if there are none.

    Raises:
        InputError: one of them cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        fault = error.strerror or str(error)
        raise InputError(f"ca {ca}: {fault}", hint="a file of PEM certificates") from error
    if certificate:
        # The library reads files only: this one is in memory, and nobody else's.
        file = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            Path(f"/proc/self/fd/{file}").write_text(certificate)
            context.load_cert_chain(f"/proc/self/fd/{file}")
        except OSError as error:
            raise InputError(
                "certificate: it has no key and certificate in PEM that belong together",
                hint="cat key.pem cert.pem | rota secret set NAME",
            ) from error
        finally:
            os.close(file)
    return context


class Connection:
    """Lines in, lines out."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flow: Flow
    ) -> None:
        self._reader, self._writer, self._flow = reader, writer, flow
        self._urgent: deque[Line] = deque()
        self._lines: deque[Line] = deque()
        self._wake = asyncio.Event()

    async def lines(self) -> AsyncIterator[Line]:
        """Yield what the server sends.

        Raises:
            LostError: that is all.
        """
        while True:
            try:
                raw = await self._reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                raise LostError("the server closed the connection") from None
            except asyncio.LimitOverrunError:
                raise LostError("the server sends nonsense: a line without an end") from None
            except OSError as error:
                raise LostError(f"the connection broke: {error}") from error
            if (line := parse(raw)) is not None:
                yield line

    def put(self, line: Line, *, is_urgent: bool = True, is_in_order: bool = False) -> None:
        """Have a line sent when its turn comes: urgent ones first, those of the protocol at once.

        Those that are ``is_in_order`` are sent behind what was put before.

        Raises:
            ValueError: it cannot be sent.
        """
        data = bytes(line)
        if is_urgent and not is_in_order and line.command in _AT_ONCE:
            self._writer.write(data)
            return
        (self._urgent if is_urgent else self._lines).append(line)
        self._wake.set()

    def take_back(self) -> None:
        """Do not send what is still to be said, nor ask whether it was taken."""
        rest = [line for line in self._lines if line.command not in ("PRIVMSG", "PING")]
        self._lines = deque(rest)

    async def send_all(self) -> None:
        """Send what is put, in its turn, until cancelled.

        Raises:
            LostError: nothing can be sent any more.
        """
        now = asyncio.get_running_loop().time
        while True:
            while not self._urgent and not self._lines:
                self._wake.clear()
                await self._wake.wait()
            wait = self._flow.wait_s(now())
            if wait > 0 and (self._urgent or self._lines)[0].command not in _AT_ONCE:
                until = now() + wait
                await asyncio.sleep(wait)
                if now() - until > STOOD_S:
                    # Another one speaks by now: what waited here would be said a second time.
                    raise LostError("this process stood still, and does not say what is old by now")
                continue  # what waited may have been taken back meanwhile
            line = (self._urgent or self._lines).popleft()
            if line.command not in _AT_ONCE:
                self._flow.sent(now())
            self._writer.write(bytes(line))
            try:
                await self._writer.drain()
            except OSError as error:
                raise LostError(f"the connection broke: {error}") from error

    async def close(self, farewell: str) -> None:
        """Say good-bye and hang up, in a second at most."""
        with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
            async with asyncio.timeout(0.8):
                if farewell:
                    self._writer.write(bytes(line_of("QUIT", farewell)))
                    await self._writer.drain()
                    while await self._reader.read(MAX_READ):
                        pass  # the server hangs up when it has read it
                self._writer.close()
                await self._writer.wait_closed()
        self._writer.transport.abort()


async def connect(
    server: str, port: int, *, tls: str, context: ssl.SSLContext | None, flow: Flow
) -> Connection:
    """Connect to a server.

    Args:
        server: Its name or address; certificates are checked against it.
        port: Its port.
        tls: ``direct``, ``starttls`` or ``none``.
        context: How TLS is done, unless it is not.
        flow: How much may be sent.

    Raises:
        LostError: it cannot be reached, or is not who it should be.
    """
    at = f"{server}:{port}"
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                server,
                port,
                limit=MAX_READ,
                ssl=context if tls == "direct" else None,
            )
            if tls == "starttls" and context is not None:
                await _start_tls(reader, writer, context, server)
    except TimeoutError:
        raise LostError(f"{at} does not answer") from None
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message
        raise LostError(f"{at}: its certificate is not good: {why}; set ca, or server") from error
    except ssl.SSLError as error:
        raise LostError(f"{at}: no TLS there: {error.reason or error}") from error
    except OSError as error:
        raise LostError(f"{at} cannot be reached: {error.strerror or error}") from error
    _keep_alive(writer.get_extra_info("socket"))
    return Connection(reader, writer, flow)


async def _start_tls(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    context: ssl.SSLContext,
    server: str,
) -> None:
    writer.write(bytes(line_of("STARTTLS")))
    while True:
        line = parse(raw := await reader.readline())
        if not raw or (line is not None and line.command in ("421", "451", "691", "ERROR")):
            writer.close()
            raise LostError("the server has no STARTTLS: set tls = true, and port to that of TLS")
        if line is not None and line.command == "670":
            # What came before is of nobody: it is not taken for something that came by TLS.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await reader.read(1)
                    raise LostError("the server went on before TLS began")
            await writer.start_tls(context, server_hostname=server)
            return


def _keep_alive(sock: socket.socket | None) -> None:
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // 4)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, KEEPALIVE_S * 2000)
