"""Moves finished builds from the journal into the store's history, one commit a seal.

A commit names the journal sequence it covers. After a crash the same seals are folded again and
given here again; what ``history`` covers already is left out by the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime

from rota.agent.patience import persist
from rota.core.build import Build
from rota.core.cluster import encode_picture
from rota.core.records import encode, record_path
from rota.core.schedules import Note, encode_notes, ledger_path
from rota.errors import UnavailableError
from rota.ports.clock import Clock
from rota.ports.index import Index
from rota.ports.store import MAIN, Record, Store
from rota.service.world import World

logger = logging.getLogger(__name__)

#: A snapshot spares the next start a replay: after so many events, or seconds, whichever is first.
SNAPSHOT_EVENTS = 5000
SNAPSHOT_S = 10.0
SETTLE_S = 0.02


class Historian:
    """Writes sealed builds to git in order, in the background; then what covers them."""

    def __init__(self, world: World, store: Store, index: Index, clock: Clock) -> None:
        self._world, self._store, self._index, self._clock = world, store, index, clock
        self._sealed: asyncio.Queue[tuple[list[Record], int, datetime]] = asyncio.Queue()
        self._pending = 0
        self._snapshot_seq = world.seq
        self._snapshot_at = clock.monotonic()
        self.covered = 0

    async def begin(self) -> None:
        """Read how far the history goes. Call once, before the first seal."""
        self.covered = await self._store.covered()

    def seal(
        self, builds: Sequence[Build], notes: tuple[Note, ...], covers: int, at: datetime
    ) -> None:
        """Take builds to record, and what schedules did; returns at once."""
        records = [Record(record_path(build), encode(build)) for build in builds]
        if notes:
            records.append(Record(ledger_path(covers), encode_notes(notes)))
        if records:
            self._pending += 1
            self._sealed.put_nowait((records, covers, at))

    async def run(self) -> None:
        """Record what was sealed, for ever."""
        while True:
            records, covers, at = await self._sealed.get()
            await persist("history", lambda: self._store.record(records, covers=covers, at=at))  # noqa: B023 - awaited within the turn
            self.covered = max(self.covered, covers)
            self._pending -= 1
            self._snapshot_sometimes()
            self._sealed.task_done()

    async def settled(self) -> None:
        """Return once all that was sealed so far is in the history."""
        await self._sealed.join()

    def snapshot(self) -> None:
        """Save the state, if all that left it is in the history and the index."""
        if self._world.seq <= self._snapshot_seq or not self._is_settled():
            return
        try:
            self._index.add((), snapshot=(self._world.seq, encode_picture(self._world.cluster)))
        except UnavailableError as error:
            logger.warning("no snapshot: %s", error.message)
            return
        self._snapshot_seq = self._world.seq
        self._snapshot_at = self._clock.monotonic()

    async def state(self) -> bytes:
        """Return the cluster's state, for another agent to begin with, as of this moment.

        All that left it is in this agent's store by then: who fetches the store after this has the
        whole. Unbounded: it waits for a store that cannot follow.
        """
        while not self._is_settled():
            await self._sealed.join()
            await asyncio.sleep(SETTLE_S)  # a move of `main` tells nobody here that it is done
        return encode_picture(self._world.cluster)

    def _is_settled(self) -> bool:
        """Whether the store and the index have all that the state has let go of.

        Who begins from another state would never see those seals and moves again.
        """
        is_moved = self._world.commit == self._world.cluster.picture.refs.get(MAIN, "")
        return not self._pending and is_moved and self._world.index_sealed()

    def _snapshot_sometimes(self) -> None:
        late = self._clock.monotonic() - self._snapshot_at >= SNAPSHOT_S
        if late or self._world.seq - self._snapshot_seq >= SNAPSHOT_EVENTS:
            self.snapshot()
