"""A hold: while a recovery settles where the journal goes on, agents write nothing.

The voters that are left take writes again before it is settled: what was written then would stand
at sequences at which others have seen something else. So whoever recovers asks all whom it reaches
to wait; a hold ends by itself as well, should nobody say that it is over.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from rota.core.events import Event
from rota.errors import UnavailableError
from rota.ports.clock import Clock
from rota.ports.journal import Entry, Journal

#: Longer than a recovery takes: some of its steps wait for the engine's servers to settle.
HOLD_S = 120.0


class Hold:
    """Whether this agent waits. Begun and ended by whoever recovers, here or elsewhere."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0

    @property
    def is_on(self) -> bool:
        """Whether nothing may be written now."""
        return self._clock.monotonic() < self._until

    def begin(self) -> None:
        """Write nothing from now on, for :data:`HOLD_S` at most."""
        self._until = self._clock.monotonic() + HOLD_S

    def end(self) -> None:
        """Write again."""
        self._until = 0.0


class HeldJournal:
    """A journal (see :class:`rota.ports.journal.Journal`) that takes nothing during a hold."""

    def __init__(self, journal: Journal, hold: Hold) -> None:
        self._journal, self._hold = journal, hold

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        """Append, or refuse it for now."""
        if self._hold.is_on:
            raise UnavailableError(
                "the cluster is being recovered, and takes nothing meanwhile",
                hint="it is a matter of seconds; then the same can be asked again",
            )
        return await self._journal.append(event, expect=expect, fence=fence)

    def read(self, *, after: int = 0, follow: bool = False) -> AsyncGenerator[Entry]:
        """Read as ever."""
        return self._journal.read(after=after, follow=follow)

    async def bounds(self) -> tuple[int, int]:
        """Return the bounds as ever."""
        return await self._journal.bounds()

    async def trim(self, *, before: int) -> None:
        """Trim as ever: that is how a recovery settles it."""
        await self._journal.trim(before=before)
