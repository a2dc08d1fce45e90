"""Whether what this agent has folded is what the journal has: it may have been away for too long.

Two things part an agent from its journal. Events were trimmed that it never saw; or a majority of
the voters was lost for ever, and those that are left never had what this agent saw of them. In both
cases it must begin anew from the state of another agent.
"""

from __future__ import annotations

import asyncio
import contextlib

from rota.agent.patience import persist
from rota.core.cluster import Picture
from rota.errors import PartedError
from rota.ports.journal import Journal
from rota.service.ticks import tick
from rota.service.world import World

#: How often an agent looks whether it has just been without a quorum.
LOOK_S = 1.0
#: A server that lost its quorum may answer for the journal, as it was, until it knows: ten seconds.
SURE_S = 12.0


async def watch_timeline(world: World, journal: Journal) -> None:
    """After each time without a quorum, look whether the journal is still the same; for ever.

    Raises:
        PartedError: it is not.
    """
    was_stale = False
    while True:
        is_stale = world.stale_since is not None or world.is_held
        if was_stale and not is_stale and await _seems_parted(world, journal):
            await asyncio.sleep(SURE_S)
            is_stale = world.stale_since is not None or world.is_held
            if not is_stale and (parted := await _seems_parted(world, journal)):
                raise PartedError(parted)
        was_stale = is_stale
        await tick(LOOK_S)


async def stay(world: World, journal: Journal) -> None:
    """Return at once if the journal is what this agent has folded, or goes on from there.

    Raises:
        PartedError: it is not, and still is not a while later.
    """
    if await _seems_parted(world, journal):
        await asyncio.sleep(SURE_S)
        if parted := await _seems_parted(world, journal):
            raise PartedError(parted)


async def _seems_parted(world: World, journal: Journal) -> str:
    return await persist("timeline", lambda: has_parted(journal, world.cluster.picture))


async def has_parted(journal: Journal, picture: Picture) -> str:
    """Return in words why ``picture`` cannot be folded on; empty if it can.

    Raises:
        UnavailableError: the journal does not answer.
    """
    seq, at = picture.seq, picture.at  # it may be folded on while the journal is asked
    first, last = await journal.bounds()
    if seq < first - 1:
        return f"the journal begins at event {first}, and this agent has seen {seq} only"
    if seq > last:
        return f"the journal ends at event {last}, but this agent has seen event {seq}"
    if seq < first or not seq:
        return ""
    async with contextlib.aclosing(journal.read(after=seq - 1)) as entries:
        async for entry in entries:
            if entry.seq == seq and entry.event.at != at:
                return f"event {seq} is another one than this agent has seen"
            return ""
    return ""
