"""Pipelines over REST: what is asked for at once, trees, cancels, retries, and what is refused."""

from __future__ import annotations

import asyncio

from tests.harness.agent import Here, agent_here
from tests.harness.joined import script

from rota.adapters.scripted import Plan
from rota.core.events import HistorySealed

HANGS = Plan(hangs=True)
FAILS = Plan(code=1)


async def add(here: Here, name: str, header: str = "", plan: Plan | None = None) -> None:
    await here.put(name, script(header), plan or Plan())


async def test_what_is_needed_is_asked_for_by_the_same_event(here: Here) -> None:
    await add(here, "a")
    await add(here, "b", 'needs = ["a"]')
    before = await here.seq()
    build = await here.run("b")
    events = (await here.ask("GET", f"/v1/events?after={before}&kind=*.requested")).json()
    assert [event["kind"] for event in events] == ["pipeline.requested"]
    done = await here.finished(build["id"])
    assert (done["result"], done["needs"][0]["result"], done["needs"][0]["number"]) == (
        "passed", "passed", 1,
    )  # fmt: skip
    tree = (await here.ask("GET", f"/v1/builds/{build['id']}/tree")).json()
    assert [(it["job"], it["depth"], it["kind"]) for it in tree["builds"]] == [
        ("b", 0, "root"), ("a", 1, "need"),
    ]  # fmt: skip
    assert tree["finished"] == 2


async def test_a_key_holds_for_the_whole_pipeline(here: Here) -> None:
    await add(here, "a")
    await add(here, "b", 'needs = ["a"]')
    asked = [here.run("b", key="k") for _ in range(8)]
    assert len({build["id"] for build in await asyncio.gather(*asked)}) == 1
    assert len((await here.ask("GET", "/v1/builds")).json()) == 2


async def test_children_of_many_scripts_share_what_they_need(here: Here) -> None:
    await add(here, "a")
    await add(here, "b", 'needs = ["a"]')
    await add(here, "root", plan=HANGS)
    root = await here.run("root")
    await here.running(root["id"])
    path = "/v1/jobs/b/builds"
    asked = [here.ask("POST", path, body={}, Rota_Build=root["id"]) for _ in range(30)]
    for reply in await asyncio.gather(*asked):
        assert reply.status == 201, reply.text
        assert (await here.finished(reply.json()["id"]))["result"] == "passed"
    listed = (await here.ask("GET", "/v1/builds?limit=100")).json()
    assert sorted(build["job"] for build in listed) == ["a", *["b"] * 30, "root"]


async def test_a_job_that_runs_itself_is_refused_at_a_depth_of_32(here: Here) -> None:
    await add(here, "self", plan=HANGS)
    build, reply = "", None
    for _ in range(33):
        headers = {"Rota_Build": build} if build else {}
        reply = await here.ask("POST", "/v1/jobs/self/builds", body={}, **headers)
        if reply.status != 201:
            break
        build = reply.json()["id"]
    assert reply is not None
    assert reply.status == 400
    assert reply.json()["detail"] == "self#32 is 32 builds deep: self ← self ← self ← self ← …"
    assert reply.json()["hint"] == "does a job run itself?"


async def test_a_script_that_waits_lends_its_slot_and_takes_it_back() -> None:
    async with agent_here(slots=1) as here:
        await add(here, "child")
        await add(here, "root", plan=HANGS)
        root = await here.run("root")
        await here.running(root["id"])
        asked = await here.ask("POST", "/v1/jobs/child/builds", body={}, Rota_Build=root["id"])
        child = asked.json()["id"]
        assert asked.json()["state"] == "queued"
        reply = await here.ask("GET", f"/v1/builds/{child}?wait=30", Rota_Build=root["id"])
        assert reply.json()["result"] == "passed"
        assert not here.service.world.cluster.picture.builds[root["id"]].is_waiting
        kinds = (await here.ask("GET", "/v1/events?after=0&kind=build.waiting")).json()
        assert [event.get("over", False) for event in kinds] == [False, True]


async def test_a_cancel_takes_the_tree_and_is_told_of_what_is_over(here: Here) -> None:
    await add(here, "a", plan=HANGS)
    await add(here, "b", 'needs = ["a"]')
    build = await here.run("b")
    why = (await here.ask("GET", f"/v1/builds/{build['id']}/why")).json()
    assert why["text"].startswith("waits for a#1 (")
    assert why["awaited"][0]["build"] == "a#1"
    reply = await here.ask("POST", f"/v1/builds/{build['id']}/cancel", body={})
    assert reply.json()["result"] == "cancelled"
    assert (await here.finished("a%231"))["result"] == "cancelled"
    again = await here.ask("POST", f"/v1/builds/{build['id']}/cancel", body={})
    assert (again.status, again.json()["detail"]) == (409, "b#1 is over: cancelled")


async def test_a_retry_after_all_has_left_the_memory(here: Here) -> None:
    await add(here, "a", plan=FAILS)
    await add(here, "b", 'needs = ["a"]')
    build = await here.run("b")
    assert (await here.finished(build["id"]))["message"] == "it needs a#1, failed"
    await here.until(lambda: not here.service.world.cluster.picture.builds)
    here.plans["a"] = Plan()
    reply = await here.ask("POST", f"/v1/builds/{build['id']}/retry", body={})
    assert reply.status == 200, reply.text
    done = await here.finished(build["id"])
    assert (done["result"], done["attempt"]) == ("passed", 1)
    assert (await here.finished("a%231"))["attempt"] == 2


async def test_a_request_that_a_seal_overtook_is_made_again(here: Here) -> None:
    await add(here, "a")
    await add(here, "b", 'needs = ["a"]')
    await add(here, "root", plan=HANGS)
    root = await here.run("root")
    await here.running(root["id"])
    world, write = here.service.world, here.service.write
    count = 0

    async def slow(event: object, **how: object) -> int:
        nonlocal count
        count += 1
        if count == 1:
            seal = HistorySealed(at=here.service.clock.now(), through=world.seq)
            await here.journal.append(seal)
        return await write(event, **how)  # type: ignore[arg-type]

    here.service.write = slow  # type: ignore[method-assign]
    reply = await here.ask("POST", "/v1/jobs/b/builds", body={}, Rota_Build=root["id"])
    assert reply.status == 201, reply.text
    assert count == 2
    assert (await here.finished(reply.json()["id"]))["result"] == "passed"


async def test_a_matrix_that_does_not_fit_into_one_event_is_refused_in_words(here: Here) -> None:
    cells = list(range(256))
    big = "x" * 7000
    header = f'matrix = {{ n = {cells} }}\nlabels = "n={{n}}"\nenv = {{ BIG = "{big}" }}'
    await add(here, "m", header)
    reply = await here.ask("POST", "/v1/jobs/m/builds", body={})
    assert reply.status == 400
    assert "bytes, the limit is 900000" in reply.json()["detail"]


async def test_artifacts_that_are_not_there_or_not_alike_are_named(here: Here) -> None:
    await add(here, "m", "stdin = true\nmatrix = { n = [1, 2] }", HANGS)
    await add(here, "use", 'needs = [{ job = "m", artifacts = ["out/*"] }]')
    await add(here, "other", 'needs = [{ job = "m", artifacts = ["**/*.zip"] }]')
    for job, fault in (
        ("use", "m#1 and m#2 both left 'out/file', and not the same"),
        ("other", "m#6 left nothing that matches '**/*.zip'"),
    ):
        build = await here.run(job)
        cells = (await here.ask("GET", "/v1/builds?job=m&state=live")).json()
        for cell in (it for it in cells if it["cell"]):
            attempt = await here.running(cell["id"])
            path = f"/v1/builds/{cell['id']}/artifacts/out/file"
            reply = await here.ask("PUT", path, body=cell["id"].encode())
            assert reply.status == 201, reply.text
            await attempt.send(b"", eof=True)
        done = await here.finished(build["id"])
        assert (done["reason"], done["message"]) == ("agent-error", fault)
