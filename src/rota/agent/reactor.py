"""Reactions: what events set off is worked out by every agent as it folds, and asked for by the leader.

So a new leader has at once what the former one did not get done. What was asked for is known by its
request in the journal; what could not be, by ``trigger.failed`` in its place: one of them, once. Only
who starts looks back, as far as the last seal: nothing is sealed before it was reacted to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence

from rota.agent.patience import persist
from rota.core.build import Build
from rota.core.definitions import Definitions, check, wanted
from rota.core.events import (
    BuildRequested,
    BuildRetried,
    Event,
    HistorySealed,
    PipelineRequested,
    ScmChanged,
    StoreMoved,
    TriggerFailed,
)
from rota.core.fold import Change
from rota.core.reactions import Request, Rules, react
from rota.core.told import tip_key
from rota.errors import InputError, RotaError, StaleError
from rota.ports.journal import Entry, Journal
from rota.ports.store import MAIN, Store
from rota.service.world import World

logger = logging.getLogger(__name__)

#: So many causes are dealt with at the same time, each by one append.
AT_ONCE = 16
#: An event that asks for several builds may have to be made anew, where a seal came in between.
TRIES = 5
#: How long what was written may take to be folded here; longer means that nothing is.
FOLD_S = 60.0

Plan = Callable[[Sequence[Request]], Sequence[tuple[Event, Sequence[str]]]]
"""Makes the events that ask for builds of one cause; and which requests each settles."""


class Reactor:
    """Of one agent: :meth:`folded` is for its loop, :meth:`begin` for its start, :meth:`run` a duty."""

    def __init__(
        self,
        *,
        world: World,
        journal: Journal,
        store: Store,
        plan: Plan,
        advanced: Callable[[], None],
    ) -> None:
        self._world, self._journal, self._store = world, journal, store
        self._plan, self._advanced = plan, advanced
        self.fence: Callable[[], int] = lambda: 0  # set by who makes this agent one among others
        self._pending: dict[str, Request] = {}
        self._asking: set[str] = set()
        self._later: deque[tuple[Entry, Change]] = deque()
        self._is_begun = self._is_ready = False
        self._woken = asyncio.Event()

    @property
    def settled(self) -> int:
        """The sequence up to which all that events set off was asked for."""
        if not self._is_ready:
            return self._world.cluster.picture.sealed_through
        if self._pending:
            return next(iter(self._pending.values())).cause - 1
        return self._later[0][0].seq - 1 if self._later else self._world.seq

    # -- every agent --------------------------------------------------------------------------------

    def folded(self, entry: Entry, change: Change) -> None:
        """Work out what an event sets off; returns at once. For the agent's loop, in order."""
        self._note_settled(entry.event)
        if self._is_begun:
            self._later.append((entry, change))
            self._work_off()

    def followed(self) -> None:
        """The definitions are those of another commit."""
        self._work_off()

    def _work_off(self) -> None:
        while self._later and self._is_ready and self._is_current():
            entry, change = self._later.popleft()
            self._add(
                react(
                    self._world.rules,
                    entry.seq,
                    entry.event,
                    builds=change.builds,
                    is_news=change.is_news,
                    find=self._world.find,
                )
            )

    def _is_current(self) -> bool:
        """Whether the rules here are those that held when the last event was written."""
        refs = self._world.cluster.picture.refs
        return self._world.commit == refs.get(MAIN, self._world.commit)

    def _add(self, requests: Sequence[Request]) -> None:
        for request in requests:
            if self._world.find(request.id) is None:
                self._pending.setdefault(request.id, request)
                self._woken.set()

    def _note_settled(self, event: Event) -> None:
        """Forget what is asked for by now."""
        match event:
            case BuildRequested() | TriggerFailed():
                gone = [event.build]
            case PipelineRequested():
                gone = [it.build for it in event.builds if self._is_there(it.build)]
            case HistorySealed():
                # A leader says so: where another agent thought that there was more, it was wrong.
                gone = [id_ for id_, it in self._pending.items() if it.cause <= event.through]
            case _:
                return
        before = len(self._pending)
        for id_ in gone:
            self._pending.pop(id_, None)
        if len(self._pending) < before:
            self._advanced()

    # -- at the start -------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Go over what happened since the last seal. Call once, when the journal is folded."""
        self._is_begun = True
        upto, after = self._world.seq, self._world.cluster.picture.sealed_through
        try:
            await self._go_over(after, upto)
        except RotaError as error:
            logger.warning("what events %d to %d set off: %s", after + 1, upto, error.message)
        self._is_ready = True
        self._work_off()

    async def _go_over(self, after: int, upto: int) -> None:
        entries: list[Entry] = []
        async with contextlib.aclosing(self._journal.read(after=after)) as found:
            async for entry in found:
                if entry.seq > upto:
                    break
                entries.append(entry)
        failed = {it.event.build for it in entries if isinstance(it.event, TriggerFailed)}
        rules = await self._rules_before(entries)
        ended: dict[int, list[Build]] = {}
        for id_ in self._world.cluster.unsealed:
            build = self._world.cluster.picture.builds[id_]
            ended.setdefault(build.seq, []).append(build)
        tips: dict[str, str] = {}
        for entry in entries:
            event = entry.event
            builds = ended.get(entry.seq, [])
            if isinstance(event, StoreMoved) and event.ref == MAIN:
                rules = await self._rules_at(event.new)
            if isinstance(event, BuildRetried) and event.record.seq > after:
                before = react(rules, event.record.seq, event, builds=[event.record])
                self._add(
                    [it for it in before if it.trigger.kind == "after" and it.id not in failed]
                )
            is_news = True
            if isinstance(event, ScmChanged):
                is_news = tips.get(tip_key(event)) != event.new
                tips[tip_key(event)] = event.new
            done = react(
                rules, entry.seq, event, builds=builds, is_news=is_news, find=self._world.find
            )
            self._add([it for it in done if it.id not in failed])

    async def _rules_before(self, entries: Sequence[Entry]) -> Rules:
        """Return the rules as they were before the first of these."""
        for entry in entries:
            if isinstance(entry.event, StoreMoved) and entry.event.ref == MAIN:
                return await self._rules_at(entry.event.old)
        return self._world.rules

    async def _rules_at(self, commit: str) -> Rules:
        if not commit:
            return Rules(Definitions())
        if commit == self._world.commit:
            return self._world.rules
        tree = await self._store.tree(commit)
        blobs = await self._store.blobs(wanted(tree, self._world.definitions))
        return Rules(check(tree, blobs, self._world.definitions)[0])

    # -- the leader ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask for what is pending while this agent leads, for ever."""
        self._asking.clear()
        room = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                for requests in self._by_cause():
                    self._asking.update(request.id for request in requests)
                    await room.acquire()
                    group.create_task(self._ask_within(room, requests), name="reaction")
                await self._woken.wait()
                self._woken.clear()

    def _by_cause(self) -> list[list[Request]]:
        causes: dict[int, list[Request]] = {}
        for request in self._pending.values():
            if request.id not in self._asking:
                causes.setdefault(request.cause, []).append(request)
        return list(causes.values())

    async def _ask_within(self, room: asyncio.Semaphore, requests: Sequence[Request]) -> None:
        try:
            for turn in range(TRIES):
                left = [
                    it for it in requests if it.id in self._pending and not self._is_there(it.id)
                ]
                for event, _ in self._plan(left) if left else ():
                    await self._write(event, is_first=turn == 0)
            for request in requests:
                self._pending.pop(request.id, None)
            self._advanced()
        finally:
            self._asking.difference_update(request.id for request in requests)
            room.release()

    def _is_there(self, id_: str) -> bool:
        return self._world.find(id_) is not None

    async def _write(self, event: Event, *, is_first: bool) -> None:
        """Write an event, and return once this agent knows as much as it says."""
        # Where it was written already and changed nothing, since a seal came in between, only the
        # fence keeps two leaders apart.
        once = {"expect": 0} if is_first else {"fence": self.fence()}
        try:
            seq = await persist("reaction", lambda: self._journal.append(event, **once))
        except StaleError:
            # Whoever was first wrote the same, or why it cannot be.
            _, seq = await persist("reaction", self._journal.bounds)
        except InputError as error:
            # Beyond what an event may hold: nobody could ask for it, and the next ones go on.
            logger.warning("a reaction cannot be written: %s", error.message)
            seq = 0
        with contextlib.suppress(TimeoutError):
            await self._world.reached(seq, FOLD_S)
