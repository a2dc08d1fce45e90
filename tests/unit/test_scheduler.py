"""The scheduler's duty, where the journal does not take what it writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from tests.harness.timeless import LoopClock, run_timeless

from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex
from rota.agent.scheduler import Scheduler
from rota.core.cluster import Cluster
from rota.core.definitions import Definitions, check_tree
from rota.core.events import Event, LeaderElected, SchedulesFired, SchedulesSet
from rota.errors import FencedError
from rota.service.world import World

JOB = b'#!/bin/sh\n# /// script\n# [tool.rota]\n# on = [ { every = "2s" } ]\n# ///\n'


class Fenced(MemoryJournal):
    """Takes nothing for so often, as between two elections of the same leader."""

    refuses = 1

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        if fence is not None and self.refuses:
            self.refuses -= 1
            raise FencedError("another one was elected")
        return await super().append(event, expect=expect, fence=fence)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("kind", [SchedulesSet, SchedulesFired])
def test_a_leader_that_was_elected_once_more_goes_on(kind: type[Event]) -> None:
    async def story() -> None:
        journal, clock = Fenced(), LoopClock(0.0)
        world = World(journal, MemoryIndex(), Cluster())
        world.definitions, problems = check_tree({"jobs/often": JOB}, Definitions())
        assert not problems
        token = await journal.append(
            LeaderElected(at=clock.now(), by="a", agent="a", why="nobody led")
        )
        scheduler = Scheduler(
            name="a", world=world, journal=journal, clock=clock, fence=lambda: token
        )
        seen: list[Event] = []

        async def fold() -> None:
            async with contextlib.aclosing(journal.read(follow=True)) as entries:
                async for entry in entries:
                    world.fold(entry)
                    scheduler.folded(entry)
                    seen.append(entry.event)

        if kind is SchedulesFired:
            journal.refuses = 0
        tasks = [asyncio.ensure_future(it) for it in (fold(), scheduler.keep(), scheduler.lead())]
        if kind is SchedulesFired:
            await until(lambda: any(isinstance(it, SchedulesSet) for it in seen))
            journal.refuses = 1
        await until(lambda: any(isinstance(it, SchedulesFired) for it in seen))
        assert journal.refuses == 0
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    run_timeless(story())
