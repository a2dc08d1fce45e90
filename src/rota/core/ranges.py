"""Half-open ranges of whole numbers: seconds of a day, days, instants."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

#: Sorted, apart from each other, each with its start and what is the first after it.
Ranges = tuple[tuple[int, int], ...]


def within(ranges: Ranges, at: int, horizon: int) -> tuple[bool, int]:
    """Return whether ``at`` is in one of ``ranges``, and where that ends, at ``horizon`` at last."""
    index = bisect.bisect_right(ranges, (at, 1 << 62)) - 1
    if index >= 0 and at < ranges[index][1]:
        return True, ranges[index][1]
    return False, ranges[index + 1][0] if index + 1 < len(ranges) else max(at, horizon)


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return ``ranges`` sorted, with those that meet made one, and empty ones left out."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif end > start:
            found.append((start, end))
    return tuple(found)
