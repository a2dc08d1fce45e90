"""Reactions through leader changes: each cause sets off each of its rules once, whoever is lost when."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from tests.harness.facts import moment

from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex, MemoryStore
from rota.agent import patience
from rota.agent.reactor import Reactor
from rota.core.cluster import Cluster, decode_picture, encode_picture
from rota.core.definitions import Definition, Definitions
from rota.core.events import (
    BuildFinished,
    BuildRequested,
    BuildStarted,
    Emitted,
    Event,
    HistorySealed,
    PipelineRequested,
    TriggerFailed,
)
from rota.core.job import Job, Param, Reason, Spec
from rota.core.reactions import Request, react
from rota.core.states import State
from rota.core.triggers import After, OnEvent
from rota.errors import UnavailableError
from rota.ports.journal import Entry
from rota.service.world import World

JOBS = [
    Job("root"),
    Job("any", on=(OnEvent(type="go"), OnEvent(type="g*", name="glob"))),
    Job("fast", on=(OnEvent(type="go", where={"data.n": "1*"}),)),
    Job("next", on=(After(job="any"),)),
    Job("last", on=(After(job="n*", results=("failed",)), OnEvent(type="go", name="p", params={"x": "{data.x}"})),
        params={"x": Param(default="d", choices=("d", "0", "1"))}),
]  # fmt: skip
DEFINITIONS = Definitions(jobs={job.name: Definition(job, "blob") for job in JOBS})


class Journal(MemoryJournal):
    """One whose answers are slow or lost, and which refuses at times."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)
        if self.chance.random() < 0.1:
            raise UnavailableError("not now")
        seq = await super().append(event, expect=expect, fence=fence)
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)
        if self.chance.random() < 0.1:
            raise UnavailableError("the answer was lost")
        return seq


class Agent:
    """Folds, and reacts while it leads; it may be killed, and begin again from a snapshot."""

    def __init__(self, journal: Journal, snapshot: bytes = b"") -> None:
        cluster = (decode_picture(snapshot) if snapshot else None) or Cluster()
        self.world = World(journal, MemoryIndex(), cluster)
        self.world.definitions = DEFINITIONS
        self.reactor = Reactor(
            world=self.world,
            journal=journal,
            store=MemoryStore(),
            plan=self.plan,
            advanced=lambda: None,
        )
        self.journal = journal
        self.tasks: list[asyncio.Task[None]] = []
        self.leading: asyncio.Task[None] | None = None

    def plan(self, requests: Sequence[Request]) -> list[tuple[Event, tuple[str, ...]]]:
        from rota.core.params import resolve_params

        found: list[tuple[Event, tuple[str, ...]]] = []
        for it in requests:
            declared = DEFINITIONS.jobs[it.job].job.params
            params, problems = resolve_params(declared, it.params)
            fault = it.fault or "; ".join(problems)
            event: Event = BuildRequested(
                at=moment(), build=it.id, job=it.job, spec=Spec(), params=params, trigger=it.trigger
            )
            if fault:
                event = TriggerFailed(
                    at=moment(), build=it.id, job=it.job, rule=it.trigger.source, cause=it.cause, why=fault
                )  # fmt: skip
            found.append((event, (it.id,)))
        return found

    async def begin(self) -> None:
        last = (await self.journal.bounds())[1]
        self.tasks.append(asyncio.create_task(self._fold()))
        await self.world.reached(last, 10)
        await self.reactor.begin()

    async def _fold(self) -> None:
        async with contextlib.aclosing(self.journal.read(after=self.world.seq, follow=True)) as it:
            async for entry in it:
                self.reactor.folded(entry, self.world.fold(Entry(entry.seq, entry.event)))

    def lead(self) -> None:
        self.leading = asyncio.create_task(self.reactor.run())

    async def end(self, *, whole: bool = True) -> None:
        for task in [self.leading, *(self.tasks if whole else [])]:
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self.leading = None


async def persistent(journal: Journal, event: Event, expect: int | None = None) -> None:
    while True:
        with contextlib.suppress(UnavailableError):
            await MemoryJournal.append(journal, event, expect=expect)
            return


async def story(seed: int) -> Counter[str]:
    chance = random.Random(seed)
    journal = Journal(chance)
    agents = [Agent(journal) for _ in range(3)]
    for agent in agents:
        await agent.begin()
    leader = agents[0]
    leader.lead()
    notes: Counter[str] = Counter()
    for step in range(60):
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        match chance.randrange(6):
            case 0 | 1:
                data: dict[str, object] = {"n": step, "x": str(chance.randrange(4))}
                await persistent(journal, Emitted(at=moment(step), type="go", data=data))
                notes["causes"] += 1
            case 2:
                # A build ends, or begins; nobody else writes on it.
                truth = agents[0].world.cluster.picture.builds
                for build in list(truth.values())[:3]:
                    if build.state is State.QUEUED:
                        started = BuildStarted(
                            at=moment(step), agent="a", build=build.id, attempt=1
                        )
                        await persistent(journal, started)
                    elif build.state is State.RUNNING:
                        code = chance.randrange(2)
                        await persistent(journal, BuildFinished(
                            at=moment(step), agent="a", build=build.id, attempt=1,
                            reason=Reason.SCRIPT, exit_code=code,
                        ))  # fmt: skip
                        notes["causes"] += 1
            case 3:
                through = min(leader.reactor.settled, leader.world.seq)
                await persistent(journal, HistorySealed(at=moment(step), through=through))
            case 4:
                await leader.end(whole=False)
                leader = chance.choice(agents)
                if leader.leading is None:
                    leader.lead()
                notes["changes"] += 1
            case _:
                # Killed, and started again from what it last saved.
                n = agents.index(leader)
                snapshot = encode_picture(leader.world.cluster) if chance.random() < 0.7 else b""
                sealed = leader.world.cluster.picture.sealed_through
                await leader.end()
                index = leader.world._index
                leader = agents[n] = Agent(journal, snapshot)
                if snapshot:
                    leader.world._index = index
                await leader.begin()
                leader.lead()
                notes["kills"] += 1
                assert sealed <= leader.world.seq
    async with asyncio.timeout(20):
        while leader.reactor.settled < (await journal.bounds())[1]:
            await asyncio.sleep(0)
    for agent in agents:
        await agent.end()
    await check(journal)
    return notes


async def check(journal: Journal) -> None:
    """Fold all again, and hold what was asked for against what should have been."""
    world = World(journal, MemoryIndex(), Cluster())
    world.definitions = DEFINITIONS
    wanted: set[str] = set()
    asked: Counter[str] = Counter()
    async for entry in journal.read():
        match entry.event:
            case BuildRequested() | TriggerFailed():
                asked[entry.event.build] += 1
            case _:
                assert not isinstance(entry.event, PipelineRequested)
        change = world.fold(entry)
        done = react(world.rules, entry.seq, entry.event, builds=change.builds)
        wanted.update(it.id for it in done)
    assert set(asked) == wanted
    assert set(asked.values()) <= {1}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "DELAYS_S", (0.0,))


@pytest.mark.parametrize("first", range(0, 80, 20))
async def test_each_cause_sets_off_each_rule_once(first: int) -> None:
    for seed in range(first, first + 20):
        try:
            notes = await story(seed)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
        assert notes["kills"] + notes["changes"] > 3
