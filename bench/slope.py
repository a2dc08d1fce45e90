"""How fast a figure grows, of samples that jump: one garbage collection does not turn it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from itertools import combinations


def slope(points: Iterable[tuple[float, float]]) -> float:
    """Return the median of the slopes between all pairs of points (Theil and Sen); 0 of fewer than two."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2)]
    return statistics.median(slopes) if slopes else 0.0
