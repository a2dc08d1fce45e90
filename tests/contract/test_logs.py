"""What every store of logs must do, in memory and with a real engine."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.engine import PATIENCE_S, forget_stream

from rota.adapters.memory import MemoryLogs
from rota.adapters.nats import NatsLogs
from rota.errors import InputError, StaleError
from rota.ports.logs import MAX_CHUNK_BYTES, LogKey

if TYPE_CHECKING:
    from rota.adapters.nats import Client
    from rota.ports.logs import Logs

KEY = LogKey("0123456789abcdef", 1)


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
async def logs(request: pytest.FixtureRequest, client: Client) -> Logs:
    if request.param == "memory":
        return MemoryLogs()
    await forget_stream(client, "LOG")
    nats = NatsLogs(client)
    await nats.open()
    return nats


async def read(logs: Logs, start: int = 0, stop: int | None = None, key: LogKey = KEY) -> bytes:
    return b"".join([piece async for piece in logs.read(key, start, stop)])


async def take(logs: Logs, count: int, start: int = 0) -> bytes:
    """Follow until ``count`` bytes came."""
    found = b""
    async with asyncio.timeout(PATIENCE_S), aclosing(logs.follow(KEY, start)) as all_:
        async for piece in all_:
            found += piece
            if len(found) >= count:
                return found
    raise AssertionError("a follower ended")


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def test_a_log_nobody_wrote_is_empty(logs: Logs) -> None:
    assert await logs.end(KEY) == 0
    assert await read(logs) == b""
    assert await read(logs, 5, 9) == b""


async def test_pieces_are_read_back_as_they_were_written(logs: Logs) -> None:
    pieces = [
        b"a",
        b"hello\n" * 1000,
        noise(70_000),
        bytes(MAX_CHUNK_BYTES),
        noise(MAX_CHUNK_BYTES),
    ]
    end = 0
    for piece in pieces:
        end = await logs.append(KEY, end, piece)
    assert end == await logs.end(KEY) == sum(map(len, pieces))
    assert await read(logs) == b"".join(pieces)


async def test_a_piece_anywhere_but_at_the_end_is_refused(logs: Logs) -> None:
    await logs.append(KEY, 0, b"0123456789")
    for offset in (0, 5, 11, 99):
        with pytest.raises(StaleError):
            await logs.append(KEY, offset, b"x")
    assert await read(logs) == b"0123456789"
    assert await logs.append(KEY, 10, b"!") == 11


async def test_the_first_piece_is_refused_if_it_does_not_start_at_zero(logs: Logs) -> None:
    with pytest.raises(StaleError) as caught:
        await logs.append(KEY, 3, b"x")
    assert caught.value.message == "the log ends at byte 0, not at 3"
    assert await logs.append(KEY, 0, b"x") == 1


async def test_pieces_under_way_at_the_same_time_keep_their_order(logs: Logs) -> None:
    whole = noise(100_000) + b"text\n" * 40_000 + noise(1000)
    size = 17_000
    await asyncio.gather(
        *(logs.append(KEY, at, whole[at : at + size]) for at in range(0, len(whole), size))
    )
    assert await read(logs) == whole


async def test_pieces_behind_one_that_failed_are_not_written(logs: Logs) -> None:
    await logs.append(KEY, 0, b"0123456789")
    results = await asyncio.gather(
        logs.append(KEY, 5, b"56789"), logs.append(KEY, 10, b"ab"), logs.append(KEY, 13, b"d"),
        return_exceptions=True,
    )  # fmt: skip
    assert isinstance(results[0], StaleError)
    assert isinstance(results[2], StaleError)
    assert (await read(logs)).removeprefix(b"0123456789") in (b"", b"ab")
    assert await logs.append(KEY, await logs.end(KEY), b"!") == await logs.end(KEY)


@pytest.mark.parametrize("size", [0, MAX_CHUNK_BYTES + 1])
async def test_a_piece_of_a_bad_size_is_refused(logs: Logs, size: int) -> None:
    with pytest.raises(InputError) as caught:
        await logs.append(KEY, 0, bytes(size))
    assert caught.value.message == f"a piece of {size} bytes, the limit is 1 to 524288"
    assert await logs.end(KEY) == 0


async def test_logs_do_not_mix(logs: Logs) -> None:
    other, retry = LogKey("fedcba9876543210", 1), LogKey(KEY.build, 11)
    for n in range(10):
        await logs.append(KEY, n, b"a")
        await logs.append(other, n, b"b")
        await logs.append(retry, n, b"c")
    assert await read(logs) == b"a" * 10
    assert await read(logs, key=other) == b"b" * 10
    assert await read(logs, 3, 7, key=retry) == b"c" * 4


async def test_any_range_can_be_read(logs: Logs) -> None:
    chance = random.Random(7)
    whole = b""
    for n in range(60):
        piece = noise(chance.randint(1, 900), n)
        await logs.append(KEY, len(whole), piece)
        whole += piece
        for filler in range(chance.randint(0, 3)):
            await logs.append(LogKey(f"filler{n}", filler), 0, b"f")
    for _ in range(60):
        start, stop = sorted((chance.randint(0, len(whole)), chance.randint(0, len(whole))))
        assert await read(logs, start, stop) == whole[start:stop]
    assert await read(logs, len(whole) - 1) == whole[-1:]
    assert await read(logs, 0, len(whole) + 99) == whole
    assert await read(logs, len(whole)) == await read(logs, len(whole) + 9) == b""
    assert await read(logs, 9, 3) == b""


async def test_followers_see_old_and_new_bytes_without_a_seam(logs: Logs) -> None:
    whole = noise(50_000)
    for at in range(0, 10_000, 1000):
        await logs.append(KEY, at, whole[at : at + 1000])
    async with asyncio.TaskGroup() as group:
        starts = (0, 1, 5_500, 10_000, 30_123)
        followers = [group.create_task(take(logs, len(whole) - s, s)) for s in starts]
        for at in range(10_000, len(whole), 1000):
            await logs.append(KEY, at, whole[at : at + 1000])
    assert [follower.result() for follower in followers] == [whole[s:] for s in starts]


async def test_a_follower_waits_for_a_log_nobody_wrote_yet(logs: Logs) -> None:
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(take(logs, 5))
        await asyncio.sleep(0)
        await logs.append(KEY, 0, b"hello")
    assert follower.result() == b"hello"


async def test_a_dropped_log_is_gone_and_may_begin_anew(logs: Logs) -> None:
    other = LogKey("fedcba9876543210", 1)
    for key in (KEY, other):
        await logs.append(key, 0, b"old")
    await logs.drop(KEY)
    await logs.drop(KEY)
    assert await logs.end(KEY) == 0
    assert await read(logs) == b""
    assert await read(logs, key=other) == b"old"
    assert await logs.append(KEY, 0, b"new") == 3


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pieces=st.lists(st.binary(min_size=1, max_size=200), max_size=12), data=st.data())
async def test_a_log_is_the_sum_of_its_pieces(
    logs: Logs, pieces: list[bytes], data: st.DataObject
) -> None:
    await logs.drop(KEY)
    whole = b"".join(pieces)
    end = 0
    for piece in pieces:
        end = await logs.append(KEY, end, piece)
    start = data.draw(st.integers(0, len(whole) + 2))
    stop = data.draw(st.none() | st.integers(0, len(whole) + 2))
    assert await read(logs, start, stop) == whole[start:stop]
    assert await logs.end(KEY) == len(whole)


@pytest.mark.nats
async def test_another_writer_goes_on_where_the_former_stopped(client: Client) -> None:
    await forget_stream(client, "LOG")
    former, next_ = NatsLogs(client), NatsLogs(client)
    await former.open()
    await former.append(KEY, 0, b"abc")
    with pytest.raises(StaleError) as caught:
        await next_.append(KEY, 2, b"c")
    assert caught.value.message == "the log ends at byte 3, not at 2"
    with pytest.raises(StaleError):
        await next_.append(KEY, 0, b"abc")
    assert await next_.append(KEY, 3, b"def") == 6
    with pytest.raises(StaleError):
        await former.append(KEY, 3, b"DEF")
    assert await read(former) == b"abcdef"


@pytest.mark.nats
async def test_a_stream_keeps_its_limits_until_the_settings_are_known(client: Client) -> None:
    await forget_stream(client, "LOG")
    first = NatsLogs(client)
    await first.open()
    await first.limit(max_bytes=5 << 30, max_age_s=90 * 86_400)
    again = NatsLogs(client)
    await again.open()
    assert await _limits(client) == (5 << 30, 90 * 86_400 * 10**9)
    await again.limit(max_bytes=-1, max_age_s=30 * 86_400)
    assert await _limits(client) == (-1, 30 * 86_400 * 10**9)


async def _limits(client: Client) -> tuple[object, object]:
    raw = await client.request("$JS.API.STREAM.INFO.LOG", b"", within_s=10.0)
    config = json.loads(raw.data)["config"]
    return config["max_bytes"], config["max_age"]
