"""Notices as people meet them: a whole agent, the process that sends mail, and a mail server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.harness.agent import Here, agent_here
from tests.harness.mail_server import MailServer, mail_server
from tests.harness.speaker import the_speaker

from rota.adapters.scripted import Plan
from rota.bootstrap.chat import make_chat
from rota.service.context import Principal
from rota.service.verbs import Role

SETTINGS = """
url = "https://ci.example"
[mail]
server = "smtp+plain://127.0.0.1:{port}"
from = "rota <rota@ci.example>"
[[notify]]
jobs = "web"
on = ["failed", "fixed"]
to = "mail:team@ci.example"
"""
USERS = {
    "users/ann.toml": 'emails = ["ann@ci.example"]\n',
    "users/bob.toml": 'emails = ["bob@ci.example"]\n[[notify]]\nto = "mail"\nwhose = "all"\non = "passed"\n',
}


async def commit(here: Here, files: dict[str, str]) -> None:
    await here.commit({path: text.encode() for path, text in files.items()})


@contextlib.asynccontextmanager
async def posted() -> AsyncIterator[tuple[Here, MailServer]]:
    async with mail_server() as server, agent_here(chat=make_chat) as here:
        await commit(here, {"settings.toml": SETTINGS.format(port=server.port), **USERS})
        await here.put("web", plan=Plan(output=b"one\n\x1b[31mtwo\x1b[0m\n", code=3))
        become(here, "ann", Role.BUILDER)
        yield here, server


@pytest.fixture
async def mailed() -> AsyncIterator[tuple[Here, MailServer]]:
    async with posted() as it:
        yield it


def become(here: Here, name: str, role: Role) -> None:
    here.who = lambda request: Principal(name, role)


async def notices(here: Here, query: str = "") -> list[Any]:
    reply = await here.ask("GET", f"/v1/notices{query}")
    assert reply.status == 200, reply.text
    found: list[Any] = reply.json()
    return found


async def test_a_failure_is_told_by_mail_and_who_was_told_is_known(
    mailed: tuple[Here, MailServer],
) -> None:
    here, server = mailed
    build = await here.run("web")
    async with asyncio.timeout(30):
        await server.until(2)
    mails = {str(it["To"]): it for it in server.taken}
    direct = mails["ann@ci.example"]
    assert direct["Subject"] == "web#1 failed: exit code 3"
    assert direct.get_content().replace("\r\n", "\n") == (
        "web#1 failed: exit code 3\nagain: rota retry web#1\n\n    one\n    two\n\n"
        f"https://ci.example/v1/builds/{build['id']}\n"
    )
    assert direct["References"] == mails["team@ci.example"]["References"]
    await here.until(lambda: not here.service.world.cluster.picture.outbox.queues)
    assert await notices(here) == []
    sent = await notices(here, "?all=true&build=web%231")
    assert {(it["target"], it["occasion"], it["state"]) for it in sent} == {
        ("mail:@ann", "first-failure", "sent"),
        ("mail:team@ci.example", "failed", "sent"),
    }
    why = (await here.ask("GET", "/v1/builds/web%231/why")).json()
    assert why["text"].endswith("; told mail:@ann, mail:team@ci.example")
    here.plans["web"] = Plan()
    await here.finished((await here.run("web"))["id"])
    async with asyncio.timeout(30):
        await server.until(5)
    told = {
        (str(it["To"]), str(it["Subject"]).partition(":")[0].partition(" in ")[0])
        for it in server.taken[2:]
    }
    assert told == {
        ("ann@ci.example", "web#2 is fixed"),
        ("team@ci.example", "web#2 is fixed"),
        ("bob@ci.example", "web#2 passed"),
    }


async def test_the_process_that_speaks_is_killed_while_it_does(
    mailed: tuple[Here, MailServer],
) -> None:
    here, server = mailed
    server.is_closed = True
    await here.finished((await here.run("web"))["id"])
    await here.until(lambda: server.arrived)
    the_speaker().kill()
    server.is_closed = False
    await here.until(lambda: len(server.ids) == 2)
    await here.until(lambda: not here.service.world.cluster.picture.outbox.queues)
    assert {it["state"] for it in await notices(here, "?all=true")} == {"sent"}


async def test_a_target_is_tried(mailed: tuple[Here, MailServer]) -> None:
    here, server = mailed
    reply = await here.ask("POST", "/v1/notices", body={"target": "mail"})
    assert (reply.status, reply.json()["state"]) == (201, "sent"), reply.text
    assert server.taken[0]["To"] == "ann@ci.example"
    assert "This is a test of mail:@ann, asked for by ann" in server.taken[0].get_content()
    server.at_rcpt = ["550 5.1.1 no such user"]
    become(here, "root", Role.ADMIN)
    reply = await here.ask("POST", "/v1/notices", body={"target": "mail:eve@ci.example"})
    assert reply.json()["state"] == "dropped"
    assert "550 5.1.1 no such user" in reply.json()["why"]
    [dropped] = await notices(here)
    assert dropped["target"] == "mail:eve@ci.example"
    reply = await here.ask("POST", "/v1/notices", body={"target": "mail", "user": "bob"})
    assert reply.json()["state"] == "sent"


@pytest.mark.parametrize(
    ("target", "status", "said"),
    [
        ("mail:team@ci.example", 403, "to try 'mail:team@ci.example', which is not your own"),
        ("mail:@bob", 403, "to try 'mail:@bob', which is not your own"),
        ("irc:#web", 403, "to try 'irc:#web'"),
        ("irc", 422, "nothing is set up as irc"),
        ("IRC", 422, "it is no target: 'IRC'"),
        ("mail:ann\r\n@x", 422, "has a room with spaces or control characters"),
    ],
)
async def test_what_cannot_be_tried(
    mailed: tuple[Here, MailServer], target: str, status: int, said: str
) -> None:
    here, _ = mailed
    reply = await here.ask("POST", "/v1/notices", body={"target": target})
    assert said in reply.json()["detail"]
    assert reply.status in (status, 400)


async def test_a_server_that_is_away_is_shown_and_the_build_is_not_held_up() -> None:
    async with agent_here(chat=make_chat) as here:
        await commit(here, {"settings.toml": SETTINGS.format(port=9), **USERS})
        await here.put("web", plan=Plan(code=3))
        become(here, "ann", Role.BUILDER)
        await here.finished((await here.run("web"))["id"])
        await here.until(lambda: len(here.service.world.troubles) == 2)
        waiting = await notices(here)
        assert {it["state"] for it in waiting} == {"sending"}
        assert all("127.0.0.1:9 cannot be used" in it["why"] for it in waiting)
        why = (await here.ask("GET", "/v1/builds/web%231/why")).json()
        assert "told mail:@ann (sending: 127.0.0.1:9 cannot be used" in why["text"]
