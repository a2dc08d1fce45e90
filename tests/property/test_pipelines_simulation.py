"""Random pipelines on several agents that come and go, over the decisions and the fold.

Whatever happens, a build begins after all it needs, no attempt twice, a group ends with its last
cell, and once it is calm nothing waits for what has ended.
"""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.facts import moment
from tests.harness.joined import Pipelines

from rota.core.agents import AgentState
from rota.core.build import Build
from rota.core.decide import Claim, View, decide
from rota.core.events import (
    AgentLost,
    AgentStarted,
    BuildFinished,
    BuildStarted,
    LeaderElected,
)
from rota.core.job import Job, Need, Reason
from rota.core.needs import circle_from
from rota.core.states import Result, State

AGENTS = ("p", "q", "r")
JOBS = 9
STEPS = 260


class World(Pipelines):
    """Jobs that need jobs before them, agents with two slots, and the hand that shakes them."""

    def __init__(self, seed: int) -> None:
        self.random = chance = random.Random(seed)
        super().__init__(**{f"j{n}": _header(chance, n) for n in range(JOBS)})
        self.attempts: set[tuple[str, int]] = set()
        self.roots: list[str] = []
        for agent in AGENTS:
            self.fold(AgentStarted(at=moment(), agent=agent, slots=2))

    def step(self) -> None:
        actions = [self.ask, *[self.claim] * 6, *[self.end] * 6, self.child]
        rare = [self.stop, self.again, self.lose, self.elect, self.forget]
        self.random.choice([*actions * 2, *rare])()
        self.check()

    def ask(self) -> None:
        if len(self.roots) < 12:
            jobs = self.random.sample(range(JOBS), self.random.choice([1, 1, 2]))
            self.roots.append(self.request(*(f"j{n}" for n in jobs)))

    def child(self) -> None:
        running = self.some(State.RUNNING)
        if running is not None and len(self.all()) < 400:
            self.request(f"j{self.random.randrange(JOBS)}", inside=running.ref)

    def claim(self) -> None:
        name = self.random.choice(AGENTS)
        if self.cluster.picture.agents[name].state is AgentState.LOST:
            self.fold(AgentStarted(at=moment(), agent=name, slots=2))
        view = View(name=name, labels={}, slots=2)
        for effect in decide(self.cluster, view, moment()).effects:
            assert isinstance(effect, Claim)
            build = self.cluster.picture.builds[effect.build]
            self.check_that_it_may_begin(build)
            assert (build.id, effect.attempt) not in self.attempts
            self.attempts.add((build.id, effect.attempt))
            assert effect.expect == build.last_seq
            event = BuildStarted(at=moment(), agent=name, build=build.id, attempt=effect.attempt)
            self.fold(event)

    def check_that_it_may_begin(self, build: Build) -> None:
        for edge in build.needs:
            other = self.find(edge.build)
            assert other is not None
            # It may be tried again by now; what counted was how it had ended.
            assert edge.result is not None
            assert not edge.results or edge.result in edge.results
        group = self.find(build.parent) if build.cell else None
        if group is not None and group.group is not None and group.group.max_parallel:
            cells = (self.find(edge.build) for edge in group.group.cells)
            active = [it for it in cells if it is not None and it.state in ("queued", "running")]
            assert len(active) <= group.group.max_parallel

    def end(self) -> None:
        build = self.some(State.RUNNING)
        if build is None:
            return
        reason = Reason.SCRIPT if build.cancelled_by is None else Reason.CANCELLED
        self.fold(
            BuildFinished(
                at=moment(),
                agent=build.agent or "",
                build=build.id,
                attempt=build.attempt,
                reason=reason,
                exit_code=self.random.choice([0, 0, 0, 1]),
            )
        )

    def lose(self) -> None:
        """A leader says that an agent is gone, and what it ran with it."""
        name = self.random.choice(AGENTS)
        self.fold(AgentLost(at=moment(), agent="leader", name=name))
        for build_id in list(self.cluster.running.get(name, {})):
            build = self.cluster.picture.builds[build_id]
            self.fold(
                BuildFinished(
                    at=moment(),
                    agent="leader",
                    build=build_id,
                    attempt=build.attempt,
                    reason=Reason.LOST,
                )
            )

    def elect(self) -> None:
        self.fold(LeaderElected(at=moment(), agent=self.random.choice(AGENTS)))

    def forget(self) -> None:
        self.seal()

    def stop(self) -> None:
        build = self.some(*State)
        if build is not None:
            self.cancel(build.ref, tree=self.random.random() < 0.7 or build.group is not None)

    def again(self) -> None:
        done = [build for build in self.all() if build.state is State.FINISHED]
        if done:
            self.retry(self.random.choice(done).ref)

    def some(self, *states: State) -> Build | None:
        found = [it for it in self.cluster.picture.builds.values() if it.state in states]
        return self.random.choice(found) if found else None

    def check(self) -> None:
        for build in self.cluster.picture.builds.values():
            if build.group is None:
                continue
            cells = [self.find(edge.build) for edge in build.group.cells]
            over = all(it is not None and it.state is State.FINISHED for it in cells)
            if build.state is State.HELD:
                assert not over, f"{build.ref} waits though its cells have ended"

    def calm_down(self) -> None:
        for _ in range(3000):
            if not any(
                it.state is not State.FINISHED for it in self.cluster.picture.builds.values()
            ):
                return
            self.claim()
            self.end()
        raise AssertionError([str((it.ref, it.state, it.needs)) for it in self.all()])


def _header(chance: random.Random, number: int) -> str:
    lines = []
    before = [f"j{n}" for n in range(number)]
    needs = chance.sample(before, min(len(before), chance.choice([0, 0, 1, 2, 3])))
    if needs:
        listed = [f'{{ job = "{job}", result = {chance.choice(_RESULTS)} }}' for job in needs]
        lines.append(f"needs = [{', '.join(listed)}]")
    if chance.random() < 0.3:
        fast = chance.choice(["true", "false"])
        lines.append(f"matrix = {{ n = [1, 2, 3], fail_fast = {fast}, max_parallel = 2 }}")
    if chance.random() < 0.2:
        lines.append(f"supersede = '{chance.choice(['queued', 'running'])}'")
    if chance.random() < 0.3:
        lines.append("retry = { times = 1, on = ['script', 'lost'] }")
    return "\n".join(lines)


_RESULTS = ['["passed"]', '["passed"]', '["passed", "failed"]', '"any"']


@pytest.mark.parametrize("seed", range(12))
def test_builds_begin_after_their_needs_and_groups_end_with_their_cells(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.calm_down()
    assert len(world.attempts) > 30
    for build in world.all():
        assert build.result is not None
        if build.reason is Reason.UNMET:
            assert any(edge.is_unmet for edge in build.needs)
        if build.result is Result.PASSED and build.group is None:
            assert all(edge.result is not None and not edge.is_unmet for edge in build.needs)


@settings(max_examples=200)
@given(st.dictionaries(st.integers(0, 7), st.lists(st.integers(0, 7), max_size=4), max_size=8))
def test_a_way_back_is_found_if_and_only_if_there_is_one(edges: dict[int, list[int]]) -> None:
    jobs = {
        str(name): _job(str(name), [str(other) for other in others])
        for name, others in edges.items()
    }
    for name in jobs:
        way = circle_from(jobs, name)
        assert bool(way) == _reaches(edges, int(name))
        if way:
            assert way[0] == way[-1] == name
            for one, next_ in itertools.pairwise(way):
                assert next_ in {need.job for need in jobs[one].needs}


def _job(name: str, needs: list[str]) -> Job:

    return Job(name=name, needs=tuple(Need(job=it) for it in needs))


def _reaches(edges: dict[int, list[int]], start: int) -> bool:
    found: set[int] = set()
    todo = list(edges.get(start, []))
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += edges.get(one, [])
    return start in found
