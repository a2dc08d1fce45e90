"""Waits that end together: what looks now and then, looks at the same moments.

A dozen tasks of an idle daemon look every second or two after what nobody announces. Each at a moment of its own they wake
the process, and the engine with it, a dozen times a second; at the multiples of their periods they wake it once.
"""

from __future__ import annotations

import asyncio

#: A wait that would be shorter than this part of a period is one period longer: timers end a little early, too.
_LEAST = 0.1


def until_tick(period_s: float) -> float:
    """Return the seconds until the next multiple of a period, by the loop's clock: 0.1 to 1.1 periods, none of none."""
    if not period_s:
        return 0.0
    left = period_s - asyncio.get_running_loop().time() % period_s
    return left if left >= _LEAST * period_s else left + period_s


async def tick(period_s: float) -> None:
    """Return at the next multiple of a period: see :func:`until_tick`."""
    await asyncio.sleep(until_tick(period_s))
