"""Logs over REST: every way of reading, of every kind of log, live and afterwards."""

import asyncio
import json
import os
import random
from functools import partial
from typing import Any

import pytest
from tests.harness.agent import Here

from rota.adapters.scripted import Plan
from rota.service import search
from rota.service.grep_worker import MAX_LINE
from rota.service.livelog import LiveLog
from rota.service.search import Searches

HANGS = Plan(hangs=True)
ODD = b"one\r\ntwo\0\xff\xfe\n\n\xe2\x82\xacuro \xe2\x82\n::group::x\nlast without an end"
SSE = {"Accept": "text/event-stream"}


async def logged(here: Here, output: bytes) -> str:
    """Return a finished build whose log is ``output``."""
    await here.put("a", plan=Plan(output=output))
    build = await here.run("a")
    done = await here.finished(build["id"])
    assert done["log_bytes"] == len(output)
    return str(done["id"])


async def read(here: Here, build: str, query: str = "") -> bytes:
    reply = await here.ask("GET", f"/v1/builds/{build}/log?{query}")
    assert reply.status == 200, reply.text
    return reply.body


def tail(data: bytes, lines: int) -> bytes:
    """Return the last lines, by the book."""
    return b"".join(data.splitlines(keepends=True)[-lines:]) if lines else b""


def split(data: bytes) -> list[bytes]:
    return data.split(b"\n")[: -1 if data.endswith(b"\n") else None]


async def events(response: Any) -> list[tuple[str, str, Any]]:
    """Return the (id, event, data) of a stream that ends."""
    return parsed((await response.read()).decode())


def parsed(text: str) -> list[tuple[str, str, Any]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and line[0] != ":")
        if fields:
            found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


async def test_every_part_of_an_odd_log_by_offset_and_limit(here: Here) -> None:
    build = await logged(here, ODD)
    for offset in range(0, len(ODD) + 3, 5):
        for limit in (0, 1, 7, 1000):
            reply = await here.ask("GET", f"/v1/builds/{build}/log?offset={offset}&limit={limit}")
            end = None if limit == 0 else offset + limit
            assert reply.body == ODD[offset:end]
            assert reply.headers["Rota-Log-Offset"] == str(offset)
            assert reply.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("output", [b"", b"\n", b"x", b"a\nb\nc\n", b"a\nb\nc", b"\n\n\n", b"\r\n"])
async def test_the_last_lines_of_small_logs(here: Here, output: bytes) -> None:
    build = await logged(here, output)
    lines = [line + b"\n" for line in split(output)] if output else []
    if lines and not output.endswith(b"\n"):
        lines[-1] = lines[-1][:-1]
    for count in range(6):
        reply = await here.ask("GET", f"/v1/builds/{build}/log?tail={count}")
        assert reply.body == b"".join(lines[len(lines) - min(count, len(lines)) :])
        assert int(reply.headers["Rota-Log-Offset"]) == len(output) - len(reply.body)
    for number in range(1, 6):
        assert await read(here, build, f"line={number}") == b"".join(lines[number - 1 :])


async def test_a_line_of_ten_megabytes_and_what_stands_around_it(here: Here) -> None:
    long = b"x" * (10 << 20)
    build = await logged(here, b"first\n" + long + b"\nlast")
    assert await read(here, build, "tail=1") == b"last"
    assert len(await read(here, build, "tail=2")) == len(long) + 5
    assert await read(here, build, "line=3") == b"last"
    assert await read(here, build, f"offset={6 + len(long)}") == b"\nlast"
    assert await read(here, build, "grep=x%2B") == b"x" * MAX_LINE + b"\n"
    assert await read(here, build, "grep=st") == b"first\nlast\n"


async def test_tail_and_line_of_a_log_of_many_chunks(here: Here) -> None:
    chance = random.Random(1)
    lines = [b"%d %s\n" % (n, b"y" * chance.randrange(200)) for n in range(20_000)]
    build = await logged(here, b"".join(lines))
    for count in (1, 7, 1000, 9_999, 20_000, 30_000):
        assert await read(here, build, f"tail={count}") == b"".join(lines[-count:])
    for number in (1, 2, 5_000, 20_000, 20_001, 2**53 - 1):
        assert await read(here, build, f"line={number}") == b"".join(lines[number - 1 :])
    assert await read(here, build, "grep=^1?77%20") == lines[77] + lines[177]


async def test_two_ways_to_say_where_to_start_are_one_too_many(here: Here) -> None:
    build = await logged(here, ODD)
    reply = await here.ask("GET", f"/v1/builds/{build}/log?tail=1&offset=2")
    assert reply.status == 400
    assert reply.json()["detail"] == "offset and tail are given, and each says where to start"
    assert reply.json()["hint"] == "give one"


async def test_an_attempt_that_never_was_is_not_found(here: Here) -> None:
    build = await logged(here, ODD)
    reply = await here.ask("GET", f"/v1/builds/{build}/log?attempt=2")
    assert (reply.status, reply.json()["detail"]) == (404, "a#1 has no attempt 2, only 1")
    assert await read(here, build, "attempt=1") == ODD
    for wrong in (
        "attempt=-1",
        "offset=-1",
        "tail=-2",
        "limit=x",
        "follow=maybe",
        "line=" + "9" * 19,
    ):
        reply = await here.ask("GET", f"/v1/builds/{build}/log?{wrong}")
        assert reply.status == 400
        assert reply.json()["hint"].startswith(wrong.partition("=")[0] + ": ")


# -- search -------------------------------------------------------------------------------------


async def test_a_search_finds_lines_across_the_borders_of_pieces(here: Here) -> None:
    fill = b"-" * 1000 + b"\n"
    output = b"".join(fill * 400 + b"needle %d\n" % n for n in range(8)) + b"needle at the end"
    build = await logged(here, output)
    wanted = b"".join(b"needle %d\n" % n for n in range(8)) + b"needle at the end\n"
    assert await read(here, build, "grep=needle") == wanted
    assert await read(here, build, "grep=^needle.[0-9]$&limit=900000") == wanted[:18]
    reply = await here.ask("GET", f"/v1/builds/{build}/log?grep=needle")
    assert "Rota-Log-Offset" not in reply.headers


async def test_pieces_of_any_size_give_the_same_lines() -> None:
    output = b"\n".join([b"ab" * n for n in range(60)]) + b"\n" + b"z" * 200_000 + b"\nab\nba\nab"
    wanted = [line[:MAX_LINE] for line in split(output) if b"ab" in line[:MAX_LINE]]
    chance = random.Random(2)
    for largest in (1, 7, 300_000):
        cuts = []
        rest = output if largest > 7 else output[:2000]
        while rest:
            at = chance.randrange(1, largest + 1)
            cuts.append(rest[:at])
            rest = rest[at:]

        async def pieces(cuts: list[bytes] = cuts) -> Any:
            for cut in cuts:
                yield cut

        found = b"".join([part async for part in Searches().matching("ab", pieces())])
        expected = wanted if largest > 7 else [it for it in split(output[:2000]) if b"ab" in it]
        assert found == b"".join(line + b"\n" for line in expected)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("%5B", "bad regular expression '[': unterminated character set at position 0"),
        ("a%7B9999999999999999999999%7D", "bad regular expression"),
        ("(?P%3Ca%3E", "bad regular expression"),
        ("%5C", "bad regular expression"),
    ],
)
async def test_what_is_no_regular_expression_is_refused(
    here: Here, pattern: str, says: str
) -> None:
    build = await logged(here, ODD)
    reply = await here.ask("GET", f"/v1/builds/{build}/log?grep={pattern}")
    assert reply.status == 400
    assert reply.json()["detail"].startswith(says)
    assert reply.json()["hint"].startswith("Python's syntax")


async def test_a_pattern_that_nests_deeply_or_is_long_is_refused(here: Here) -> None:
    build = await logged(here, ODD)
    reply = await here.ask("GET", f"/v1/builds/{build}/log?grep=" + "(" * 450 + ")" * 450)
    assert reply.status in (200, 400)
    reply = await here.ask("GET", f"/v1/builds/{build}/log?grep=" + "a" * 1001)
    assert reply.json()["detail"].startswith("bad argument grep: expected `str` of length <= 1000")


@pytest.mark.parametrize("pattern", ["(a%2B)%2B$", "(a|a)*$", "a*a*a*a*a*a*b"])
async def test_a_pattern_that_would_take_years_is_ended_and_holds_up_nobody(
    here: Here, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    here.service.searches = Searches(limit_s=0.3)
    build = await logged(here, b"a" * 5000 + b"!\n")
    hostile = asyncio.create_task(here.ask("GET", f"/v1/builds/{build}/log?grep={pattern}"))
    for _ in range(5):
        assert (await here.ask("GET", "/v1/status")).status == 200
    reply = await hostile
    assert reply.status == 400
    assert "takes too long or too much memory on this log" in reply.json()["detail"]
    assert reply.json()["hint"] == "avoid a repetition within a repetition, such as (a+)+"
    assert here.service.searches._running == 0


async def test_there_is_a_limit_to_searches_at_once_and_leaving_frees_them(here: Here) -> None:
    await here.put("a", plan=Plan(output=b"yes\n", hangs=True))
    build = await here.run("a")
    attempt = await here.running(build["id"])
    target = f"/v1/builds/{build['id']}/log?follow&grep=yes"
    async with asyncio.timeout(20):
        responses = [
            await here.stream("GET", target).__aenter__() for _ in range(search.MAX_AT_ONCE)
        ]
        assert [await it.content.readline() for it in responses] == [b"yes\n"] * len(responses)
    refused = await here.ask("GET", target)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["detail"] == "8 searches run already on this agent, which is the limit"
    for response in responses:
        response.close()
    await here.until(lambda: here.service.searches._running == 0)
    attempt.finish()


# -- follow -------------------------------------------------------------------------------------


async def test_a_follower_sees_each_byte_as_it_is_written_and_the_end(here: Here) -> None:
    await here.put("a", plan=Plan(output=b"begin\n", hangs=True))
    build = await here.run("a")
    attempt = await here.running(build["id"])
    async with here.stream("GET", f"/v1/builds/{build['id']}/log?follow") as response:
        assert await response.content.readexactly(6) == b"begin\n"
        for n in range(50):
            piece = b"%d\0\xff" % n
            attempt.print(piece)
            assert await response.content.readexactly(len(piece)) == piece
        attempt.finish()
        assert await response.content.read() == b""
    assert not here.service.world._watchers


async def test_a_follow_that_has_nothing_to_say_yet_answers_all_the_same(here: Here) -> None:
    await here.put("a", plan=HANGS)
    build = await here.run("a")
    attempt = await here.running(build["id"])
    async with here.stream("GET", f"/v1/builds/{build['id']}/log?follow") as response:
        assert response.status == 200
        attempt.print(b"x")
        attempt.finish()
        assert await response.read() == b"x"


async def test_a_follow_begins_before_the_attempt_does(here: Here) -> None:
    await here.put("first", plan=HANGS)
    blockers = [await here.run("first") for _ in range(4)]
    attempts = [await here.running(build["id"]) for build in blockers]
    await here.put("a", plan=Plan(output=ODD))
    build = await here.run("a")
    async with here.stream("GET", f"/v1/builds/{build['id']}/log?follow") as response:
        for attempt in attempts:
            attempt.finish()
        assert await response.read() == ODD


async def test_a_follow_of_a_build_that_never_starts_ends_with_it(here: Here) -> None:
    await here.put("first", plan=HANGS)
    blockers = [await here.run("first") for _ in range(4)]
    await here.put("a")
    build = await here.run("a")
    async with here.stream("GET", f"/v1/builds/{build['id']}/log?follow") as response:
        await here.ask("POST", f"/v1/builds/{build['id']}/cancel")
        assert await response.read() == b""
    for blocker in blockers:
        (await here.running(blocker["id"])).finish()


async def test_a_follow_is_of_one_attempt_and_the_next_can_be_awaited(here: Here) -> None:
    header = (
        '#!/bin/sh\n# /// script\n# [tool.rota]\n# retry = { times = 1, on = ["script"] }\n# ///\n'
    )
    await here.put("a", header, Plan(output=b"first\n", code=1, hangs=True))
    build = await here.run("a")
    attempt = await here.running(build["id"])
    target = f"/v1/builds/{build['id']}/log?follow"
    async with here.stream("GET", target) as one, here.stream("GET", target) as two:
        assert await two.content.readline() == b"first\n"
        here.plans["a"] = Plan(output=b"second\n")
        attempt.finish()
        assert await one.read() == b"first\n"
    assert (await here.finished(build["id"]))["attempt"] == 2
    assert await read(here, build["id"], "attempt=1&follow") == b"first\n"
    assert await read(here, build["id"], "follow") == b"second\n"


async def test_events_of_a_log_say_where_to_go_on(here: Here) -> None:
    build = await logged(here, ODD)
    target = f"/v1/builds/{build}/log"
    whole = await here.ask("GET", target, Accept="text/event-stream")
    found = parsed(whole.text)
    text = "".join(data["text"] for _, kind, data in found if kind == "log")
    assert text == ODD.decode("utf-8", "replace")
    assert found[-1][1:] == ("end", {})
    assert found[-2][0] == str(len(ODD))
    for cut in (0, 3, 12, 20, len(ODD)):
        again = await here.ask(
            "GET", target + "?tail=1", Accept="text/event-stream", Last_Event_ID=str(cut)
        )
        rest = "".join(data["text"] for _, kind, data in parsed(again.text) if kind == "log")
        assert rest == ODD[cut:].decode("utf-8", "replace")


async def test_a_character_that_is_written_in_two_halves_comes_whole(here: Here) -> None:
    await here.put("a", plan=Plan(output=b"\xe2\x82", hangs=True))
    build = await here.run("a")
    attempt = await here.running(build["id"])
    async with here.stream("GET", f"/v1/builds/{build['id']}/log?follow", headers=SSE) as response:
        assert await response.content.readuntil(b"\n\n") == b": rota\n\n"
        live = here.service.world.live_logs[build["id"], 1]
        await here.until(lambda: live.end == 2)
        attempt.print(b"\xac!")
        attempt.finish()
        found = await events(response)
    assert found == [("4", "log", {"text": "€!"}), ("", "end", {})]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30, "%20"])
async def test_a_last_event_id_that_no_stream_gave_is_refused(here: Here, last: str) -> None:
    build = await logged(here, ODD)
    for target in (f"/v1/builds/{build}/log", "/v1/events"):
        reply = await here.ask("GET", target, Accept="text/event-stream", Last_Event_ID=last)
        assert reply.status == 400
        assert reply.json()["detail"] == f"bad Last-Event-ID {last!r}"
        assert reply.json()["hint"] == "a number, as the stream gave it"


async def test_events_of_a_search_have_no_place_to_go_on_from(here: Here) -> None:
    build = await logged(here, b"a\nb\na\n")
    reply = await here.ask("GET", f"/v1/builds/{build}/log?grep=a", Accept="text/event-stream")
    assert parsed(reply.text) == [("", "log", {"text": "a\na\n"}), ("", "end", {})]
    bad = await here.ask("GET", f"/v1/builds/{build}/log?grep=(", Accept="text/event-stream")
    assert parsed(bad.text)[0][1] == "error"
    assert parsed(bad.text)[0][2]["status"] == 400


# -- masks --------------------------------------------------------------------------------------

SECRET = b"s3cr3t-va1ue"


async def test_a_masked_value_is_in_no_answer_however_it_is_cut(here: Here) -> None:
    line = b"before " + SECRET + b" " + SECRET + SECRET + b" after " + SECRET + b"\n"
    output = b"::add-mask::" + SECRET + b"\n" + line * 2 + SECRET
    await here.put("a", plan=Plan(output=output, hangs=True))
    build = await here.run("a")
    attempt = await here.running(build["id"])
    live = here.service.world.live_logs[build["id"], 1]
    await here.until(lambda: live.end == len(output))
    await _read_in_every_way(here, build["id"], output)
    attempt.finish()
    await here.finished(build["id"])
    await _read_in_every_way(here, build["id"], output)


async def _read_in_every_way(here: Here, build: str, output: bytes) -> None:
    hidden = output.replace(SECRET, b"*" * len(SECRET))
    assert await read(here, build) == hidden
    for offset in range(24, len(output), 3):
        assert await read(here, build, f"offset={offset}&limit=5") == hidden[offset : offset + 5]
    for query in ("tail=1", "tail=2", "line=2", "grep=.", "grep=s3c", "grep=before"):
        assert SECRET[:6] not in await read(here, build, query), query
    reply = await here.ask("GET", f"/v1/builds/{build}/log", Accept="text/event-stream")
    if (await here.ask("GET", f"/v1/builds/{build}")).json()["state"] == "finished":
        assert SECRET[:6] not in reply.body


async def test_a_masked_value_written_byte_by_byte_is_never_shown_in_part(here: Here) -> None:
    await here.put("a", plan=Plan(output=b"::add-mask::" + SECRET + b"\n", hangs=True))
    build = await here.run("a")
    attempt = await here.running(build["id"])
    live = here.service.world.live_logs[build["id"], 1]
    async with here.stream("GET", f"/v1/builds/{build['id']}/log?follow") as response:
        for n in range(len(SECRET)):
            attempt.print(SECRET[n : n + 1])
            await here.until(partial(_has_read, live, len(SECRET) + 13 + n + 1))
            assert SECRET[:1] not in (await read(here, build["id"]))[-1:]
        attempt.print(b"!\n")
        attempt.finish()
        shown = await response.read()
    assert shown.endswith(b"\n" + b"*" * len(SECRET) + b"!\n")


def _has_read(live: LiveLog, size: int) -> bool:
    return live.scanner.end >= size


async def test_overlapping_masked_values_are_hidden_whole_at_every_cut(here: Here) -> None:
    output = b"::add-mask::abcde\n::add-mask::cdefg\n::add-mask::aXaXa\n abcdefg aXaXaXa\n"
    build = await logged(here, output)
    await _no_trace(here, build, output)


async def _no_trace(here: Here, build: str, output: bytes) -> None:
    start = output.rindex(b"\n", 0, -1) + 1
    shown = await read(here, build, f"offset={start}")
    assert shown == b" ******* *******\n"
    for offset in range(start, len(output)):
        got = await read(here, build, f"offset={offset}&limit=3")
        assert got == shown[offset - start : offset - start + 3]


# -- slow readers -------------------------------------------------------------------------------


async def test_a_follower_that_does_not_read_slows_only_itself_and_costs_little(
    here: Here,
) -> None:
    await here.put("a", plan=HANGS)
    build = await here.run("a")
    attempt = await here.running(build["id"])
    target = f"/v1/builds/{build['id']}/log?follow"
    lazy = []
    for _ in range(20):
        reader, writer = await asyncio.open_unix_connection(here.socket, limit=1)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        lazy.append((reader, writer))
    before = resident()
    async with here.stream("GET", target) as response:
        count = 0
        for _ in range(100):
            attempt.print(b"z" * (1 << 20))
            count += len(await response.content.readexactly(1 << 20))
        assert count == 100 << 20
        attempt.finish()
        assert await response.read() == b""
    # The log itself is kept in memory by the twin of the engine, once.
    assert resident() - before < (100 << 20) + (200 << 20)
    for _, writer in lazy:
        writer.transport.abort()


def resident() -> int:
    """Return this process's memory in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
