"""How the room on a disk goes: from what was used at times, when nothing will be left.

Workspaces come and go, so that two moments say little. The rate is the median of the slopes between
all pairs of samples (Theil and Sen): one large build, or one clean-up, does not turn it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import msgspec

#: So often a sample is worth keeping.
EVERY_S = 600.0
#: Beyond so many, every other one goes: then they tell of twice the time.
MOST = 144
#: What was so long ago says nothing of what comes.
OLDEST_S = 14 * 86400.0
#: Fewer samples, or a shorter time, are no rate.
FEWEST, SHORTEST_S = 6, 3600.0
#: It is looked so many times further ahead than back.
AHEAD = 10


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """At ``at`` (seconds since 1970) so many bytes of a disk were used."""

    at: float
    used: int


class Growth(msgspec.Struct, frozen=True):
    """What was used of a disk of ``whole`` bytes, oldest first."""

    whole: int = 0
    samples: tuple[Sample, ...] = ()


def is_due(growth: Growth, now: float) -> bool:
    """Whether it is time for the next sample; as well where the clock went back."""
    return not growth.samples or not 0 <= now - growth.samples[-1].at < EVERY_S


def grown(growth: Growth, whole: int, sample: Sample) -> Growth:
    """Return it with one sample more. Of another disk, or a time to come, nothing is kept."""
    kept: list[Sample] = []
    if growth.whole == whole:
        kept = [it for it in growth.samples if sample.at - OLDEST_S < it.at < sample.at]
    kept.append(sample)
    return Growth(whole, tuple(kept if len(kept) <= MOST else kept[1::2]))


def rate(samples: Sequence[Sample]) -> float | None:
    """Return how many bytes a second more are used; ``None`` where that cannot be said yet.

    Cost: some 3 ms with the most samples.
    """
    if len(samples) < FEWEST or samples[-1].at - samples[0].at < SHORTEST_S:
        return None
    pairs = combinations(samples, 2)
    slopes = sorted((b.used - a.used) / (b.at - a.at) for a, b in pairs)
    return slopes[len(slopes) // 2]


def full_in_s(growth: Growth, free: int) -> float | None:
    """Return in how many seconds ``free`` bytes are used up at this rate; ``None`` if not in sight."""
    found = rate(growth.samples)
    if found is None or found <= 0:
        return None
    left = max(0, free) / found
    span = growth.samples[-1].at - growth.samples[0].at
    return left if left <= AHEAD * span else None
