"""The verbs on agents and on the cluster, over REST, against an agent in this process."""

from __future__ import annotations

from typing import Any

import pytest
from tests.harness.agent import Here, Reply

from rota.adapters.scripted import Plan
from rota.core.events import (
    AgentDrained,
    AgentJoined,
    AgentLabelled,
    AgentLeft,
    AgentLost,
    AgentStarted,
    AgentStopped,
    BuildStarted,
    Event,
    VoterAppointed,
)
from rota.core.levels import LEVEL
from rota.service.context import Principal
from rota.service.verbs import Role


async def told(here: Here, *events: Event) -> None:
    """Write what another agent would, and wait until this one has folded it."""
    for event in events:
        seq = await here.journal.append(event)
    await here.until(lambda: here.service.world.seq >= seq)


def up(here: Here, name: str = "there") -> AgentStarted:
    peer = f"https://{name}:7400"
    return AgentStarted(at=here.service.clock.now(), agent=name, slots=2, peer=peer, level=LEVEL)


async def post(here: Here, target: str, **body: object) -> Reply:
    return await here.ask("POST", f"/v1/agents/{target}", body=body)


async def written(here: Here) -> list[Event]:
    return [entry.event async for entry in here.journal.read()]


def fault(reply: Reply) -> tuple[int, str, str]:
    problem: dict[str, Any] = reply.json()
    return reply.status, problem["detail"], problem.get("hint", "")


async def test_the_cluster_of_one_agent(here: Here) -> None:
    ring = (await here.ask("GET", "/v1/cluster")).json()
    assert [(one["name"], one["state"], one["is_leader"]) for one in ring["agents"]] == [
        ("here", "up", True)
    ]
    assert (ring["leader"], ring["leader_why"], ring["stale_since"]) == ("here", "nobody led", None)
    assert (ring["voters"], ring["tolerates"]) == ([], None)


async def test_the_cluster_names_every_member_and_how_it_is(here: Here) -> None:
    now = here.service.clock.now()
    await told(
        here,
        up(here, "there"),
        up(here, "gone"),
        AgentLost(at=now, name="gone", silent_s=9.0),
        up(here, "off"),
        AgentStopped(at=now, agent="off"),
        AgentJoined(at=now, name="new", pin="00"),
    )
    agents = (await here.ask("GET", "/v1/agents")).json()
    assert [(one["name"], one["state"]) for one in agents] == [
        ("gone", "lost"),
        ("here", "up"),
        ("new", "joined"),
        ("off", "stopped"),
        ("there", "up"),
    ]
    assert [one["name"] for one in agents if one["is_leader"]] == ["here"]
    assert agents[4]["peer"] == "https://there:7400"
    status = (await here.ask("GET", "/v1/status")).json()
    assert (status["members"], status["leader"]) == (5, "here")


async def test_status_says_how_this_agent_is(here: Here) -> None:
    status = (await here.ask("GET", "/v1/status")).json()
    assert (status["agent"], status["slots"], status["members"]) == ("here", 4, 1)
    assert (status["leader"], status["leader_why"]) == ("here", "nobody led")
    assert (status["draining"], status["stale_since"], status["tolerates"]) == (False, None, None)
    assert status["leader_since"] is not None
    assert "linux" in status["labels"]


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/v1/agents/hree/drain", {}),
        ("POST", "/v1/agents/hree/labels", {"labels": {"big": ""}}),
        ("POST", "/v1/agents/hree/leave", {}),
        ("DELETE", "/v1/agents/hree", None),
    ],
)
async def test_an_agent_that_nobody_knows(
    here: Here, method: str, target: str, body: object
) -> None:
    reply = await here.ask(method, target, body=body)
    assert fault(reply) == (404, "no agent 'hree'", "did you mean 'here'?")
    reply = await here.ask(method, target.replace("hree", "zzz"), body=body)
    assert fault(reply) == (404, "no agent 'zzz'", "rota agents")


async def test_a_drained_agent_takes_no_build_until_it_is_told_to(here: Here) -> None:
    await here.put("web")
    assert (await post(here, "here/drain")).json()["draining"] is True
    assert (await here.ask("GET", "/v1/status")).json()["draining"] is True
    build = await here.run("web")
    assert (await here.ask("GET", f"/v1/builds/{build['id']}")).json()["state"] == "queued"
    assert (await post(here, "here/drain", off=True)).json()["draining"] is False
    assert (await here.finished(build["id"]))["result"] == "passed"


async def test_a_drained_agent_finishes_what_it_runs(here: Here) -> None:
    await here.put("web", plan=Plan(hangs=True))
    build = await here.run("web")
    attempt = await here.running(build["id"])
    await post(here, "here/drain")
    assert (await here.ask("GET", f"/v1/builds/{build['id']}")).json()["state"] == "running"
    await attempt.terminate(0.0)
    await here.finished(build["id"])


async def test_draining_twice_is_written_once(here: Here) -> None:
    for body in ({}, {}, {"off": True}, {"off": True}):
        assert (await post(here, "here/drain", **body)).status == 200
    drained = [event for event in await written(here) if isinstance(event, AgentDrained)]
    assert [event.draining for event in drained] == [True, False]


async def test_labels_are_changed_while_the_agent_runs(here: Here) -> None:
    await here.put("web", "#!/bin/sh\n# rota: labels=big\necho\n")
    build = await here.run("web")
    assert build["state"] == "queued"
    reply = await post(here, "here/labels", labels={"big": "", "java": "21", "linux": None})
    assert reply.json()["labels"] == {"big": "", "java": "21"}
    assert (await here.finished(build["id"]))["result"] == "passed"
    status = (await here.ask("GET", "/v1/status")).json()
    assert status["labels"] == {"big": "", "java": "21"}


async def test_no_labels_write_nothing(here: Here) -> None:
    assert (await post(here, "here/labels", labels={})).status == 200
    assert not any(isinstance(event, AgentLabelled) for event in await written(here))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a b": ""}, "bad label: 'a b' is neither a word nor key=value"),
        ({"a": "x y"}, "bad label: 'a=x y' is neither a word nor key=value"),
        ({"a,b": "c"}, "bad label: 'a,b=c' is neither a word nor key=value"),
        ({"a": "b,c"}, "bad label: 'a=b,c' is neither a word nor key=value"),
        ({"a=b": ""}, "bad label: 'a=b=' is neither a word nor key=value"),
        ({"": ""}, "bad label: '=' is neither a word nor key=value"),
        ({"x y": None}, "bad label: 'x y' is neither a word nor key=value"),
        ({"not": ""}, "bad label: 'not' is an operator in label expressions"),
        (
            {"agent": "other"},
            "the label 'agent' is what the agent is called; it cannot be changed",
        ),
        ({"agent": None}, "the label 'agent' is what the agent is called; it cannot be changed"),
    ],
)
async def test_a_label_that_cannot_be(
    here: Here, labels: dict[str, str | None], message: str
) -> None:
    status, detail, _ = fault(await post(here, "here/labels", labels=labels))
    assert (status, detail) == (400, message)
    assert not any(isinstance(event, AgentLabelled) for event in await written(here))


async def test_the_only_agent_cannot_leave(here: Here) -> None:
    only = "here is the only agent that is up: who leaves hands over to another"
    assert fault(await post(here, "here/leave")) == (409, only, "to end it: rota stop")
    now = here.service.clock.now()
    await told(here, up(here), AgentLost(at=now, name="there", silent_s=9.0))
    assert fault(await post(here, "here/leave"))[1] == only
    await told(here, up(here), AgentDrained(at=now, name="there", leaving=True))
    assert fault(await post(here, "here/leave"))[1] == only


async def test_who_is_gone_cannot_leave_but_be_forgotten(here: Here) -> None:
    now = here.service.clock.now()
    await told(here, up(here), AgentLost(at=now, name="there", silent_s=9.0))
    status, detail, hint = fault(await post(here, "there/leave"))
    assert (status, detail) == (409, "there is lost: it cannot hand over anything")
    assert hint == "remove it: rota agents --forget there"
    left = await here.ask("DELETE", "/v1/agents/there")
    assert (left.json()["name"], left.json()["state"]) == ("there", "lost")
    assert [one["name"] for one in (await here.ask("GET", "/v1/agents")).json()] == ["here"]
    (event,) = [event for event in await written(here) if isinstance(event, AgentLeft)]
    assert (event.name, event.why.endswith(" removed it")) == ("there", True)


async def test_who_is_up_is_not_forgotten(here: Here) -> None:
    await told(here, up(here))
    reply = await here.ask("DELETE", "/v1/agents/there")
    assert fault(reply) == (409, "there is up", "let it leave: rota leave there")


async def test_an_agent_that_is_up_is_revoked_and_its_builds_are_given_up(here: Here) -> None:
    await here.put("a", "#!/bin/sh\n# /// script\n# [tool.rota]\n# labels = 'there'\n# ///\n")
    await told(here, up(here))
    build = (await here.run("a"))["id"]
    await told(
        here, BuildStarted(at=here.service.clock.now(), agent="there", build=build, attempt=1)
    )
    done = await post(here, "there/revoke")
    assert done.status == 200, done.text
    revoked = done.json()
    assert (revoked["agent"]["name"], revoked["given_up"]) == ("there", ["a#1"])
    assert (revoked["secrets"], revoked["todo"]) == ([], [])
    left = [event for event in await written(here) if isinstance(event, AgentLeft)]
    assert [(event.name, event.why) for event in left] == [
        ("there", f"{left[0].by} revoked its key")
    ]
    lost = await here.finished(build)
    assert lost["result"] == "lost"
    assert (await post(here, "there/revoke")).status == 404


async def test_what_cannot_be_revoked_is_refused_with_what_to_do(here: Here) -> None:
    status, detail, hint = fault(await post(here, "here/revoke"))
    assert status == 409
    assert detail == "here cannot revoke its own key: who has it could answer as well"
    assert hint == "ask another agent: rota --at URL agents --revoke here"
    now = here.service.clock.now()
    await told(here, up(here), VoterAppointed(at=now, name="there", server="s1"), up(here, "other"))
    status, detail, hint = fault(await post(here, "there/revoke"))
    assert status == 409
    assert detail == (
        "without the engine's server of there there is no quorum (0 of the 1 servers that are"
        " needed): nothing was changed"
    )
    assert "rota recover" in hint
    assert "there" in {one["name"] for one in (await here.ask("GET", "/v1/agents")).json()}


async def test_another_agent_is_told_to_leave_once_and_takes_no_more_builds(here: Here) -> None:
    await told(here, up(here))
    for _ in range(2):
        view = (await post(here, "there/leave")).json()
        assert (view["leaving"], view["draining"]) == (True, True)
    assert sum(isinstance(event, AgentDrained) for event in await written(here)) == 1
    reply = await post(here, "there/drain", off=True)
    assert fault(reply)[:2] == (409, "there is leaving the cluster")


async def test_an_agent_that_leaves_says_so_and_stops_once_nothing_runs(here: Here) -> None:
    await here.put("web", plan=Plan(hangs=True))
    build = await here.run("web")
    attempt = await here.running(build["id"])
    await told(here, up(here))
    assert (await post(here, "here/leave")).json()["leaving"] is True
    assert not here.stopped.is_set()
    await attempt.terminate(0.0)
    await here.until(here.stopped.is_set)
    await here.until(lambda: "here" not in here.service.world.cluster.picture.agents)
    left = [event.name for event in await written(here) if isinstance(event, AgentLeft)]
    assert left == ["here"]


@pytest.mark.parametrize(
    ("method", "target", "role"),
    [
        ("POST", "here/drain", Role.MAINTAINER),
        ("POST", "here/labels", Role.MAINTAINER),
        ("POST", "here/leave", Role.ADMIN),
        ("DELETE", "here", Role.ADMIN),
    ],
)
async def test_who_may_not_changes_no_agent(
    here: Here, method: str, target: str, role: Role
) -> None:
    here.who = lambda _: Principal("eve", Role(role - 1))
    body: object = {"labels": {}} if target.endswith("labels") else None
    assert (await here.ask(method, f"/v1/agents/{target}", body=body)).status == 403
