"""The state at a start: from the last snapshot, or from the history when the index is new."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Callable

from rota.agent.timeline import has_parted
from rota.core.build import Build
from rota.core.chain import AUDITED, Anchor, read_anchor
from rota.core.cluster import Cluster, Picture, decode_picture
from rota.core.levels import FIRST
from rota.core.records import covered, decode
from rota.core.schedules import Note, decode_notes, rebuilt
from rota.errors import UnavailableError
from rota.ports.index import Index
from rota.ports.journal import Journal
from rota.ports.store import Store
from rota.service.world import World

logger = logging.getLogger(__name__)

BATCH = 1000


async def restore(
    journal: Journal,
    store: Store,
    index: Index,
    given: bytes = b"",
    *,
    bounds: tuple[int, int] | None,
    still: Callable[[], None] = lambda: None,
) -> World:
    """Return the world as far as it is known without the journal.

    Args:
        journal: It may be trimmed, or have been begun where the history ended.
        bounds: Its first and last event; ``None`` where nobody can tell them now.
        store: Its history fills an index that is new, or has a hole before the journal's first
            event.
        index: Filled by then.
        given: The state that another agent gave this one when it joined, or when it had been away
            for too long; used where what this agent has of its own does not reach so far.
        still: Called while the index is filled: with a million builds that takes half a minute.

    Raises:
        UnavailableError: the journal ends before what this agent has seen of it; or it cannot be
            reached, and this agent has no picture of its own to go on with.
    """
    known = last_known(index)
    if bounds is None:
        if known is None:
            raise UnavailableError(
                "no quorum of the voters can be reached, and nothing is known here"
            )
        return World(journal, index, known)
    first, last = bounds
    if known is not None:
        parted = await has_parted(journal, known.picture)
        if not parted:
            return World(journal, index, known)
        logger.warning("begins anew: %s", parted)
        if known.picture.seq > last and not given:
            raise UnavailableError(
                f"{parted}: the engine's folder was replaced or rolled back",
                hint="put the agent's folder `engine/` back as it was, from the same time",
            )
    cluster = decode_picture(given) if given else None
    if cluster is not None and first - 1 <= cluster.picture.seq <= last:
        await _from_history(store, index, first, still)
        index.add((), snapshot=(cluster.picture.seq, given))
        return World(journal, index, cluster)
    numbers = await _from_history(store, index, first, still)
    schedules = rebuilt([note async for note in _notes(store) if note.seq < first])
    # What lies before the first event is as good as folded, also where there is no event yet.
    picture = Picture(seq=first - 1, numbers=numbers, schedules=schedules, level=FIRST)
    await _take_up(picture, store)
    return World(journal, index, Cluster(picture))


def last_known(index: Index) -> Cluster | None:
    """Return the state as this agent last saved it, if it did, in a form that it still reads."""
    snapshot = index.snapshot()
    return decode_picture(snapshot[1]) if snapshot is not None else None


async def _take_up(picture: Picture, store: Store) -> None:
    """Let the chain go on from what the history says of it, if it had begun by then."""
    begin, last = Anchor(), Anchor()
    covers = 0
    async with contextlib.aclosing(store.log()) as log:
        async for logged in log:
            anchor = read_anchor(logged.message)
            if anchor is None:
                break
            if not last.seq:
                last, covers = anchor, covered(logged.message)
            begin = anchor
    if not last.seq:
        return
    picture.anchor = last
    if covers <= picture.seq:
        picture.chain = last.chain  # this journal begins where the history ends
    if begin.seq <= picture.seq:
        picture.level = AUDITED  # it was raised before the first event that is there


async def _notes(store: Store) -> AsyncGenerator[Note]:
    async with contextlib.aclosing(store.ledger()) as ledger:
        async for data in ledger:
            for note in decode_notes(data):
                yield note


async def _from_history(
    store: Store, index: Index, first: int, still: Callable[[], None]
) -> dict[str, int]:
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
                still()
    index.add(batch)
    if count:
        logger.info("the index was made anew from %d builds of the history", count)
    return numbers
