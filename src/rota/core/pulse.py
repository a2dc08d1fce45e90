"""The pulse: how many builds finished in each of the last minutes.

It is counted as events are folded, by the events' own times, so that every agent counts the same; a
build more is one addition.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rota.core.build import Build
from rota.core.events import EPOCH
from rota.core.states import State

#: So many minutes are known.
MINUTES = 60


class Pulse:
    """Counts builds that finish, by the minute."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.began_at: datetime | None = None  # what finished before was not counted

    def beat(self, seq: int, at: datetime, builds: Iterable[Build]) -> None:
        """Count those of the builds that an event changed which it has finished."""
        if self.began_at is None and at != EPOCH:
            self.began_at = at
        for build in builds:
            # One that had finished before has a time of its own.
            if build.state is State.FINISHED and build.seq == seq and build.finished_at == at:
                self._count(at)

    def recall(self, builds: Iterable[Build]) -> None:
        """Count builds of the history as well: those that finished before the first event."""
        for build in builds:
            at = build.finished_at
            if at is not None and (self.began_at is None or at < self.began_at):
                self._count(at)

    def per_minute(self, now: datetime, minutes: int) -> tuple[int, ...]:
        """Return how many builds finished in each of the last minutes; the last is under way."""
        last = _minute(now)
        return tuple(self._counts.get(minute, 0) for minute in range(last - minutes + 1, last + 1))

    def _count(self, at: datetime) -> None:
        minute = _minute(at)
        self._counts[minute] = self._counts.get(minute, 0) + 1
        while len(self._counts) > MINUTES:
            del self._counts[min(self._counts)]


def _minute(at: datetime) -> int:
    return int(at.astimezone(UTC).timestamp() // 60)
