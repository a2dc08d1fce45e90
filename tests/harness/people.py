"""What the tests of networks need of each: a server, a person's client, and the bot's own connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from rota.ports.networks import Heard, Network


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A message as a client has it; ``raw`` is all of it, as the network has it."""

    by: str
    room: str
    text: str
    raw: str
    thread: str = ""
    html: str = ""
    id: str = ""


class Person(Protocol):
    """A person's client, in a room of its own."""

    name: str
    who: str  # as the network vouches for it
    room: str

    @property
    def shown(self) -> list[Shown]:
        """What others wrote."""
        ...

    async def write(self, to: str, text: str, *, thread: str = "") -> None:
        """Write into a room, or to somebody."""
        ...

    async def enter(self, room: str) -> None:
        """Enter another room that there is."""
        ...

    async def sees(self, count: int, *, within_s: float = 20.0) -> list[Shown]:
        """Return what others wrote, once there are ``count`` messages."""
        ...


class Server(Protocol):
    """A server of the network."""

    def kill(self) -> None:
        """End it at once."""
        ...

    def start(self) -> None:
        """Start it again; it has what it had, and listens."""
        ...

    def close(self) -> None:
        """End it for good."""
        ...


class Bench(Protocol):
    """One network to try."""

    kind: str
    refused: str  # is in the text about wrong credentials
    nowhere: str  # no room
    nobody: str  # no person
    remembers: bool  # what was said while nobody was there is heard later
    knows: bool  # whether something was said

    @property
    def server(self) -> Server:
        """Its server."""
        ...

    def person(self, name: str = "ann") -> AbstractAsyncContextManager[Person]:
        """Return a person's client, in a room of its own."""
        ...

    def network(self, *rooms: str) -> Network:
        """Return the bot, not connected yet."""
        ...

    def impostor(self) -> Network:
        """Return the bot with wrong credentials."""
        ...

    def to_bot(self) -> str:
        """Return where a person writes to the bot alone."""
        ...

    def check_literal(self, shown: Shown) -> None:
        """Fail if something in a message means anything to clients of this network."""
        ...


class Listening:
    """The bot, connected; what it heard."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.heard: list[Heard] = []
        self._news = asyncio.Event()

    async def hears(self, count: int, *, within_s: float = 20.0) -> list[Heard]:
        """Return what was heard, once there are ``count`` messages."""
        async with asyncio.timeout(within_s):
            while len(self.heard) < count:
                self._news.clear()
                await self._news.wait()
        return self.heard

    async def listen(self) -> None:
        async for heard in self.network.heard():
            self.heard.append(heard)
            self._news.set()


@contextlib.asynccontextmanager
async def connected(network: Network, position: str = "") -> AsyncIterator[Listening]:
    """Run the bot while the context is open; it is connected when it begins."""
    listening = Listening(network)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(network.run(position))
        hearing = tasks.create_task(listening.listen())
        await until(lambda: not network.trouble or running.done(), what=lambda: network.trouble)
        try:
            yield listening
        finally:
            running.cancel()
            hearing.cancel()


async def until(
    holds: Callable[[], bool], within_s: float = 30.0, *, what: Callable[[], object] = str
) -> None:
    """Wait for a state that nothing tells of; ``what`` is shown if it does not come."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, what()
        await asyncio.sleep(0.01)
