"""The lease: several agents in one process over one journal, with clocks that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from tests.harness.facts import moment

from rota.adapters.clocks import ManualClock
from rota.adapters.memory import MemoryJournal, MemoryLease
from rota.adapters.memory_store import MemoryIndex
from rota.agent import leadership
from rota.agent.duties import Duties
from rota.agent.leadership import HOLD_S, LEASE_S, SPREAD_S, Leadership
from rota.core.cluster import Cluster
from rota.core.events import (
    AgentDrained,
    AgentJoined,
    AgentLeft,
    AgentStarted,
    AgentStopped,
    Event,
    HistorySealed,
    LeaderElected,
    LeaderResigned,
)
from rota.errors import FencedError, UnavailableError
from rota.ports.lease import Beat
from rota.service.world import World

PATIENCE_S = 30.0
#: Clocks are moved by steps in which nobody looks as if it had slept.
STEP_S = LEASE_S / 8


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look and beat all the time: what passes is the time of the clocks in the test."""
    monkeypatch.setattr(leadership, "BEAT_S", 0.001)
    monkeypatch.setattr(leadership, "LOOK_S", 0.001)


class Journal(MemoryJournal):
    """A journal whose answers can be lost, or that is not there at all."""

    def __init__(self) -> None:
        super().__init__()
        self.loses_answers = 0
        self.is_away = False
        self.refused = 0
        self.is_asked: asyncio.Event | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def bounds(self) -> tuple[int, int]:
        if self.is_asked is not None:
            self.is_asked.set()
            self.is_asked = None
            await self.answers.wait()
        return await super().bounds()

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        if self.is_away:
            self.refused += 1
            raise UnavailableError("not now")
        seq = await super().append(event, expect=expect, fence=fence)
        if self.loses_answers:
            self.loses_answers -= 1
            raise UnavailableError("the answer was lost")
        return seq


class Wire(MemoryLease):
    """A lease that an agent can be cut off from; it counts the beats."""

    def __init__(self) -> None:
        super().__init__()
        self.cut: set[str] = set()
        self.beats = 0

    async def beat(self, beat: Beat, *, within_s: float) -> None:
        self.beats += 1
        if beat.agent in self.cut:
            raise UnavailableError("no quorum")
        await super().beat(beat, within_s=within_s)


class Node:
    """One agent's part in the lease, with its own picture of the cluster."""

    def __init__(self, name: str, journal: Journal, lease: Wire) -> None:
        self.name, self.journal, self.lease = name, journal, lease
        self.clock = ManualClock(moment())
        self.world = World(journal, MemoryIndex(), Cluster())
        self.events: list[Event] = []
        self.changes: list[bool] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.part = self.make()

    def make(self) -> Leadership:
        return Leadership(
            name=self.name,
            world=self.world,
            journal=self.journal,
            lease=self.lease,
            clock=self.clock,
            journal_first=lambda: 1,
            changed=lambda: self.changes.append(self.part.leads),
        )

    def begin(self) -> None:
        self.tasks = [asyncio.create_task(self._fold()), asyncio.create_task(self.part.run())]

    async def _fold(self) -> None:
        journal = self.journal.read(after=self.world.seq, follow=True)
        async with contextlib.aclosing(journal) as entries:
            async for entry in entries:
                self.world.fold(entry)
                self.events.append(entry.event)
                if isinstance(entry.event, LeaderElected | LeaderResigned):
                    self.part.noted(entry.seq, entry.event)

    async def end(self) -> None:
        """End it as a kill does: without a word."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []

    @property
    def token(self) -> int:
        return self.world.cluster.picture.leader_seq


class Ring:
    """All of them."""

    def __init__(self, *names: str) -> None:
        self.journal, self.lease = Journal(), Wire()
        self.nodes = {name: Node(name, self.journal, self.lease) for name in names}

    async def up(self, *names: str) -> None:
        for name in names:
            await self.journal.append(AgentStarted(at=moment(), agent=name))

    @property
    def leaders(self) -> list[str]:
        return [n.name for n in self.nodes.values() if n.tasks and n.part.leads]

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():
                await asyncio.sleep(0.001)

    async def led(self, *but: str) -> Node:
        """Return who leads, once one of the others does and all that live know."""
        await self.until(lambda: self.leaders and self.leaders[0] not in but)
        leader = self.nodes[self.leaders[0]]
        alive = [node for node in self.nodes.values() if node.tasks]
        await self.until(lambda: all(node.token == leader.token for node in alive))
        return leader

    async def looked(self) -> None:
        """Return once everybody has had several looks at the present time, and beats came.

        Everybody sleeps as long between two looks as this does, and the loop wakes in order.
        """
        for _ in range(12):
            await asyncio.sleep(0.001)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for all, in steps; never do two lead at once."""
        for _ in range(round(seconds / STEP_S)):
            for node in self.nodes.values():
                node.clock.advance(STEP_S)
            await self.looked()
            assert len(self.leaders) <= 1

    def elections(self) -> list[str]:
        node = next(iter(self.nodes.values()))
        return [event.agent for event in node.events if isinstance(event, LeaderElected)]


@contextlib.asynccontextmanager
async def ring(*names: str) -> AsyncIterator[Ring]:
    """Agents of these names, all up, of which one leads."""
    made = Ring(*names)
    await made.up(*names)
    for node in made.nodes.values():
        node.begin()
    try:
        yield made
    finally:
        for node in made.nodes.values():
            await node.end()


async def test_of_several_agents_exactly_one_leads_and_goes_on() -> None:
    async with ring("ada", "bob", "eve") as those:
        leader = await those.led()
        token = leader.token
        await those.pass_time(4 * LEASE_S)
        assert those.leaders == [leader.name]
        assert leader.token == token
        assert leader.changes == [True]


async def test_when_the_leader_is_killed_another_one_leads_after_a_lease() -> None:
    async with ring("ada", "bob", "eve") as those:
        first = await those.led()
        await those.looked()
        await first.end()
        await those.pass_time(LEASE_S - 2 * STEP_S)
        assert those.leaders == []
        await those.pass_time(SPREAD_S + 4 * STEP_S)
        second = await those.led(first.name)
        assert second.token > first.token
        assert second.world.cluster.picture.leader_why == f"{first.name} was silent for 2.5 s"


async def test_beats_of_a_former_leader_keep_nobody_from_standing() -> None:
    async with ring("ada", "bob", "eve") as those:
        first = await those.led()
        await those.looked()
        await first.end()
        for _ in range(round((LEASE_S + SPREAD_S + 4 * STEP_S) / STEP_S)):
            await those.lease.beat(Beat(first.name, first.token - 1), within_s=1)
            await those.pass_time(STEP_S)
        second = await those.led(first.name)
        assert second.token > first.token


async def test_what_a_former_leader_writes_is_refused() -> None:
    async with ring("ada", "bob") as those:
        first = await those.led()
        await first.end()
        await those.pass_time(2 * LEASE_S)
        await those.led(first.name)
        late = HistorySealed(at=moment(), agent=first.name, through=1)
        with pytest.raises(FencedError):
            await those.journal.append(late, fence=first.token)


async def test_who_resigns_is_followed_at_once_and_stands_no_more() -> None:
    async with ring("ada", "bob", "eve") as those:
        first = await those.led()
        await first.part.resign(f"{first.name} was stopped")
        second = await those.led(first.name)
        assert second.world.cluster.picture.leader_why == f"{first.name} was stopped"
        await second.part.resign("that one too")
        third = await those.led(first.name, second.name)
        await third.part.resign("and the last")
        await those.looked()
        assert those.leaders == []


async def test_who_stands_does_not_depose_who_was_elected_while_it_asked_the_journal() -> None:
    async with ring("ada", "bob", "eve") as those:
        first = await those.led()
        # One of the two that stand waits for an answer of the journal until the other one leads.
        those.journal.is_asked = is_asked = asyncio.Event()
        those.journal.answers.clear()
        await first.part.resign(f"{first.name} was stopped")
        await is_asked.wait()
        second = await those.led(first.name)
        those.journal.answers.set()
        await those.looked()
        assert those.elections() == [first.name, second.name]
        assert those.leaders == [second.name]
        # And it goes on listening: the next resignation finds it ready.
        await second.part.resign("that one too")
        third = await those.led(first.name, second.name)
        assert those.elections() == [first.name, second.name, third.name]


async def test_resigning_what_is_anothers_says_nothing() -> None:
    async with ring("ada", "bob") as those:
        leader = await those.led()
        other = next(node for node in those.nodes.values() if node is not leader)
        await other.part.resign("no reason")
        await those.looked()
        assert those.leaders == [leader.name]


async def test_a_leader_that_no_quorum_hears_stops_by_itself_before_others_stand() -> None:
    async with ring("ada", "bob", "eve") as those:
        first = await those.led()
        await those.looked()
        those.lease.cut.add(first.name)
        await those.looked()
        await those.pass_time(HOLD_S - STEP_S)
        assert those.leaders == [first.name]
        await those.pass_time(2 * STEP_S)
        assert those.leaders == []
        assert first.changes == [True, False]
        await those.pass_time(LEASE_S)
        second = await those.led(first.name)
        assert second.token > 0


async def test_a_leader_that_is_heard_again_in_time_goes_on() -> None:
    async with ring("ada", "bob") as those:
        leader = await those.led()
        token = leader.token
        await those.looked()
        those.lease.cut.add(leader.name)
        await those.pass_time(HOLD_S / 2)
        those.lease.cut.clear()
        await those.pass_time(2 * LEASE_S)
        assert (those.leaders, leader.token) == ([leader.name], token)


async def test_an_agent_that_slept_does_not_stand_on_old_silence() -> None:
    async with ring("ada", "bob") as those:
        leader = await those.led()
        other = next(node for node in those.nodes.values() if node is not leader)
        await those.looked()
        token = leader.token
        those.lease.cut.add(leader.name)  # what it missed is not heard after it woke either
        await those.looked()
        other.clock.advance(100 * LEASE_S)
        await those.looked()
        those.lease.cut.clear()
        await those.looked()
        assert (other.token, those.leaders) == (token, [leader.name])


async def test_an_agent_that_is_alone_leads_without_a_beat() -> None:
    async with ring("ada") as those:
        await those.led()
        await those.pass_time(3 * LEASE_S)
        assert (those.leaders, those.lease.beats) == (["ada"], 0)


async def test_one_that_was_alone_leads_on_when_another_joins() -> None:
    async with ring("ada") as those:
        await those.led()
        await those.pass_time(3 * LEASE_S)
        those.nodes["bob"] = Node("bob", those.journal, those.lease)
        await those.up("bob")
        those.nodes["bob"].begin()
        await those.until(lambda: those.lease.beats > 3)
        assert those.nodes["ada"].changes == [True]
        await those.pass_time(2 * LEASE_S)
        assert those.leaders == ["ada"]


async def test_a_leader_that_is_started_again_is_elected_anew_at_once() -> None:
    async with ring("ada", "bob") as those:
        leader = await those.led()
        token = leader.token
        await leader.end()
        leader.part = leader.make()
        assert not leader.part.leads
        leader.begin()
        again = await those.led()
        assert again is leader
        assert again.token > token
        why = again.world.cluster.picture.leader_why
        assert why == "it was started again, or lost its lease"


async def test_an_election_whose_answer_was_lost_is_an_election() -> None:
    made = Ring("ada")
    await made.up("ada")
    made.journal.loses_answers = 1
    node = made.nodes["ada"]
    node.begin()
    try:
        await made.until(lambda: node.part.leads)
        await made.looked()
        assert made.elections() == ["ada"]
    finally:
        await node.end()


async def test_while_the_journal_is_away_a_candidate_tries_on_and_waits_no_further_lease() -> None:
    async with ring("ada", "bob") as those:
        first = await those.led()
        await those.looked()
        await first.end()
        those.journal.is_away = True
        await those.pass_time(LEASE_S + SPREAD_S + 4 * STEP_S)
        await those.until(lambda: those.journal.refused > 3)
        those.journal.is_away = False
        await those.led(first.name)


async def test_an_election_that_was_trimmed_away_is_followed_by_another() -> None:
    async with ring("ada", "bob") as those:
        first = await those.led()
        await those.looked()
        await those.journal.append(HistorySealed(at=moment(), through=0))
        await those.journal.trim(before=first.token + 1)
        await first.end()
        await those.pass_time(LEASE_S + SPREAD_S + 4 * STEP_S)
        assert (await those.led(first.name)).token > first.token


async def test_who_is_forgotten_is_followed_without_a_wait() -> None:
    async with ring("ada", "bob", "eve") as those:
        first = await those.led()
        await first.end()
        await those.journal.append(AgentLeft(at=moment(), name=first.name))
        second = await those.led(first.name)
        assert second.world.cluster.picture.leader_why == f"{first.name} left"


@pytest.mark.parametrize(
    "event",
    [
        AgentStopped(at=moment(), agent="bob"),
        AgentLeft(at=moment(), name="bob"),
        AgentDrained(at=moment(), name="bob", leaving=True),
        AgentJoined(at=moment(), name="bob", pin="bob", ephemeral=True),
    ],
)
async def test_who_is_not_up_or_leaves_or_comes_and_goes_does_not_stand(event: Event) -> None:
    made = Ring("bob")
    await made.up("ada", "bob")
    await made.journal.append(LeaderElected(at=moment(), agent="ada"))
    await made.journal.append(event)
    made.nodes["bob"].begin()
    try:
        await made.looked()
        await made.pass_time(3 * LEASE_S)
        assert made.elections() == ["ada"]
    finally:
        await made.nodes["bob"].end()


async def test_duties_begin_anew_with_an_election_of_the_same_leader() -> None:
    class Led:
        election = 0

    begun: list[int] = []
    ended: list[int] = []

    async def duty() -> None:
        begun.append(led.election)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(begun[-1])

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0)

    led = Led()
    duties = Duties(led, [duty])  # type: ignore[arg-type]
    running = asyncio.create_task(duties.run())
    for election in (4, 4, 9):
        led.election = election
        duties.changed()
        await until(lambda: begun[-1:] == [led.election])
    assert (begun, ended) == ([4, 9], [4])
    led.election = 0
    duties.changed()
    await until(lambda: ended == [4, 9])
    running.cancel()


async def test_an_election_of_the_same_leader_is_told() -> None:
    async with ring("ada", "bob") as those:
        node = await those.led()
        first, told = node.part.election, len(node.changes)
        # The answer to one that it stood for came late: it never saw itself without the lease.
        node.part._is_standing, node.part._stood_at = True, node.clock.monotonic()
        again = LeaderElected(at=moment(), by=node.name, agent=node.name, why="nobody led")
        await those.journal.append(again)
        await those.until(lambda: node.part.election > first)
        assert len(node.changes) > told
