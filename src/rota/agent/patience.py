"""The one retry policy of the agent: what must be done is tried again until it can be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rota.errors import StaleError, UnavailableError

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Seconds between tries; the last one repeats. Sums to 4 s before it, enough for a restarted engine.
DELAYS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
#: After this a fence is asked for anew.
STALE_S = 0.2


async def persist(what: str, call: Callable[[], Awaitable[T]]) -> T:
    """Return what ``call`` returns, trying again for as long as it is unavailable.

    Unbounded on purpose: what is done so (an outcome, a log's bytes) is safe on this disk and has
    nowhere else to go. Cancelling ends it.
    """
    tries = 0
    while True:
        try:
            return await call()
        except UnavailableError as error:
            delay = DELAYS_S[min(tries, len(DELAYS_S) - 1)]
            if tries == 0 or delay == DELAYS_S[-1]:
                logger.warning("%s: %s; trying again", what, error.message)
        tries += 1
        await asyncio.sleep(delay)


async def persist_leading(what: str, call: Callable[[], Awaitable[T]]) -> T:
    """Return what ``call`` returns, as :func:`persist` does, for a duty of the leader.

    What its fence refuses is tried again as well. Where another agent leads the duty is cancelled as
    soon as that is folded; where it does not, the journal was trimmed in just that moment, and who
    gave up then would lead and do nothing.
    """
    while True:
        try:
            return await persist(what, call)
        except StaleError:
            logger.info("%s: refused by its fence", what)
        await asyncio.sleep(STALE_S)
