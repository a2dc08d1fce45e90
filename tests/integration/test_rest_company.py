"""What an answer says beside itself: who else is there, and as of when."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

import pytest
from tests.harness.agent import Here
from tests.harness.agent import here as here

from rota.core.agents import Agent, AgentState
from rota.core.events import AgentStarted, AgentStopped, Emitted
from rota.core.levels import LEVEL
from rota.http import company
from rota.http.company import MAX_NAMED, named

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def agent(name: str, host: str, url: str = "", state: AgentState = AgentState.UP) -> Agent:
    return Agent(name=name, since=NOW, state=state, url=url, peer=f"https://{host}:7071")


def started(name: str) -> AgentStarted:
    return AgentStarted(
        at=NOW, by=name, agent=name, peer=f"https://{name}.example:7071", level=LEVEL
    )


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "FRESH_S", 0.0)


def test_others_are_named_by_their_peer_address() -> None:
    agents = [
        agent("me", "10.0.0.1", "http://127.0.0.1:1"),
        agent("far", "10.0.0.2", "http://127.0.0.1:2"),
        agent("wide", "10.0.0.3", "http://10.0.0.3:7070"),
        agent("lost", "10.0.0.4", state=AgentState.LOST),
        agent("stopped", "10.0.0.5", state=AgentState.STOPPED),
        agent("new", "10.0.0.6", state=AgentState.JOINED),
    ]
    said = named("me", {one.name: one for one in agents})
    assert said == "https://10.0.0.2:7071 https://10.0.0.3:7071"


def test_others_on_the_same_host_are_named_by_their_loopback_too() -> None:
    agents = {
        "me": agent("me", "10.0.0.1"),
        "near": agent("near", "10.0.0.1", "http://127.0.0.1:2"),
        "near6": agent("near6", "10.0.0.1", "http://[::1]:3"),
        "open": agent("open", "10.0.0.1", "http://10.0.0.1:4"),
    }
    assert named("me", agents).split() == [
        "http://127.0.0.1:2",
        "https://10.0.0.1:7071",
        "http://[::1]:3",
        "https://10.0.0.1:7071",
        "https://10.0.0.1:7071",
    ]


def test_of_many_others_some_are_named_by_chance() -> None:
    agents = {f"a{n}": agent(f"a{n}", f"10.0.0.{n}") for n in range(100)}
    said = {frozenset(named("a0", agents).split()) for _ in range(20)}
    assert all(len(urls) == MAX_NAMED for urls in said)
    assert len(said) > 1
    assert not any("https://10.0.0.0:7071" in urls for urls in said)


@pytest.mark.parametrize("target", ["/v1/status", "/v1/jobs/none", "/v1/nowhere", "/v1/events"])
async def test_each_answer_says_who_gives_it_and_who_else_is_there(here: Here, target: str) -> None:
    await here.journal.append(started("b"))
    seq = await here.journal.append(started("c"))
    await here.until(lambda: here.service.world.seq >= seq)
    reply = await here.ask("GET", target)
    assert reply.headers["Rota-Agent"] == "here"
    assert reply.headers["Rota-Agents"] == "https://b.example:7071 https://c.example:7071"
    assert int(reply.headers["Rota-Seq"]) >= seq
    assert "Rota-Stale-Since" not in reply.headers
    down = AgentStopped(at=NOW, by="b", agent="b")
    seq = await here.journal.append(down)
    await here.until(lambda: here.service.world.seq >= seq)
    assert (await here.ask("GET", target)).headers["Rota-Agents"] == "https://c.example:7071"


async def test_a_stream_says_so_in_its_head(here: Here) -> None:
    await here.journal.append(started("b"))
    await here.put("talk")
    build = await here.run("talk")
    for target in ("/v1/events?follow=true", f"/v1/builds/{build['id']}/log?follow=true"):
        async with here.stream("GET", target) as response:
            assert response.headers["Rota-Agents"] == "https://b.example:7071"


async def test_who_is_not_known_is_not_told_who_else_is_there(here: Here) -> None:
    for path in ("/v1/status", "/health", "/openapi.json", "/nowhere"):
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        assert b"rota-" not in head.lower()


async def test_what_a_caller_has_seen_is_waited_for(here: Here) -> None:
    seq = await here.seq() + 1

    async def later() -> None:
        await asyncio.sleep(0)
        await here.journal.append(Emitted(at=NOW, by="x", agent="b", type="a"))

    async with asyncio.TaskGroup() as group:
        group.create_task(later())
        reply = await here.ask("GET", "/v1/status", Rota_Seq=str(seq))
    assert reply.json()["seq"] >= seq


async def test_an_agent_that_lags_says_so_after_a_moment(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(company, "LAG_S", 0.01)
    reply = await here.ask("GET", "/v1/status", Rota_Seq="4711")
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    assert re.fullmatch(
        r"here is at event \d+ and lags behind event 4711, which the caller has seen",
        reply.json()["detail"],
    )
    assert reply.json()["hint"] == "try again in a moment, or at another agent"


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "9" * 30, "²"])
async def test_what_is_no_sequence_is_refused(here: Here, text: str) -> None:
    reply = await here.ask("GET", "/v1/status", Rota_Seq=text)
    assert reply.status == 400
    assert reply.json()["detail"].startswith("bad Rota-Seq ")
    assert reply.json()["hint"] == "a number, as an answer gave it"


async def test_an_answer_without_a_quorum_says_since_when(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = type(here.service.world)
    monkeypatch.setattr(world, "stale_since", NOW.replace(microsecond=7))
    reply = await here.ask("GET", "/v1/jobs")
    assert reply.headers["Rota-Stale-Since"] == "2026-01-02T03:04:05Z"
