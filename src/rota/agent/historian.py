"""Moves finished builds from the journal into the store's history, one commit a seal.

A commit names the journal sequence it covers. After a crash the same seals are folded again and
given here again; what ``history`` covers already is left out by the store.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

import msgspec

from rota.agent.patience import persist
from rota.core.chain import anchor_lines
from rota.core.cluster import encode_picture
from rota.core.deeds import deed_line
from rota.core.events import HistorySealed
from rota.core.fold import Change
from rota.core.records import encode, record_path
from rota.core.schedules import encode_notes, ledger_path
from rota.errors import StaleError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.index import Index
from rota.ports.store import HISTORY, MAIN, Record, Store
from rota.service.world import World

logger = logging.getLogger(__name__)

#: What is wrong where the history is another one than the leader's.
TROUBLE = "history"

#: A snapshot spares the next start a replay: after so many events, or seconds, whichever is first.
SNAPSHOT_EVENTS = 5000
SNAPSHOT_S = 10.0
SETTLE_S = 0.02


def nobody() -> None:
    """Tell nobody."""


class _Sealed(msgspec.Struct, frozen=True):
    """What one seal has recorded."""

    records: list[Record]
    covers: int
    at: datetime
    told: list[str]
    former: str


class Historian:
    """Writes sealed builds to git in order, in the background; then what covers them."""

    def __init__(self, world: World, store: Store, index: Index, clock: Clock) -> None:
        self._world, self._store, self._index, self._clock = world, store, index, clock
        self._sealed: asyncio.Queue[_Sealed] = asyncio.Queue()
        self._pending = 0
        self._snapshot_seq = world.seq
        self._snapshot_at = clock.monotonic()
        self.advanced = nobody  # is told when a commit was made
        self.covered = 0
        self.head = ""  # the commit that the history ends with

    @property
    def is_behind(self) -> bool:
        """Whether something was sealed that is not in the history yet."""
        return self._pending > 0

    async def begin(self) -> None:
        """Read how far the history goes. Call once, before the first seal."""
        self.covered, self.head = await self._store.covered(), await self._store.head(HISTORY)

    def seal(self, event: HistorySealed, change: Change) -> None:
        """Take what a seal moves out of memory, to record it; returns at once."""
        covers = event.through
        records = [Record(record_path(build), encode(build)) for build in change.sealed]
        if change.ledger:
            records.append(Record(ledger_path(covers), encode_notes(change.ledger)))
        if records or change.deeds:
            told = [deed_line(deed) for deed in change.deeds]
            told += [] if change.anchor is None else anchor_lines(change.anchor)
            self._pending += 1
            self._sealed.put_nowait(_Sealed(records, covers, event.at, told, event.former))

    async def run(self) -> None:
        """Record what was sealed, for ever."""
        while True:
            try:
                async with asyncio.timeout(SNAPSHOT_S):
                    sealed = await self._sealed.get()
            except TimeoutError:
                # Who is a member, say: what is known without a quorum is what was saved last.
                self._snapshot_sometimes()
                continue
            await persist("history", lambda: self._record(sealed))  # noqa: B023 - awaited within the turn
            self.covered = max(self.covered, sealed.covers)
            self._pending -= 1
            self.advanced()
            self._snapshot_sometimes()
            self._sealed.task_done()

    async def _record(self, sealed: _Sealed) -> None:
        before, former = self.head, sealed.former
        if former not in ("", before) and not await self._store.contains(before, former):
            logger.error("history was at %s for the leader; it is not part of %s", former, before)
            self._world.troubles[TROUBLE] = (
                f"this agent's history is another one than the leader's: it lacks {former}; "
                "rota audit verify says where they part"
            )
        try:
            self.head = await self._store.record(
                sealed.records, covers=sealed.covers, at=sealed.at, told=sealed.told
            )
        except StaleError as error:
            # Nobody but this agent moves it. Whoever did all the same ends no builds by that.
            self._world.troubles[TROUBLE] = (
                f"somebody moved this agent's history by hand: {error.message}; "
                "rota audit verify says where it parted"
            )
            raise UnavailableError(f"somebody moved it by hand: {error.message}") from error

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

    async def begin_snapshots(self) -> None:
        """Save the first state of all, as soon as it is whole; nothing if one is there.

        An agent that has none can answer nothing while it waits for a quorum.
        """
        if self._index.snapshot() is not None:
            return
        await self._whole()
        self.snapshot()

    async def state(self) -> bytes:
        """Return the cluster's state, for another agent to begin with, as of this moment.

        All that left it is in this agent's store by then: who fetches the store after this has the
        whole. Unbounded: it waits for a store that cannot follow.
        """
        await self._whole()
        return encode_picture(self._world.cluster)

    async def _whole(self) -> None:
        while not self._is_settled():
            await self._sealed.join()
            await asyncio.sleep(SETTLE_S)  # a move of `main` tells nobody here that it is done

    def _is_settled(self) -> bool:
        """Whether the store and the index have all that the state has let go of.

        Who begins from another state would never see those seals and moves again.
        """
        is_moved = self._world.commit == self._world.cluster.picture.refs.get(MAIN, "")
        return not self._pending and is_moved and self._world.index_sealed()

    @property
    def snapshot_seq(self) -> int:
        """Up to which event the last snapshot goes."""
        return self._snapshot_seq

    def _snapshot_sometimes(self) -> None:
        late = self._clock.monotonic() - self._snapshot_at >= SNAPSHOT_S
        if late or self._world.seq - self._snapshot_seq >= SNAPSHOT_EVENTS:
            self.snapshot()
