"""One connection to an XMPP server: opened once, used, and gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import warnings
from datetime import UTC, datetime
from typing import Any

import msgspec
from slixmpp import JID, ClientXMPP
from slixmpp.exceptions import IqError, IqTimeout

from rota.core.literal import literal
from rota.errors import InputError, UnavailableError

OPEN_S = 20.0
CLOSE_S = 0.5
PING_S = 60.0
ANSWER_S = 20.0
#: Of SASL: another password would help, another try would not (RFC 6120, 6.5).
_FINAL = frozenset({"not-authorized", "account-disabled", "credentials-expired", "invalid-authzid"})

logging.getLogger("slixmpp").setLevel(logging.CRITICAL)  # what matters of it is in the trouble


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect, as whom."""

    jid: JID
    password: str
    server: str
    port: int
    tls: str
    ca: str


class LostError(UnavailableError):
    """A connection could not be made, or is gone."""


class Link:
    """A connection. What is heard comes to handlers of ``client``, in order."""

    def __init__(self, account: Account, resource: str) -> None:
        """Prepare it.

        Raises:
            InputError: the file of the CA cannot be read.
        """
        self._account = account
        full = JID(account.jid)
        full.resource = resource
        self.client = ClientXMPP(
            full,
            account.password,
            ssl_context=_trust(account.ca),
            plugin_config={
                "feature_mechanisms": {
                    "unencrypted_scram": account.tls == "none",
                    "unencrypted_plain": account.tls == "none",
                }
            },
        )
        client = self.client
        # Both are as safe: whichever the server has at that port, or by DNS.
        client.enable_direct_tls = account.tls == "direct"
        client.enable_starttls = account.tls in {"direct", "starttls"}
        client.enable_plaintext = account.tls == "none"
        client.whitespace_keepalive = False  # pings tell more
        client.auto_subscribe = False
        for plugin in (
            "xep_0030",
            "xep_0045",
            "xep_0199",
            "xep_0202",
            "xep_0203",
            "xep_0313",
            "xep_0359",
        ):
            client.register_plugin(plugin)
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: Done, with the reason, when the connection is gone.
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._why = ""
        for event, handler in (
            ("session_start", self._on_start),
            ("failed_auth", self._on_refused),
            ("failed_all_auth", self._on_no_way_in),
            ("ssl_invalid_chain", self._on_no_trust),
            ("connection_failed", self._on_no_connection),
            ("reconnect_delay", self._on_no_way),
            ("stream_error", self._on_stream_error),
            ("disconnected", self._on_disconnected),
        ):
            client.add_event_handler(event, handler)
        self._refused = ""
        self._unreachable = ""
        self.is_replaced = False

    @property
    def where(self) -> str:
        """The server in words."""
        account = self._account
        if not account.server:
            return str(account.jid.domain)
        return f"{account.server}:{account.port or 5222}"

    async def open(self) -> None:
        """Connect and log in.

        Raises:
            InputError: it will never let us in: the password is wrong.
            LostError: not now.
        """
        account = self._account
        port = account.port or 5222
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of its own callbacks
            if account.server:
                _ = self.client.connect(account.server, port)
            else:
                _ = self.client.connect()
        try:
            await asyncio.wait_for(asyncio.shield(self._opened), OPEN_S)
        except TimeoutError as error:
            raise LostError(f"{self.where} did not let us in within {OPEN_S:g} s") from error

    async def close(self) -> None:
        """Take leave, in half a second at most, and leave nothing behind."""
        client = self.client
        client.cancel_connection_attempt()
        if client.transport is not None:
            _ = client.disconnect(wait=CLOSE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self.lost), CLOSE_S)
            client.abort()
        client.cancel_connection_attempt()
        _end(client)
        for future in (self._opened, self.lost):
            if future.done():
                future.exception()
            else:
                future.cancel()

    async def time(self) -> datetime | None:
        """Return what time it is at the server, if it says: archives are by that clock (XEP-0202)."""
        try:
            answer = await self.plugin("xep_0202").get_entity_time(
                JID(self._account.jid.domain), timeout=ANSWER_S
            )
            found: datetime = answer["entity_time"]["utc"]
        except (IqError, IqTimeout, ValueError):
            return None
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

    def plugin(self, name: str) -> Any:
        """Return a part of the library by its name."""
        return self.client.plugin[name]  # type: ignore[literal-required]

    async def watch(self) -> str:
        """Ask every minute whether the server is there; return why the connection is gone."""
        while True:
            done, _ = await asyncio.wait({self.lost}, timeout=PING_S)
            if done:
                return self.lost.result()
            if await self.ping(JID(self._account.jid.domain)) == "silent":
                return f"{self.where} has been silent for {ANSWER_S:g} s"

    async def ping(self, jid: JID) -> str:
        """Return what somebody answers: nothing, ``silent``, or the condition of an error."""
        try:
            await self.plugin("xep_0199").send_ping(jid, timeout=ANSWER_S)
        except IqTimeout:
            return "silent"
        except IqError as error:
            return str(error.condition)
        return ""

    # -- what the library tells -------------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
        self.client.cancel_connection_attempt()
        if not self._opened.done():
            self._opened.set_exception(error)

    def _on_start(self, _: object) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _on_refused(self, failure: Any) -> None:
        self._refused = str(failure["condition"])

    def _on_no_way_in(self, _: object) -> None:
        account = self._account
        if self._refused in _FINAL:
            self._fail(
                InputError(
                    f"{self.where} refuses {account.jid}: {self._refused}",
                    hint="is the password right, and is there such an account?",
                )
            )
        elif self._refused:
            self._fail(LostError(f"{self.where} refuses {account.jid} now: {self._refused}"))
        else:
            self._fail(
                InputError(
                    f"{self.where} offers no way to log in that we would take",
                    hint="without tls, no password is sent as it is",
                )
            )

    def _on_no_trust(self, error: object) -> None:
        self._fail(LostError(f"{self.where} has a certificate that we do not trust: {error}"))
        self.client.abort()

    def _on_no_connection(self, error: object) -> None:
        if isinstance(error, ssl.SSLCertVerificationError):
            self._on_no_trust(error)
            return
        number = getattr(error, "errno", None)
        why = os.strerror(number) if isinstance(number, int) and number > 0 else str(error)
        self._unreachable = self._unreachable or f"cannot connect to {self.where}: {why}"

    def _on_no_way(self, _: object) -> None:
        """All ways were tried; the library would try them again."""
        self._fail(LostError(self._unreachable or f"cannot connect to {self.where}"))

    def _on_stream_error(self, error: Any) -> None:
        self._why = str(error["condition"])
        if self._why == "conflict":
            self.is_replaced = True
            self._why = "another one logged in under our name"
        elif error["text"]:
            self._why += f", {literal(error['text'])}"

    def _on_disconnected(self, reason: object) -> None:
        if isinstance(reason, ssl.SSLCertVerificationError):
            self._on_no_trust(reason)
        why = f"{self.where} ended the connection: {self._why or reason or 'no reason given'}"
        self._fail(LostError(why))
        if not self.lost.done():
            self.lost.set_result(why)


def _trust(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"cannot read the CA of XMPP, {ca}: {error}") from error


def _end(client: ClientXMPP) -> None:
    # The library keeps a task for as long as the object lives.
    task = client._run_out_filters  # noqa: SLF001
    if task is not None:
        task.cancel()
