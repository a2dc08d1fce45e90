"""How long to leave somebody alone who did not take what was offered: longer each time."""

from __future__ import annotations

#: Seconds before the second try, doubled up to the last, where nothing else is said.
FIRST_S, LAST_S = 1.0, 60.0
#: However long somebody asks us to wait, it is looked again after this.
MAX_AFTER_S = 600.0


class Backoff:
    """Of one place that is asked again and again: seconds that double until something goes well."""

    def __init__(self, first_s: float = FIRST_S, last_s: float = LAST_S) -> None:
        self._first_s, self._last_s = first_s, last_s
        self._next_s = first_s

    def failed(self, after_s: float = 0.0) -> float:
        """Return how many seconds to wait after one more failure; the place itself may ask for more."""
        wait_s = self._next_s
        self._next_s = min(self._next_s * 2, self._last_s)
        return max(wait_s, min(after_s, MAX_AFTER_S))

    def went_well(self) -> None:
        """Begin with the shortest wait again."""
        self._next_s = self._first_s
