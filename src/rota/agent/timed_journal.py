"""A journal whose appends are timed, once somebody watches this agent."""

from __future__ import annotations

from rota.core.events import Event
from rota.errors import UnavailableError
from rota.ports.clock import Clock
from rota.ports.journal import Journal
from rota.service.counts import Counts


class TimedJournal:
    """Implements :class:`rota.ports.journal.Journal` over another one."""

    def __init__(self, journal: Journal, counts: Counts, clock: Clock) -> None:
        self._journal, self._counts, self._clock = journal, counts, clock
        self.read, self.bounds, self.trim = journal.read, journal.bounds, journal.trim

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        """Write an event; count how long that took."""
        if not self._counts.is_on:
            return await self._journal.append(event, expect=expect, fence=fence)
        began = self._clock.monotonic()
        try:
            seq = await self._journal.append(event, expect=expect, fence=fence)
        except UnavailableError:
            self._counts.failed_appends += 1
            raise
        self._counts.appends.take(self._clock.monotonic() - began)
        return seq
