"""What builds in containers need of an engine, besides that it runs the script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from rota.core.container import Image, Service

Say = Callable[[str], None]
"""Writes a line into the log of the build that waits."""


class Login(msgspec.Struct, frozen=True):
    """Who pulls; for a registry that asks. ``host`` is empty for whichever the image is of."""

    user: str
    password: str
    host: str = ""


class Prepared(msgspec.Struct, frozen=True):
    """An image that is on this machine.

    ``id`` never comes to mean another one; ``called`` is how people call it. What else there is are
    the image's own defaults.
    """

    id: str
    called: str
    env: Mapping[str, str] = {}
    user: str = ""
    entrypoint: tuple[str, ...] = ()


class Containers(Protocol):
    """The engine of this machine. All that is made carries an attempt's name, and is found by it."""

    async def image(self, wanted: Image, *, work: Path, login: Login | None, say: Say) -> Prepared:
        """Return the image, pulled or made of the workspace ``work`` if need be.

        Cancelled, it stops what it does; what was fetched by then is kept.

        Raises:
            ExecutionError: it cannot be had; the text says what registry or engine said.
            UnavailableError: the engine cannot be reached.
        """
        ...

    async def serve(
        self,
        attempt: str,
        services: Sequence[Service],
        *,
        logins: Mapping[str, Login],
        say: Say,
        internal: bool,
    ) -> str:
        """Start services on a network of their own, wait until all are ready, and return its name.

        From one that is ``internal`` the rest of the world is not reached.

        What an attempt of that name had before is removed first.

        Raises:
            ExecutionError: one cannot be started, ends, or is not ready in time; its last lines are said.
            UnavailableError: the engine cannot be reached.
        """
        ...

    def network(self, attempt: str) -> str:
        """Return the name of the network that :meth:`serve` makes."""
        ...

    def labels(self, attempt: str) -> dict[str, str]:
        """Return what an attempt's containers are found by."""
        ...

    async def ended(self, attempt: str, say: Say) -> Sequence[str]:
        """Return how services of an attempt ended that did so by themselves; say their last lines."""
        ...

    async def clear(self, attempt: str) -> None:
        """Remove all containers, networks and nameless volumes of an attempt; safe to call twice.

        Raises:
            RotaError: the engine cannot be reached, or does not do it.
        """
        ...

    async def reclaim(self, folders: Sequence[Path]) -> None:
        """Give folders with all that is in them to this process's user, where others own any of it.

        Root leaves all as it is.

        Raises:
            RotaError: the engine cannot be reached, or does not do it.
        """
        ...

    async def sweep(self, is_alive: Callable[[str], bool]) -> int:
        """Remove what attempts left of which ``is_alive`` is false once all was listed; return how much.

        Only what this agent's containers are is looked at. Nothing is asked of an engine that this agent
        never used.

        Raises:
            RotaError: the engine cannot be reached, or does not do it.
        """
        ...
