"""Mail as a network that only takes messages: rooms are addresses, and SMTP is spoken to one server.

What is told of the same job and branch stands in one thread of a mail program: it refers to the same
message, which there need not be. A message that is sent again, since nobody knows whether it was
taken, has the same ``Message-ID``. Whatever stands in a header has no line ends by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as CRLF
from email.utils import formatdate, parseaddr
from urllib.parse import urlsplit

import aiosmtplib
from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from rota.core.targets import address_fault
from rota.errors import InputError, LaterError
from rota.ports.networks import Abilities, OneWayNetwork, Said, Saying

#: From the connection to the server's last word on a message.
WITHIN_S = 60.0
#: For the server to take leave; that it has the message is known by then.
LEAVE_S = 2.0
MAX_SUBJECT = 200
_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtp+plain": 25, "smtps": 465}


class MailNetwork(OneWayNetwork):
    """One mail server; see :class:`rota.ports.networks.Network`.

    Args:
        name: What targets call it.
        server: ``smtp://HOST[:PORT]`` encrypts if the server can, ``smtp+starttls://`` does or sends
            nothing, ``smtps://`` from the first byte, ``smtp+plain://`` never.
        sender: The address that mail comes from, with a name or without.
        user: For servers that want to know; its password is never sent in the clear.
        password: The password itself.
        ca: A file of certificates, instead of the machine's.

    Raises:
        InputError: the address of the server or of the sender cannot be one.
    """

    def __init__(
        self,
        name: str,
        *,
        server: str,
        sender: str,
        user: str = "",
        password: str = "",
        ca: str = "",
    ) -> None:
        parts = urlsplit(server)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise InputError(
                f"{name}: {server!r} is no mail server", hint="smtp://mail.example.org"
            )
        self._name, self._scheme, self._host = name, parts.scheme, parts.hostname
        self._port = parts.port or _PORTS[parts.scheme]
        shown, address = parseaddr(sender)
        if fault := address_fault(address):
            raise InputError(f"{name}: {address or sender!r} {fault}")
        self._sender = Address(_plain(shown), addr_spec=address)
        self._user, self._password, self._ca = user, password, ca

    @property
    def name(self) -> str:
        """Its name in the settings."""
        return self._name

    @property
    def abilities(self) -> Abilities:
        """What mail can."""
        return Abilities(
            characters=100_000,
            lines=2000,
            every_s=0.02,
            burst=100,
            has_threads=True,
        )

    async def say(self, saying: Saying) -> Said:
        """Send a mail, and return when the server has it.

        Raises:
            LaterError: it did not take it now, or it is not known whether it did.
            InputError: it refuses that address or that message for good.
        """
        if fault := address_fault(saying.room):
            raise InputError(f"{_plain(saying.room)!r} {fault}")
        message = self._message(saying)
        try:
            async with asyncio.timeout(WITHIN_S):
                await self._send(saying.room, message.as_bytes())
        except TimeoutError:
            raise LaterError(f"{self._where} did not answer within {WITHIN_S:g} s") from None
        return Said(id=str(message["Message-ID"]), thread=saying.thread)

    @property
    def _where(self) -> str:
        return f"{self._host}:{self._port}"

    async def _send(self, address: str, message: bytes) -> None:
        async with self._connection() as smtp:
            try:
                await smtp.mail(self._sender.addr_spec)
            except SMTPException as error:
                raise LaterError(f"{self._where} takes no mail from us: {_said(error)}") from None
            try:
                await smtp.rcpt(address)
            except SMTPException as error:
                raise self._refusal(
                    f"{self._where} does not take mail for {address}", error
                ) from None
            try:
                await smtp.data(message)
            except SMTPResponseException as error:
                raise self._refusal(f"{self._where} does not take the mail", error) from None
            except SMTPException as error:
                text = f"it is not known whether {self._where} took the mail: {_said(error)}"
                raise LaterError(text) from None

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[SMTP]:
        """Connect, encrypted and logged in as the settings say.

        Raises:
            LaterError: it cannot be now; somebody may have to mend it.
        """
        smtp = SMTP(
            hostname=self._host,
            port=self._port,
            use_tls=self._scheme == "smtps",
            start_tls={"smtp": None, "smtp+starttls": True}.get(self._scheme, False),
            tls_context=self._context(),
            timeout=WITHIN_S,
        )
        try:
            await smtp.connect()
            if self._user:
                await self._log_in(smtp)
        except (SMTPException, OSError, ValueError) as error:
            smtp.close()
            raise LaterError(f"{self._where} cannot be used: {_said(error)}") from None
        try:
            yield smtp
        except BaseException:
            smtp.close()
            raise
        with contextlib.suppress(SMTPException, OSError):
            await smtp.quit(timeout=LEAVE_S)
        smtp.close()

    async def _log_in(self, smtp: SMTP) -> None:
        if not smtp.transport or smtp.transport.get_extra_info("ssl_object") is None:
            smtp.close()
            raise LaterError(f"{self._where} does not encrypt: the password is not sent")
        try:
            await smtp.login(self._user, self._password)
        except aiosmtplib.SMTPAuthenticationError as error:
            smtp.close()
            raise LaterError(
                f"{self._where} does not let {self._user} in: {_said(error)}"
            ) from None

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._ca or None)
        except (OSError, ssl.SSLError) as error:
            raise LaterError(f"{self._name}: certificates of {self._ca}: {error}") from None

    def _refusal(self, what: str, error: SMTPException) -> LaterError | InputError:
        """Return what a refusal means: codes of 500 and more are for ever."""
        code = error.code if isinstance(error, SMTPResponseException) else 0
        text = f"{what}: {_said(error)}"
        return InputError(text) if code >= 500 else LaterError(text)

    def _message(self, saying: Saying) -> EmailMessage:
        """Return the mail that says it."""
        domain = self._sender.domain
        message = EmailMessage(policy=CRLF)
        message["From"] = self._sender
        message["To"] = Address(addr_spec=saying.room)
        message["Subject"] = _plain(saying.subject or saying.text.partition("\n")[0])[:MAX_SUBJECT]
        message["Date"] = formatdate()
        message["Message-ID"] = f"<{saying.id}@{domain}>"
        if saying.thread:
            message["In-Reply-To"] = f"<{_plain(saying.thread)}@{domain}>"
            message["References"] = f"<{_plain(saying.thread)}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message["X-Auto-Response-Suppress"] = "All"
        message["List-Id"] = f"<rota.{domain}>"
        parts = [
            saying.text,
            "\n".join(f"    {it}" for it in saying.code.split("\n") if saying.code),
        ]
        body = "\n\n".join(part for part in [*parts, saying.link] if part)
        message.set_content(body.encode("utf-8", "replace").decode() + "\n")
        return message


def _plain(text: str) -> str:
    """Return a text as a header may have it: no line ends, nothing that cannot be encoded."""
    words = "".join(it if it.isprintable() else " " for it in text)
    return words.encode("utf-8", "replace").decode().strip()


def _said(error: Exception) -> str:
    """Return what a server, or the machine, said: in a line, and not too long."""
    if isinstance(error, SMTPResponseException):
        text = f"{error.code} {error.message}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(_plain(text).split())[:300]
