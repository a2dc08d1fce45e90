"""The lease's heartbeat: how a leader shows, to itself and to others, that a quorum hears it.

Who leads is said by the journal alone (``leader.elected``, by compare-and-set, and what a leader
writes is fenced by that event's sequence). The heartbeat only says when to stand for election: a
leader whose beats a quorum no longer takes stops by itself, and others wait for a silence longer
than that before they stand.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec


class Beat(msgspec.Struct, frozen=True):
    """``agent`` leads, by the election with sequence ``token``."""

    agent: str
    token: int


class Lease(Protocol):
    """Beats need not survive a restart of every voter, and the last one is all that is kept."""

    async def beat(self, beat: Beat, *, within_s: float) -> None:
        """Return once a quorum of the voters took the beat.

        Raises:
            UnavailableError: none did within ``within_s`` seconds.
        """
        ...

    def follow(self) -> AsyncGenerator[Beat]:
        """Yield beats as they come, for ever, this agent's own included; nothing from the past."""
        ...
