"""Limits under several agents with stale pictures, losses and settings that change in the middle.

The journal is folded once more, the slow way, as it grows: at no point has a limit more holders than
there is of it, nor does a later holder have a smaller token. Whenever everybody has seen
everything, nobody waits though all that it needs is free and somebody is idle.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import pytest
from tests.harness.facts import moment

from rota.core.build import Build
from rota.core.cluster import Cluster, decode_picture, encode_picture
from rota.core.codec import decode, encode
from rota.core.decide import Claim, View, decide
from rota.core.demands import ALL, wish_of
from rota.core.events import (
    AgentLost,
    AgentStarted,
    BuildCancelled,
    BuildFinished,
    BuildRequested,
    BuildStarted,
    BuildWaiting,
    Event,
    LimitsSet,
    key_of,
)
from rota.core.fold import apply
from rota.core.job import ParamValue, Rate, Reason, Retry, Spec, Take
from rota.core.labels import satisfies
from rota.core.policy import Policy, Throttle
from rota.core.states import State

STEPS = 800
AGENTS = {"p": ({"linux": "", "docker": ""}, 2), "q": ({"linux": ""}, 3), "r": ({"mac": ""}, 2)}
SPECS = [
    Spec(),
    Spec(labels="docker"),
    Spec(labels="linux", concurrency=1),
    Spec(concurrency=2, concurrency_key="{env}"),
    Spec(limits=(Take("licence"),)),
    Spec(limits=(Take("db"), Take("licence"))),
    Spec(limits=(Take("db", 3),), labels="linux || mac"),
    Spec(limits=(Take("db", ALL),)),
    Spec(limits=(Take("db"),), concurrency=1, labels="mac"),
    Spec(rate=Rate(3, 30.0), labels="linux"),
    Spec(rate=Rate(2, 20.0), limits=(Take("licence"),)),
]


class World:
    """The journal, who reads it, and the slow check of all that is written."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.second = 0.0
        self.raw: list[bytes] = []
        self.last: dict[str, int] = {}
        self.truth = Cluster()
        self.tokens: dict[object, int] = {}
        self.starts: dict[str, list[float]] = {}
        self.count = 0
        self.void = 0
        self.pictures = {name: Cluster() for name in AGENTS}
        self.claiming: dict[str, set[str]] = {name: set() for name in AGENTS}
        self.up = set(AGENTS)
        for name in AGENTS:
            self.write(self._started(name))
        self.set_policy()

    def _started(self, name: str) -> AgentStarted:
        labels, slots = AGENTS[name]
        return AgentStarted(at=self.now(), agent=name, labels=labels, slots=slots)

    def now(self) -> datetime:
        return moment(self.second)

    def write(self, event: Event, expect: int | None = None) -> bool:
        key = key_of(event)
        if expect is not None and expect != self.last.get(key, 0):
            return False
        self.raw.append(encode(event))
        self.last[key] = seq = len(self.raw)
        before = self.truth.picture.builds.get(getattr(event, "build", ""))
        change = apply(self.truth, seq, decode(encode(event)))
        if isinstance(event, BuildStarted) and before is not None:
            after = change.build
            assert after is not None
            if before.state is State.QUEUED and after.state is State.RUNNING:
                self.check_start(after, seq)
            else:
                self.void += 1
        return True

    # -- what must hold -------------------------------------------------------------------------

    def check_start(self, build: Build, seq: int) -> None:
        """Judge a claim that was accepted: it exceeds nothing, and its token is the largest yet."""
        assert build.fence == seq
        held: Counter[object] = Counter()
        for other in self.running():
            for demand in wish_of(other).demands:
                amount = demand.take or 10**6  # all of it is more than anybody may share
                held[demand.pool] += amount
        policy = self.truth.picture.policy
        for demand in wish_of(build).demands:
            capacity = demand.capacity
            if demand.pool.kind == "limit":
                capacity = policy.limits.get(demand.pool.name, 0)
            alone = demand.take == ALL and held[demand.pool] == 10**6 and capacity > 0
            assert alone or held[demand.pool] <= capacity, f"{build.id} exceeds {demand.pool}"
            assert self.tokens.get(demand.pool, 0) < build.fence
            self.tokens[demand.pool] = build.fence
        for throttle in policy.throttles:
            same = [it for it in self.running() if throttle.is_for(it.spec.labels)]
            same = [it for it in same if not it.is_waiting]
            if throttle.is_for(build.spec.labels):
                assert throttle.total is None or len(same) <= throttle.total
                there = [it for it in same if it.agent == build.agent]
                assert throttle.per_agent is None or len(there) <= throttle.per_agent
        if build.spec.rate is not None:
            times = self.starts.setdefault(build.job, [])
            times.append(self.second)
            rate = build.spec.rate
            lately = [it for it in times if it > self.second - rate.per_s]
            assert len(lately) <= 2 * rate.count - 1
            assert len(times) <= rate.count + self.second / rate.step_s + 1

    def running(self) -> Iterator[Build]:
        builds = self.truth.picture.builds.values()
        return (build for build in builds if build.state is State.RUNNING)

    def check_rest(self) -> None:
        """Everybody has seen everything and wants nothing: then nobody waits without a reason."""
        truth = self.truth
        truth.look(self.now())
        for build in truth.picture.builds.values():
            if build.state is not State.QUEUED:
                continue
            if build.not_before is not None and build.not_before > self.now():
                continue
            if not truth.queue.rate_room(build, self.now()):
                continue
            pools = truth.queue.pools
            is_kept = any(
                not pools.room(it, truth.queue.kept_from(build, it.pool))
                for it in wish_of(build).demands
            )
            if not pools.fits(wish_of(build)) or is_kept:
                continue
            for name in self.up:
                labels, slots = AGENTS[name]
                idle = truth.used_slots(name) < slots and satisfies(build.spec.labels, labels)
                is_free = truth.throttles.room(build.spec.labels, name) > 0
                assert not (idle and is_free), f"{build.id} waits for nothing while {name} is idle"

    # -- what happens ---------------------------------------------------------------------------

    def step(self) -> None:
        self.second += self.random.expovariate(2.0)
        action = self.random.choices(list(ACTIONS), weights=list(ACTIONS.values()))[0]
        getattr(self, action)(self.random.choice(list(AGENTS)))

    def request(self, _: str) -> None:
        self.count += 1
        kind = self.random.randrange(len(SPECS))
        spec = SPECS[kind]
        retry = Retry(times=self.random.choice([0, 5]), delay_s=self.random.choice([0.0, 3.0]))
        spec = Spec(
            **{name: getattr(spec, name) for name in ("labels", "concurrency", "concurrency_key")},
            limits=spec.limits,
            rate=spec.rate,
            priority=self.random.choice([0, 0, 0, 5]),
            retry=retry,
        )
        project = self.random.choice(["web", "db", ""])
        job = f"{project}/j{kind}".removeprefix("/")
        params: dict[str, ParamValue] = {"env": self.random.choice(["a", "b"])}
        self.write(
            BuildRequested(
                at=self.now(), build=f"b{self.count}", job=job, spec=spec, params=params
            ),
            0,
        )

    def fold(self, name: str, count: int | None = None) -> None:
        cluster = self.pictures[name]
        seq = cluster.picture.seq
        count = count or self.random.choice([1, 3, 1000])
        for number, raw in enumerate(self.raw[seq : seq + count], seq + 1):
            change = apply(cluster, number, decode(raw))
            for build in change.builds:
                self.claiming[name].discard(build.id)

    def decide(self, name: str) -> None:
        if name not in self.up:
            return
        labels, slots = AGENTS[name]
        view = View(
            name=name,
            labels=labels,
            slots=slots,
            claiming=frozenset(self.claiming[name]),
            quiet_s=self.random.choice([0.0, 1.0, 1.0]),
        )
        for effect in decide(self.pictures[name], view, self.now()).effects:
            assert isinstance(effect, Claim)
            self.claiming[name].add(effect.build)
            claim = BuildStarted(
                at=self.now(), agent=name, build=effect.build, attempt=effect.attempt
            )
            self.write(claim, effect.expect)

    def finish(self, _: str) -> None:
        running = [build for build in self.running() if build.agent in self.up]
        if running:
            build = self.random.choice(running)
            self.write(
                BuildFinished(
                    at=self.now(),
                    agent=build.agent or "",
                    build=build.id,
                    attempt=build.attempt,
                    reason=Reason.SCRIPT,
                    exit_code=0,
                )
            )

    def wait(self, _: str) -> None:
        """A script waits for others, or goes on."""
        running = list(self.running())
        if running:
            build = self.random.choice(running)
            event = BuildWaiting(
                at=self.now(),
                agent=build.agent or "",
                build=build.id,
                attempt=build.attempt,
                over=build.is_waiting,
            )
            self.write(event)

    def lose(self, name: str) -> None:
        """The machine is gone, and so is what ran there; or it is back."""
        if name not in self.up:
            self.up.add(name)
            self.claiming[name] = set()
            self.pictures[name] = self.copy(self.pictures[name])
            self.write(self._started(name))
            return
        self.up.discard(name)
        self.write(AgentLost(at=self.now(), agent="leader", name=name))
        for build in list(self.running()):
            if build.agent == name:
                lost = BuildFinished(
                    at=self.now(),
                    agent="leader",
                    build=build.id,
                    attempt=build.attempt,
                    reason=Reason.LOST,
                )
                self.write(lost)

    def copy(self, cluster: Cluster) -> Cluster:
        found = decode_picture(encode_picture(cluster))
        assert found is not None
        return found

    def cancel(self, _: str) -> None:
        queued = [it for it in self.truth.picture.builds.values() if it.state is State.QUEUED]
        if queued:
            build = self.random.choice(queued)
            self.write(BuildCancelled(at=self.now(), by="ann", build=build.id))

    def set_policy(self, _: str = "") -> None:
        policy = Policy(
            limits={"licence": self.random.choice([1, 2, 3]), "db": self.random.choice([3, 5])},
            throttles=self.random.choice(
                [(), (Throttle("docker", per_agent=1), Throttle("linux", total=3))]
            ),
            share=self.random.choice([{}, {"web": 3}]),
        )
        self.write(LimitsSet(at=self.now(), agent="leader", policy=policy))

    def settle(self, _: str = "") -> None:
        """Everybody sees everything and does what there is to do; then nobody may be idle."""
        for _round in range(50):
            seq = len(self.raw)
            for name in AGENTS:
                self.fold(name, 10**9)
                self.decide(name)
            if len(self.raw) == seq:
                break
        for name in AGENTS:
            assert self.pictures[name].picture == self.truth.picture
        self.check_rest()

    def calm_down(self) -> None:
        for name in AGENTS:
            if name not in self.up:
                self.lose(name)
        for _ in range(self.count * 4 + 100):
            self.second += 5.0
            self.settle()
            while any(True for _ in self.running()):
                self.finish("")


ACTIONS = {
    "request": 20,
    "fold": 20,
    "decide": 25,
    "finish": 16,
    "wait": 0.5,
    "lose": 0.6,
    "cancel": 0.7,
    "set_policy": 0.4,
    "settle": 1,
}


@pytest.mark.parametrize("seed", range(4))
def test_no_limit_is_exceeded_and_nobody_waits_for_nothing(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.calm_down()
    left = [it for it in world.truth.picture.builds.values() if it.state is not State.FINISHED]
    assert left == []
    assert len(world.tokens) > 3


def test_claims_that_raced_for_the_last_place_are_void() -> None:
    world = World(0)
    for number in (1, 2):
        event = BuildRequested(at=world.now(), build=f"b{number}", job="x/j", spec=SPECS[4])
        world.write(event, 0)
    world.write(LimitsSet(at=world.now(), policy=Policy(limits={"licence": 1})))
    for name, build in (("p", "b1"), ("q", "b2")):
        world.fold(name, 10**9)
        claim = BuildStarted(at=world.now(), agent=name, build=build, attempt=1)
        assert world.write(claim, world.last[f"build.{build}"])
    assert world.void == 1
    assert [build.id for build in world.running()] == ["b1"]
