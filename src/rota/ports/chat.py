"""The process that speaks on the networks, as the leader's duties see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from rota.core.settings import Settings
from rota.ports.networks import Heard, Said, Saying


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command that somebody gave in a room: to be carried out, and answered there."""

    key: str  # names it for ever: carried out twice, it acts once
    network: str
    heard: Heard
    line: str  # as it was given, without what commands begin with
    build: str = ""  # which the thread is about, where it is about one: it need not be named
    user: str  # on whose behalf
    role: str  # and with which role: the name of a `service.verbs.Role`


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was heard on a network."""

    network: str
    heard: Heard


def nothing() -> None:
    """Do nothing."""


class Chat(Protocol):
    """Networks as they are settled: all names are those of the settings."""

    async def run(self, positions: Mapping[str, str]) -> None:
        """Keep the process and its connections, until cancelled; what fails is begun again.

        Args:
            positions: Of each network, as of :meth:`rota.ports.networks.Network.run`.
        """
        ...

    def changed(self) -> None:
        """Look at the settings anew, soon."""
        ...

    def reports(self) -> AsyncIterator[Reported]:
        """Yield what people write on any network."""
        ...

    def troubles(self) -> Mapping[str, str]:
        """Return which networks are not connected, and why."""
        ...

    async def say(self, network: str, saying: Saying) -> Said:
        """Say something; see :meth:`rota.ports.networks.Network.say`.

        Raises:
            LaterError: it was not taken now, or it is not known; the process is gone, too.
            InputError: it will never be taken; there is no such network.
        """
        ...

    async def was_said(self, network: str, saying: Saying) -> bool | None:
        """See :meth:`rota.ports.networks.Network.was_said`.

        Raises:
            LaterError: it cannot be asked now.
        """
        ...

    async def perform(
        self, command: Command, carried: Callable[[], None] = nothing
    ) -> Sequence[Said]:
        """Carry a command out as its user, and answer it in its room; return when it is answered.

        Args:
            command: What to carry out.
            carried: Called once it is carried out, and only its answer is left to be said: on a
                slow network that takes its time.

        Raises:
            LaterError: it is not known whether it was answered.
        """
        ...


class MakeChat(Protocol):
    """Makes the port for an agent; nothing is started by that."""

    def __call__(
        self,
        *,
        settings: Callable[[], Settings],
        read_secret: Callable[[str], Awaitable[bytes]],
        admitted: Callable[[], AbstractContextManager[str]],
        socket: str,
    ) -> Chat:
        """Return it.

        Args:
            settings: Returns those of the cluster, as they are now.
            read_secret: Returns a secret of the store.
            admitted: Gives a token by which commands are carried out for users.
            socket: The agent's.
        """
        ...
