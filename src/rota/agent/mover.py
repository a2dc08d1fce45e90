"""Moves ``main``: by an event first, in the store after. The same moves in the same order anywhere.

Whoever wants a move appends it by compare-and-set on the last one; a move that is in the journal
counts, objects included, whatever becomes of the agent that wrote it. Each agent brings what it
folds into its own store, one after the other. Nothing else moves ``main``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Protocol

from rota.agent.patience import persist
from rota.core.decide import expected
from rota.core.events import Event, StoreMoved
from rota.errors import NotFoundError, StaleError, UnavailableError
from rota.ports.blobs import Blobs
from rota.ports.clock import Clock
from rota.ports.journal import Entry, Journal
from rota.ports.store import MAIN, Author, Store
from rota.service.context import ADDRESS, FOLD_TIMEOUT_S, TOKEN
from rota.service.world import World

logger = logging.getLogger(__name__)

#: A pack up to this size travels in its event; in JSON it takes a third more.
MAX_INLINE_BYTES = 256 << 10
#: So long a start waits for a store that cannot follow, before it goes on with what there is.
START_S = 10.0
#: So many moves are remembered by their commit, to know a write of our own when we meet it.
RECENT = 256
TROUBLE = "store"


class Fetch(Protocol):
    """Brings both branches of the store from another agent; with ``force`` where they parted too.

    Raises UnavailableError where no agent has them, StaleError where they parted, without force.
    """

    def __call__(self, *, force: bool) -> Awaitable[None]:
        """Do it."""
        ...


class Append(Protocol):
    """Appends an event by compare-and-set, as :meth:`rota.ports.journal.Journal.append` does."""

    def __call__(self, event: Event, *, expect: int) -> Awaitable[int]:
        """Return its sequence."""
        ...


class FetchFrom(Protocol):
    """As :class:`Fetch`, from the agents that ``world`` knows."""

    def __call__(self, world: World, *, force: bool) -> Awaitable[None]:
        """Fetch; with ``force`` a branch that has parted goes where the other agent has it."""
        ...


async def nobody_to_fetch_from(world: World, *, force: bool) -> None:
    """Fetch from no other agent: there is none.

    Raises:
        UnavailableError: always.
    """
    raise UnavailableError("no other agent is there to fetch the store from")


class Mover:
    """Of one agent. The loop tells it of events by :meth:`folded`; :meth:`run` is its task."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        store: Store,
        journal: Journal,
        blobs: Blobs,
        clock: Clock,
        append: Append,
        follow: Callable[[str], Awaitable[None]],
        journal_first: Callable[[], int],
        fetch: Fetch,
    ) -> None:
        """Make one.

        Args:
            name: This agent's.
            world: Its picture says where ``main`` is to be.
            store: Its ``main`` is moved.
            journal: Where moves are read again, and how far it goes.
            blobs: Where large packs lie, as ``store/COMMIT``.
            clock: For the time of commits and events.
            append: Writes a move in the time that callers have, or refuses.
            follow: Takes over the definitions of a commit.
            journal_first: Returns the journal's first sequence.
            fetch: For moves that neither the journal nor the blobs have any more.
        """
        self._name, self._world, self._clock = name, world, clock
        self._store, self._journal, self._blobs = store, journal, blobs
        self._append, self._follow = append, follow
        self._journal_first, self._fetch = journal_first, fetch
        self._at = (0, "")
        self._queue: list[tuple[int, StoreMoved]] = []
        self._recent: dict[str, int] = {}
        self._woken, self._applied = asyncio.Event(), asyncio.Event()
        picture = world.cluster.picture
        if MAIN in picture.refs:
            # A snapshot says where it is, not how it got there.
            there = StoreMoved(at=clock.now(), ref=MAIN, old="", new=picture.refs[MAIN])
            self.folded(Entry(picture.ref_seqs.get(MAIN, 0), there))

    @property
    def is_behind(self) -> bool:
        """Whether there are folded moves that this agent's store does not have yet."""
        return bool(self._queue)

    # -- follow the journal ---------------------------------------------------------------------

    def folded(self, entry: Entry) -> None:
        """Take a folded event, if it is a move; returns at once. For the agent's loop, in order."""
        move = entry.event
        if not isinstance(move, StoreMoved) or move.ref != MAIN:
            return
        self._recent[move.new] = entry.seq
        while len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
        self._queue.append((entry.seq, move))
        self._woken.set()

    async def run(self) -> None:
        """Apply moves in the journal's order, and read the definitions after them, for ever."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._queue:
                await self._take(list(self._queue))

    async def begin(self) -> None:
        """Bring ``main`` to where the picture says it is, and the definitions with it.

        Call once, when the journal is folded and :meth:`run` runs. What is on ``main`` here and not
        in the journal is announced: the founding commit, and what an agent alone wrote before its
        journal was lost.
        """
        picture = self._world.cluster.picture
        if MAIN in picture.refs and not await self._settled():
            logger.warning("%s; going on with what is here", self._world.troubles.get(TROUBLE))
            await self._follow(await self._store.head())
            return
        seq, at = self._at
        head = await self._store.head()
        if head == at or (at and not await self._store.contains(head, at)):
            return
        if at or picture.agents.keys() <= {self._name}:
            await self._announce(seq, at, head)
        else:
            await self._follow(head)

    async def _settled(self) -> bool:
        try:
            async with asyncio.timeout(START_S):
                while self._queue:
                    await self._applied.wait()
        except TimeoutError:
            return False
        return True

    async def _announce(self, seq: int, old: str, new: str) -> None:
        message = await self._store.subject(new)

        async def announce() -> None:
            pack = self._store.pack(old, new) if old else _pieces(b"")
            await self._move(seq, old, new, pack, message, self._name)

        try:
            await persist("main", announce)
        except StaleError:
            logger.info("main has moved on meanwhile; %s stays in the store alone", new)

    async def _take(self, batch: list[tuple[int, StoreMoved]]) -> None:
        async def attempt() -> None:
            try:
                await self._apply(batch)
                await self._follow(batch[-1][1].new)
            except UnavailableError as error:
                self._world.troubles[TROUBLE] = f"main cannot follow: {error.message}"
                raise

        await persist("main", attempt)
        self._world.troubles.pop(TROUBLE, None)
        del self._queue[: len(batch)]
        self._at = (batch[-1][0], batch[-1][1].new)
        self._applied.set()
        self._applied = asyncio.Event()

    async def _apply(self, batch: list[tuple[int, StoreMoved]]) -> None:
        """Apply moves from where ``main`` is; those before are found there without a process."""
        head = await self._store.head()
        done = max((n for n, (_, move) in enumerate(batch, 1) if move.new == head), default=0)
        for seq, move in batch[done:]:
            try:
                await self._store.apply(move.old, move.new, self._pack(move))
            except StaleError:
                if not await self._replay(seq, move.new):
                    await self._refetch(move.new)
            except (NotFoundError, UnavailableError) as error:
                logger.info("the pack of %s: %s", move.new, error.message)
                await self._refetch(move.new, error)

    async def _replay(self, until: int, new: str) -> bool:
        """Apply what the journal has from where ``main`` is; say whether that led to ``new``."""
        head = await self._store.head()
        async with aclosing(self._journal.read()) as entries:
            async for entry in entries:
                move = entry.event
                if entry.seq > until:
                    break
                if isinstance(move, StoreMoved) and (move.ref, move.old) == (MAIN, head):
                    try:
                        await self._store.apply(move.old, move.new, self._pack(move))
                    except (NotFoundError, UnavailableError) as error:
                        logger.info("the pack of %s: %s", move.new, error.message)
                        return False
                    head = move.new
        return head == new

    async def _refetch(
        self, new: str, cause: NotFoundError | UnavailableError | None = None
    ) -> None:
        """Bring ``main`` to ``new`` or beyond by what another agent has.

        Raises:
            UnavailableError: there is none, or it does not have it either.
        """
        try:
            try:
                await self._fetch(force=False)
            except StaleError as error:
                # The journal decides; what is here alone is kept aside by the store.
                logger.warning("%s", error.message)
                await self._fetch(force=True)
        except UnavailableError as error:
            why = f"{cause.message}; " if cause is not None else ""
            raise UnavailableError(f"{why}{error.message}") from error
        if not await self._store.contains(await self._store.head(), new):
            raise UnavailableError(f"the agent that was asked does not have {new} either")

    async def forget(self, before: int) -> None:
        """Drop the packs of moves below a sequence that the journal is about to forget.

        Cost: a pass over what is forgotten. Who would still need them fetches from another agent.

        Raises:
            UnavailableError: the journal or the blobs cannot be reached; to be done again.
        """
        async with aclosing(self._journal.read()) as entries:
            async for entry in entries:
                if entry.seq >= before:
                    return
                if isinstance(entry.event, StoreMoved) and entry.event.blob:
                    await self._blobs.drop(entry.event.blob)

    async def _pack(self, move: StoreMoved) -> AsyncGenerator[bytes]:
        if not move.blob:
            yield move.pack
            return
        async with aclosing(self._blobs.get(move.blob)) as pieces:
            async for piece in pieces:
                yield piece

    # -- move ----------------------------------------------------------------------------------

    async def commit(
        self,
        changes: Mapping[str, bytes | None],
        *,
        base: str,
        author: Author,
        message: str,
        by: str,
    ) -> str:
        """Commit files (``None`` deletes) to ``main`` at ``base``; return the commit's hash.

        It is in the journal by then, and this agent's store and definitions have it.

        Raises:
            StaleError: ``main`` has moved on from ``base``; this agent has followed it.
            ConflictError: a file would stand where a folder is, or the reverse.
            UnavailableError: the journal or the store cannot take it now; the message says whether
                it may have been taken all the same.
        """
        seq, at = self._place()
        if base != at:
            raise StaleError(f"main is at {at or 'nothing'}, not at {base or 'nothing'}")
        made = await self._store.prepare(
            changes, base=base, author=author, message=message, at=self._clock.now()
        )
        subject = message.partition("\n")[0]
        await self._move(seq, base, made.commit, _pieces(made.pack), subject, by)
        return made.commit

    async def pushed(self, old: str, new: str, principal: str) -> None:
        """Move ``main`` to a commit that somebody pushed, its objects being in the store.

        Raises:
            StaleError: ``main`` is not at ``old``, or ``new`` does not come after it.
            UnavailableError: as of :meth:`commit`.
        """
        seq, at = self._place()
        if new == at:
            return
        if old != at or not await self._store.contains(new, old):
            raise StaleError(f"main is at {at}")
        subject = await self._store.subject(new)
        await self._move(seq, old, new, self._store.pack(old, new), subject, principal)

    async def _move(
        self, seq: int, old: str, new: str, pack: AsyncGenerator[bytes], message: str, by: str
    ) -> None:
        """Append a move that follows the one at ``seq``, and wait until it is applied here."""
        small, blob = await self._carry(new, pack)
        event = StoreMoved(
            at=self._clock.now(),
            by=by,
            agent=self._name,
            ref=MAIN,
            old=old,
            new=new,
            message=message,
            pack=small,
            blob=blob,
            token=TOKEN.get(),
            address=ADDRESS.get(),
        )
        try:
            written = await self._write(event, seq)
        except StaleError:
            if blob:
                await self._blobs.drop(blob)
            raise
        await self._reach(written)

    async def _write(self, event: StoreMoved, seq: int) -> int:
        """Append a move that follows the one at ``seq``; return its sequence.

        An append whose confirmation was lost is found again: it is the one that came first.

        Raises:
            StaleError: another move came first; this agent has followed it.
        """
        first = self._journal_first()
        while True:
            try:
                return await self._append(event, expect=expected(seq, first))
            except StaleError:
                now_first, last = await self._journal.bounds()
                await self._fold_up_to(last)
                if event.new in self._recent:
                    return self._recent[event.new]
                is_first = self._world.cluster.picture.ref_seqs.get(MAIN, 0) == seq
                if not is_first or expected(seq, now_first) == expected(seq, first):
                    raise
                first = now_first  # nobody moved main: the former move was trimmed meanwhile

    async def _fold_up_to(self, seq: int) -> None:
        """Return once an event is folded, and the moves up to it are applied."""
        try:
            await self._world.reached(seq, FOLD_TIMEOUT_S)
        except TimeoutError:
            raise UnavailableError("this agent lags behind the journal") from None
        await self._reach(self._world.cluster.picture.ref_seqs.get(MAIN, 0))

    def _place(self) -> tuple[int, str]:
        """Return the last move that was applied, and where it led.

        Raises:
            UnavailableError: this agent has followed the journal nowhere yet.
        """
        if not self._at[1]:
            raise UnavailableError(
                "this agent's store has not caught up with the others yet",
                hint="try again in a moment, or at another agent; rota status says what it waits for",
            )
        return self._at

    async def _carry(self, new: str, pack: AsyncGenerator[bytes]) -> tuple[bytes, str]:
        """Return the pack, or store it as a blob and return its name."""
        small = b""
        async with aclosing(pack) as pieces:
            async for piece in pieces:
                small += piece
                if len(small) > MAX_INLINE_BYTES:
                    name = f"store/{new}"
                    await self._blobs.put(name, _chain(small, pieces))
                    return b"", name
        return small, ""

    async def _reach(self, seq: int) -> None:
        try:
            async with asyncio.timeout(FOLD_TIMEOUT_S):
                while self._at[0] < seq:
                    await self._applied.wait()
        except TimeoutError:
            raise UnavailableError(
                "the change was taken, but this agent's store lags behind",
                hint="look again in a moment: rota status says what holds it up",
            ) from None


async def _pieces(data: bytes) -> AsyncGenerator[bytes]:
    yield data


async def _chain(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for piece in rest:
        yield piece
