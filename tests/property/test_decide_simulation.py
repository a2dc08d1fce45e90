"""Several agents over one journal, with delays, stale pictures, crashes and wild clocks.

Everything an agent does goes through :func:`rota.core.decide.decide`, the journal's compare-and-set
and the fold, as in the real loop. What must never happen is checked when it could happen first.
"""

from __future__ import annotations

import itertools
import random
from datetime import datetime
from typing import Any

import pytest
from tests.harness.facts import moment

from rota.core import decide as decisions
from rota.core.build import Build
from rota.core.cluster import Cluster, Picture, decode_picture, encode_picture
from rota.core.codec import decode, encode
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
from rota.core.events import (
    LEADER,
    AgentStarted,
    BuildCancelled,
    BuildFinished,
    BuildRequested,
    BuildRetried,
    BuildStarted,
    Event,
    HistorySealed,
    LeaderElected,
    key_of,
)
from rota.core.fold import apply
from rota.core.job import Reason, Retry, Spec
from rota.core.labels import satisfies
from rota.core.policy import AGEING
from rota.core.states import State
from rota.errors import FencedError, StaleError

STEPS = 2500
KEEP, STEP = 60, 20


class Journal:
    """The port's promise without its waiting; it also folds the truth of each moment."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.last: dict[str, int] = {}
        self.first = 1
        self.truth = Cluster()
        self.sealed: dict[str, Build] = {}

    def append(self, event: Event, expect: int | None = None, *, fence: int | None = None) -> int:
        key = key_of(event)
        if expect is not None and expect != self._last(key):
            raise StaleError("somebody else wrote first")
        if fence is not None and fence != self._last(LEADER):
            raise FencedError("there was an election")
        self.raw.append(encode(event))
        self.last[key] = seq = len(self.raw)
        change = apply(self.truth, seq, event)
        self.sealed |= {build.id: build for build in change.sealed}
        return seq

    def _last(self, key: str) -> int:
        return expected(self.last.get(key, 0), self.first)


class Agent:
    """One daemon and its slots. What runs goes on while the daemon is down."""

    def __init__(self, world: World, name: str, labels: dict[str, str], slots: int) -> None:
        self.world, self.name, self.labels, self.slots = world, name, labels, slots
        self.active: dict[str, int] = {}  # build -> attempt, processes that are really there
        self.snapshot = encode_picture(Cluster())
        self.is_up = False
        self.start()

    def start(self) -> None:
        cluster = decode_picture(self.snapshot)
        assert cluster is not None
        self.cluster = cluster
        self.claiming: set[str] = set()
        self.due: set[tuple[str, int]] = set()
        self.is_sealing = False
        self.sealed_at: float | None = None
        self.covered = 0
        self.under_way: list[Effect] = []
        self.is_up = True
        self.is_live = False
        self.fold(10**9)
        self.is_live = True
        for build_id in list(self.active):
            if build_id not in self.cluster.running.get(self.name, {}):
                del self.active[build_id]
        for build_id in self.cluster.running.get(self.name, {}):
            self.run(self.cluster.picture.builds[build_id])

    def fold(self, count: int) -> None:
        """Fold up to ``count`` further events, as the loop does."""
        seq = self.cluster.picture.seq
        for number, raw in enumerate(self.world.journal.raw[seq : seq + count], seq + 1):
            event = decode(raw)
            change = apply(self.cluster, number, event)
            if isinstance(event, HistorySealed):
                self.is_sealing = False
                self.sealed_at = self.world.monotonic
                if self.world.random.random() < 0.7:
                    self.covered = max(self.covered, event.through)
            if self.is_live:
                for build in change.builds:
                    self.react(build)

    def react(self, build: Build) -> None:
        self.claiming.discard(build.id)
        if build.state is State.RUNNING and build.agent == self.name:
            self.run(build)
        elif build.id in self.active and build.attempt >= self.active[build.id]:
            del self.active[build.id]

    def run(self, build: Build) -> None:
        """Start the present attempt; P2: nobody else ever did."""
        self.active[build.id] = build.attempt
        before = self.world.runs.setdefault((build.id, build.attempt), self.name)
        assert before == self.name
        assert len(self.active) <= self.slots

    def view(self) -> View:
        since = None if self.sealed_at is None else self.world.monotonic - self.sealed_at
        return View(
            name=self.name,
            labels=self.labels,
            slots=self.slots,
            claiming=self.claiming | self.active.keys(),
            leads=True,  # the picture says who does
            is_sealing=self.is_sealing,
            since_seal_s=since,
            journal_first=self.world.journal.first,
            history_covered=self.covered,
        )

    def decide(self) -> None:
        now = self.world.now()
        view = self.view()
        effects = decide(self.cluster, view, now).effects
        claims = [effect.build for effect in effects if isinstance(effect, Claim)]
        assert claims == best(self.cluster, view, now, self.due)
        for effect in effects:
            match effect:
                case Claim():
                    self.claiming.add(effect.build)
                case Seal():
                    self.is_sealing = True
                case Trim():
                    self.trim(effect.before)
                    continue
                case Lose() | LoseBuild():
                    raise AssertionError("nobody is silent here")
                case Expire():
                    raise AssertionError("nobody is asked anything here")
                case Forget():
                    raise AssertionError("nobody is ephemeral here")
            self.under_way.append(effect)

    def trim(self, before: int) -> None:
        live = [build.requested_seq for build in self.cluster.picture.builds.values()]
        assert before <= min([*live, self.covered])
        self.world.journal.first = max(self.world.journal.first, before)

    def act(self) -> None:
        """Carry out one effect; its answer may be lost, and then it is tried again."""
        if not self.under_way:
            return
        effect = self.under_way[self.world.random.randrange(len(self.under_way))]
        is_lost = self.world.random.random() < 0.1
        try:
            self.write(effect)
        except StaleError:
            if isinstance(effect, Seal):
                self.is_sealing = False
        else:
            # What has no expectation would be written twice here; the journal knows a repeat.
            if is_lost and isinstance(effect, Claim):
                return
        self.under_way.remove(effect)

    def write(self, effect: Effect) -> None:
        at, me = self.world.now(), self.name
        if isinstance(effect, Claim):
            claim = BuildStarted(at=at, agent=me, build=effect.build, attempt=effect.attempt)
            self.world.journal.append(claim, effect.expect)
            running = self.world.journal.truth.running.get(me, {})
            assert len(running) <= self.slots
        elif isinstance(effect, Seal):
            seal = HistorySealed(at=at, agent=me, through=effect.through)
            self.world.journal.append(seal, fence=effect.fence)
            self.world.seals.append((self.world.monotonic, self.sealed_at is None))

    def finish(self) -> None:
        """One of its scripts ends; what a cancel or a superseder wrote meanwhile is seen first."""
        known = [
            build
            for build in map(self.cluster.picture.builds.get, self.active)
            if build is not None and build.state is State.RUNNING and build.agent == self.name
        ]
        if not known:
            return
        build = self.world.random.choice(known)
        reason = self.world.random.choice([Reason.SCRIPT, Reason.SCRIPT, Reason.AGENT_ERROR])
        event = BuildFinished(
            at=self.world.now(),
            agent=self.name,
            build=build.id,
            attempt=build.attempt,
            reason=reason,
            exit_code=self.world.random.choice([0, 1]),
        )
        try:
            self.world.journal.append(event, build.last_seq)
        except StaleError:
            return
        self.active.pop(build.id, None)

    def crash(self) -> None:
        """What was on its way arrives, or never does."""
        for _ in range(self.world.random.randrange(3)):
            self.act()
        self.under_way.clear()
        self.is_up = False


def best(cluster: Cluster, view: View, now: datetime, due: set[tuple[str, int]]) -> list[str]:
    """What should be claimed, found the slow way: by priority that grows with age, then by age.

    A retry whose time has come does not wait again when the clock is set back: ``due`` are those.
    """
    queued = [b for b in cluster.picture.builds.values() if b.state is State.QUEUED]
    used = {
        build.id
        for build in cluster.picture.builds.values()
        if build.state is State.RUNNING and build.agent == view.name
    } | view.claiming
    if view.slots > len(used):
        due |= {(b.id, b.last_seq) for b in queued if b.not_before is None or b.not_before <= now}
    ready = [
        build
        for build in queued
        if build.id not in view.claiming
        and satisfies(build.spec.labels, view.labels)
        and (build.id, build.last_seq) in due
    ]
    ready.sort(key=lambda build: (build.stamp - build.spec.priority * AGEING, build.requested_seq))
    return [build.id for build in ready[: max(0, view.slots - len(used))]]


class World:
    """The agents, the journal, and the hand that shakes them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.monotonic = 0.0
        self.offset = 0.0
        self.journal = Journal()
        self.runs: dict[tuple[str, int], str] = {}
        self.seals: list[tuple[float, bool]] = []
        self.count = 0
        self.agents = [
            Agent(self, "p", {"linux": "", "cores": "4"}, 2),
            Agent(self, "q", {"linux": "", "arm": ""}, 1),
            Agent(self, "r", {"mac": ""}, 3),
        ]
        for agent in self.agents:
            self.journal.append(AgentStarted(at=self.now(), agent=agent.name, labels=agent.labels))

    def now(self) -> datetime:
        return moment(self.monotonic + self.offset)

    def step(self) -> None:
        self.monotonic += self.random.expovariate(20)
        action = self.random.choices(list(ACTIONS), weights=list(ACTIONS.values()))[0]
        getattr(self, action)(self.random.choice(self.agents))
        for agent in self.agents:
            assert len(agent.active) <= agent.slots

    def request(self, _: Agent) -> None:
        self.count += 1
        # What nobody satisfies holds the journal back for ever: only once a part of it is trimmed.
        nobody = ["windows"] if self.journal.first > 1 else []
        spec = Spec(
            labels=self.random.choice(["", "linux", "arm", "mac || cores>=4", *nobody]),
            priority=self.random.choice([0, 0, 0, 1, 5]),
            retry=Retry(times=2, delay_s=self.random.choice([0.0, 2.0])),
        )
        job = self.random.choice(["x", "y"])
        event = BuildRequested(at=self.now(), build=f"b{self.count}", job=job, spec=spec)
        self.journal.append(event, 0)

    def fold(self, agent: Agent) -> None:
        if agent.is_up:
            agent.fold(self.random.choice([1, 2, 5, 1000]))

    def decide(self, agent: Agent) -> None:
        if agent.is_up:
            agent.decide()

    def act(self, agent: Agent) -> None:
        if agent.is_up:
            agent.act()

    def finish(self, agent: Agent) -> None:
        if agent.is_up:
            agent.finish()

    def save(self, agent: Agent) -> None:
        if agent.is_up:
            agent.snapshot = encode_picture(agent.cluster)

    def crash(self, agent: Agent) -> None:
        agent.crash() if agent.is_up else agent.start()

    def cancel(self, _: Agent) -> None:
        self.touch(lambda b: BuildCancelled(at=self.now(), by="ann", build=b.id), "queued running")

    def retry(self, _: Agent) -> None:
        self.touch(lambda b: BuildRetried(at=self.now(), build=b.id, record=b), "finished")

    def revive(self, _: Agent) -> None:
        """Retry what the history has: nothing fences that but the fold, so it may come twice."""
        if self.journal.sealed:
            record = self.random.choice(list(self.journal.sealed.values()))
            for _times in range(self.random.choice([1, 2])):
                self.journal.append(BuildRetried(at=self.now(), build=record.id, record=record))

    def lose(self, agent: Agent) -> None:
        """The leader gives up what an agent ran that is away; its processes live on for now."""
        if not agent.is_up:
            for build_id in list(self.journal.truth.running.get(agent.name, {})):
                build = self.journal.truth.picture.builds[build_id]
                event = BuildFinished(
                    at=self.now(),
                    agent="leader",
                    build=build_id,
                    attempt=build.attempt,
                    reason=Reason.LOST,
                )
                self.journal.append(event, build.last_seq)

    def elect(self, agent: Agent) -> None:
        event = LeaderElected(at=self.now(), agent=agent.name)
        self.journal.append(event)

    def jump(self, _: Agent) -> None:
        self.offset = self.random.choice([0.0, 300.0, -300.0])

    def touch(self, make: Any, states: str) -> None:
        builds = self.journal.truth.picture.builds.values()
        found = [build for build in builds if build.state in states.split()]
        if found:
            build = self.random.choice(found)
            self.journal.append(make(build), build.last_seq)

    def calm_down(self) -> None:
        """Nobody crashes, nothing is asked for any more: what can run does, within so many rounds."""
        self.offset = 1000.0
        for agent in self.agents:
            if not agent.is_up:
                agent.start()
        self.elect(self.agents[0])
        for _ in range(4 * self.count + 100):
            self.monotonic += 0.5
            for agent in self.agents:
                agent.fold(10**9)
                agent.decide()
                while agent.under_way:
                    agent.act()
                agent.fold(10**9)
                agent.finish()


ACTIONS = {
    "request": 6,
    "fold": 30,
    "decide": 25,
    "act": 25,
    "finish": 15,
    "save": 2,
    "crash": 1.5,
    "cancel": 0.7,
    "retry": 0.7,
    "revive": 0.7,
    "lose": 1,
    "elect": 1,
    "jump": 1,
}


@pytest.mark.parametrize("seed", range(8))
def test_agents_share_the_work_and_never_an_attempt(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "KEEP_EVENTS", KEEP)
    monkeypatch.setattr(decisions, "TRIM_STEP", STEP)
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.calm_down()
    _check_that_all_has_run(world)
    _check_the_seals(world)
    _check_a_start_from_the_trimmed_journal(world)


def _check_that_all_has_run(world: World) -> None:
    left = list(world.journal.truth.picture.builds.values())
    assert all(build.spec.labels == "windows" for build in left), left
    assert len(world.runs) > 50
    assert len(set(world.runs.values())) == 3
    for agent in world.agents:
        assert agent.cluster.picture == world.journal.truth.picture
        assert agent.active == {}
        assert agent.claiming == set()


def _check_the_seals(world: World) -> None:
    assert len(world.seals) > 20
    for (before, _), (after, is_first_of_its_agent) in itertools.pairwise(world.seals):
        assert after - before >= 1 or is_first_of_its_agent


def _check_a_start_from_the_trimmed_journal(world: World) -> None:
    """What was trimmed away is in the history: nothing that lives is missed."""
    journal = world.journal
    assert journal.first > 1
    numbers: dict[str, int] = {}
    for build in journal.sealed.values():
        if build.requested_seq < journal.first:
            numbers[build.job] = max(numbers.get(build.job, 0), build.number)
    again = Cluster(Picture(numbers=numbers))
    for seq, raw in enumerate(journal.raw, 1):
        if seq >= journal.first:
            apply(again, seq, decode(raw))
    assert again.picture.builds == journal.truth.picture.builds
    assert again.picture.numbers == journal.truth.picture.numbers
