"""The journal over REST: lists, streams that are taken up again, and events of one's own."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from tests.harness.agent import Here

from rota.core.events import Emitted, Unknown
from rota.http import sse

SSE = {"Accept": "text/event-stream"}


async def emit(here: Here, n: int, type_: str = "t") -> int:
    reply = await here.ask("POST", "/v1/events", body={"type": type_, "data": {"n": n}})
    assert reply.status == 201, reply.text
    return int(reply.json()["seq"])


async def event(response: Any) -> dict[str, str]:
    """Return the next event of a stream, comments passed over."""
    while True:
        block = (await response.content.readuntil(b"\n\n")).decode()
        fields = dict(line.split(": ", 1) for line in block.strip().split("\n"))
        if "" not in fields:
            return fields


async def next_of_ours(response: Any) -> dict[str, str]:
    """Return the next event but for seals: what anybody did is sealed within a second."""
    while (got := await event(response))["event"] == "history.sealed":
        pass
    return got


async def test_events_are_listed_after_a_sequence_by_kind_and_from_the_end(here: Here) -> None:
    first = await emit(here, 0)
    for n in range(1, 30):
        await emit(here, n, "even" if n % 2 == 0 else "odd.one")
    listed = (await here.ask("GET", f"/v1/events?after={first}&limit=3")).json()
    assert [it["data"]["n"] for it in listed] == [1, 2, 3]
    assert [it["seq"] for it in listed] == [first + 1, first + 2, first + 3]
    assert listed[0]["kind"] == "custom"
    assert listed[0]["by"] == "root"
    last = (await here.ask("GET", "/v1/events?limit=2")).json()
    assert [it["data"]["n"] for it in last] == [28, 29]
    for glob, numbers in (
        ("custom", [28, 29]),
        ("custom.even", [26, 28]),
        ("custom.odd.*", [27, 29]),
        ("*", [28, 29]),
        ("even", []),
        ("[", []),
    ):
        found = (await here.ask("GET", f"/v1/events?limit=2&kind={glob}")).json()
        assert [it["data"]["n"] for it in found] == numbers, glob
    started = (await here.ask("GET", "/v1/events?kind=agent.started&limit=1")).json()
    assert started[0]["agent"] == "here"
    empty = await here.ask("GET", f"/v1/events?after={await here.seq()}")
    assert (empty.body, empty.headers["Rota-First-Event"]) == (b"[]", "1")


async def test_a_follower_that_comes_back_misses_nothing_and_sees_nothing_twice(
    here: Here,
) -> None:
    start = await here.seq()
    sending = asyncio.create_task(_emit_many(here, 1000))
    seen: list[int] = []
    last = str(start)
    while len(seen) < 1000:
        headers = {**SSE, "Last-Event-ID": last}
        async with here.stream("GET", "/v1/events?kind=custom", headers=headers) as response:
            for _ in range(min(37, 1000 - len(seen))):
                got = await event(response)
                assert got["event"] == "custom"
                data = json.loads(got["data"])
                assert got["id"] == str(data["seq"])
                seen.append(data["data"]["n"])
                last = got["id"]
    await sending
    assert sorted(seen) == list(range(1000))
    assert len(set(seen)) == 1000


async def _emit_many(here: Here, count: int) -> None:
    for start in range(0, count, 20):
        await asyncio.gather(*(emit(here, n) for n in range(start, start + 20)))


async def test_two_followers_see_the_same_order(here: Here) -> None:
    start = await here.seq()
    target = f"/v1/events?kind=custom&after={start}&follow"
    async with here.stream("GET", target) as one, here.stream("GET", target) as two:
        sending = asyncio.create_task(_emit_many(here, 100))
        seen = [[(await event(it))["id"] for _ in range(100)] for it in (one, two)]
        await sending
    assert seen[0] == seen[1]
    assert seen[0] == sorted(seen[0], key=int)


async def test_a_follow_without_a_sequence_begins_with_what_comes_next(here: Here) -> None:
    await emit(here, 1)
    async with here.stream("GET", "/v1/events?follow", headers=SSE) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        await response.content.readuntil(b": rota\n\n")
        seq = await emit(here, 2)
        assert (await event(response))["id"] == str(seq)


async def test_a_comment_keeps_a_silent_stream_alive(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", 0.01)
    async with here.stream("GET", "/v1/events?follow&kind=never") as response:
        for _ in range(3):
            assert b"still here" in await response.content.readuntil(b"still here\n\n")


async def test_events_that_are_no_longer_kept_are_said_to_be_missing(here: Here) -> None:
    for n in range(20):
        await emit(here, n)
    last = await here.seq()
    here.service.world._recent.clear()
    await here.journal.trim(before=last - 4)
    headers = {**SSE, "Last-Event-ID": "3"}
    async with here.stream("GET", "/v1/events", headers=headers) as response:
        gap = await event(response)
        assert gap == {
            "id": str(last - 5),
            "event": "gap",
            "data": json.dumps(
                {"kind": "gap", "after": 3, "first": last - 4}, separators=(",", ":")
            ),
        }
        assert [(await event(response))["id"] for _ in range(5)] == [
            str(seq) for seq in range(last - 4, last + 1)
        ]
    listed = await here.ask("GET", "/v1/events?after=3")
    assert listed.headers["Rota-First-Event"] == str(last - 4)
    assert listed.json()[0]["seq"] == last - 4
    # Whoever is where the journal begins has missed nothing.
    headers = {**SSE, "Last-Event-ID": str(last - 5)}
    async with here.stream("GET", "/v1/events", headers=headers) as response:
        assert (await event(response))["event"] == "custom"


@pytest.mark.parametrize(
    ("body", "says", "hint"),
    [
        ({}, "missing argument `type`", "type: dotted, such as deploy.done"),
        ({"type": ""}, "bad argument type: expected `str` matching regex", "type: dotted"),
        ({"type": "a b"}, "bad argument type: expected `str` matching regex", "type: dotted"),
        ({"type": "a\n"}, "bad argument type: expected `str` matching regex", "type: dotted"),
        ({"type": "a..b"}, "bad argument type: expected `str` matching regex", "type: dotted"),
        ({"type": "a" * 101}, "bad argument type: expected `str` of length <= 100", "type: dotted"),
        ({"type": 1}, "bad argument type: expected `str`, got `int`", "type: dotted"),
        ({"type": "a", "data": []}, "bad argument data: expected `object`, got `array`", "data:"),
        ({"type": "a", "kind": "build.finished"}, "unknown argument 'kind'", "known are: data"),
        ({"type": "a", "data": {"x": 10**30}}, "", ""),
        ({"type": "a", "data": {"x": "y" * 65536}}, "the event's data has 65544 bytes", "keep"),
    ],
)
async def test_an_event_that_cannot_be_is_refused_by_name(
    here: Here, body: dict[str, object], says: str, hint: str
) -> None:
    before = await here.seq()
    reply = await here.ask("POST", "/v1/events", body=body)
    if not says and reply.status == 201:
        return  # a number that large is another one afterwards, but it is taken
    assert reply.status == 400
    assert reply.json()["detail"].startswith(says)
    assert reply.json()["hint"].startswith(hint)
    assert await here.seq() == before


async def test_an_event_of_ones_own_is_never_taken_for_one_of_the_systems(here: Here) -> None:
    await here.put("a")
    data = {"kind": "build.requested", "build": "0" * 16, "job": "a", "seq": 1, "by": "nobody"}
    reply = await here.ask("POST", "/v1/events", body={"type": "build.requested", "data": data})
    assert reply.status == 201
    assert (await here.ask("GET", "/v1/builds")).json() == []
    assert (await here.ask("GET", "/v1/events?kind=build.*")).json() == []
    shown = (await here.ask("GET", "/v1/events?limit=1")).json()[0]
    assert (shown["kind"], shown["by"], shown["data"]) == ("custom", "root", data)


async def test_what_another_program_wrote_breaks_no_stream(here: Here) -> None:
    start = await here.seq()
    odd = [
        (b'{"kind":"x.y",\n\n "at":1}\n', "x.y"),
        (b'{"kind":"a\\nid: 7\\r\\n\\rb","seq":99}', "a id: 7   b"),
        (b"no json at all \xff\n\n", "?"),
        (b"[]", "?"),
        (b"{}", "?"),
    ]
    seqs = [await here.journal.append(Unknown(kind="?", raw=raw)) for raw, _ in odd]
    last = await emit(here, 1)
    async with here.stream("GET", f"/v1/events?after={start}&follow") as response:
        for seq, (_, kind) in zip(seqs, odd, strict=True):
            got = await next_of_ours(response)
            assert (got["id"], got["event"]) == (str(seq), kind)
            assert json.loads(got["data"])["seq"] == seq
        assert (await next_of_ours(response))["id"] == str(last)
    listed = (await here.ask("GET", f"/v1/events?after={start}")).json()
    ours = [it["seq"] for it in listed if it.get("kind") != "history.sealed"]
    assert ours == [*seqs, last]


async def test_two_hundred_that_connect_and_break_off_leave_nothing_behind(here: Here) -> None:
    await here.put("a")
    before = len(asyncio.all_tasks())
    targets = ("/v1/events?follow", "/v1/builds/a/log?follow&grep=x", "/v1/events?follow&after=0")
    for round_ in range(4):
        writers = []
        for n in range(50):
            reader, writer = await asyncio.open_unix_connection(here.socket)
            target = targets[0 if n % 2 else 2 * (round_ % 2)]
            writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readline()
            writers.append(writer)
        for writer in writers:
            writer.transport.abort()
        await here.until(lambda: not _following(here))
    await here.until(lambda: len(asyncio.all_tasks()) <= before)
    assert not here.service.world._watchers


def _following(here: Here) -> int:
    return len(here.service.world._ticks)


async def test_two_hundred_followers_at_once_all_see_everything(here: Here) -> None:
    async with contextlib.AsyncExitStack() as stack:
        responses = [
            await stack.enter_async_context(here.stream("GET", "/v1/events?follow&kind=custom"))
            for _ in range(200)
        ]
        for response in responses:
            await response.content.readuntil(b": rota\n\n")
        seqs = [await emit(here, n) for n in range(10)]
        for response in responses:
            assert [int((await event(response))["id"]) for _ in range(10)] == seqs


async def test_a_follower_that_does_not_read_holds_up_no_other(here: Here) -> None:
    start = await here.seq()
    target = f"/v1/events?follow&after={start}"
    lazy = []
    for _ in range(20):
        reader, writer = await asyncio.open_unix_connection(here.socket, limit=1)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        lazy.append((reader, writer))
    async with here.stream("GET", target) as response:
        for n in range(300):
            body = Emitted(at=here.service.clock.now(), type="t", data={"x": "y" * 60_000, "n": n})
            await here.journal.append(body)
            got = await next_of_ours(response)
            assert json.loads(got["data"])["data"]["n"] == n
    for _, writer in lazy:
        writer.transport.abort()
    await here.until(lambda: not _following(here))
