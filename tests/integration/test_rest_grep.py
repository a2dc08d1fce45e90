"""Searching the logs of many builds over REST."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from tests.harness.agent import Here

from rota.adapters.scripted import Plan
from rota.http import sse
from rota.ports.logs import LogKey
from rota.service import grep as grep_module
from rota.service.grep_worker import MAX_LINE
from rota.service.search import Searches


async def grep(here: Here, pattern: str, query: str = "") -> list[dict[str, Any]]:
    reply = await here.ask("GET", f"/v1/logs?pattern={quote(pattern)}&{query}")
    assert reply.status == 200, reply.text
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in reply.body.splitlines()]


async def built(here: Here, job: str, output: bytes, times: int = 1) -> list[dict[str, Any]]:
    await here.put(job, plan=Plan(output=output))
    builds = []
    for _ in range(times):
        build = await here.run(job)
        builds.append(await here.finished(build["id"]))
    return builds


def places(found: list[dict[str, Any]]) -> list[tuple[str, int, int, str]]:
    return [(it["build"], it["line"], it["offset"], it["text"]) for it in found[:-1]]


async def test_matches_come_newest_build_first_with_their_places(here: Here) -> None:
    await built(here, "web/a", b"one\ntwo error\nthree", 2)
    await built(here, "b", b"an error at the end")
    found = await grep(here, "error")
    assert places(found) == [
        ("b#1", 1, 0, "an error at the end"),
        ("web/a#2", 2, 4, "two error"),
        ("web/a#1", 2, 4, "two error"),
    ]
    assert found[0]["attempt"] == 1
    assert found[0]["is_last"] is True
    assert found[-1] == {
        "done": True,
        "builds": 3,
        "bytes": 2 * 19 + 19,
        "matches": 3,
        "removed": 0,
        "more": False,
    }


async def test_builds_are_chosen_by_job_result_number_and_time(here: Here) -> None:
    await built(here, "web/a", b"error", 3)
    await built(here, "web/b", b"error")
    await here.put("c", plan=Plan(output=b"error", code=1))
    failed = await here.run("c")
    await here.finished(failed["id"])

    async def builds(query: str) -> list[str]:
        return [it["build"] for it in (await grep(here, "error", query))[:-1]]

    assert await builds("job=web/a") == ["web/a#3", "web/a#2", "web/a#1"]
    assert await builds("job=web/*&builds=2") == ["web/b#1", "web/a#3"]
    assert await builds("result=failed") == ["c#1"]
    assert await builds("after=1h&job=c") == ["c#1"]
    assert await builds("before=1h") == []
    assert await builds("after=2100-01-01T00:00:00Z") == []
    asked = here.service.world.find(failed["id"])
    assert asked is not None
    just_before = (asked.requested_at - timedelta(microseconds=1)).isoformat()
    assert await builds(f"after={quote(just_before)}") == ["c#1"]


async def test_many_jobs_are_looked_at_all_at_once(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grep_module, "MAX_JOBS", 1)
    for job in ("web/a", "web/b", "c"):
        await built(here, job, b"error")
    found = await grep(here, "error", "job=web/*")
    assert [it["build"] for it in found[:-1]] == ["web/b#1", "web/a#1"]


async def test_a_build_that_runs_is_searched_as_far_as_it_is(here: Here) -> None:
    await built(here, "old", b"error 1\n")
    await here.put("new", plan=Plan(output=b"error 2\n", hangs=True))
    build = await here.run("new")
    await here.running(build["id"])
    live = here.service.world.live_logs[build["id"], 1]
    await here.until(lambda: live.end == 8)
    assert [it["text"] for it in (await grep(here, "error"))[:-1]] == ["error 2", "error 1"]


async def test_former_attempts_are_searched_too(here: Here) -> None:
    (build,) = await built(here, "a", b"error\n")
    reply = await here.ask("POST", f"/v1/builds/{build['id']}/retry", body={})
    assert reply.status == 200, reply.text
    await here.finished(build["id"])
    found = await grep(here, "error")
    assert [(it["attempt"], it["is_last"]) for it in found[:-1]] == [(2, True), (1, False)]
    assert found[-1]["builds"] == 1


async def test_it_ends_at_so_many_matches(here: Here) -> None:
    await built(here, "a", b"x\n" * 50, 3)
    found = await grep(here, "x", "max=70")
    assert len(found) == 71
    assert found[-1]["more"] is True
    assert found[-1]["builds"] == 2


async def test_a_long_line_is_cut_and_the_next_one_has_its_place(here: Here) -> None:
    await built(here, "a", b"y" * (3 * MAX_LINE) + b"z\nz\n")
    assert places(await grep(here, "z")) == [("a#1", 2, 3 * MAX_LINE + 2, "z")]
    found = await grep(here, "^y")
    assert len(found[0]["text"]) == MAX_LINE


async def test_what_is_no_text_is_shown_with_signs_for_it(here: Here) -> None:
    await built(here, "a", b"a\xff\n")
    assert (await grep(here, "a"))[0]["text"] == "a\ufffd"


async def test_a_log_that_is_no_longer_kept_is_counted(here: Here) -> None:
    builds = await built(here, "a", b"error\n", 2)
    await here.until(lambda: not here.service.world.live_logs)
    await here.logs.drop(LogKey(builds[0]["id"], 1))
    found = await grep(here, "error")
    assert [it["build"] for it in found[:-1]] == ["a#2"]
    assert found[-1]["removed"] == 1


@pytest.mark.parametrize(
    ("query", "status", "detail", "hint"),
    [
        ("", 400, "missing argument `pattern`", "the regular expression"),
        ("pattern=(", 400, "bad regular expression '(': ", "Python's syntax"),
        ("pattern=x&result=bad", 400, "no result 'bad'", ""),
        ("pattern=x&after=soon", 400, "bad after 'soon'", "a time such as 2026-11-24T12:00:00Z"),
        ("pattern=x&job=none*", 404, "no job that was ever built matches 'none*'", "rota jobs"),
        ("pattern=x&max=0", 400, "bad argument max: expected `int` >= 1", "max: stop after"),
    ],
)
async def test_what_is_wrong_is_said(
    here: Here, query: str, status: int, detail: str, hint: str
) -> None:
    reply = await here.ask("GET", f"/v1/logs?{query}")
    assert reply.status == status, reply.text
    assert detail in reply.json()["detail"]
    assert hint in (reply.json().get("hint") or "")


async def test_a_pattern_that_takes_for_ever_is_ended(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit is one of CPU time; on a busy machine the answer's head would be out before it.
    monkeypatch.setattr(sse, "HEAD_S", 60.0)
    here.service.searches = Searches(limit_s=0.3)
    await built(here, "a", b"a" * 60 + b"!\n")
    reply = await here.ask("GET", f"/v1/logs?pattern={quote('(a+)+$')}")
    assert reply.status == 400
    assert "takes too long or too much memory" in reply.json()["detail"]
    assert here.service.searches._running == 0


async def test_a_caller_that_goes_away_ends_its_search(here: Here) -> None:
    await built(here, "a", b"error %d\n" % 7 * 100_000)
    async with here.stream("GET", "/v1/logs?pattern=error&max=1000000") as response:
        await response.content.readany()
        assert here.service.searches._running == 1
    await here.until(lambda: here.service.searches._running == 0)
