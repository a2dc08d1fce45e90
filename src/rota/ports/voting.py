"""What an agent does with the engine's servers: knows them all, and runs one of them if appointed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from rota.core.voter import Voter


class Server(msgspec.Struct, frozen=True):
    """This agent's own server, and where it listens."""

    name: str
    host: str
    client: int
    route: int


class Voting(Protocol):
    """The engine as its agent sees it. Calls are one at a time."""

    @property
    def server(self) -> Server | None:
        """The server that runs here; ``None`` for an agent that is no voter."""
        ...

    async def know(
        self, voters: Sequence[Voter], pins: Mapping[str, str], coming: Mapping[str, str] = ...
    ) -> None:
        """Take note of all servers, and of the members' pins (agent -> pin); of ``coming`` ones too.

        The own server lets in who is among them, and nobody else, from now on. Cheap when nothing
        changed; survives a restart.
        """
        ...

    async def join(self, server: str, host: str) -> Server:
        """Start a fresh server under a name never used before; it joins the known ones.

        Raises:
            UnavailableError: it could not be started.
        """
        ...

    async def retire(self) -> None:
        """End the own server and forget what it kept. Safe to call twice."""
        ...
