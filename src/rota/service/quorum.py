"""How many of the engine's servers may fail, as their own group says it now."""

from __future__ import annotations

import asyncio
import contextlib

from rota.core.voters import tolerated
from rota.errors import UnavailableError
from rota.service.context import Service

#: How long the voters are waited for when somebody only wants to know how they are.
ASK_S = 0.8


async def tolerates(service: Service) -> int | None:
    """Return how many voters may fail now; -1 without a quorum, ``None`` where that is not ours."""
    if service.ensemble is None:
        return None
    try:
        async with asyncio.timeout(ASK_S):
            seats = await service.ensemble.seats()
    except (UnavailableError, TimeoutError):
        return -1
    copies, is_whole = 1, True  # of what has no leader right now nothing more can be said
    with contextlib.suppress(UnavailableError, TimeoutError):
        async with asyncio.timeout(ASK_S):
            copies, is_whole = await service.ensemble.copies()
    return tolerated(seats, copies, is_whole=is_whole)
