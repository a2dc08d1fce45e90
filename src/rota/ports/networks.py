"""Chat networks, mail and other outlets: what the bot's process needs of each.

A network that only takes messages (mail, a pager) is an :class:`OneWayNetwork`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

import msgspec


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a network can, and how much it takes."""

    characters: int = 4000  # of one message
    lines: int = 40  # of one message; of more the last are shown, and a link
    every_s: float = 1.0  # so long between two messages on average …
    burst: int = 5  # … after so many at once
    has_threads: bool = False


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a person, in a room where the bot is or to the bot alone."""

    id: str  # the same whoever hears it and however often: what was heard is known by it
    room: str  # where an answer goes
    thread: str = ""  # the thread it stands in; an answer with it goes there
    who: str  # who wrote it, as the network vouches for it; empty where it vouches for nobody
    nick: str  # how people see the writer
    text: str
    at: datetime
    is_direct: bool = False  # to the bot alone
    position: str = ""  # given to `run`, the network goes on after this message


class Saying(msgspec.Struct, frozen=True, kw_only=True):
    """One message of ours."""

    id: str  # letters, digits and -, unique for ever: the same message said again has the same
    room: str  # a room of the network, or a person as `who` of what was heard: to them alone
    thread: str = ""
    text: str = ""  # plain, for people; its first line is the whole in short
    code: str = ""  # shown below it with its columns kept: log lines, a table
    link: str = ""
    tone: str = ""  # good, bad, or nothing: a colour, where there are some
    subject: str = ""  # for what has subjects


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message of ours."""

    id: str = ""  # the network's own name for it
    thread: str = ""  # what to give so that the next one stands below it


class Network(Protocol):
    """One network with one account on it."""

    @property
    def name(self) -> str:
        """Its name in the settings."""
        ...

    @property
    def abilities(self) -> Abilities:
        """What it can."""
        ...

    @property
    def trouble(self) -> str:
        """Why it is not connected, in words for people; empty while it is."""
        ...

    async def run(self, position: str) -> None:
        """Connect, and connect again whenever the connection is lost, until cancelled.

        Cancelled, it takes leave of the network, in a second at most.

        Args:
            position: Of the last message that was dealt with: what came since is heard first, where
                the network keeps it.

        Raises:
            InputError: it will not take us whatever we do: a wrong password, such a setting.
        """
        ...

    def heard(self) -> AsyncIterator[Heard]:
        """Yield what people write, in order, each message once a connection; never our own."""
        ...

    async def say(self, saying: Saying) -> Said:
        """Say something, and return when the network has confirmed that it took it.

        Raises:
            LaterError: it did not take it now, or it is not known whether it did.
            InputError: it will never take it: no such room, nobody of that name.
        """
        ...

    async def was_said(self, saying: Saying) -> bool | None:
        """Whether a message of that id was taken, by whoever spoke; ``None`` where nobody can know.

        Raises:
            LaterError: it cannot be asked now.
        """
        ...


class OneWayNetwork:
    """What all networks have in common that only take messages, each by itself."""

    @property
    def trouble(self) -> str:
        """Nothing: there is no connection but for a message."""
        return ""

    async def run(self, position: str) -> None:
        """Do nothing until cancelled."""
        await asyncio.get_running_loop().create_future()

    async def heard(self) -> AsyncIterator[Heard]:
        """Yield nothing, for ever."""
        await asyncio.get_running_loop().create_future()
        yield  # type: ignore[misc]  # never: it makes this a generator

    async def was_said(self, saying: Saying) -> bool | None:
        """Nobody can know."""
        return None
