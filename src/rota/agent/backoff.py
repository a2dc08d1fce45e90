"""How long to leave somebody alone who did not take what was offered: longer each time."""

from __future__ import annotations

#: Seconds before the second try, doubled up to the last.
FIRST_S, LAST_S = 1.0, 60.0
#: However long somebody asks us to wait, it is looked again after this.
MAX_AFTER_S = 600.0


class Backoff:
    """Of one place that is asked again and again."""

    def __init__(self) -> None:
        self._failures = 0

    def failed(self, after_s: float = 0.0) -> float:
        """Return how many seconds to wait after one more failure; the place itself may ask for more."""
        wait_s = min(FIRST_S * (1 << min(self._failures, 10)), LAST_S)
        self._failures += 1
        return max(wait_s, min(after_s, MAX_AFTER_S))

    def worked(self) -> None:
        """Begin anew."""
        self._failures = 0
