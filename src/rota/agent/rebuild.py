"""The state at a start: from the last snapshot, or from the history when the index is new."""

from __future__ import annotations

import contextlib
import logging

from rota.core.build import Build
from rota.core.fold import Cluster, Picture, decode_picture
from rota.core.records import decode
from rota.errors import UnavailableError
from rota.ports.index import Index
from rota.ports.journal import Journal
from rota.ports.store import Store
from rota.service.world import World

logger = logging.getLogger(__name__)

BATCH = 1000


async def restore(journal: Journal, store: Store, index: Index) -> tuple[World, int]:
    """Return the world as far as it is known without the journal, and the journal's first event.

    Raises:
        UnavailableError: the journal ends before what this agent has seen of it.
    """
    first, last = await journal.bounds()
    snapshot = index.snapshot()
    if snapshot is not None and (cluster := decode_picture(snapshot[1])) is not None:
        if cluster.picture.seq > last:
            raise UnavailableError(
                f"the journal ends at event {last}, but this agent has seen event "
                f"{cluster.picture.seq}: the engine's folder was replaced or rolled back",
                hint="put the agent's folder `engine/` back as it was, from the same time",
            )
        # A snapshot from before the journal's first event has a hole behind it: begin anew then.
        if cluster.picture.seq >= first - 1:
            return World(journal, index, cluster), first
    numbers = await _from_history(store, index, first)
    return World(journal, index, Cluster(Picture(numbers=numbers))), first


async def _from_history(store: Store, index: Index, first: int) -> dict[str, int]:
    """Fill the index from the history; return each job's last number before event ``first``.

    What was requested from ``first`` on is counted when the journal is folded.
    """
    index.clear()
    numbers: dict[str, int] = {}
    batch: list[Build] = []
    count = 0
    async with contextlib.aclosing(store.records()) as records:
        async for data in records:
            build = decode(data)
            if build is None:
                continue
            if build.requested_seq < first:
                numbers[build.job] = max(numbers.get(build.job, 0), build.number)
            batch.append(build)
            count += 1
            if len(batch) == BATCH:
                index.add(batch)
                batch.clear()
    index.add(batch)
    if count:
        logger.info("the index was made anew from %d builds of the history", count)
    return numbers
