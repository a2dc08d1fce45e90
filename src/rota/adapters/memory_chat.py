"""The twin of the bot's process: its networks are in this one, and commands are carried out by a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from rota.errors import InputError
from rota.ports.chat import Command, Reported, nothing
from rota.ports.networks import Network, Said, Saying

Carry = Callable[[Command], Awaitable[Sequence[Saying]]]


async def _echo(command: Command) -> Sequence[Saying]:
    """Answer with the command."""
    heard = command.heard
    return [
        Saying(
            id=f"answer-{command.key}",
            room=heard.room,
            thread=heard.thread,
            text=command.line,
        )
    ]


class MemoryChat:
    """See :class:`rota.ports.chat.Chat`.

    ``performed`` has the commands that came, in order.
    """

    def __init__(self, *networks: Network, carry: Carry = _echo) -> None:
        self._networks = {it.name: it for it in networks}
        self._carry = carry
        self._heard: asyncio.Queue[Reported] = asyncio.Queue()
        self.performed: list[Command] = []
        self.is_running = False

    async def run(self, positions: Mapping[str, str]) -> None:
        """Be on all networks until cancelled."""
        self.is_running = True
        try:
            async with asyncio.TaskGroup() as group:
                for name, network in self._networks.items():
                    group.create_task(self._listen(network))
                    group.create_task(self._be_on(network, positions.get(name, "")))
        finally:
            self.is_running = False

    async def _be_on(self, network: Network, position: str) -> None:
        with suppress(InputError):
            await network.run(position)

    async def _listen(self, network: Network) -> None:
        async for heard in network.heard():
            self._heard.put_nowait(Reported(network=network.name, heard=heard))

    def changed(self) -> None:
        """Do nothing: there are no settings."""

    async def reports(self) -> AsyncIterator[Reported]:
        """Yield what people write."""
        while True:
            yield await self._heard.get()

    def troubles(self) -> Mapping[str, str]:
        """Return which networks are not connected."""
        found = {name: it.trouble for name, it in self._networks.items()}
        return {name: trouble for name, trouble in found.items() if trouble}

    async def say(self, network: str, saying: Saying) -> Said:
        """Say something."""
        return await self._network(network).say(saying)

    async def was_said(self, network: str, saying: Saying) -> bool | None:
        """Whether it was said."""
        return await self._network(network).was_said(saying)

    async def perform(
        self, command: Command, carried: Callable[[], None] = nothing
    ) -> Sequence[Said]:
        """Carry a command out, and answer it."""
        self.performed.append(command)
        network = self._network(command.network)
        sayings = await self._carry(command)
        carried()
        return [await network.say(saying) for saying in sayings]

    def _network(self, name: str) -> Network:
        network = self._networks.get(name)
        if network is None:
            raise InputError(f"there is no network {name}")
        return network
