"""What was seen lately: a set that forgets the oldest."""

from __future__ import annotations


class Recent:
    """Ids, at most ``limit`` of them. Constant time and memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ids: dict[str, None] = {}

    def add(self, key: str) -> bool:
        """Return whether ``key`` is new, and know it from now on."""
        if key in self._ids:
            return False
        self._ids[key] = None
        if len(self._ids) > self._limit:
            del self._ids[next(iter(self._ids))]
        return True

    def __contains__(self, key: str) -> bool:
        return key in self._ids
