"""What a fork sets off gets no secrets; what is optional is left away, and the log says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.harness.agent import Here, agent_here

from rota.adapters.scripted import Plan
from rota.core.build import Build, Trigger
from rota.core.ids import derived_id
from rota.core.pipelines import Wish
from rota.ports.executor import Task
from rota.service import pipelines


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    async with agent_here() as agent:
        reply = await agent.ask("PUT", "/v1/secrets/TOKEN", body={"value": "czNjcmV0LXRva2Vu"})
        assert reply.status == 200, reply.text
        yield agent


def script(line: str) -> str:
    return f"#!/bin/sh\n# /// script\n# [tool.rota]\n# secrets = [{line}]\n# ///\ntrue\n"


async def triggered(here: Here, job: str, data: dict[str, str], parent: str = "") -> Build:
    wish = Wish(
        id=derived_id("test", job, str(data), parent),
        job=job,
        trigger=Trigger(kind="push", data=data),
        parent=parent,
    )
    (found,) = await pipelines.request(here.service, [wish], by="forge", pipeline=parent)
    return found


async def log_of(here: Here, build: str) -> str:
    return (await here.ask("GET", f"/v1/builds/{build}/log")).text


async def test_a_fork_gets_no_secrets_and_neither_does_what_it_sets_off(here: Here) -> None:
    await here.put("need", script('"TOKEN"'))
    await here.put("may", script('{ name = "TOKEN", optional = true }'))
    said = "is not given to {}: a pull request of a fork gets no secrets"
    fork = await triggered(here, "need", {"fork": "true"})
    assert (await here.ask("POST", f"/v1/builds/{fork.id}/approve", body={})).status == 200
    done = await here.finished(fork.id)
    assert (done["result"], done["reason"]) == ("errored", "agent-error")
    assert done["message"] == f"the secret TOKEN {said.format('need#1')}"
    assert await log_of(here, fork.id) == f"rota: the secret TOKEN {said.format('need#1')}\n"

    own = await triggered(here, "need", {})
    assert (await here.finished(own.id))["result"] == "passed"

    child = await triggered(here, "may", {}, parent=fork.id)
    assert (await here.finished(child.id))["result"] == "passed"
    assert await log_of(here, child.id) == (
        f"rota: the secret TOKEN {said.format('may#1')}; it is optional, $TOKEN is not set\n"
    )


async def test_the_script_gets_the_value_and_the_note_of_it_cannot_be_read(here: Here) -> None:
    seen: dict[str, Any] = {}
    plan = here.executor._plan

    def watched(task: Task) -> Plan:
        seen.update(task.env)
        note = task.home / "secrets.age"
        seen["note"] = note.read_text()
        return plan(task)

    here.executor._plan = watched
    await here.put("a", script('"TOKEN"'))
    build = await here.run("a")
    assert (await here.finished(build["id"]))["result"] == "passed"
    assert seen["TOKEN"] == "s3cret-token"
    assert "s3cret-token" not in seen["note"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"value": "YWI="}, 400, "the value has less than 4 bytes: it could not be hidden in logs"),
        ({"value": "not base64!"}, 400, "bad argument value"),
        ({"jobs": ["a\nb"]}, 400, "--jobs has 'a\\nb', which is no pattern"),
        ({"value": "YWJjZA==", "x": 1}, 400, "unknown argument 'x'"),
    ],
)
async def test_nonsense_is_refused_and_not_repeated(
    here: Here, body: dict[str, object], status: int, said: str
) -> None:
    before = await here.seq()
    reply = await here.ask("PUT", "/v1/secrets/OTHER", body=body)
    assert reply.status == status, reply.text
    assert said in reply.json()["detail"]
    assert str(body.get("value", "?!")) not in reply.text
    assert await here.seq() == before


async def test_the_same_rules_again_make_no_commit(here: Here) -> None:
    reply = await here.ask("PUT", "/v1/secrets/TOKEN", body={"jobs": ["web/*"]})
    assert reply.json()["changed"] is True
    before = await here.seq()
    reply = await here.ask("PUT", "/v1/secrets/TOKEN", body={"jobs": ["web/*"]})
    assert reply.json()["changed"] is False
    assert await here.seq() == before
    [view] = (await here.ask("GET", "/v1/secrets")).json()
    assert (view["name"], view["jobs"], view["by"]) == ("TOKEN", ["web/*"], view["by"])
    assert "value" not in view
