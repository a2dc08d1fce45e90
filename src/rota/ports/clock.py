"""Time, as the shell reads it. The core is handed times and never asks."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for facts, monotonic time for waits."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC, to the microsecond."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards; only differences mean anything."""
        ...
