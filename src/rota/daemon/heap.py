"""Gives back to the machine what the daemon has freed: the C library keeps it for the process.

A hole that is freed below something that lives stays resident until it is asked back, and each thread that allocates may
get an arena of its own. So a daemon that has built thousands of builds is larger than what it holds, by as much as its
busiest moments needed. With musl nothing is kept that could be asked back, and nothing is done here.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

#: How often it is looked whether there was anything to do, and how many events are worth it.
EVERY_S = 60.0
WORTH = 200
_M_ARENA_MAX = -8  # mallopt(3)


def share_one_arena() -> bool:
    """Have all threads allocate in one arena; say whether the C library can. Before there are threads.

    One thread runs Python at a time, so there is nothing to win by several.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, 1))


def give_back() -> bool:
    """Return free pages to the machine; say whether there were any. Cost: 1 ms, and what is used again is faulted in."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))


async def keep_small(seq: Callable[[], int]) -> None:
    """Give back at once what the start left, and later what so many events left, for ever.

    Args:
        seq: Returns the sequence of the last event: an idle daemon frees nothing.
    """
    looked = seq()
    give_back()
    while True:
        await asyncio.sleep(EVERY_S)
        if (now := seq()) - looked >= WORTH:
            looked = now
            give_back()
