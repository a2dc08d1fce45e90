"""Builds over REST: triggers, keys, lists, and what may be done in which state."""

import asyncio
import re
from datetime import UTC, datetime

import pytest
from tests.harness.agent import Here, agent_here

from rota.adapters.scripted import Plan
from rota.core.build import Build
from rota.core.events import HistorySealed
from rota.core.job import Reason
from rota.core.states import Result, State

DECLARED = """#!/bin/sh
# /// script
# [tool.rota]
# priority = 5
# [tool.rota.params]
# suite = { default = "fast", choices = ["fast", "full"] }
# count = { type = "int", default = 1 }
# dry = { type = "bool", default = false }
# ratio = { type = "float", default = 0.5 }
# who = {}
# ///
"""
HANGS = Plan(hangs=True)
NEXT = re.compile(r'<(/v1/builds\?[^>]*)>; rel="next"')


async def sealed(here: Here, build: str) -> None:
    """Wait until a finished build has left memory for the index."""
    await here.until(lambda: build not in here.service.world.cluster.picture.builds)


async def test_parameters_of_each_type_arrive_as_declared(here: Here) -> None:
    await here.put("a", DECLARED)
    build = await here.run(
        "a", params={"suite": "full", "count": 7, "dry": True, "ratio": 2, "who": "ä €"}
    )
    assert build["params"] == {
        "suite": "full",
        "count": 7,
        "dry": True,
        "ratio": 2.0,
        "who": "ä €",
    }
    as_text = {"count": "7", "dry": "yes", "ratio": "2", "who": "1"}
    assert (await here.run("a", params=as_text))["params"] == {
        "suite": "fast",
        "count": 7,
        "dry": True,
        "ratio": 2.0,
        "who": "1",
    }


async def test_all_that_is_wrong_with_parameters_is_said_at_once_and_nothing_is_written(
    here: Here,
) -> None:
    await here.put("a", DECLARED)
    before = await here.seq()
    params = {"suite": "ful", "count": "many", "dry": 7, "ratio": "NaN", "cuont": 1}
    reply = await here.ask("POST", "/v1/jobs/a/builds", body={"params": params})
    assert (reply.status, reply.json()["detail"]) == (400, "a cannot take these parameters")
    assert reply.json()["hint"] == "see what it takes: rota show a"
    assert len(reply.json()["problems"]) == 6
    for said in (
        "'full'?",
        "count must be an integer",
        "dry must",
        "ratio must",
        "cuont",
        "who is",
    ):
        assert said in "\n".join(reply.json()["problems"])
    assert await here.seq() == before


@pytest.mark.parametrize(
    ("body", "says", "hint"),
    [
        (b"[]", "the body is not a JSON object", "such as"),
        (b'{"params": 3}', "bad argument params: expected `object`, got `int`", "params: the job"),
        (b'{"params": {"x": null}}', "bad argument params[...]", "params: the job"),
        (b'{"params": {"x": [1]}}', "bad argument params[...]", "params: the job"),
        (b'{"parms": {}}', "unknown argument 'parms'", "did you mean 'params'?"),
        (b'{"priority": 101}', "bad argument priority: expected `int` <= 100", "priority: -100"),
        (b'{"priority": "5"}', "bad argument priority: expected `int", "priority: -100"),
        (b'{"key": "' + b"k" * 201 + b'"}', "bad argument key: expected `str` of length", "key:"),
        (b"{", "the body is not a JSON object", "such as"),
        (b"\xff", "the body is not a JSON object", "such as"),
        (b'{"params": {"x": "\\ud800"}}', "the body is not a JSON object", "such as"),
        (b"[" * 100_000, "the body is not a JSON object", "such as"),
    ],
)
async def test_a_wrong_body_is_refused_by_name(
    here: Here, body: bytes, says: str, hint: str
) -> None:
    await here.put("a")
    before = await here.seq()
    reply = await here.ask("POST", "/v1/jobs/a/builds", body=body)
    assert reply.status == 400
    assert reply.json()["detail"].startswith(says)
    assert reply.json()["hint"].startswith(hint)
    assert await here.seq() == before


async def test_priority_is_the_jobs_own_unless_given(here: Here) -> None:
    await here.put("a", DECLARED)
    assert (await here.run("a", params={"who": "x"}))["spec"]["priority"] == 5
    assert (await here.run("a", params={"who": "x"}, priority=-100))["spec"]["priority"] == -100


async def test_a_higher_priority_runs_first() -> None:
    async with agent_here(slots=0) as here:
        await here.put("a")
        ids = [(await here.run("a", priority=n))["id"] for n in (0, -1, 7)]
        places = [(await here.ask("GET", f"/v1/builds/{it}/why")).json()["place"] for it in ids]
        assert places == [2, 3, 1]


async def test_the_same_key_gives_the_same_build_in_header_or_body(here: Here) -> None:
    await here.put("a", plan=HANGS)
    first = await here.ask("POST", "/v1/jobs/a/builds", body={}, Idempotency_Key="k1")
    before = await here.seq()
    again = await here.ask("POST", "/v1/jobs/a/builds", body={"key": "k1"})
    assert (first.status, again.status) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["trigger"]["key"] == "k1"
    both = await here.ask("POST", "/v1/jobs/a/builds", body={"key": "k"}, Idempotency_Key="k")
    assert both.json()["detail"].startswith("the idempotency key is given twice")
    empty = await here.ask("POST", "/v1/jobs/a/builds", Idempotency_Key="")
    assert empty.json()["detail"] == "the header Idempotency-Key is empty"
    await here.running(first.json()["id"])
    assert (
        len((await here.ask("GET", f"/v1/events?kind=build.requested&after={before}")).json()) == 0
    )


async def test_a_key_stands_for_its_build_also_when_that_is_history_paused_or_gone(
    here: Here,
) -> None:
    await here.put("a")
    first = await here.run("a", key="k")
    await sealed(here, first["id"])
    await here.ask("POST", "/v1/jobs/a/pause")
    assert (await here.run("a", key="k"))["id"] == first["id"]
    await here.ask("DELETE", "/v1/jobs/a")
    assert (await here.run("a", key="k"))["id"] == first["id"]


async def test_twenty_triggers_with_one_key_at_once_are_one_build(here: Here) -> None:
    await here.put("a")
    replies = await asyncio.gather(
        *(here.ask("POST", "/v1/jobs/a/builds", body={"key": "k"}) for _ in range(20))
    )
    assert {reply.status for reply in replies} == {201}
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert len((await here.ask("GET", "/v1/builds?job=a")).json()) == 1


async def test_a_key_is_of_one_job_and_one_caller(here: Here) -> None:
    await here.put("a")
    await here.put("b")
    assert (await here.run("a", key="k"))["id"] != (await here.run("b", key="k"))["id"]


async def test_a_key_with_other_parameters_is_refused_and_names_its_build(here: Here) -> None:
    await here.put("a", DECLARED)
    first = await here.run("a", params={"who": "x"}, key="k")
    before = await here.seq()
    for body in (
        {"params": {"who": "y"}, "key": "k"},
        {"params": {"who": "x", "count": 2}, "key": "k"},
        {"params": {"who": "x"}, "key": "k", "priority": 1},
    ):
        reply = await here.ask("POST", "/v1/jobs/a/builds", body=body)
        assert reply.status == 409
        assert "'k' stands for a#1" in reply.json()["detail"]
        assert reply.json()["hint"].endswith("take a new one")
    same = {"params": {"who": "x", "count": "1"}, "key": "k"}
    assert (await here.ask("POST", "/v1/jobs/a/builds", body=same)).json()["id"] == first["id"]
    requested = await here.ask("GET", f"/v1/events?kind=build.requested&after={before}")
    assert requested.json() == []


async def test_a_build_is_named_by_number_by_its_job_and_by_prefix(here: Here) -> None:
    await here.put("web/test")
    first = await here.run("web/test")
    second = await here.run("web/test")
    for name, wanted in (
        ("web%2Ftest%231", first),
        ("web%2Ftest", second),
        (first["id"], first),
        (first["id"][:9], first),
    ):
        shown = await here.ask("GET", f"/v1/builds/{name}")
        assert shown.json()["id"] == wanted["id"], name


@pytest.mark.parametrize(
    ("name", "status", "says", "hint"),
    [
        ("a%23", 400, "bad build 'a#'", "write it as job#number, such as web/test#7"),
        ("a%23x", 400, "bad build 'a#x'", "write it as job#number, such as web/test#7"),
        ("a%23-1", 400, "bad build 'a#-1'", "write it as job#number, such as web/test#7"),
        ("a%23" + "9" * 400, 400, "bad build 'a#999", "write it as job#number, such as web/test#7"),
        ("a%232", 404, "no build a#2", "the latest of a is #1"),
        ("b", 404, "b has no build yet", "start one: rota run b"),
        ("zzzz", 404, "no build 'zzzz'", "see which there are: rota builds"),
        ("%00", 400, "bad build", "job#number, a job's name, or an id's prefix"),
        ("%ff", 400, "bad build", "job#number, a job's name, or an id's prefix"),
    ],
)
async def test_a_build_that_is_not_there_is_said_to_be_so(
    here: Here, name: str, status: int, says: str, hint: str
) -> None:
    await here.put("a")
    await here.put("b")
    await here.run("a")
    for tail in ("", "/log", "/why", "/artifacts", "/artifacts/x"):
        reply = await here.ask("GET", f"/v1/builds/{name}{tail}")
        assert reply.status == status, tail
        assert reply.json()["detail"].startswith(says)
        assert reply.json()["hint"] == hint


async def test_a_prefix_of_several_builds_names_them(here: Here) -> None:
    past(here, [("abcd000000000000", 1), ("abcd111111111111", 2)])
    reply = await here.ask("GET", "/v1/builds/abcd")
    assert reply.status == 400
    assert reply.json()["detail"] == "several builds have an id that starts with 'abcd'"
    assert reply.json()["hint"] == "more of it: abcd000000000000 or abcd111111111111"


def past(here: Here, builds: list[tuple[str, int]], job: str = "old") -> None:
    """Put finished builds into the index, as if they had run once."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    here.service.world._index.add(
        [
            Build(
                id=id_,
                job=job,
                number=seq,
                state=State.FINISHED,
                result=Result.PASSED if seq % 3 else Result.FAILED,
                reason=Reason.SCRIPT,
                requested_at=at,
                requested_seq=seq,
                last_seq=seq,
            )
            for id_, seq in builds
        ]
    )
    here.service.world.cluster.picture.numbers[job] = max(seq for _, seq in builds)


async def pages(here: Here, target: str) -> list[int]:
    """Return the numbers of all builds, page by page as the Link headers say."""
    numbers: list[int] = []
    while True:
        reply = await here.ask("GET", target)
        assert reply.status == 200, reply.text
        numbers += [build["requested_seq"] for build in reply.json()]
        link = reply.headers.get("Link")
        if link is None:
            return numbers
        match = NEXT.fullmatch(link)
        assert match, link
        target = match[1]


async def test_pages_of_thousands_of_builds_have_no_gap_and_no_repeat() -> None:
    async with agent_here(slots=0) as here:
        await here.put("a")
        # Old ones that still wait among newer ones that ran: both kinds on each page.
        waiting = [(await here.run("a"))["requested_seq"] for _ in range(5)]
        ran = [seq for seq in range(1, 4000) if seq not in waiting]
        past(here, [(f"{seq:016}", seq) for seq in ran])
        everything = sorted([*waiting, *ran], reverse=True)
        assert await pages(here, "/v1/builds?limit=700") == everything
        assert await pages(here, "/v1/builds?limit=1000&job=old") == sorted(ran, reverse=True)
        failed = [seq for seq in sorted(ran, reverse=True) if seq % 3 == 0]
        assert await pages(here, "/v1/builds?limit=333&result=failed") == failed
        assert await pages(here, "/v1/builds?limit=2&state=queued") == sorted(waiting)[::-1]
        # As many as fit are the last page.
        full = await here.ask("GET", "/v1/builds?limit=5&state=queued")
        assert "Link" not in full.headers


async def test_a_page_is_full_although_builds_of_it_live_again() -> None:
    async with agent_here(slots=0) as here:
        past(here, [(f"{seq:016}", seq) for seq in range(101, 140)])
        for seq in (139, 138, 137, 120):
            retried = await here.ask("POST", f"/v1/builds/{seq:016}/retry")
            assert (retried.status, retried.json()["state"]) == (200, "queued")
        done = [seq for seq in range(139, 100, -1) if seq not in (139, 138, 137, 120)]
        all_of_them = await pages(here, "/v1/builds?limit=4")
        assert len(all_of_them) == 39
        assert all_of_them == sorted(all_of_them, reverse=True)
        assert await pages(here, "/v1/builds?limit=4&state=finished") == done


@pytest.mark.parametrize(
    ("query", "says", "hint"),
    [
        ("limit=0", "bad argument limit: expected `int` >= 1", "limit: at most so many"),
        ("limit=1001", "bad argument limit: expected `int` <= 1000", "limit: at most so many"),
        ("limit=x", "bad argument limit: expected `int`, got `str`", "limit: at most so many"),
        ("limit=", "bad argument limit: expected `int`, got `str`", "limit: at most so many"),
        ("limit=1&limit=2", "argument 'limit' is given twice", "give it once"),
        ("before=-1", "bad argument before: expected `int` >= 0", "before: only builds"),
        ("before=" + "9" * 30, "bad argument before: expected `int`", "before: only builds"),
        ("state=runing", "no state 'runing'", "did you mean 'running'?"),
        ("result=fail", "no result 'fail'", "did you mean 'failed'?"),
        ("sate=x", "unknown argument 'sate'", "did you mean 'state'?"),
    ],
)
async def test_a_wrong_filter_is_refused_by_name(
    here: Here, query: str, says: str, hint: str
) -> None:
    reply = await here.ask("GET", f"/v1/builds?{query}")
    assert reply.status == 400
    assert reply.json()["detail"].startswith(says)
    assert reply.json()["hint"].startswith(hint)


async def test_filters_by_state(here: Here) -> None:
    await here.put("a")
    await here.put("b", plan=HANGS)
    done = await here.finished((await here.run("a"))["id"])
    runs = await here.run("b")
    await here.running(runs["id"])
    for state, ids in (
        ("running", [runs["id"]]),
        ("live", [runs["id"]]),
        ("finished", [done["id"]]),
        ("queued", []),
        ("", [runs["id"], done["id"]]),
    ):
        found = await here.ask("GET", f"/v1/builds?state={state}")
        assert [build["id"] for build in found.json()] == ids, state


async def test_wait_answers_when_it_has_finished_or_the_time_is_over(here: Here) -> None:
    await here.put("a", plan=HANGS)
    build = await here.run("a")
    attempt = await here.running(build["id"])
    early = await here.ask("GET", f"/v1/builds/{build['id']}?wait=0.01")
    assert early.json()["state"] == "running"
    waiting = asyncio.create_task(here.ask("GET", f"/v1/builds/{build['id']}?wait=30"))
    why = asyncio.create_task(here.ask("GET", f"/v1/builds/{build['id']}/why?wait=30"))
    await here.until(lambda: here.service.world._watchers.get(build["id"]))
    attempt.finish()
    assert (await waiting).json()["result"] == "passed"
    assert (await why).json()["text"] == "passed: the script exited with 0"
    for wait in ("-1", "301", "nan", "inf", "1e999"):
        assert (await here.ask("GET", f"/v1/builds/a?wait={wait}")).status == 400, wait


async def test_who_waits_and_goes_away_leaves_nothing_behind(here: Here) -> None:
    await here.put("a", plan=HANGS)
    build = await here.run("a")
    await here.running(build["id"])
    waiting = [
        asyncio.create_task(here.ask("GET", f"/v1/builds/{build['id']}?wait=30")) for _ in range(50)
    ]
    watchers = here.service.world._watchers
    await here.until(lambda: len(watchers.get(build["id"], ())) == 50)
    for task in waiting:
        task.cancel()
    await here.until(lambda: not watchers)


async def test_cancel_in_each_state() -> None:
    async with agent_here(slots=1) as here:
        await here.put("a", plan=HANGS)
        runs, waits = await here.run("a"), await here.run("a")
        await here.running(runs["id"])
        queued = await here.ask("POST", f"/v1/builds/{waits['id']}/cancel", body={"why": "not now"})
        assert (queued.json()["state"], queued.json()["result"]) == ("finished", "cancelled")
        told = (await here.ask("GET", f"/v1/builds/{waits['id']}/why")).json()["text"]
        assert told == "cancelled by root: not now"
        running = await here.ask("POST", f"/v1/builds/{runs['id']}/cancel")
        assert (running.status, running.json()["cancelled_by"]) == (200, "root")
        assert (await here.finished(runs["id"]))["result"] == "cancelled"
        for build in (runs, waits):
            over = await here.ask("POST", f"/v1/builds/{build['id']}/cancel")
            assert over.status == 409
            assert over.json()["detail"] == f"a#{build['number']} is over: cancelled"
            assert over.json()["hint"] == f"see how: rota why 'a#{build['number']}'"


async def test_cancelling_twice_while_it_ends_is_one_event(here: Here) -> None:
    await here.put("a", plan=Plan(hangs=True, ignores_term=True))
    build = await here.run("a")
    attempt = await here.running(build["id"])
    before = await here.seq()
    replies = await asyncio.gather(
        *(here.ask("POST", f"/v1/builds/{build['id']}/cancel") for _ in range(10))
    )
    assert {reply.status for reply in replies} == {200}
    cancels = (await here.ask("GET", f"/v1/events?kind=build.cancelled&after={before}")).json()
    assert len(cancels) == 1
    text = (await here.ask("GET", f"/v1/builds/{build['id']}/why")).json()["text"]
    assert text.endswith("root cancelled it, and it is being ended")
    attempt.lose()
    await here.finished(build["id"])


@pytest.mark.parametrize("code", [0, 3])
async def test_a_finished_build_is_tried_again_live_or_out_of_the_history(
    here: Here, code: int
) -> None:
    await here.put("a", plan=Plan(code=code))
    build = await here.run("a")
    await here.finished(build["id"])
    for attempt in (2, 3):
        again = await here.ask("POST", f"/v1/builds/{build['id']}/retry")
        assert again.status == 200, again.text
        done = await here.finished(build["id"])
        assert (done["attempt"], len(done["former"])) == (attempt, attempt - 1)
        await sealed(here, build["id"])


async def test_what_runs_or_waits_cannot_be_tried_again() -> None:
    async with agent_here(slots=1) as here:
        await here.put("a", plan=HANGS)
        runs, waits = await here.run("a"), await here.run("a")
        await here.running(runs["id"])
        for build, state in ((runs, "running"), (waits, "queued")):
            reply = await here.ask("POST", f"/v1/builds/{build['id']}/retry")
            assert reply.status == 409
            assert reply.json()["detail"] == (
                f"a#{build['number']} is {state}; only a finished build can be tried again"
            )
            assert reply.json()["hint"] == f"cancel it first: rota cancel 'a#{build['number']}'"


async def test_ten_retries_at_once_are_one_attempt(here: Here) -> None:
    await here.put("a")
    build = await here.run("a")
    await sealed(here, build["id"])
    here.plans["a"] = HANGS
    replies = await asyncio.gather(
        *(here.ask("POST", f"/v1/builds/{build['id']}/retry") for _ in range(10))
    )
    assert sorted(reply.status for reply in replies) == [200] + [409] * 9
    (await here.running(build["id"])).finish()
    assert (await here.finished(build["id"]))["attempt"] == 2


async def test_a_build_whose_events_are_trimmed_away_is_tried_again(here: Here) -> None:
    await here.put("a")
    build = await here.run("a")
    await sealed(here, build["id"])
    await here.journal.trim(before=await here.seq() + 1)
    assert (await here.ask("POST", f"/v1/builds/{build['id']}/retry")).status == 200
    assert (await here.finished(build["id"]))["attempt"] == 2


async def test_why_says_what_it_waits_for() -> None:
    async with agent_here(slots=1) as here:
        await here.put("a", plan=HANGS)
        header = '#!/bin/sh\n# /// script\n# [tool.rota]\n# labels = "arm"\n# ///\n'
        await here.put("b", header)
        runs, waits, unfit = await here.run("a"), await here.run("a"), await here.run("b")
        await here.running(runs["id"])
        texts = [
            (await here.ask("GET", f"/v1/builds/{build['id']}/why")).json()["text"]
            for build in (runs, waits, unfit)
        ]
        assert texts[0].startswith("runs on here since ")
        assert texts[1] == "waits for a free slot, place 1 in the queue: here runs 1 of 1"
        assert texts[2] == "no agent satisfies 'arm'"


async def test_input_reaches_the_script_that_listens(here: Here) -> None:
    header = "#!/bin/sh\n# /// script\n# [tool.rota]\n# stdin = true\n# ///\n"
    await here.put("a", header, HANGS)
    await here.put("deaf", plan=HANGS)
    build, deaf = await here.run("a"), await here.run("deaf")
    attempt = await here.running(build["id"])
    await here.running(deaf["id"])
    target = f"/v1/builds/{build['id']}/input"
    assert (await here.ask("POST", target, body={"text": "ä\n"})).json() == {"bytes": 3}
    large = await here.ask("POST", target, body={"text": "x" * 65537})
    assert large.json()["detail"] == "65537 bytes to send, the limit is 65536"
    no = await here.ask("POST", f"/v1/builds/{deaf['id']}/input", body={"text": "x"})
    assert (no.status, no.json()["detail"]) == (409, "deaf#1 has no standard input")
    await here.ask("POST", target, body={"eof": True})
    assert attempt.received == "ä\n".encode()
    await here.finished(build["id"])
    late = await here.ask("POST", target, body={"text": "x"})
    assert late.json()["detail"] == "a#1 is finished; only a running build listens"


async def test_history_is_sealed_within_the_tests_patience(here: Here) -> None:
    await here.put("a")
    build = await here.run("a")
    await sealed(here, build["id"])
    kinds = (await here.ask("GET", "/v1/events?kind=history.*")).json()
    assert kinds[-1]["kind"] == HistorySealed.__struct_config__.tag
