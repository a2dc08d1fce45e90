"""A mail server on 127.0.0.1 (aiosmtpd), whose answers a test decides."""

from __future__ import annotations

import asyncio
import contextlib
import email
import queue
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from email import policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

Fate = str | Callable[[], Any]


class MailServer:
    """Keeps what it took. ``at_rcpt`` and ``at_data`` have answers to give in place of yes, first to last.

    An answer ``drop`` takes the mail and cuts the connection without a word; a coroutine function is
    waited for first.
    """

    def __init__(self) -> None:
        self.port = 0
        self.taken: list[EmailMessage] = []
        self.logins: list[tuple[str, str]] = []
        self.was_tls: list[bool] = []
        self.at_rcpt: list[Fate] = []
        self.at_data: list[Fate] = []
        self.each_s = 0.0  # so long it thinks about each mail
        self.arrived = 0  # mails that were brought, whether they were taken or not
        self.is_closed = False  # takes none for now, and lets those wait who bring some
        self.password = ""
        self.changed = asyncio.Event()

    # -- what aiosmtpd calls ------------------------------------------------------------------------

    async def handle_RCPT(  # noqa: N802  # its name there
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        said = await self._fate(self.at_rcpt)
        if said:
            return said
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802  # its name there
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.arrived += 1
        await asyncio.sleep(self.each_s)
        while self.is_closed:
            await asyncio.sleep(0.01)
        said = await self._fate(self.at_data)
        if said and said != "drop":
            return said
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.taken.append(message)
        self.was_tls.append(session.ssl is not None or _is_tls(server))
        self.changed.set()
        if said == "drop":
            assert server.transport is not None
            server.transport.close()
        return "250 taken"

    def login(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        """Let in who knows the password."""
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login.decode(), data.password.decode()))
        is_right = data.password.decode() == self.password
        return AuthResult(success=is_right, handled=is_right)

    async def _fate(self, fates: list[Fate]) -> str:
        fate = fates.pop(0) if fates else ""
        if isinstance(fate, str):
            return fate
        return str(await fate())

    # -- what tests ask -----------------------------------------------------------------------------

    @property
    def ids(self) -> Counter[str]:
        """How often each message was taken."""
        return Counter(str(message["Message-ID"]) for message in self.taken)

    async def until(self, count: int) -> None:
        """Wait until so many mails were taken."""
        while len(self.taken) < count:
            self.changed.clear()
            await self.changed.wait()


def _is_tls(server: SMTP) -> bool:
    return (
        server.transport is not None and server.transport.get_extra_info("ssl_object") is not None
    )


@contextlib.asynccontextmanager
async def mail_server(
    *, tls: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[MailServer]:
    """Run one: ``tls`` from the first byte, ``starttls`` when the client wants it."""
    own = MailServer()
    loop = asyncio.get_running_loop()

    def protocol() -> SMTP:
        return SMTP(
            own,
            hostname="mail.test",
            tls_context=starttls,
            authenticator=own.login,
            auth_require_tls=tls is None,
            loop=loop,
            **options,
        )

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)
    own.port = server.sockets[0].getsockname()[1]
    try:
        yield own
    finally:
        server.close()


@contextlib.contextmanager
def mail_server_aside(**options: Any) -> Iterator[MailServer]:
    """Run one in a thread of its own, for a test that waits for processes."""
    made: queue.Queue[tuple[MailServer, Callable[[], object]]] = queue.Queue()

    async def serve() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        async with mail_server(**options) as server:
            made.put((server, lambda: loop.call_soon_threadsafe(over.set)))
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    server, end = made.get()
    try:
        yield server
    finally:
        end()
        thread.join()
