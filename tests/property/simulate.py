"""Many agents in virtual time under faults by chance: fold, decide and the voters' steps.

Each agent does what its loop does: it folds what comes, decides, and writes what it decided, with
delays, from stale pictures, across crashes, hangs, partitions, dead hosts and wrong clocks. What must
never happen is checked at the moment it would; what must happen in the end, when all is calm.

One seed is one story: `python -m tests.property.simulate --seed 7 --trace` tells it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from datetime import datetime
from multiprocessing import Pool

from tests.harness.virtual import Clock, Engine, Journal, Network

from rota.core.build import Build
from rota.core.cluster import Cluster
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
    expected,
)
from rota.core.demands import wish_of
from rota.core.events import (
    AgentDrained,
    AgentJoined,
    AgentLeft,
    AgentLost,
    AgentStarted,
    AgentStopped,
    BuildCancelled,
    BuildFinished,
    BuildRequested,
    BuildRetried,
    BuildStarted,
    Event,
    HistorySealed,
    LeaderElected,
    LeaderResigned,
    VoterAppointed,
    VoterDismissed,
    VoterListening,
    kind_of,
)
from rota.core.fold import Change, apply
from rota.core.job import Reason, Retry, Spec
from rota.core.labels import satisfies
from rota.core.states import State
from rota.core.voters import (
    Appoint,
    Dismiss,
    Evacuate,
    Ranks,
    Remove,
    Replicate,
    Step,
    Wait,
    next_step,
)
from rota.errors import StaleError, UnavailableError

#: As in rota.agent.leadership and rota.agent.roll, which need a running loop.
LEASE_S, BEAT_S, HOLD_S, LOOK_S, WORD_S = 2.5, 0.625, 2.0, 0.25, 2.0
STEP_S = 1.0
LOST_AFTER_S, STOPPED_AFTER_S, REPLACE_AFTER_S = 8.0, 20.0, 20.0
#: What must not run twice is ended so long after the last word of its agent that a quorum took was
#: sent, by its supervisor where the daemon is dead or hung: before others may give it up.
EXCLUSIVE_S = LOST_AFTER_S - 1.0
RETRY_S = 1.0
STORM_S = 60.0
#: As long as the slowest stories take: a retry that an agent with a clock of five minutes ahead has put off;
#: one agent that was drained, and has forty builds of half a minute to make up for.
CALM_S = 1300.0
BATCH = 200
LABELS = ["", "", "linux", "arm", "mac || cores>=4", "!arm"]


@dataclasses.dataclass
class Running:
    """A process that is really there."""

    build: Build
    is_alive: bool = True
    outcome: tuple[Reason, int | None] | None = None
    is_expected: bool = True  # by a claim of this life, or taken over at its start


@dataclasses.dataclass
class Story:
    """What befell one world, in the end."""

    seed: int
    virtual_s: float
    events: int
    builds: int
    elections: int
    lost: int
    appointed: int


class Host:
    """A machine with its daemon; what runs there lives on while the daemon is down."""

    def __init__(self, world: World, name: str, labels: dict[str, str], slots: int) -> None:
        self.world, self.name, self.labels, self.slots = world, name, labels, slots
        self.active: dict[str, Running] = {}
        self.snapshot = Cluster()
        self.is_up = self.is_hung = False
        self.is_member = False
        self.offset_s = self.contact_at = 0.0
        self.life = 0  # of the daemon: what an earlier one had planned does not happen
        self.cluster = Cluster()
        self.server = ""  # the engine server that it runs, dead or alive
        self._begin()

    def _begin(self) -> None:
        self.life += 1
        self.claiming: set[str] = set()
        self.tokens: dict[object, int] = {}
        self.losing: set[str] = set()
        self.is_sealing = self.is_stepping = self.is_live = self.is_folding = False
        self.is_stopping = False
        self.sealed_at: float | None = None
        self.token, self.held_until, self.stood_at = 0, 0.0, 0.0
        self.is_standing = False
        self.heard_at = self.looked_at = self.world.clock.now_s
        self.words: dict[str, float] = {}
        self.listens_since: float | None = None
        self.absent: dict[str, float] = {}
        self.steps = self.alarms = 0

    # -- the daemon's life ----------------------------------------------------------------------

    def start(self) -> None:
        """Start the daemon: it folds from its snapshot, and takes over what ran before."""
        self._begin()
        self.is_up, self.is_hung = True, False
        self.cluster = self.world.copy(self.snapshot)
        self.world.note(f"{self.name} starts")
        self.speak()
        self._every(WORD_S, self.speak)
        self._every(LOOK_S, self.look)
        self._every(BEAT_S, self.beat)
        self._every(STEP_S, self.step)
        self.catch_up()

    def catch_up(self) -> None:
        """Begin to take part once there is a journal to be read."""
        if not self.world.serves(self.name):
            self._later(RETRY_S, self.catch_up)
            return
        self.fold(10**9)
        if not self.is_member:
            joined = AgentJoined(at=self.now(), agent=self.name, name=self.name, pin=self.name)
            self.write(joined, then=lambda _: self._joined())
            return
        self._say_up(lambda _: self.go_live())

    def _joined(self) -> None:
        self.is_member = True
        self.catch_up()

    def go_live(self) -> None:
        """Take over what ran before, and decide from now on."""
        self.fold(10**9)
        self.is_live = True
        self._say_up_again()
        before, self.active = self.active, {}
        for build_id in self.cluster.running.get(self.name, {}):
            build = self.cluster.picture.builds[build_id]
            running = before.get(build_id)
            if running is None or running.build.attempt != build.attempt:
                running = Running(build, is_alive=False)  # its processes went with the machine
            self.active[build_id] = running
            if not running.is_alive:
                running.outcome = running.outcome or (Reason.LOST, None)
                self.record(running)
            elif build.cancelled_by is not None:
                self.end(build_id, Reason.CANCELLED)
        self.follow_votes()
        self.decide()

    def kill(self) -> None:
        """SIGKILL of the daemon; the engine's server and the builds live on."""
        self.is_up = False
        self.life += 1
        self.world.note(f"{self.name}'s daemon is killed")

    def _every(self, seconds: float, what: Callable[[], None]) -> None:
        def again() -> None:
            self._later(seconds, again)
            what()

        self._later(self.world.clock.random.uniform(0, seconds), again)

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        life = self.life

        def run() -> None:
            if self.life != life:
                return
            if self.is_hung:
                self.world.clock.after(0.2, run)  # it happens as soon as it goes on
                return
            what()

        self.world.clock.after(seconds, run)

    def soon(self, what: Callable[[], None]) -> None:
        """Do something after a moment, if this daemon still lives then."""
        self._later(self.world.clock.random.uniform(0.001, 0.03), what)

    def now(self) -> datetime:
        return self.world.clock.wall(self.offset_s)

    # -- read, fold, react ----------------------------------------------------------------------

    def told(self) -> None:
        """The journal has something new: fold it soon, in one go or in pieces."""
        if self.is_up and not self.is_folding:
            self.is_folding = True
            self.soon(self._fold_some)

    def _fold_some(self) -> None:
        self.is_folding = False
        # A client follows what is there through any living server, so only a cut stops it.
        if self.is_live and self.world.reads(self.name):
            self.fold(self.world.clock.random.choice([1, 5, 1000]))
            self.decide()
            if self.cluster.picture.seq < len(self.world.journal.events):
                self.told()

    def fold(self, count: int) -> None:
        """Fold up to ``count`` further events, as the loop does."""
        events, start = self.world.journal.events, self.cluster.picture.seq
        for seq in range(start + 1, min(start + count, len(events)) + 1):
            event = events[seq - 1]
            change = apply(self.cluster, seq, event)
            self._check_limits(change.build, seq)
            self._noted(seq, event)
            if self.is_live:
                self._react(change, event)
        if self.is_live and self.world.clock.random.random() < 0.05:
            self.snapshot = self.world.copy(self.cluster)

    def _check_limits(self, build: Build | None, seq: int) -> None:
        """Judge a claim: nothing has more holders than there is, and no later one a smaller token."""
        if build is None or build.state is not State.RUNNING or build.fence != seq:
            return
        for demand in wish_of(build).demands:
            use = self.cluster.queue.pools.use(demand.pool)
            assert use.used <= demand.capacity, f"{demand.pool} has {use.holders}"
            assert self.tokens.get(demand.pool, 0) < seq
            self.tokens[demand.pool] = seq

    def _noted(self, seq: int, event: Event) -> None:
        if self.is_live:
            self.words[event.agent] = self.world.clock.now_s
        match event:
            case HistorySealed():
                self.is_sealing, self.sealed_at = False, self.world.clock.now_s
            case AgentLost():
                self.losing.discard(event.name)
                self._say_up_again()
            case AgentStopped():
                self._say_up_again()
            case LeaderElected() | LeaderResigned():
                self.heard_at = self.world.clock.now_s
                mine = isinstance(event, LeaderElected) and event.agent == self.name
                if mine and self.is_standing:
                    self.token, self.held_until = seq, self.stood_at + HOLD_S
            case VoterAppointed() | VoterDismissed() | AgentLeft():
                if self.is_live:
                    self.soon(self.follow_votes)
            case _:
                pass

    def _say_up_again(self) -> None:
        """Others gave this agent up, or its own good-bye came late: it is there."""
        myself = self.cluster.picture.agents.get(self.name)
        if self.is_live and not self.is_stopping and myself is not None and not myself.is_up:
            self._say_up()

    def _say_up(self, then: Callable[[int], None] | None = None) -> None:
        up = AgentStarted(
            at=self.now(),
            agent=self.name,
            labels=self.labels,
            slots=self.slots,
            peer=f"https://{self.name}:1",
        )
        self.write(up, then=then)

    def _react(self, change: Change, event: Event) -> None:
        for build in change.builds:
            self._react_to(build, event)

    def _react_to(self, build: Build, event: Event) -> None:
        is_expected = build.id in self.claiming
        self.claiming.discard(build.id)
        self.losing.discard(build.id)
        running = self.active.get(build.id)
        is_mine = build.state is State.RUNNING and build.agent == self.name
        if is_mine and running is None:
            self.run(build, is_expected=is_expected)
        elif is_mine and build.cancelled_by is not None:
            self.end(build.id, Reason.CANCELLED)
        elif running is not None and not is_mine and event.agent != self.name:
            self.end(build.id, Reason.LOST)

    def run(self, build: Build, *, is_expected: bool) -> None:
        """Start an attempt; P2: nobody else ever did.

        A claim of a former life, held up on its way for longer than this one needed to start, is as
        good as any: it runs beside what this life claimed, and is the only thing that may.
        """
        assert self.world.journal.runs[build.id, build.attempt] == self.name
        assert (build.id, build.attempt) not in self.world.started, f"{build.id} runs again"
        self.world.started.add((build.id, build.attempt))
        took_s = self.world.clock.random.choice([0.01, 0.3, 2.0, 10.0, 25.0])
        self.active[build.id] = running = Running(build, is_expected=is_expected)
        expected = sum(other.is_expected for other in self.active.values())
        assert not is_expected or expected <= self.slots
        if build.spec.exclusive:
            others = [h.name for h in self.world.hosts if h is not self and h.runs(build.id)]
            assert not others, f"{build.id} is exclusive, and runs on {others} and {self.name} (P2)"
        self.world.clock.after(took_s, lambda: self.world.ended(self, running))

    def runs(self, build: str) -> bool:
        """Whether a process of that build lives here."""
        return build in self.active and self.active[build].is_alive

    # -- decide and act -------------------------------------------------------------------------

    @property
    def leads(self) -> bool:
        picture = self.cluster.picture
        if not self.token or picture.leader_seq != self.token or picture.leader != self.name:
            return False
        return len(picture.agents) == 1 or self.world.clock.now_s < self.held_until

    def decide(self) -> None:
        """Decide, and send what was decided on its way."""
        if not self.is_live:
            return
        since = None if self.sealed_at is None else self.world.clock.now_s - self.sealed_at
        view = View(
            name=self.name,
            labels=self.labels,
            slots=self.slots,
            leads=self.leads,
            silent=self.silent(),
            losing=self.losing,
            lost_after_s=LOST_AFTER_S,
            stopped_after_s=STOPPED_AFTER_S,
            claiming=self.claiming | self.active.keys(),
            is_sealing=self.is_sealing,
            since_seal_s=since,
        )
        decision = decide(self.cluster, view, self.now())
        for effect in decision.effects:
            self.act(effect)
        self.alarms += 1
        if decision.wake_at is not None:
            number, wait_s = self.alarms, (decision.wake_at - self.now()).total_seconds()
            self._later(max(0.01, wait_s), lambda: self.decide() if self.alarms == number else None)

    def act(self, effect: Effect) -> None:
        at, me = self.now(), self.name
        match effect:
            case Claim():
                self.claiming.add(effect.build)
                claim = BuildStarted(at=at, agent=me, build=effect.build, attempt=effect.attempt)
                self.write(claim, expect=effect.expect)
            case Seal():
                self.is_sealing = True
                seal = HistorySealed(at=at, agent=me, through=effect.through)
                self.write(seal, fence=effect.fence, stale=self._not_sealing)
            case Lose():
                self.losing.add(effect.agent)
                lost = AgentLost(at=at, agent=me, name=effect.agent, silent_s=effect.silent_s)
                self.write(
                    lost, fence=effect.fence, stale=lambda: self.losing.discard(effect.agent)
                )
            case LoseBuild():
                self.losing.add(effect.build)
                event = BuildFinished(
                    at=at,
                    agent=me,
                    build=effect.build,
                    attempt=effect.attempt,
                    reason=Reason.LOST,
                )
                self.write(
                    event, fence=effect.fence, stale=lambda: self.losing.discard(effect.build)
                )
            case Trim():
                pass
            case Expire():
                raise AssertionError("nobody is asked anything here")
            case Forget():
                raise AssertionError("nobody is ephemeral here")

    def _not_sealing(self) -> None:
        self.is_sealing = False

    def end(self, build: str, reason: Reason, exit_code: int | None = None) -> None:
        """End a process if it lives, and record how; the first outcome is the one."""
        running = self.active[build]
        running.is_alive = False
        if running.outcome is None:
            running.outcome = (reason, exit_code)
            self.record(running)

    def record(self, running: Running) -> None:
        """Write an outcome if the attempt still counts; its slot is taken until then."""
        build = self.cluster.picture.builds.get(running.build.id)
        is_ours = (
            build is not None
            and build.state is State.RUNNING
            and (build.agent, build.attempt) == (self.name, running.build.attempt)
        )
        if not is_ours or build is None or running.outcome is None:
            self._freed(running)
            return
        event = BuildFinished(
            at=self.now(),
            agent=self.name,
            build=build.id,
            attempt=build.attempt,
            reason=running.outcome[0],
            exit_code=running.outcome[1],
        )
        self.write(
            event,
            expect=build.last_seq,
            then=lambda _: self._freed(running),
            stale=lambda: self._later(0.2, lambda: self.record(running)),
        )

    def _freed(self, running: Running) -> None:
        if self.active.get(running.build.id) is running:
            del self.active[running.build.id]
            self.soon(self.decide)

    def write(
        self,
        event: Event,
        *,
        expect: int | None = None,
        fence: int | None = None,
        then: Callable[[int], None] | None = None,
        stale: Callable[[], None] | None = None,
    ) -> None:
        """Append with patience, as the shell does: again until there is an answer.

        Each try may be lost on its way, or arrive and its answer be lost, or arrive long after
        everybody gave it up. The journal knows a repeated try by its message's name.
        """
        life, message = self.life, self.world.new_message()

        def deliver(*, is_answered: bool) -> None:
            if not self.world.serves(self.name):
                return
            try:
                seq = self.world.append(message, event, expect=expect, fence=fence)
            except StaleError:
                if is_answered and self.life == life and stale is not None:
                    self.soon(stale)
                message.is_over = message.is_over or is_answered
                return
            if is_answered:
                message.is_over = True
                if self.life == life and then is not None:
                    self.soon(lambda: then(seq))

        def attempt() -> None:
            if message.is_over or (self.life != life):
                return
            random = self.world.clock.random
            fate = random.random()
            if fate < 0.85:
                self.world.clock.soon(lambda: deliver(is_answered=True))
            elif fate < 0.93:
                self.world.clock.soon(lambda: deliver(is_answered=False))
            elif fate < 0.96:
                # A hung process or a full queue held it back: it arrives when nobody waits for it.
                self.world.clock.after(
                    random.choice([3.0, 15.0, 40.0]), lambda: deliver(is_answered=False)
                )
            self._later(RETRY_S, attempt)

        attempt()

    # -- lease, presence ------------------------------------------------------------------------

    def look(self) -> None:
        """Stand for election if nobody leads."""
        now = self.world.clock.now_s
        if now - self.looked_at > LEASE_S / 2:
            self.heard_at = now
        self.looked_at = now
        if self.is_live and not self.is_standing and self._is_free():
            self.stand()

    def _is_free(self) -> bool:
        picture = self.cluster.picture
        myself = picture.agents.get(self.name)
        if myself is None or not myself.is_up or myself.leaving:
            return False
        if picture.leader == self.name:
            return self.token != picture.leader_seq
        if not picture.leader or picture.leader not in picture.agents:
            return True
        return self.world.clock.now_s - self.heard_at >= LEASE_S

    def stand(self) -> None:
        self.is_standing, self.stood_at = True, self.world.clock.now_s
        event = LeaderElected(at=self.now(), agent=self.name)
        picture = self.cluster.picture
        self.write(event, expect=expected(picture.leader_seq, 1), stale=self._sit)
        self._later(2.0, self._sit)

    def _sit(self) -> None:
        self.is_standing = False

    def beat(self) -> None:
        """Send a beat if this agent leads; a quorum takes it, or it counts for nothing."""
        picture = self.cluster.picture
        if not (self.is_live and picture.leader == self.name and self.token == picture.leader_seq):
            self.listens_since = None
            return
        if not self.leads:
            self.listens_since = None  # what it did not hear while it was cut off says nothing
        elif self.listens_since is None:
            self.listens_since, self.words = self.world.clock.now_s, {}
        sent, token, life = self.world.clock.now_s, self.token, self.life

        def taken() -> None:
            if self.life == life and self.world.serves(self.name):
                self.held_until = max(self.held_until, sent + HOLD_S)
                self.world.hear_beat(self, token)

        self.world.clock.soon(taken)
        self.decide()

    def hear_beat(self, token: int) -> None:
        """Note a leader's beat."""
        if self.is_up and not self.is_hung and token >= self.cluster.picture.leader_seq:
            self.heard_at = self.world.clock.now_s

    def speak(self) -> None:
        """Say that this agent is there; whoever listens hears it, or it is lost."""
        sent, life = self.world.clock.now_s, self.life

        def arrive() -> None:
            if self.world.hear_word(self.name) and self.life == life:
                self.contact_at = max(self.contact_at, sent)

        if self.world.clock.random.random() < 0.95:
            self.world.clock.soon(arrive)

    def watch(self) -> None:
        """End what must not run twice, if no word got through for too long: a supervisor's part."""
        self.world.clock.after(0.25, self.watch)
        if self.world.clock.now_s - self.contact_at > EXCLUSIVE_S:
            for running in self.active.values():
                if running.build.spec.exclusive:
                    running.is_alive = False
                    if self.is_live and running.outcome is None:
                        self.soon(functools.partial(self.give_up, running.build.id))

    def give_up(self, build: str) -> None:
        """Record what the supervisor ended."""
        if build in self.active:
            self.end(build, Reason.LOST)

    def silent(self) -> dict[str, float]:
        """Return the seconds since each agent was heard of; empty for who does not listen."""
        since = self.listens_since
        if since is None:
            return {}
        now = self.world.clock.now_s
        return {
            name: now - max(self.words.get(name, since), since)
            for name in self.cluster.picture.agents
            if name != self.name
        }

    # -- voters ---------------------------------------------------------------------------------

    def ranks(self) -> Ranks:
        """Return what is known when a step is chosen. Raises UnavailableError without a quorum."""
        picture, engine = self.cluster.picture, self.world.engine
        seats = engine.seats(self.name)
        now, seated = self.world.clock.now_s, {seat.server for seat in seats}
        servers = {voter.server for voter in picture.voters.values()}
        self.absent = {s: self.absent.get(s, now) for s in servers - seated}
        return Ranks(
            voters=picture.voters,
            agents=picture.agents,
            silent=self.silent(),
            seats=seats,
            copies=engine.copies,
            is_whole=engine.is_whole(),
            absent={server: now - since for server, since in self.absent.items()},
            limit=self.world.voters,
            lost_after_s=LOST_AFTER_S,
            replace_after_s=REPLACE_AFTER_S,
        )

    def step(self) -> None:
        """The duty that chooses the voters: one step, then look again."""
        if not (self.is_live and self.leads) or self.is_stepping:
            return
        self.is_stepping = True
        self.steps += 1
        number = self.steps
        # No answer: it may have been written all the same, and is looked at again.
        self._later(5.0, lambda: self._stepped() if self.steps == number else None)
        with contextlib.suppress(UnavailableError):
            step = next_step(self.ranks())
            if step is not None and not isinstance(step, Wait):
                self.world.note(f"{self.name} does {step}")
                self._do(step)
                return
        self._stepped()

    def _stepped(self) -> None:
        self.is_stepping = False

    def _do(self, step: Step) -> None:
        at, fence, engine = self.world.clock.wall(), self.token, self.world.engine
        match step:
            case Appoint():
                server = f"{step.agent}-{self.world.new_number()}"
                appointed = VoterAppointed(at=at, agent=self.name, name=step.agent, server=server)
                self.write(appointed, fence=fence, then=lambda _: self._stepped())
            case Dismiss():
                self._dismiss(step.agent, step.server)
            case Remove():
                engine.remove(self.name, step.server)
                self._dismiss_owner(step.server)
            case Evacuate():
                engine.evacuate(self.name, step.server)
                self._later(1.0, lambda: self._remove_evacuated(step.server))
            case Replicate():
                engine.replicate(self.name, step.copies)
                self._later(0.3, self._stepped)
            case Wait():
                pass

    def _remove_evacuated(self, server: str) -> None:
        with contextlib.suppress(UnavailableError):
            if not self.world.engine.keeps(server):
                self.world.engine.remove(self.name, server)
                self._dismiss_owner(server)
                return
        self._stepped()

    def _dismiss_owner(self, server: str) -> None:
        for voter in self.cluster.picture.voters.values():
            if voter.server == server:
                self._dismiss(voter.agent, server)
                return
        self._stepped()

    def _dismiss(self, agent: str, server: str) -> None:
        event = VoterDismissed(at=self.now(), agent=self.name, name=agent, server=server)
        self.write(event, fence=self.token, then=lambda _: self._stepped(), stale=self._stepped)

    def follow_votes(self) -> None:
        """Start a server when appointed, say where it is, end it when dismissed."""
        if not self.is_live:
            return
        picture, engine = self.cluster.picture, self.world.engine
        mine = picture.voters.get(self.name)
        if mine is None:
            if self.server and picture.voters:
                if not self._gives_up_seat():
                    self._later(RETRY_S, self.follow_votes)
                    return
                if (server := engine.servers.get(self.server)) is not None:
                    server.is_up = False
                self.server = ""
                engine.look()
            elif self.server:
                self._say_listening(self.server)
            return
        self.server = mine.server
        if not engine.join(mine.server, self.name):
            self._later(RETRY_S, self.follow_votes)
        elif not mine.is_listening:
            self._say_listening(mine.server)

    def _gives_up_seat(self) -> bool:
        """Take the own server out of the group while it is up, as the shell does; say if it is out."""
        engine = self.world.engine
        try:
            seats = engine.seats(self.name)
            if any(seat.server == self.server for seat in seats) and len(seats) > 1:
                engine.remove(self.name, self.server)
        except UnavailableError:
            return False
        return True

    def _say_listening(self, server: str) -> None:
        at = self.world.clock.wall()
        self.write(
            VoterListening(at=at, agent=self.name, server=server, host=self.name, client=1, route=2)
        )


class Message:
    """An append that may be tried many times and counts once."""

    def __init__(self) -> None:
        self.seq = 0
        self.is_over = False


class World:
    """The hosts, what is between them, and the hand that shakes them."""

    def __init__(self, seed: int, *, agents: int | None = None) -> None:
        self.seed = seed
        self.clock = Clock(seed)
        random = self.clock.random
        self.network = Network()
        self.journal = Journal()
        self.started: set[tuple[str, int]] = set()
        self.requests: dict[str, bool] = {}  # acknowledged or not
        self.notes: deque[str] = deque(maxlen=2000)
        self.count = 0
        self.voters = random.choice([1, 3, 3, 3, 5])
        number = agents or random.choice([1, 2, 3, 3, 4, 5, 7])
        kinds = [{"linux": "", "cores": "4"}, {"linux": "", "arm": ""}, {"mac": ""}]
        self.hosts: list[Host] = []
        self.engine = Engine(self.clock, self.network, "h1")
        self.is_calm = False
        for index in range(number):
            slots = random.choice([1, 2, 3])
            self.hosts.append(Host(self, f"h{index + 1}", kinds[index % 3], slots))
        self.hosts[0].server = "h1-0"

    # -- what hosts ask of it -------------------------------------------------------------------

    def copy(self, cluster: Cluster) -> Cluster:
        """Return the state as it is read back from a snapshot."""
        again = Cluster()
        for seq in range(1, cluster.picture.seq + 1):
            apply(again, seq, self.journal.events[seq - 1])
        return again

    def serves(self, host: str) -> bool:
        """Whether a write from there is acknowledged now."""
        return self.engine.serves(host)

    def reads(self, host: str) -> bool:
        """Whether new events come through to there."""
        return self.engine.serves(host)

    def new_message(self) -> Message:
        return Message()

    def new_number(self) -> int:
        self.count += 1
        return self.count

    def append(
        self, message: Message, event: Event, *, expect: int | None, fence: int | None
    ) -> int:
        if not message.seq:
            message.seq = self.journal.append(event, expect=expect, fence=fence)
            self.note(f"#{message.seq} {kind_of(event)} {event}")
            if isinstance(event, VoterAppointed):
                self._watch_appointment(event)
            for host in self.hosts:
                host.told()
        return message.seq

    def _watch_appointment(self, event: VoterAppointed) -> None:
        """Two fresh servers at once can elect a second, empty engine."""
        voters = self.journal.truth.picture.voters.values()
        known = [voter.server for voter in voters if voter.server != event.server]
        fresh = [server for server in known if server not in self.engine.servers]
        assert not fresh, f"{event.server} is appointed while {fresh} have no seats"

    def hear_beat(self, leader: Host, token: int) -> None:
        for host in self.hosts:
            if self.serves(host.name) and (host is leader or host.is_live):
                host.hear_beat(token)

    def hear_word(self, name: str) -> bool:
        """Let a word be heard by who listens; return whether a quorum took it."""
        if not self.reads(name):
            return False
        for host in self.hosts:
            if host.listens_since is not None and self.reads(host.name):
                host.words[name] = self.clock.now_s  # also while it hangs: it lies in its buffers
        return True

    def ended(self, host: Host, running: Running) -> None:
        """A script comes to its end; its daemon tells as soon as there is one."""
        if host.active.get(running.build.id) is not running or not running.is_alive:
            return
        if not host.is_live or host.is_hung:
            self.clock.after(0.5, lambda: self.ended(host, running))
        else:
            host.end(running.build.id, Reason.SCRIPT, self.clock.random.choice([0, 0, 1]))

    def note(self, text: str) -> None:
        self.notes.append(f"{self.clock.now_s:9.3f} {text}")

    # -- the storm ------------------------------------------------------------------------------

    def run(self) -> Story:
        """Live through a storm, then through the calm in which all must come right."""
        random = self.clock.random
        for index, host in enumerate(self.hosts):
            # All at once, or one after the other in the middle of the storm.
            self.clock.after(
                random.choice([0.0, index * 2.0, random.uniform(0, 40)]) if index else 0, host.start
            )
        for host in self.hosts:
            host.watch()
        while self.clock.now_s < STORM_S:
            self.clock.run(self.clock.now_s + random.expovariate(1.5))
            action = random.choices(list(ACTIONS), weights=list(ACTIONS.values()))[0]
            getattr(self, action)(random.choice(self.hosts))
            self.engine.look()
        self.calm_down()
        while self.clock.now_s < STORM_S + CALM_S and not self.is_settled():
            self.clock.run(self.clock.now_s + 1.0)
            self.engine.look()
        self.check()
        events = self.journal.events
        return Story(
            seed=self.seed,
            virtual_s=self.clock.now_s,
            events=len(events),
            builds=len(self.requests),
            elections=sum(isinstance(event, LeaderElected) for event in events),
            lost=sum(isinstance(event, AgentLost) for event in events),
            appointed=sum(isinstance(event, VoterAppointed) for event in events),
        )

    def request(self, host: Host) -> None:
        if not host.is_live or host.is_hung:
            return
        random = self.clock.random
        spec = Spec(
            labels=random.choice(LABELS),
            priority=random.choice([0, 0, 1]),
            exclusive=random.random() < 0.3,
            concurrency=random.choice([0, 0, 2]),
            retry=Retry(times=random.choice([0, 5]), delay_s=random.choice([0.0, 2.0])),
        )
        build = f"b{self.new_number()}"
        self.requests[build] = False
        event = BuildRequested(
            at=self.clock.wall(host.offset_s), agent=host.name, build=build, job="x", spec=spec
        )

        def acknowledged(_: int) -> None:
            self.requests[build] = True

        host.write(event, expect=0, then=acknowledged)

    def burst(self, host: Host) -> None:
        for _ in range(self.clock.random.randrange(2, 6)):
            self.request(host)

    def kill(self, host: Host) -> None:
        if host.is_up:
            host.kill()
            host.is_live = False
            self.clock.after(
                self.clock.random.choice([0.5, 3.0, 12.0, 30.0]), lambda: self._up(host)
            )

    def _up(self, host: Host) -> None:
        if not host.is_up and host.name not in self.network.dead:
            host.start()

    def die(self, host: Host) -> None:
        """The whole machine goes, with all that runs there; it may come back."""
        if host.name in self.network.dead:
            return
        host.kill()
        host.is_live = False
        for running in host.active.values():
            running.is_alive = False
        self.network.dead.add(host.name)
        self.note(f"{host.name} dies")
        self.clock.after(
            self.clock.random.choice([1.0, 10.0, 45.0, 500.0]), lambda: self.boot(host)
        )

    def boot(self, host: Host) -> None:
        if host.name in self.network.dead:
            self.network.dead.discard(host.name)
            self.note(f"{host.name} boots")
            self.engine.look()
            self._up(host)

    def hang(self, host: Host) -> None:
        """SIGSTOP of the daemon: what it had planned happens when it goes on, late."""
        if host.is_up and not host.is_hung:
            host.is_hung = True
            self.note(f"{host.name} hangs")
            self.clock.after(
                self.clock.random.choice([0.5, 3.0, 6.0, 15.0]), lambda: self.go_on(host)
            )

    def go_on(self, host: Host) -> None:
        if host.is_hung:
            host.is_hung = False
            self.note(f"{host.name} goes on")

    def cut(self, host: Host) -> None:
        self.network.side[host.name] = self.new_number()
        self.note(f"{host.name} is cut off")
        self.clock.after(self.clock.random.choice([1.0, 5.0, 12.0, 40.0]), self.join_up)

    def split(self, _: Host) -> None:
        sides = (self.new_number(), self.new_number())
        for host in self.hosts:
            self.network.side[host.name] = self.clock.random.choice(sides)
        self.note(f"split: {self.network.side}")
        self.clock.after(self.clock.random.choice([1.0, 5.0, 12.0, 30.0]), self.join_up)

    def join_up(self) -> None:
        self.network.side.clear()
        self.engine.look()
        for host in self.hosts:
            host.told()

    def crash_server(self, host: Host) -> None:
        """The engine's server dies; its daemon, if there is one, starts it again."""
        server = self.engine.servers.get(host.server)
        if server is not None and server.is_up:
            server.is_up = False
            self.note(f"{host.server} is killed")
            self.clock.after(self.clock.random.uniform(0.1, 1.0), lambda: self._server_up(host))

    def _server_up(self, host: Host) -> None:
        server = self.engine.servers.get(host.server)
        if server is None:
            return
        if host.is_up or self.is_calm:
            server.is_up = True
            self.engine.look()
        else:
            self.clock.after(1.0, lambda: self._server_up(host))

    def jump(self, host: Host) -> None:
        host.offset_s = self.clock.random.choice([0.0, 300.0, -300.0])

    def drain(self, host: Host) -> None:
        if host.is_live:
            is_draining = self.clock.random.random() < 0.5
            name = self.clock.random.choice(self.hosts).name
            event = AgentDrained(
                at=self.clock.wall(), agent=host.name, name=name, draining=is_draining
            )
            host.write(event)

    def stop(self, host: Host) -> None:
        """A planned stop: it resigns, says good-bye, and is gone; it comes back later."""
        if not host.is_live or host.is_hung:
            return
        host.is_stopping = True
        at, picture = self.clock.wall(), host.cluster.picture
        if picture.leader == host.name and host.token == picture.leader_seq:
            host.write(LeaderResigned(at=at, agent=host.name), expect=host.token)
            host.token = 0
        host.write(AgentStopped(at=at, agent=host.name))
        life = host.life
        self.clock.after(0.5, lambda: self.kill(host) if host.life == life else None)

    def cancel(self, host: Host) -> None:
        builds = [b for b in host.cluster.picture.builds.values() if b.state is not State.FINISHED]
        if builds and host.is_live:
            build = self.clock.random.choice(builds)
            host.write(
                BuildCancelled(at=self.clock.wall(), agent=host.name, by="ann", build=build.id)
            )

    def retry(self, host: Host) -> None:
        builds = [b for b in host.cluster.picture.builds.values() if b.state is State.FINISHED]
        if builds and host.is_live:
            build = self.clock.random.choice(builds)
            event = BuildRetried(
                at=self.clock.wall(), agent=host.name, build=build.id, record=build
            )
            host.write(event, expect=build.last_seq)

    # -- the calm -------------------------------------------------------------------------------

    def calm_down(self) -> None:
        """Nothing breaks any more: hosts are up and linked, and nobody is drained for ever."""
        self.is_calm = True
        self.note("calm")
        self.join_up()
        for host in self.hosts:
            host.offset_s = 0.0
            self.go_on(host)
            self.boot(host)
            self._up(host)
            server = self.engine.servers.get(host.server)
            if server is not None:
                server.is_up = True
        self.engine.look()
        self.clock.after(20.0, self._undrain)

    def _undrain(self) -> None:
        for host in self.hosts:
            event = AgentDrained(
                at=self.clock.wall(), agent=host.name, name=host.name, draining=False
            )
            host.write(event)

    def is_settled(self) -> bool:
        return not self.unsettled()

    def unsettled(self) -> list[str]:
        """Return what is still to come right."""
        left: list[str] = []
        truth = self.journal.truth
        if self.clock.now_s < STORM_S + 25:
            left.append("the last have not been undrained")
        left += [
            f"{build.id} is {build.state}"
            for build in truth.picture.builds.values()
            if any(satisfies(build.spec.labels, host.labels) for host in self.hosts)
        ]
        for host in self.hosts:
            if host.cluster.picture != truth.picture:
                left.append(f"{host.name} is at {host.cluster.picture.seq} of {truth.picture.seq}")
            if host.active or host.claiming:
                left.append(f"{host.name} has {host.active} and claims {host.claiming}")
        leading = [host for host in self.hosts if host.leads]
        if len(leading) != 1:
            left.append(f"{len(leading)} lead")
        else:
            left += self._unsettled_voters(leading[0])
        return left

    def _unsettled_voters(self, leader: Host) -> list[str]:
        picture, engine = self.journal.truth.picture, self.engine
        members = sum(not agent.leaving for agent in picture.agents.values())
        wanted = min(self.voters, members)
        wanted -= 1 - wanted % 2
        numbers = (len(picture.voters), len(engine.servers), engine.copies)
        if numbers != (wanted, wanted, wanted) or not engine.is_whole():
            return [f"{numbers} voters, servers, copies of {members} members"]
        with contextlib.suppress(UnavailableError):
            step = next_step(leader.ranks())
            return [] if step is None else [f"{leader.name} would do {step}"]
        return ["the engine has no quorum"]

    def check(self) -> None:
        """What must have come right by now."""
        left = self.unsettled()
        assert not left, f"after {CALM_S:.0f} calm seconds: {left}"
        waiting = self.journal.truth.picture.builds.keys()
        for build, is_acknowledged in self.requests.items():
            if is_acknowledged:
                assert build in self.journal.sealed or build in waiting, f"{build} is lost (P1)"


ACTIONS = {
    "request": 20,
    "burst": 4,
    "kill": 4,
    "die": 1.5,
    "hang": 3,
    "cut": 2.5,
    "split": 1,
    "crash_server": 2,
    "jump": 1,
    "drain": 1,
    "stop": 2,
    "cancel": 2,
    "retry": 1,
}


def simulate(seed: int) -> Story:
    """Run one world.

    Raises:
        AssertionError: it broke a promise, or did not come right in the end.
    """
    return World(seed).run()


def _one(seed: int) -> tuple[int, str, Story | None]:
    world = World(seed)
    try:
        return seed, "", world.run()
    except Exception:  # noqa: BLE001 - whatever went wrong is what this is to find, with its seed
        return seed, traceback.format_exc(limit=-4), None


def main() -> int:
    """Run one seed with its story, or many seeds; return how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first seed; only this one, without a count")
    parser.add_argument("--count", type=int, help="how many seeds; 1000 if none is given")
    parser.add_argument("--minutes", type=float, help="go on for so long, instead of --count")
    parser.add_argument("--trace", action="store_true", help="tell all that happens to --seed")
    options = parser.parse_args()
    if options.trace:
        return _tell(options.seed or 0)
    count = options.count or (1000 if options.seed is None else 1)
    return _many(options.seed or 0, count, options.minutes)


def _many(first: int, count: int, minutes: float | None) -> int:
    began, done, failed, virtual_s = time.monotonic(), 0, 0, 0.0
    deadline = began + minutes * 60 if minutes else None
    with Pool(os.cpu_count()) as pool:
        while time.monotonic() < deadline if deadline else done < count:
            seeds = range(first + done, first + done + (BATCH if deadline else count))
            for seed, error, story in pool.imap_unordered(_one, seeds, chunksize=4):
                done += 1
                virtual_s += story.virtual_s if story else 0.0
                if error:
                    failed += 1
                    print(f"seed {seed}:\n{error}", flush=True)
    took_s = time.monotonic() - began
    print(
        f"{done} runs, {failed} failed, {virtual_s / 3600:.1f} h of virtual time in {took_s:.0f} s:"
        f" {done / took_s * 60:.0f} runs a minute"
    )
    return 1 if failed else 0


def _tell(seed: int) -> int:
    world = World(seed)
    try:
        print(world.run())
    except AssertionError:
        traceback.print_exc()
        return 1
    finally:
        print("\n".join(world.notes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
