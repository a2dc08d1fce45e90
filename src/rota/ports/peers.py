"""Peers: other agents of the cluster, asked over HTTPS with both sides known by their keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from rota.core.address import Address
from rota.ports.channel import Channel

#: What an answer may have at most: a picture with a hundred thousand live builds.
MAX_ANSWER_BYTES = 256 << 20


class Peer(msgspec.Struct, frozen=True):
    """An agent, where its listener for peers is (``https://HOST:PORT``), and its key's pin.

    ``coming`` is the pin of a further key that it may show.
    """

    name: str
    url: str
    pin: str
    coming: str = ""

    @property
    def pins(self) -> tuple[str, ...]:
        """The pins of all keys that it may show."""
        return tuple(pin for pin in (self.pin, self.coming) if pin)


class Peers(Protocol):
    """Any number of requests at once; connections are kept for a while and used again.

    Nothing is sent before the other side has shown the key that we know the peer by. Cancelling
    leaves open whether the request was carried out.
    """

    async def request(
        self,
        peer: Peer,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] = {},
        within_s: float = 10.0,
    ) -> bytes:
        """Return the body of the peer's answer.

        Args:
            peer: Whom to ask.
            method: Of HTTP.
            path: With its query, percent-encoded where that is needed.
            body: Sent as JSON.
            headers: More headers.
            within_s: Seconds for all of it.

        Raises:
            RotaError: the same error, with message and hint, that the peer answered with.
            UnavailableError: it cannot be reached, does not answer in time, or has another key.
        """
        ...

    async def open(
        self, peer: Peer, path: str, *, headers: Mapping[str, str] = {}, within_s: float = 10.0
    ) -> Channel:
        """Return a channel to a peer: a WebSocket at ``path``. Close it.

        Raises:
            RotaError: the same error, with message and hint, that the peer answered with.
            UnavailableError: it cannot be reached, does not answer in time, or has another key.
        """
        ...


class Stranger(Protocol):
    """A member, as seen by a machine that is none yet."""

    async def ca(self, address: Address, *, within_s: float = 10.0) -> bytes:
        """Return what is said to be the CA's certificate (PEM), from a connection nobody verified.

        Raises:
            UnavailableError: nobody answers there, or something else does.
        """
        ...

    async def post(
        self, address: Address, ca: bytes, path: str, body: bytes, *, within_s: float = 20.0
    ) -> bytes:
        """Return the answer to JSON sent to a server whose certificate is of ``ca`` (PEM).

        Raises:
            RotaError: the error that the member answered with.
            DeniedError: the server's certificate is not of ``ca``; nothing was sent.
            UnavailableError: nobody answers there, or not in time.
        """
        ...

    async def own_address(self, towards: Address) -> str:
        """Return the IP address that this machine has on its way to ``towards``."""
        ...
