"""The cluster at one look, and a job's trend, over REST."""

import asyncio
import time
from typing import Any

from tests.harness.agent import Here

from rota.adapters.scripted import Plan


async def overview(here: Here, query: str = "") -> Any:
    reply = await here.ask("GET", f"/v1/overview{query}")
    assert reply.status == 200, reply.text
    return reply.json()


async def failed(here: Here, job: str) -> Any:
    return await here.finished((await here.run(job))["id"])


async def test_an_overview_has_numbers_and_the_first_rows_of_everything(here: Here) -> None:
    await here.put("web/bad", plan=Plan(code=3))
    bad = await failed(here, "web/bad")
    await here.put("web/slow", plan=Plan(hangs=True))
    running = [await here.run("web/slow") for _ in range(here.me.slots)]
    for build in running:
        await here.running(build["id"])
    waiting = await here.run("web/slow")
    seen = await overview(here)
    assert (seen["members"], seen["up"], seen["leader"]) == (1, 1, "here")
    assert (seen["used"], seen["slots"]) == (here.me.slots, here.me.slots)
    assert (seen["running"], seen["queued"], seen["held"]) == (len(running), 1, 0)
    assert [it["id"] for it in seen["runs"]] == [it["id"] for it in running]
    assert seen["runs"][0]["typical_s"] is None
    assert [(it["id"], it["text"]) for it in seen["waiting"]] == [(waiting["id"], "slot")]
    assert seen["oldest_at"] == waiting["requested_at"]
    assert [(it["id"], it["result"]) for it in seen["failures"]] == [(bad["id"], "failed")]
    assert sum(seen["finished"]) == 1


async def test_a_running_build_is_told_with_how_long_its_passes_took(here: Here) -> None:
    await here.put("a")
    done = await failed(here, "a")
    await here.put("a", plan=Plan(hangs=True))
    await here.running((await here.run("a"))["id"])
    seen = await overview(here)
    assert done["result"] == "passed"
    assert seen["runs"][0]["typical_s"] >= 0


async def test_a_glob_narrows_builds_and_rows_bound_what_is_told(here: Here) -> None:
    for job in ("web/a", "web/b", "ops/c"):
        await here.put(job, plan=Plan(code=1))
        await failed(here, job)
    assert [it["build"] for it in (await overview(here))["failures"]] == [
        "ops/c#1",
        "web/b#1",
        "web/a#1",
    ]
    seen = await overview(here, "?match=web/*&rows=1")
    assert [it["build"] for it in seen["failures"]] == ["web/b#1"]
    none = await overview(here, "?rows=0")
    assert (none["agents"], none["failures"], none["members"]) == ([], [], 1)


async def test_running_builds_are_sorted_as_asked(here: Here) -> None:
    for job in ("b", "a"):
        await here.put(job, plan=Plan(hangs=True))
        await here.running((await here.run(job))["id"])
    for sort, order in {"longest": "ba", "newest": "ab", "job": "ab"}.items():
        seen = await overview(here, f"?sort={sort}")
        assert "".join(it["build"][0] for it in seen["runs"]) == order
    wrong = await here.ask("GET", "/v1/overview?sort=size")
    assert wrong.status == 400


async def test_one_who_waits_is_answered_as_soon_as_something_happens(here: Here) -> None:
    await here.put("a", plan=Plan(hangs=True))
    seq = await here.seq()
    began = time.monotonic()
    asked = asyncio.ensure_future(overview(here, f"?after={seq}&wait=60"))
    await here.run("a")
    assert (await asked)["seq"] > seq
    assert time.monotonic() - began < 30


async def test_one_who_waits_in_vain_is_answered_all_the_same(here: Here) -> None:
    world = here.service.world
    seen = await overview(here, f"?after={world.seq}&wait=0.05")
    assert seen["seq"] == world.seq


async def test_a_trend_tells_since_when_a_job_fails(here: Here) -> None:
    await here.put("a")
    await failed(here, "a")
    await here.put("a", plan=Plan(code=1))
    for _ in range(3):
        await failed(here, "a")
    trend = (await here.ask("GET", "/v1/jobs/a/trend")).json()
    assert [it["result"] for it in trend["marks"]] == ["passed", "failed", "failed", "failed"]
    assert [it["number"] for it in trend["marks"]] == [1, 2, 3, 4]
    assert (trend["passed"], trend["finished"], trend["broken"]) == (1, 4, 3)
    assert (trend["broken_since"], trend["last_passed"]) == ("a#2", "a#1")
    # Farther back than was asked for.
    short = (await here.ask("GET", "/v1/jobs/a/trend?limit=1")).json()
    assert (short["broken"], short["broken_since"], short["last_passed"]) == (3, "a#2", "a#1")


async def test_a_job_that_passes_or_has_no_builds_is_not_broken(here: Here) -> None:
    await here.put("a")
    none = (await here.ask("GET", "/v1/jobs/a/trend")).json()
    assert (none["marks"], none["broken_since"], none["typical_s"]) == ([], None, None)
    await failed(here, "a")
    trend = (await here.ask("GET", "/v1/jobs/a/trend")).json()
    assert (trend["broken"], trend["broken_since"], trend["passed"]) == (0, None, 1)
    assert trend["typical_s"] is not None


async def test_the_trend_of_no_job_names_the_nearest(here: Here) -> None:
    await here.put("web/test")
    reply = await here.ask("GET", "/v1/jobs/web/tset/trend")
    assert reply.status == 404
    assert "web/test" in reply.text


async def test_jobs_tell_how_their_last_builds_ended_if_that_is_asked(here: Here) -> None:
    await here.put("a")
    await failed(here, "a")
    await here.put("a", plan=Plan(code=1))
    await failed(here, "a")
    assert (await here.ask("GET", "/v1/jobs")).json()[0]["recent"] == []
    shown = (await here.ask("GET", "/v1/jobs?recent=5")).json()[0]
    assert shown["recent"] == ["passed", "failed"]


HELD = "#!/bin/sh\n# /// script\n# [tool.rota]\n# approve = {}\n# ///\n"
AGAIN = '#!/bin/sh\n# /// script\n# [tool.rota]\n# retry = { times = 1, on = ["script"], delay = "1h" }\n# ///\n'


async def test_numbers_by_indexes_are_those_that_a_look_at_all_builds_gives(here: Here) -> None:
    await here.put("held", HELD)
    await here.put("again", AGAIN, plan=Plan(code=1))
    await here.put("bad", plan=Plan(code=1))
    await here.put("slow", plan=Plan(hangs=True))
    await failed(here, "bad")
    await here.run("held")
    late = await here.run("again")
    await here.until(lambda: here.service.world.cluster.picture.builds[late["id"]].former)
    for _ in range(here.me.slots + 2):
        await here.run("slow")
    await here.until(
        lambda: len(here.service.world.cluster.running.get("here", ())) == here.me.slots
    )
    gone = await here.run("slow")
    await here.ask("POST", f"/v1/builds/{gone['id']}/cancel", body={})
    # A glob other than `*` is looked for in each build.
    by_index, by_look = await overview(here), await overview(here, "?match=**")
    assert (by_index["held"], by_index["queued"], by_index["running"]) == (1, 3, here.me.slots)
    del by_index["at"], by_look["at"]
    assert by_index == by_look
