"""The agent's heart: read, fold, decide, act.

One task folds the journal, and nobody else does. After each event that may matter it decides, once
for all that came together, and hands the effects to tasks of the agent's group. An effect that was
decided on a stale picture is refused by the journal; the next event brings a better decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Awaitable, Callable, Mapping, Set

from rota.agent.historian import Historian
from rota.agent.levels import refuse_too_new
from rota.agent.patience import persist
from rota.agent.runner import Runner
from rota.core.build import Build
from rota.core.chain import Anchor
from rota.core.decide import (
    Claim,
    Effect,
    Expire,
    Forget,
    Lose,
    LoseBuild,
    Seal,
    Trim,
    View,
    decide,
)
from rota.core.events import (
    AgentLeft,
    AgentLost,
    BuildAnswered,
    BuildFinished,
    BuildRejected,
    BuildStarted,
    ClusterRaised,
    Emitted,
    Event,
    HistorySealed,
    Known,
    StoreMoved,
    kind_of,
)
from rota.core.fold import Change
from rota.core.job import Reason
from rota.core.people import not_approved
from rota.core.states import State
from rota.errors import PartedError, StaleError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.journal import Entry, Journal
from rota.service.world import World

logger = logging.getLogger(__name__)


def no_leader() -> bool:
    """Return that this agent does not lead."""
    return False


def never() -> float:
    """Return that this agent has led for no time."""
    return 0.0


def nobody() -> Mapping[str, float]:
    """Return that nobody is missed."""
    return {}


class Loop:
    """Folds and decides for one agent.

    ``on_entry`` gets each entry after it was folded, also those from before this agent was live;
    ``on_change`` with it what it changed; ``before_trim`` the sequence below which the journal is
    about to forget. ``settled`` returns up to where events may be sealed.
    """

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
    ) -> None:
        self._group, self._name = group, name
        self._labels, self._slots = labels, slots
        self._leads, self._silent, self._losing = no_leader, nobody, set[str]()
        self._led_s = never
        self._world, self._journal, self._runner = world, journal, runner
        self._historian, self._clock = historian, clock
        self._claiming: set[str] = set()
        self._expiring: set[tuple[str, int]] = set()
        self._is_sealing = False
        self._sealed_at: float | None = None
        self._build_at = clock.monotonic()
        self._is_trimming = False
        self._is_live = False
        self._decision: asyncio.Handle | None = None
        self._context = contextvars.copy_context()
        self._alarm: asyncio.TimerHandle | None = None
        self._caught_up = asyncio.Event()
        self._catch_up_to = 0
        self.on_entry: list[Callable[[Entry], None]] = []
        self.on_change: list[Callable[[Entry, Change], None]] = []
        self.settled: Callable[[], int | None] = lambda: None
        self.before_trim: list[Callable[[int], Awaitable[None]]] = []

    @property
    def losing(self) -> Set[str]:
        """The agents and builds whose loss this agent is about to record."""
        return self._losing

    @property
    def is_claiming(self) -> bool:
        """Whether this agent has asked for a build and does not know yet whether it has it."""
        return bool(self._claiming)

    @property
    def is_live(self) -> bool:
        """Whether all that was in the journal at the start is folded and acted upon."""
        return self._is_live

    def lead_by(
        self,
        leads: Callable[[], bool],
        silent: Callable[[], Mapping[str, float]],
        led_s: Callable[[], float],
    ) -> None:
        """Ask whether, and for how long, the duties are ours, and whom nobody heard for long."""
        self._leads, self._silent, self._led_s = leads, silent, led_s

    def resize(self, slots: int) -> None:
        """Take so many builds at once from now on; what runs beyond them goes on."""
        self._slots = slots
        self.decide_soon()

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
        cluster = self._world.cluster
        mine = [cluster.picture.builds[id_] for id_ in cluster.running.get(self._name, {})]
        self._runner.adopt(mine)
        self.decide_soon()

    def decide_soon(self) -> None:
        """Decide once the present batch of events is folded."""
        if self._is_live and self._decision is None:
            # Not in the context of whoever asks: what is decided is not about his build.
            self._decision = asyncio.get_running_loop().call_soon(
                self._decide, context=self._context
            )

    # -- fold -----------------------------------------------------------------------------------

    def _fold(self, entry: Entry) -> None:
        if self._is_live and entry.seq > self._world.seq + 1:
            raise PartedError(
                f"the journal goes on at {entry.seq}, this agent is at {self._world.seq}"
            )
        event, anchor = entry.event, self._world.cluster.picture.anchor
        change = self._world.fold(entry)
        if isinstance(event, ClusterRaised):
            refuse_too_new(self._world.cluster.picture)
        if isinstance(event, HistorySealed):
            self._is_sealing = False
            self._sealed_at = self._clock.monotonic()
            self._compare(event, anchor)
            self._historian.seal(event, change)
        elif isinstance(event, AgentLost):
            self._losing.discard(event.name)
        if self._is_live:
            self._world.touch()
            for build in change.builds:
                self._build_at = self._clock.monotonic()
                self._react(build, event)
        for told in self.on_entry:
            told(entry)
        for heard in self.on_change:
            heard(entry, change)
        self._note_progress()
        if not isinstance(event, StoreMoved | Emitted):
            self.decide_soon()

    def _compare(self, seal: HistorySealed, anchor: Anchor) -> None:
        """Say so if the leader's journal was another one than this agent's, up to the seal before."""
        # One that was written again, after an answer that was lost, names the seal before itself.
        if seal.chain and seal.after == anchor.seq and seal.chain != anchor.chain:
            logger.error("the leader's journal was another one up to event %d", anchor.seq)
            self._world.troubles["journal"] = (
                f"up to event {anchor.seq} this agent's journal is another one than the leader's; "
                "rota audit verify says more"
            )

    def _note_progress(self) -> None:
        if self._world.seq >= self._catch_up_to:
            self._caught_up.set()

    def _react(self, build: Build, event: Event) -> None:
        """Start what this agent has claimed; end what is cancelled or no longer its own."""
        self._claiming.discard(build.id)
        self._losing.discard(build.id)
        active = self._runner.active.get(build.id)
        is_mine = build.state is State.RUNNING and build.agent == self._name
        if is_mine and active is None:
            self._runner.start(build)
        elif is_mine and build.cancelled_by is not None:
            self._runner.stop(build.id, Reason.CANCELLED)
        elif active is not None and not is_mine and event.agent != self._name:
            # Somebody else ended this attempt: it was given up while nobody heard of this agent.
            self._runner.stop(build.id, Reason.LOST)

    # -- decide and act -------------------------------------------------------------------------

    def _decide(self) -> None:
        self._decision = None
        now = self._clock.now()
        myself = self._world.cluster.picture.agents.get(self._name)
        agents = self._world.definitions.settings.agents
        view = View(
            name=self._name,
            labels=myself.labels if myself is not None else self._labels,
            slots=self._slots,
            leads=self._leads(),
            silent=self._silent(),
            led_s=self._led_s(),
            losing=self._losing,
            expiring=self._expiring,
            quiet_s=self._clock.monotonic() - self._build_at,
            lost_after_s=agents.lost_after_s,
            stopped_after_s=agents.stopped_after_s,
            claiming=self._claiming | self._runner.active.keys(),
            takes_builds="disk" not in self._world.troubles,
            # A seal names the commit before its own: that is there first.
            is_sealing=self._is_sealing or self._historian.is_behind,
            since_seal_s=self._since_seal_s(),
            journal_first=self._world.journal_first,
            history_covered=self._historian.covered,
            settled=self.settled(),
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
            case Lose():
                self._losing.add(effect.agent)
                self._spawn(self._lose(effect))
            case LoseBuild():
                self._losing.add(effect.build)
                self._spawn(self._lose_build(effect))
            case Forget():
                self._losing.add(effect.agent)
                self._spawn(self._forget(effect))
            case Expire():
                self._expiring.add((effect.build, effect.question))
                self._spawn(self._expire(effect))
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
        picture = self._world.cluster.picture
        is_chained = bool(picture.chain)
        event = HistorySealed(
            at=self._clock.now(),
            by=self._name,
            agent=self._name,
            through=seal.through,
            after=picture.anchor.seq if is_chained else 0,
            chain=picture.anchor.chain if is_chained else "",
            former=self._historian.head if is_chained else "",
        )
        try:
            await self._duty(event, seal.fence)
        except StaleError:
            self._is_sealing = False

    async def _lose(self, lost: Lose) -> None:
        event = AgentLost(
            at=self._clock.now(),
            by=self._name,
            agent=self._name,
            name=lost.agent,
            silent_s=round(lost.silent_s, 1),
        )
        try:
            await self._duty(event, lost.fence)
        except StaleError:
            self._losing.discard(lost.agent)

    async def _forget(self, forgotten: Forget) -> None:
        event = AgentLeft(
            at=self._clock.now(),
            by=self._name,
            agent=self._name,
            name=forgotten.agent,
            why=forgotten.why,
        )
        with contextlib.suppress(StaleError):
            await self._duty(event, forgotten.fence)
        self._losing.discard(forgotten.agent)

    async def _lose_build(self, lost: LoseBuild) -> None:
        event = BuildFinished(
            at=self._clock.now(),
            by=self._name,
            agent=self._name,
            build=lost.build,
            attempt=lost.attempt,
            reason=Reason.LOST,
            message=lost.why,
        )
        try:
            await self._duty(event, lost.fence)
        except StaleError:
            self._losing.discard(lost.build)

    async def _expire(self, over: Expire) -> None:
        build = self._world.find(over.build)
        if build is None:
            return
        event: BuildRejected | BuildAnswered
        if over.question:
            event = BuildAnswered(
                at=self._clock.now(),
                by=self._name,
                agent=self._name,
                build=over.build,
                question=over.question,
                timed_out=True,
            )
        else:
            event = BuildRejected(
                at=self._clock.now(),
                by=self._name,
                agent=self._name,
                build=over.build,
                why=not_approved(build),
                timed_out=True,
            )
        # It is looked at again at the next decision; a word that came first has ended it by then.
        with contextlib.suppress(StaleError):
            await self._duty(event, over.fence)
        self._expiring.discard((over.build, over.question))

    async def _duty(self, event: Known, fence: int) -> None:
        """Append what only a leader may. Raises StaleError once another one was elected."""
        await persist(kind_of(event), lambda: self._journal.append(event, fence=fence))

    async def _trim(self, trim: Trim) -> None:
        try:
            for told in self.before_trim:
                await told(trim.before)
            await self._journal.trim(before=trim.before)
            self._world.journal_first = trim.before
        except UnavailableError as error:
            logger.warning("cannot trim the journal: %s", error.message)
        finally:
            self._is_trimming = False
