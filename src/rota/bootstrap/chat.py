"""The bot's process, made with what an agent has: its settings, its secrets, its socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from rota.adapters.chat_process import ChatProcess
from rota.bootstrap.networks import wanted_networks
from rota.core.settings import Settings
from rota.ports.chat_wire import Setup


def make_chat(
    *,
    settings: Callable[[], Settings],
    read_secret: Callable[[str], Awaitable[bytes]],
    admitted: Callable[[], AbstractContextManager[str]],
    socket: str,
) -> ChatProcess:
    """Return the port that the bot's duty speaks through; it starts nothing yet.

    Args:
        settings: Returns those of the cluster, as they are now.
        read_secret: Returns a secret of the store.
        admitted: Gives the token by which the process speaks for users.
        socket: The agent's.
    """

    async def setup() -> Setup:
        now = settings()
        networks = await wanted_networks(now, read_secret)
        return Setup(networks=networks, socket=socket, url=now.url)

    return ChatProcess(setup, admitted)
