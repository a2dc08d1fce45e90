"""The agent's heart: read, fold, decide, act.

One task folds the journal, and nobody else does. After each event that may matter it decides, once
for all that came together, and hands the effects to tasks of the agent's group. An effect that was
decided on a stale picture is refused by the journal; the next event brings a better decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Mapping

from rota.agent.historian import Historian
from rota.agent.patience import persist
from rota.agent.runner import Runner
from rota.core.build import Build
from rota.core.decide import Claim, Effect, Seal, Trim, View, decide
from rota.core.events import BuildStarted, HistorySealed
from rota.core.job import Reason
from rota.core.states import State
from rota.errors import StaleError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.journal import Entry, Journal
from rota.service.world import World

logger = logging.getLogger(__name__)


class Loop:
    """Folds and decides for one agent."""

    def __init__(
        self,
        *,
        group: asyncio.TaskGroup,
        name: str,
        labels: Mapping[str, str],
        slots: int,
        world: World,
        journal: Journal,
        runner: Runner,
        historian: Historian,
        clock: Clock,
        journal_first: int,
    ) -> None:
        self._group, self._name = group, name
        self._labels, self._slots = labels, slots
        self._world, self._journal, self._runner = world, journal, runner
        self._historian, self._clock = historian, clock
        self._journal_first = journal_first
        self._claiming: set[str] = set()
        self._is_sealing = False
        self._sealed_at: float | None = None
        self._is_trimming = False
        self._is_live = False
        self._decision: asyncio.Handle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._caught_up = asyncio.Event()
        self._catch_up_to = 0

    async def run(self, catch_up_to: int) -> None:
        """Fold the journal from where the state stands, for ever."""
        self._catch_up_to = catch_up_to
        self._note_progress()
        entries = self._journal.read(after=self._world.seq, follow=True)
        async with contextlib.aclosing(entries):
            async for entry in entries:
                self._fold(entry)

    async def caught_up(self) -> None:
        """Return once all that was in the journal at the start is folded."""
        await self._caught_up.wait()

    def go_live(self) -> None:
        """Take over what ran before, and decide from now on."""
        self._is_live = True
        for build_id in list(self._world.cluster.running.get(self._name, {})):
            build = self._world.cluster.picture.builds[build_id]
            self._runner.start(build, adopt=True)
        self.decide_soon()

    def decide_soon(self) -> None:
        """Decide once the present batch of events is folded."""
        if self._is_live and self._decision is None:
            self._decision = asyncio.get_running_loop().call_soon(self._decide)

    # -- fold -----------------------------------------------------------------------------------

    def _fold(self, entry: Entry) -> None:
        change = self._world.fold(entry)
        event = entry.event
        if isinstance(event, HistorySealed):
            self._is_sealing = False
            self._sealed_at = self._clock.monotonic()
            self._historian.seal(change.sealed, event.through, event.at)
        if change.build is not None and self._is_live:
            self._react(change.build)
        self._note_progress()
        if change.build is not None or isinstance(event, HistorySealed):
            self.decide_soon()

    def _note_progress(self) -> None:
        if self._world.seq >= self._catch_up_to:
            self._caught_up.set()

    def _react(self, build: Build) -> None:
        """Start what this agent has claimed; end what is cancelled or no longer its own."""
        self._claiming.discard(build.id)
        active = self._runner.active.get(build.id)
        is_mine = build.state is State.RUNNING and build.agent == self._name
        if is_mine and active is None:
            self._runner.start(build)
        elif is_mine and build.cancelled_by is not None:
            self._runner.stop(build.id, Reason.CANCELLED)
        elif active is not None and build.attempt > active.build.attempt:
            self._runner.stop(build.id, Reason.LOST)

    # -- decide and act -------------------------------------------------------------------------

    def _decide(self) -> None:
        self._decision = None
        now = self._clock.now()
        view = View(
            name=self._name,
            labels=self._labels,
            slots=self._slots,
            claiming=self._claiming | self._runner.active.keys(),
            takes_builds="disk" not in self._world.troubles,
            is_sealing=self._is_sealing,
            since_seal_s=self._since_seal_s(),
            journal_first=self._journal_first,
            history_covered=self._historian.covered,
        )
        decision = decide(self._world.cluster, view, now)
        for effect in decision.effects:
            self._act(effect)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if decision.wake_at is not None:
            # Never sooner than 10 ms: a clock that runs backwards must not spin the loop.
            delay = max(0.01, (decision.wake_at - now).total_seconds())
            self._alarm = asyncio.get_running_loop().call_later(delay, self.decide_soon)

    def _since_seal_s(self) -> float | None:
        return None if self._sealed_at is None else self._clock.monotonic() - self._sealed_at

    def _act(self, effect: Effect) -> None:
        match effect:
            case Claim():
                self._claiming.add(effect.build)
                self._spawn(self._claim(effect))
            case Seal():
                self._is_sealing = True
                self._spawn(self._seal(effect))
            case Trim() if not self._is_trimming:
                self._is_trimming = True
                self._spawn(self._trim(effect))
            case Trim():
                pass

    def _spawn(self, effect: Awaitable[None]) -> None:
        self._group.create_task(effect)  # type: ignore[arg-type]

    async def _claim(self, claim: Claim) -> None:
        event = BuildStarted(
            at=self._clock.now(),
            by=self._name,
            agent=self._name,
            build=claim.build,
            attempt=claim.attempt,
        )
        # The slot stays taken until an event of the build is folded, this one or the one that came
        # first: an answer that was lost must not let a further build in.
        with contextlib.suppress(StaleError):
            await persist("claim", lambda: self._journal.append(event, expect=claim.expect))

    async def _seal(self, seal: Seal) -> None:
        event = HistorySealed(
            at=self._clock.now(), by=self._name, agent=self._name, through=seal.through
        )
        try:
            await persist("seal", lambda: self._journal.append(event, expect=seal.expect))
        except StaleError:
            self._is_sealing = False

    async def _trim(self, trim: Trim) -> None:
        try:
            await self._journal.trim(before=trim.before)
            self._journal_first = trim.before
        except UnavailableError as error:
            logger.warning("cannot trim the journal: %s", error.message)
        finally:
            self._is_trimming = False
