"""Probes: what a doctor looks at that no other port shows, on one agent's machine."""

from __future__ import annotations

from typing import Protocol

import msgspec

from rota.core.certificate import Certificate
from rota.core.growth import Growth


class StoreHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How a repository is. ``faults`` are git's own words."""

    version: tuple[int, ...]
    faults: tuple[str, ...] = ()
    packs: int = 0
    loose: int = 0


class ServerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine's own server is: the bytes that it holds in memory, and its refused clients."""

    name: str
    memory_bytes: int = 0
    slow_consumers: int = 0


class Probes(Protocol):
    """Each call looks anew, in the background of all else; most take less than a second."""

    async def store(self) -> StoreHealth:
        """Look at the agent's own repository: is all there that should be, and how is it packed.

        Raises:
            UnavailableError: it took too long, or there is no git.
        """
        ...

    async def server(self) -> ServerHealth | None:
        """Look at the engine's server on this machine; ``None`` where there is none."""
        ...

    def snapshot_seq(self) -> int:
        """Return up to which event the last snapshot goes. Costs nothing."""
        ...

    def growth(self) -> Growth:
        """Return what the disk of the data folder held lately. Costs nothing."""
        ...

    def authority(self) -> Certificate:
        """Return what the certificate of the cluster's own authority says.

        Raises:
            UnavailableError: it is damaged, or not there.
        """
        ...

    def certificate(self) -> Certificate:
        """Return what the agent's certificate says.

        Raises:
            UnavailableError: it is damaged, or not for the key beside it.
        """
        ...
