"""What events set off, on a whole agent."""

from typing import Any

from tests.harness.agent import Here

from rota.adapters.scripted import Plan


def script(*rules: str, params: str = "") -> str:
    head = "".join(f"# on = [ {', '.join(rules)} ]\n" for _ in (1,))
    body = f"# [tool.rota.params]\n{params}" if params else ""
    return f"#!/bin/sh\n# /// script\n# [tool.rota]\n{head}{body}# ///\necho\n"


async def emit(here: Here, type_: str, **data: object) -> int:
    reply = await here.ask("POST", "/v1/events", body={"type": type_, "data": data})
    assert reply.status == 201, reply.text
    return int(reply.json()["seq"])


async def builds(here: Here, job: str, number: int) -> list[dict[str, Any]]:
    """Return the builds of a job, once there are as many."""
    await here.until(lambda: here.service.world.last_number(job) >= number)
    found: Any = (await here.ask("GET", f"/v1/builds?job={job}")).json()
    assert len(found) == number
    return sorted(found, key=lambda build: build["number"])


async def failures(here: Here) -> Any:
    return (await here.ask("GET", "/v1/events?kind=trigger.failed&after=0")).json()


async def test_a_job_runs_after_another_by_its_result(here: Here) -> None:
    await here.put("build", plan=Plan(code=1))
    await here.put("mend", script('{ after = "bui*", result = "failed" }'))
    await here.put("go", script('{ after = "build" }'))
    await here.put(
        "all",
        script(
            '{ after = "build", result = "any", params = { what = "{job} {result} {params.x}" } }',
            params="# what = {}\n",
        ),
    )
    await here.put(
        "build",
        "#!/bin/sh\n# /// script\n# [tool.rota.params]\n# x = {}\n# ///\n",
        Plan(code=1),
    )
    await here.run("build", params={"x": "1"})
    (mend,) = await builds(here, "mend", 1)
    (every,) = await builds(here, "all", 1)
    assert every["params"] == {"what": "build failed 1"}
    assert mend["trigger"]["kind"] == "after"
    assert mend["trigger"]["source"].startswith("mend:after-")
    assert mend["trigger"]["data"]["build"] == "build#1"
    assert {mend["pipeline"], every["pipeline"]} == {"", every["id"]}
    assert here.service.world.last_number("go") == 0


async def test_a_chat_line_starts_a_job_with_what_it_said(here: Here) -> None:
    rule = '{ chat = "deploy (?P<env>\\\\w+)", channel = "#ops", params = { env = "{env}" } }'
    await here.put("deploy", script(rule, params='# env = { choices = ["prod", "test"] }\n'))
    await emit(here, "chat.said", channel="#ops", who="ann", text=" deploy prod ")
    await emit(here, "chat.said", channel="#talk", who="ann", text="deploy prod")
    await emit(here, "chat.said", channel="#ops", who="ann", text="do not deploy prod")
    await emit(here, "chat.said", channel="#ops", who="ann", text="deploy moon")
    await emit(here, "chat.said", text=7)
    (build,) = await builds(here, "deploy", 1)
    assert build["params"] == {"env": "prod"}
    assert build["trigger"]["by"] == "ann"
    await here.until(lambda: here.service.world.cluster.picture.failures)
    (failed,) = await failures(here)
    assert failed["job"] == "deploy"
    assert failed["why"].startswith("parameter env cannot be 'moon', only 'prod', 'test'")


async def test_an_event_starts_a_job_by_its_fields(here: Here) -> None:
    rule = (
        '{ event = "release.*", where = { "data.channel" = "st*" }, params = { v = "{data.v}" } }'
    )
    await here.put("ship", script(rule, params='# v = { type = "int" }\n'))
    await emit(here, "release.done", channel="beta", v=1)
    await emit(here, "release.done", v=1)
    await emit(here, "release.done", channel="stable", v=2)
    await emit(here, "release.done", channel="stable")
    (build,) = await builds(here, "ship", 1)
    assert build["params"] == {"v": 2}
    await here.until(lambda: here.service.world.cluster.picture.failures)
    (failed,) = await failures(here)
    assert failed["why"].startswith("params.v asks for {data.v}, there is ")


async def test_a_paused_job_is_not_set_off(here: Here) -> None:
    await here.put("a", script('{ event = "go" }'))
    await here.put("b", script('{ event = "go" }'))
    await here.ask("POST", "/v1/jobs/a/pause", body={})
    await emit(here, "go")
    await builds(here, "b", 1)
    await here.ask("POST", "/v1/jobs/a/resume", body={})
    await emit(here, "go")
    await builds(here, "b", 2)
    await builds(here, "a", 1)


async def test_a_circle_ends_and_is_told(here: Here) -> None:
    await here.put("a", script('{ after = "b", name = "round" }'))
    await here.put("b", script('{ after = "a" }'))
    await here.run("a")
    await here.until(lambda: here.service.world.cluster.picture.failures)
    (failed,) = await failures(here)
    assert "25 builds have set one another off" in failed["why"]
    assert "round in a circle" in failed["why"]
    assert sum(here.service.world.last_number(job) for job in "ab") == 26


async def test_a_circle_by_way_of_a_script_ends_as_well(here: Here) -> None:
    """A script that says something, or runs a job, passes on how deep it is."""
    await here.put("a", script('{ after = "b" }'))
    await here.put("b")
    await here.put("c", script('{ event = "again" }'))
    first = await here.run("b")
    (one,) = await builds(here, "a", 1)
    reply = await here.ask("POST", "/v1/jobs/b/builds", body={}, Rota_Build=one["id"])
    assert reply.json()["trigger"]["depth"] == one["trigger"]["depth"] == 1
    two = (await builds(here, "a", 2))[1]
    assert two["trigger"]["depth"] == 2
    await here.ask("POST", "/v1/events", body={"type": "again"}, Rota_Build=two["id"])
    (three,) = await builds(here, "c", 1)
    assert three["trigger"]["depth"] == 3
    assert "depth" not in first["trigger"]
