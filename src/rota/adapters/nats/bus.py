"""A NATS cluster that somebody else runs, in the engine's place: ``--bus nats://…``."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

import msgspec

from rota.adapters.nats.bootstrap import Answer
from rota.adapters.nats.client import Address, Client, Login
from rota.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from rota.core.voter import Voter

PORT = 4222
CONNECT_S = 5.0
ASK_S = 2.0
#: A new stream gets so many copies where the cluster has enough servers, one where it has not.
COPIES = 3


class Bus:
    """An existing cluster, with the face of an :class:`~rota.adapters.nats.engine.Engine`.

    Nothing is started, stopped or changed there but rota's own streams.
    """

    def __init__(self, url: str) -> None:
        """Take ``nats://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]``, or ``tls://…``.

        Raises:
            InputError: it is no such address.
        """
        self.addresses, self._login, self._is_tls = _parse(url)
        self._clients: WeakSet[Client] = WeakSet()
        self.server = None
        """A bus never has a server of ours."""
        self.voters: Sequence[Voter] = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing of ours is left behind."""

    @property
    def trouble(self) -> str | None:
        """What is wrong, in words for the status page; ``None`` if nothing is."""
        whys = [client.why or "no answer" for client in self._clients if client.is_out]
        return f"the bus at {self} cannot be reached: {whys[0]}" if whys else None

    def __str__(self) -> str:
        return ", ".join(map(str, self.addresses))

    def connect(self, name: str = "rota") -> Client:
        """Return a client for the journal, the logs and the blobs; use it as a context manager."""
        client = Client(
            lambda: self.addresses,
            self._login,
            name=name,
            trouble=lambda: self.trouble,
            tls=ssl.create_default_context if self._is_tls else None,
            tls_first=False,
            copies=COPIES,
        )
        self._clients.add(client)
        return client

    async def check(self) -> None:
        """Return once the cluster is known to be of use.

        Raises:
            UnavailableError: it cannot be reached, does not let us in, or has no JetStream.
        """
        async with self.connect("rota-check") as client:
            try:
                await client.connected(CONNECT_S)
            except UnavailableError as error:
                raise UnavailableError(
                    f"the bus at {self} cannot be reached: {client.why or error.message}"
                ) from None
            answer = await self._ask(client)
        if answer.error is not None:
            raise UnavailableError(
                f"the bus at {self} cannot be used: {answer.error.description}",
                hint="it needs JetStream, enabled for the account that the address names",
            )

    async def _ask(self, client: Client) -> Answer:
        try:
            raw = await client.request("$JS.API.INFO", within_s=ASK_S)
        except UnavailableError as error:
            raise UnavailableError(
                f"the bus at {self} cannot be used: {error.message}",
                hint="the user that the address names must be allowed to ask $JS.API.>",
            ) from error
        if (raw.headers or {}).get("Status") == "503":
            raise UnavailableError(
                f"the bus at {self} cannot be used: it has no JetStream",
                hint="it needs JetStream, enabled for the account that the address names",
            )
        return msgspec.json.decode(raw.data, type=Answer)

    async def know(
        self, voters: Sequence[Voter], pins: Mapping[str, str], coming: Mapping[str, str] = {}
    ) -> None:
        """Nothing: who may use the bus is for its owners to say."""

    async def release(self) -> None:
        """Nothing: there is nothing of ours."""

    async def stop(self) -> None:
        """Nothing: it is not ours to stop."""


def _parse(url: str) -> tuple[tuple[Address, ...], Login, bool]:
    """Return where to connect, as whom, and whether by TLS."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("nats", "tls") or not rest:
        raise _bad(url)
    user, at, hosts = rest.rstrip("/").rpartition("@")
    name, _, password = user.partition(":")
    login = Login(unquote(name), unquote(password)) if at else Login("", "")
    return tuple(_address(url, host) for host in hosts.split(",")), login, scheme == "tls"


def _address(url: str, text: str) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or text.endswith(":"):
        raise _bad(url)
    return Address(host, port or PORT)


def _bad(url: str) -> InputError:
    shown = url.rpartition("@")[2]  # what stands before it may be a password
    return InputError(
        f"bad address of a bus: {shown!r}",
        hint="nats://USER:PASSWORD@HOST:PORT,HOST:PORT or tls://…",
    )
