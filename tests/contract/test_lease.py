"""What every lease must do, in memory and with a real engine."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from tests.harness.engine import PATIENCE_S, forget_stream

from rota.adapters.memory import MemoryLease
from rota.adapters.nats import NatsLease
from rota.errors import UnavailableError
from rota.ports.lease import Beat

if TYPE_CHECKING:
    from rota.adapters.nats import Client, Engine
    from rota.ports.lease import Lease


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
async def lease(request: pytest.FixtureRequest, client: Client) -> Lease:
    if request.param == "memory":
        return MemoryLease()
    await forget_stream(client, "LEASE")
    nats = NatsLease(client)
    await nats.open()
    return nats


async def first_beat(lease: Lease) -> Beat:
    async with asyncio.timeout(PATIENCE_S), aclosing(lease.follow()) as beats:
        async for beat in beats:
            return beat
    raise AssertionError("a follower ended")


async def test_a_beat_is_taken_and_heard_by_everybody(lease: Lease) -> None:
    beat = Beat("a1", 7)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        hearing = [group.create_task(first_beat(lease)) for _ in range(3)]
        while not all(task.done() for task in hearing):
            await lease.beat(beat, within_s=PATIENCE_S)
            await asyncio.wait(hearing, timeout=0.05)
    assert [task.result() for task in hearing] == [beat] * 3


async def test_nothing_of_the_past_is_heard(lease: Lease) -> None:
    await lease.beat(Beat("old", 1), within_s=PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        hearing = group.create_task(first_beat(lease))
        while not hearing.done():
            await asyncio.wait([hearing], timeout=0.05)
            await lease.beat(Beat("new", 2), within_s=PATIENCE_S)
    assert hearing.result() == Beat("new", 2)


@pytest.mark.nats
async def test_only_the_last_beat_is_kept(client: Client) -> None:
    await forget_stream(client, "LEASE")
    lease = NatsLease(client)
    await lease.open()
    await lease.open()
    for token in range(5):
        await lease.beat(Beat("a1", token), within_s=PATIENCE_S)
    assert (await lease._stream.bounds()).messages == 1


@pytest.mark.nats
async def test_a_beat_that_nobody_takes_in_time_is_refused(engine: Engine, client: Client) -> None:
    lease = NatsLease(client)
    await lease.open()
    os.kill(engine.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(UnavailableError) as caught:
                await lease.beat(Beat("a1", 1), within_s=0.2)
        assert "did not answer within" in caught.value.message
    finally:
        os.kill(engine.pid, signal.SIGCONT)
