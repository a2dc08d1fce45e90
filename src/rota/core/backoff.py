"""How long to wait before the next try."""

from __future__ import annotations


class Backoff:
    """Seconds that double with each failure, up to a limit, until something goes well."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def failed(self) -> float:
        """Return how many seconds to wait now."""
        wait_s = self._next_s
        self._next_s = min(self._next_s * 2, self._most_s)
        return wait_s

    def went_well(self) -> None:
        """Begin with the shortest wait again."""
        self._next_s = self._first_s
