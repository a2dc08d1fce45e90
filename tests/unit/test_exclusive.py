"""How long an exclusive attempt may run: what the leader confirmed, and nothing else."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rota.adapters.clocks import SystemClock
from rota.adapters.memory import MemoryJournal, MemoryPresence
from rota.adapters.memory_store import MemoryIndex
from rota.adapters.scripted import Plan, ScriptedAttempt, ScriptedExecutor
from rota.agent.exclusive import LEAST_S, SHARE, Leases
from rota.agent.roll import Roll
from rota.core.cluster import Cluster
from rota.core.decide import EXCLUSIVE_PATIENCE
from rota.core.events import AgentStarted
from rota.core.fold import apply
from rota.core.settings import Settings
from rota.ports.executor import Task
from rota.ports.presence import Presence
from rota.service.world import World

PATIENCE_S = 20.0


class Two:
    """Agent ``a``, whose leases are tried, and agent ``b``, which leads if ``b_leads``."""

    def __init__(self, root: Path, *names: str) -> None:
        self.root = root
        cluster = Cluster()
        for seq, name in enumerate(names, 1):
            event = AgentStarted(at=datetime(2026, 1, 1, tzinfo=UTC), by=name, agent=name)
            apply(cluster, seq, event)
        self.world = World(MemoryJournal(), MemoryIndex(), cluster)
        self.executor = ScriptedExecutor(lambda _: Plan(hangs=True))
        self.presence: Presence = MemoryPresence()
        self.a_leads, self.b_leads = False, True
        roll = Roll("a", self.world, self.presence, SystemClock())
        self.leases = Leases(
            self.world, self.executor, leads=lambda: self.a_leads, is_heard=roll.is_heard
        )
        self.leader = Roll(
            "b", self.world, self.presence, SystemClock(), confirms=lambda _: self.b_leads
        )

    async def attempt(self, until: float) -> ScriptedAttempt:
        home = self.root / str(len(self.executor.attempts))
        home.mkdir()
        task = Task(home=home, argv=("x",), cwd=home, env={}, lease_until=until)
        return await self.executor.start(task)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    two = Two(tmp_path, "a", "b")
    async with asyncio.timeout(PATIENCE_S):
        tasks = [asyncio.create_task(task) for task in (two.leader.listen(), two.leases.run())]
        yield two
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            await asyncio.sleep(0.005)


async def test_a_lease_counts_from_before_the_word_that_was_heard(two: Two) -> None:
    before = two.executor.moment()
    lent = await two.leases.lend(lambda: True)
    length_s = SHARE * Settings().agents.lost_after_s
    assert lent is not None
    assert before + length_s <= lent <= two.executor.moment() + length_s
    assert LEAST_S <= length_s < EXCLUSIVE_PATIENCE * Settings().agents.lost_after_s


async def test_nothing_is_lent_while_the_leader_does_not_confirm(two: Two) -> None:
    two.b_leads = False
    lending = asyncio.create_task(two.leases.lend(lambda: True))
    done, _ = await asyncio.wait([lending], timeout=0.3)
    assert not done
    two.b_leads = True
    assert await lending is not None


async def test_what_is_not_wanted_any_more_is_not_waited_for(two: Two) -> None:
    two.b_leads, wanted = False, [True, True, False]
    assert await two.leases.lend(lambda: wanted.pop(0)) is None


async def test_a_leader_needs_nobody_to_confirm(two: Two) -> None:
    two.b_leads, two.a_leads = False, True
    assert await two.leases.lend(lambda: True) is not None


async def test_who_is_alone_lends_for_ever(tmp_path: Path) -> None:
    alone = Two(tmp_path, "a")
    assert await alone.leases.lend(lambda: True) == math.inf


async def test_leases_are_renewed_while_they_are_kept(two: Two) -> None:
    first, second = [await two.attempt(two.executor.moment() + 1.5) for _ in range(2)]
    unguarded: list[str] = []
    with two.leases.kept(first, lambda: unguarded.append("first")):
        ended = await second.wait()
        assert ended.expired
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(first.wait(), 0.1)
    assert unguarded == []


async def test_a_lease_without_end_gets_one_when_a_second_agent_is_there(two: Two) -> None:
    running = await two.attempt(math.inf)
    with two.leases.kept(running, lambda: None):
        assert running._lease is not None
        forever = running._lease.when()
        await until(lambda: running._lease and running._lease.when() < forever)


async def test_one_that_nobody_guards_is_told_once(two: Two) -> None:
    running = await two.attempt(two.executor.moment() - 1)
    unguarded: list[str] = []
    with two.leases.kept(running, lambda: unguarded.append("it")):
        await until(lambda: unguarded)
        await until(lambda: not two.leases._kept)
    assert unguarded == ["it"]
