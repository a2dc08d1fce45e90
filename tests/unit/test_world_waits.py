"""Waiting for a build to change: many wait for the same one."""

from __future__ import annotations

import asyncio

from tests.harness.facts import moment

from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex
from rota.core.cluster import Cluster
from rota.core.events import BuildCancelled, BuildRequested, Event
from rota.core.job import Spec
from rota.ports.journal import Entry
from rota.service.world import World


async def test_who_waits_again_at_once_is_woken_though_others_are_slow_to_leave() -> None:
    world = World(MemoryJournal(), MemoryIndex(), Cluster())
    events: list[Event] = [
        BuildRequested(at=moment(), build="a", job="a", spec=Spec()),
        *(BuildCancelled(at=moment(), build="a") for _ in range(4)),
    ]
    world.fold(Entry(1, events[0]))
    woken = [0] * 5

    async def wait(number: int) -> None:
        while True:
            await world.changed("a", 60.0)
            woken[number] += 1

    tasks = [asyncio.create_task(wait(number)) for number in range(5)]
    for seq, event in enumerate(events[1:], 2):
        for _ in range(5):
            await asyncio.sleep(0)
        world.fold(Entry(seq, event))
    for _ in range(5):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert woken == [4] * 5
