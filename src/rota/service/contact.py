"""When this agent last had a sign that a quorum of the voters works and that it is part of it."""

from __future__ import annotations

from rota.ports.clock import Clock


class Contact:
    """Signs are a beat that a quorum took, an event that was folded, a write that was confirmed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.made()

    def made(self) -> None:
        """Note a sign."""
        self.at = self._clock.now()
        self._made_at = self._clock.monotonic()

    def silent_s(self) -> float:
        """Return the seconds since the last sign."""
        return self._clock.monotonic() - self._made_at
