"""Presence: agents say that they are there, and whoever needs to know listens.

Words are not kept, may be lost or come twice, and prove nothing but that somebody spoke. What
follows from silence is decided by the leader and recorded in the journal.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec

from rota.core.instant import Instant


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent says of itself: its name, how far it has folded the journal, its clock, its level."""

    agent: str
    seq: int = 0
    answer: str = ""  # where `ask` waits; what it says is the adapter's own
    at: Instant | None = None  # what its clock showed
    level: int = 0  # what it can; 0 where it does not say


class Presence(Protocol):
    """Cost: one small message without an answer for each word; nothing for agents that do not hear."""

    async def say(self, word: Word) -> None:
        """Tell everybody who hears. Without a connection nothing happens; never raises for that."""
        ...

    async def ask(self, word: Word, *, within_s: float) -> bool:
        """Say ``word``; return whether somebody who heard it confirmed it within ``within_s``."""
        ...

    async def confirm(self, word: Word) -> None:
        """Answer a word that was heard with an ``answer``. Never raises."""
        ...

    def hear(self) -> AsyncGenerator[Word]:
        """Yield what agents say from now on, for ever, this one's own words included.

        Close the iterator (``aclosing``) to stop listening.
        """
        ...
