"""Leaders that are killed, hang and are stopped around fire times, in virtual time.

The scheduler that runs here is the real one, over a journal in memory that loses acknowledgements,
answers late, and takes the late writes of a leader that hung. Each instant is settled once, and an
the proof by the ledger says so; one seed is one story: `python -m tests.property.schedules --seed 7`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from tests.harness.timeless import LoopClock, run_timeless

from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex
from rota.agent.scheduler import Scheduler
from rota.core.build import Build
from rota.core.cluster import Cluster
from rota.core.definitions import Definitions, check_tree
from rota.core.events import BuildFinished, BuildStarted, Event, HistorySealed, LeaderElected
from rota.core.fold import apply
from rota.core.job import Reason
from rota.core.schedule_proof import Proof, prove
from rota.core.schedules import SCHEDULE, Note, Scheduled
from rota.core.states import State
from rota.core.timetable import Timetable
from rota.errors import UnavailableError
from rota.ports.journal import Entry
from rota.service.world import World

NAMES = ("a", "b", "c")
HEADER = "#!/bin/sh\n# /// script\n# [tool.rota]\n# on = [ %s ]\n# ///\n"
RULES = {
    "plain": '{ every = "2s", name = "two" }, { cron = "*/3 * * * * *" }',
    "jitter": '{ every = "4s", jitter = "3s" }',
    "overlaps": '{ every = "3s", overlap = "skip" }, { every = "5s", overlap = "queue" }',
    "replaces": '{ every = "4s", overlap = "replace", priority = 7 }',
    "berlin": '{ cron = "*/10 * 1-4 * * *", tz = "Europe/Berlin", misfire = "all" }',
}
CALM_S = 8.0


def files(changes: dict[str, str]) -> dict[str, bytes]:
    return {f"jobs/{name}": (HEADER % rules).encode() for name, rules in changes.items()}


class Flaky:
    """The journal, as an agent far away sees it: late answers, and some that never come."""

    def __init__(self, journal: MemoryJournal, chance: random.Random) -> None:
        self._journal, self._chance = journal, chance
        self.hang_s = 0.0

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        writing = asyncio.ensure_future(self._write(event, expect, fence))
        writing.add_done_callback(lambda task: task.cancelled() or task.exception())
        # What is on its way arrives, though its sender is killed.
        seq = await asyncio.shield(writing)
        await asyncio.sleep(self._chance.uniform(0.0, 0.05))
        if self._chance.random() < 0.1:
            raise UnavailableError("the acknowledgement was lost")
        return seq

    async def _write(self, event: Event, expect: int | None, fence: int | None) -> int:
        await asyncio.sleep(self.hang_s + self._chance.uniform(0.0, 0.05))
        return await self._journal.append(event, expect=expect, fence=fence)

    def read(self, *, after: int = 0, follow: bool = False) -> AsyncGenerator[Entry, None]:
        return self._journal.read(after=after, follow=follow)

    async def bounds(self) -> tuple[int, int]:
        return await self._journal.bounds()

    async def trim(self, *, before: int) -> None:
        await self._journal.trim(before=before)


class Host:
    """An agent: its picture, its agenda, and the duty while it believes that it leads."""

    def __init__(self, story: Story, name: str, offset_s: float) -> None:
        self.story, self.name = story, name
        self.clock = LoopClock(offset_s)
        self.journal = Flaky(story.journal, story.chance)
        self.token = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.duty: asyncio.Task[Any] | None = None
        self.awake = asyncio.Event()
        self.awake.set()

        self.world = World(self.journal, MemoryIndex(), Cluster())

    def start(self) -> None:
        self.world = World(self.journal, MemoryIndex(), Cluster())
        self.world.definitions, self.world.commit = self.story.definitions, "c" * 40
        self.scheduler = Scheduler(
            name=self.name,
            world=self.world,
            journal=self.journal,
            clock=self.clock,
            fence=lambda: self.token,
        )
        self.tasks = [self._task(self.fold()), self._task(self.scheduler.keep())]

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self.story.ended)
        return task

    def kill(self) -> None:
        for task in (*self.tasks, *([self.duty] if self.duty else [])):
            task.cancel()
        self.tasks, self.duty, self.token = [], None, 0
        self.journal.hang_s = 0.0
        self.awake.set()

    @property
    def is_up(self) -> bool:
        return bool(self.tasks)

    async def fold(self) -> None:
        chance = self.story.chance
        async with contextlib.aclosing(self.journal.read(follow=True)) as entries:
            async for entry in entries:
                await self.awake.wait()
                if chance.random() < 0.2:
                    await asyncio.sleep(chance.uniform(0.0, 0.02))
                self.world.fold(entry)
                self.scheduler.folded(entry)
                if isinstance(entry.event, LeaderElected):
                    self._led(entry.seq, entry.event)

    def _led(self, seq: int, event: LeaderElected) -> None:
        if self.duty is not None:
            self.duty.cancel()
            self.duty = None
        if event.agent == self.name and seq > self.story.dead[self.name]:
            self.token = seq
            self.duty = self._task(self.scheduler.lead())

    async def hang(self, seconds: float) -> None:
        """Stand still; what was about to be written comes when it goes on."""
        self.awake.clear()
        self.journal.hang_s = seconds
        await asyncio.sleep(seconds)
        self.journal.hang_s = 0.0
        self.awake.set()


class Story:
    """Some agents, and what befalls them."""

    def __init__(self, seed: int, *, skewed: bool = False) -> None:
        self.chance = random.Random(seed)
        self.journal = MemoryJournal()
        self.rules = dict(RULES)
        self.paused: set[str] = set()
        self.definitions = self._defined(Definitions())
        self.dead = dict.fromkeys(NAMES, 0)
        offsets = (0.0, 300.0, -300.0) if skewed else (0.0, 0.4, -0.4)
        self.hosts = [Host(self, name, it) for name, it in zip(NAMES, offsets, strict=True)]
        self.failure: BaseException | None = None
        self.elections = self.elected_seq = self.lost = 0

    def ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failure = self.failure or task.exception()

    def _defined(self, former: Definitions) -> Definitions:
        tree = files(self.rules) | {f"paused/{name}": b'by = "ada"\n' for name in self.paused}
        definitions, problems = check_tree(tree, former)
        assert not problems, problems
        return definitions

    async def run(self, kills: int) -> Proof:
        """Let leaders be lost so often; return what the proof of all that comes to."""
        for host in self.hosts:
            host.start()
        runner = asyncio.ensure_future(self._run_builds())
        runner.add_done_callback(self.ended)
        await self.elect()
        await asyncio.sleep(2.0)
        while self.lost < kills:
            await self._befall()
            if self.failure is not None:
                raise self.failure
        for host in self.hosts:
            if not host.is_up:
                host.start()
        await self.elect(self.hosts[0])
        await asyncio.sleep(CALM_S)
        runner.cancel()
        for host in self.hosts:
            host.kill()
        await asyncio.sleep(1.0)
        return await self.judge()

    async def _befall(self) -> None:
        """Let something happen to the leader, mostly within a moment of a full second."""
        chance = self.chance
        clock = LoopClock()
        wait_s = 1.0 - clock.now().microsecond / 1e6 + chance.uniform(-0.15, 0.15)
        await asyncio.sleep(max(0.0, wait_s) + chance.choice([0, 0, 1, 2]))
        leader = next((it for it in self.hosts if it.duty is not None), None)
        if leader is None:
            await self.elect()
            return
        what = chance.choice(["kill", "kill", "stop", "hang", "edit"])
        if what == "edit":
            self.edit()
            return
        self.lost += 1
        if what == "hang":
            hanging = asyncio.ensure_future(leader.hang(chance.uniform(0.5, 4.0)))
            await asyncio.sleep(chance.uniform(0.2, 1.0))
            await self.elect(chance.choice([it for it in self.hosts if it is not leader]))
            await hanging
        else:
            self.dead[leader.name] = self.elected_seq
            leader.kill()
            await asyncio.sleep(chance.uniform(0.0, 0.05 if what == "stop" else 3.0))
            await self.elect(chance.choice([it for it in self.hosts if it is not leader]))
            leader.start()

    async def elect(self, host: Host | None = None) -> None:
        host = host or self.chance.choice(self.hosts)
        if not host.is_up:
            host.start()
        event = LeaderElected(at=host.clock.now(), agent=host.name)
        self.elected_seq = await self.journal.append(event)
        self.elections += 1

    def edit(self) -> None:
        """Change, remove, add, pause or resume a job."""
        name = self.chance.choice(sorted(RULES))
        match self.chance.choice(["change", "remove", "pause"]):
            case "change":
                every = self.chance.choice([2, 3, 5])
                self.rules[name] = f'{{ every = "{every}s", name = "two" }}'
            case "remove":
                if name in self.rules:
                    del self.rules[name]
                    self.paused.discard(name)
                else:
                    self.rules[name] = RULES[name]
            case _:
                self.paused ^= {name} & self.rules.keys()
        self.definitions = self._defined(self.definitions)
        for host in self.hosts:
            if host.is_up:
                host.world.definitions = self.definitions
                host.scheduler.changed()

    async def _run_builds(self) -> None:
        """Claim and end builds, some after a while; seal now and then."""
        cluster, journal = Cluster(), self.journal
        running: list[asyncio.Future[None]] = []
        async with contextlib.aclosing(journal.read(follow=True)) as entries:
            async for entry in entries:
                change = apply(cluster, entry.seq, entry.event)
                queued = [build.id for build in change.builds if build.state is State.QUEUED]
                running = [it for it in running if not it.done()]
                running += (asyncio.ensure_future(self._run(build)) for build in queued)
                if entry.seq % 50 == 0:
                    at = LoopClock().now()
                    await journal.append(HistorySealed(at=at, through=entry.seq))

    async def _run(self, build: str) -> None:
        at = LoopClock().now
        started = BuildStarted(at=at(), agent="x", build=build, attempt=1)
        seconds = self.chance.choice([0.1, 0.5, 4.0, 9.0])
        await self.journal.append(started)
        await asyncio.sleep(seconds)
        ended = BuildFinished(
            at=at(), agent="x", build=build, attempt=1, reason=Reason.SCRIPT, exit_code=0
        )
        await self.journal.append(ended)

    async def judge(self) -> Proof:
        """Fold all anew, and hold what came of it against the rules."""
        cluster = Cluster()
        notes: list[Note] = []
        sealed: list[Build] = []
        writers: Counter[str] = Counter()
        async for entry in self.journal.read():
            change = apply(cluster, entry.seq, entry.event)
            notes += change.ledger
            sealed += change.sealed
        notes += cluster.picture.ledger
        builds = [*sealed, *cluster.picture.builds.values()]
        writers.update(note.by for note in notes)
        keys = [(it.trigger.source, it.trigger.at) for it in builds if it.trigger.kind == SCHEDULE]
        assert len(keys) == len(set(keys)), "an instant has two builds"
        assert len(writers) > 1 or self.elections < 10, writers
        for host in self.hosts:
            mine = host.world.cluster.picture
            if mine.seq == cluster.picture.seq:
                assert mine.schedules == cluster.picture.schedules
        return prove(notes, builds, _made)


def _made(id_: str, scheduled: Scheduled) -> Timetable:
    return Timetable(scheduled.rule, id_, {})


def tell(seed: int, kills: int, *, skewed: bool = False) -> Proof:
    """Tell one story, and return what its proof comes to."""

    async def told() -> Proof:
        report = await Story(seed, skewed=skewed).run(kills)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
        return report

    return run_timeless(told())


def main() -> int:
    """Tell a long story."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.schedules", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--skewed", action="store_true", help="clocks are five minutes apart")
    options = parser.parse_args()
    began = time.monotonic()
    report = tell(options.seed, options.kills, skewed=options.skewed)
    for finding in report.findings[:20]:
        print(finding)
    print(
        f"seed {options.seed}: {options.kills} leaders lost, {report.schedules} schedules,"
        f" {report.fired} instants fired, {report.skipped} skipped, {len(report.findings)} wrong,"
        f" in {time.monotonic() - began:.1f} s"
    )
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
