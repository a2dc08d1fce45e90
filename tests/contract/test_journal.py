"""What every journal must do, in memory and with a real engine."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.engine import PATIENCE_S, forget_stream, running

from rota.adapters.memory import MemoryJournal
from rota.adapters.nats import NatsJournal
from rota.core.codec import decode, encode
from rota.core.events import BuildStarted, Emitted, LeaderElected, LeaderResigned, Unknown
from rota.errors import FencedError, InputError, InvariantError, StaleError

if TYPE_CHECKING:
    from rota.adapters.nats import Client
    from rota.ports.journal import Entry, Journal

AT = datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
async def journal(request: pytest.FixtureRequest, client: Client) -> Journal:
    if request.param == "memory":
        return MemoryJournal()
    await forget_stream(client, "JOURNAL")
    nats = NatsJournal(client)
    await nats.open()
    return nats


def started(build: str, attempt: int = 1) -> BuildStarted:
    return BuildStarted(at=AT, agent="a1", build=build, attempt=attempt)


async def entries(journal: Journal, after: int = 0) -> list[Entry]:
    return [entry async for entry in journal.read(after=after)]


async def take(journal: Journal, count: int, after: int = 0) -> list[Entry]:
    """Follow until ``count`` entries came."""
    found: list[Entry] = []
    async with (
        asyncio.timeout(PATIENCE_S),
        aclosing(journal.read(after=after, follow=True)) as all_,
    ):
        async for entry in all_:
            found.append(entry)
            if len(found) == count:
                return found
    raise AssertionError("a follower ended")


async def test_sequences_start_at_one_and_rise(journal: Journal) -> None:
    assert [await journal.append(started("b")) for _ in range(3)] == [1, 2, 3]
    assert await journal.bounds() == (1, 3)


async def test_an_empty_journal_has_nothing_to_read(journal: Journal) -> None:
    assert await journal.bounds() == (1, 0)
    assert await entries(journal) == []


async def test_what_is_read_is_what_was_written(journal: Journal) -> None:
    raw = b'{"kind":"moon.landed","at":"2026-02-03T04:05:06Z","crew":[1,2]}'
    events = [started("b"), Emitted(at=AT, type="x.y", data={"ä": "ö\n"}), decode(raw)]
    for event in events:
        await journal.append(event)
    found = [entry.event for entry in await entries(journal)]
    assert found == events
    assert isinstance(found[2], Unknown)
    assert encode(found[2]) == raw


async def test_an_append_that_expects_the_last_sequence_wins(journal: Journal) -> None:
    first = await journal.append(started("b"), expect=0)
    await journal.append(started("other"))
    assert await journal.append(started("b", 2), expect=first) == 3


async def test_a_stale_append_is_refused_and_writes_nothing(journal: Journal) -> None:
    first = await journal.append(started("b"), expect=0)
    for expect in (0, first + 1, 99):
        with pytest.raises(StaleError):
            await journal.append(started("b", 2), expect=expect)
    with pytest.raises(StaleError):
        await journal.append(started("never written"), expect=first)
    assert await journal.bounds() == (1, 1)


async def test_an_append_that_expects_nothing_is_never_stale(journal: Journal) -> None:
    await journal.append(started("b"), expect=0)
    assert await journal.append(started("b", 2)) == 2


async def test_one_of_many_claims_wins(journal: Journal) -> None:
    seq = await journal.append(started("b"))
    claims = [journal.append(started("b", n), expect=seq) for n in range(16)]
    results = await asyncio.gather(*claims, return_exceptions=True)
    assert len([r for r in results if isinstance(r, int)]) == 1
    assert len([r for r in results if isinstance(r, StaleError)]) == 15
    assert len(await entries(journal)) == 2


async def test_a_fenced_append_is_taken_while_the_election_is_the_last_one(
    journal: Journal,
) -> None:
    assert await journal.append(started("b"), fence=0) == 1
    token = await journal.append(LeaderElected(at=AT, agent="a1"), expect=0)
    await journal.append(started("other"))
    assert await journal.append(started("b", 2), fence=token) == 4
    assert await journal.append(started("b", 3), fence=token) == 5


@pytest.mark.parametrize("event", [LeaderElected, LeaderResigned])
async def test_an_append_with_the_fence_of_a_former_leader_is_refused_and_writes_nothing(
    journal: Journal, event: type[LeaderElected | LeaderResigned]
) -> None:
    token = await journal.append(LeaderElected(at=AT, agent="a1"), expect=0)
    await journal.append(event(at=AT, agent="a2"), expect=token)
    for fence in (0, token, 99):
        with pytest.raises(FencedError) as caught:
            await journal.append(started("b"), fence=fence)
        assert caught.value.message == "another leader was elected"
    assert await journal.bounds() == (1, 2)


async def test_fenced_appends_at_the_same_time_are_all_taken(journal: Journal) -> None:
    token = await journal.append(LeaderElected(at=AT, agent="a1"), expect=0)
    seqs = await asyncio.gather(*(journal.append(started("b", n), fence=token) for n in range(20)))
    assert sorted(seqs) == list(range(2, 22))


async def test_an_append_has_an_expectation_or_a_fence(journal: Journal) -> None:
    with pytest.raises(InvariantError):
        await journal.append(started("b"), expect=0, fence=0)
    assert await journal.bounds() == (1, 0)


async def test_an_append_that_is_given_up_leaves_the_journal_usable(journal: Journal) -> None:
    given_up = 0
    for n in range(20):
        try:
            async with asyncio.timeout(n * 0.0001):
                await journal.append(started("b", n), **({"fence": 0} if n % 2 else {}))
        except TimeoutError:
            given_up += 1
    last = await journal.append(started("last"), fence=0)
    assert last >= 21 - given_up
    assert [entry.seq for entry in await entries(journal)] == list(range(1, last + 1))


@pytest.mark.parametrize("key", ["", "a b", "x\r\nPUB y 0", "*", ">", "a..b", ".", "ä%"])
async def test_a_key_may_have_any_characters(journal: Journal, key: str) -> None:
    seq = await journal.append(started(key), expect=0)
    with pytest.raises(StaleError):
        await journal.append(started(key, 2), expect=0)
    assert await journal.append(started(key + "x"), expect=0) == 2
    assert await journal.append(started(key, 2), expect=seq) == 3


async def test_reading_starts_behind_a_sequence(journal: Journal) -> None:
    for n in range(5):
        await journal.append(started("b", n))
    assert [entry.seq for entry in await entries(journal, after=3)] == [4, 5]
    assert await entries(journal, after=5) == []
    assert await entries(journal, after=50) == []


async def test_reading_ends_at_what_was_last_when_it_began(journal: Journal) -> None:
    for n in range(3):
        await journal.append(started("b", n))
    seen = []
    async for entry in journal.read():
        seen.append(entry.seq)
        await journal.append(started("later", entry.seq))
    assert seen == [1, 2, 3]


async def test_many_events_are_read_in_order_each_once(journal: Journal) -> None:
    count = 1500
    for chunk in (
        itertools.batched(range(count), 100) if hasattr(itertools, "batched") else [range(count)]
    ):
        await asyncio.gather(*(journal.append(started("b", n)) for n in chunk))
    found = await entries(journal)
    assert [entry.seq for entry in found] == list(range(1, count + 1))
    assert await take(journal, count) == found


async def test_followers_see_old_and_new_events_without_a_seam(journal: Journal) -> None:
    for n in range(20):
        await journal.append(started("b", n))
    async with asyncio.TaskGroup() as group:
        followers = [group.create_task(take(journal, 200)) for _ in range(3)]
        followers.append(group.create_task(take(journal, 190, after=10)))
        for n in range(20, 200):
            await journal.append(started("b", n))
    expected = await entries(journal)
    assert len(expected) == 200
    assert [follower.result() for follower in followers] == [expected] * 3 + [expected[10:]]


async def test_a_follower_waits_for_the_first_event(journal: Journal) -> None:
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(take(journal, 1))
        await asyncio.sleep(0)
        await journal.append(started("b"))
    assert [entry.seq for entry in follower.result()] == [1]


async def test_trimmed_events_are_gone_and_the_others_stay(journal: Journal) -> None:
    for n in range(5):
        await journal.append(started("b", n))
    await journal.trim(before=3)
    await journal.trim(before=3)
    assert await journal.bounds() == (3, 5)
    assert [entry.seq for entry in await entries(journal)] == [3, 4, 5]
    assert [entry.seq for entry in await take(journal, 3)] == [3, 4, 5]


async def test_a_journal_trimmed_empty_goes_on_counting(journal: Journal) -> None:
    for n in range(3):
        await journal.append(started("b", n))
    await journal.trim(before=4)
    assert await journal.bounds() == (4, 3)
    assert await entries(journal) == []
    assert await journal.append(started("b"), expect=0) == 4


async def test_a_key_whose_events_were_trimmed_has_none(journal: Journal) -> None:
    old = await journal.append(started("old"))
    await journal.append(started("new"))
    await journal.trim(before=2)
    with pytest.raises(StaleError):
        await journal.append(started("old", 2), expect=old)
    assert await journal.append(started("old", 2), expect=0) == 3


async def test_an_event_too_large_is_refused_with_size_and_limit(journal: Journal) -> None:
    event = Emitted(at=AT, type="big", data={"x": "y" * 900_000})
    size = len(encode(event))
    with pytest.raises(InputError) as caught:
        await journal.append(event)
    assert caught.value.message == f"the event has {size} bytes, the limit is 900000"
    assert await journal.bounds() == (1, 0)


async def test_an_event_just_below_the_limit_is_taken(journal: Journal) -> None:
    event = Emitted(at=AT, type="big", data={"x": "y" * 899_900})
    await journal.append(event, expect=0)
    assert [entry.event for entry in await entries(journal)] == [event]


_numbers = itertools.count()


@pytest.mark.nats
@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    calls=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["any", "none", "last", "former"])),
        max_size=20,
    )
)
def test_the_twin_in_memory_answers_as_the_engine_does(
    calls: list[tuple[str, str]], engine_home: object
) -> None:
    asyncio.run(_compare(calls, engine_home))


async def _compare(calls: list[tuple[str, str]], home: object) -> None:
    from pathlib import Path

    assert isinstance(home, Path)
    example = next(_numbers)
    async with running(home) as engine, engine.connect() as client:
        nats, memory = NatsJournal(client), MemoryJournal()
        await nats.open()
        base = (await nats.bounds())[1]
        theirs = [seq - base if seq else 0 for seq in await _play(nats, calls, example)]
        assert theirs == await _play(memory, calls, example)


async def _play(journal: Journal, calls: list[tuple[str, str]], example: int) -> list[int]:
    """Return what each call gave: a sequence, or 0 for a stale one."""
    history: dict[str, list[int]] = {}
    results = []
    for key, wish in calls:
        seqs = history.setdefault(key, [0])
        expect = {"any": None, "none": 0, "last": seqs[-1], "former": seqs[max(-2, -len(seqs))]}
        try:
            seq = await journal.append(started(f"{example}{key}"), expect=expect[wish])
        except StaleError:
            results.append(0)
        else:
            results.append(seq)
            seqs.append(seq)
    return results
