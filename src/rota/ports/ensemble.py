"""The ensemble: the engine's servers as one group, seen and changed by whoever leads.

A *seat* is a server's place in the group. All calls are safe to repeat, and each is one step: what
is half done is found by looking again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rota.core.voters import Seat

__all__ = ["Ensemble", "Seat"]


class Ensemble(Protocol):
    """Needs a connection to any server, with the rights of an agent."""

    async def seats(self) -> Sequence[Seat]:
        """Return all servers of the group, by name.

        Raises:
            UnavailableError: the group has no leader: there is no quorum.
        """
        ...

    async def copies(self) -> tuple[int, bool]:
        """Return how many copies there are of what is kept, and whether all of them are whole.

        Raises:
            UnavailableError: no answer in time.
        """
        ...

    async def replicate(self, copies: int) -> None:
        """Ask for ``copies`` of everything that is kept; :meth:`copies` says when they are there.

        Raises:
            UnavailableError: the servers did not agree in time.
        """
        ...

    async def evacuate(self, server: str) -> None:
        """Ask a living server to hand over what it keeps and leads; :meth:`keeps` says when it has.

        Raises:
            UnavailableError: no answer in time.
        """
        ...

    async def keeps(self, server: str) -> bool:
        """Whether ``server`` still keeps a copy of anything.

        Raises:
            UnavailableError: no answer in time.
        """
        ...

    async def remove(self, server: str) -> None:
        """Take a server out of the group for good, alive or dead. Safe if it is not in it.

        Raises:
            UnavailableError: the group did not agree in time.
        """
        ...

    async def damaged(self) -> Sequence[str]:
        """Return servers whose copy of anything lacks what the others have, though it is current.

        A disk can do that, and the engine does not heal it. Cost: one question to each server.

        Raises:
            UnavailableError: no answer in time.
        """
        ...

    async def reachable(self) -> Sequence[str]:
        """Return the servers that answer, by name, also where they have no leader."""
        ...

    async def rescue(self, quorum: int) -> Sequence[str]:
        """Let ``quorum`` servers be enough, where a majority is gone for ever; return who agreed.

        Split brain, if those who are gone live on elsewhere: only for a person to ask for.

        Raises:
            UnavailableError: no server agreed.
        """
        ...
