"""Shells over REST: who may, what is on record, what is refused; the program is a twin."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.harness.agent import Here

from rota.adapters.scripted import Plan
from rota.ports.session import Tty
from rota.ports.store import Author
from rota.service.context import Principal
from rota.service.verbs import Role

HANGS = Plan(hangs=True, output=b"up\n")
IDLE = b'[workspaces]\nshell_idle = "1s"\n'


@contextlib.asynccontextmanager
async def socket(
    here: Here, build: str, query: str = ""
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    url = f"http://rota/v1/builds/{build}/shell{query}"
    async with here.session.ws_connect(url) as opened, asyncio.timeout(30):
        yield opened


async def told(opened: aiohttp.ClientWebSocketResponse) -> Any:
    """Return the next text, decoded; what was printed before it is passed over."""
    while True:
        message = await opened.receive()
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        if message.type is aiohttp.WSMsgType.TEXT:
            return json.loads(message.data)


async def running(here: Here, plan: Plan = HANGS) -> str:
    await here.put("a", plan=plan)
    build = await here.run("a")
    await here.running(build["id"])
    return str(build["id"])


async def test_a_program_runs_with_the_scripts_environment_and_is_on_record(here: Here) -> None:
    build = await running(here)
    async with socket(here, build) as opened:
        await opened.send_json(
            {"command": ["git", "status"], "tty": {"rows": 30, "columns": 90, "term": "vt100"}}
        )
        entered = (await told(opened))["entered"]
        assert entered == {
            "build": "a#1", "attempt": 1, "agent": "here", "running": True, "missing": [],
        }  # fmt: skip
        await opened.send_json({"resize": [40, 100]})
        await opened.send_bytes(b"\x00\xff")
        first, second = await opened.receive_bytes(), await opened.receive_bytes()
        assert (first, second) == (b"\x01up\n", b"\x01\x00\xff")
        await opened.send_json({"eof": True})
        assert await told(opened) == {"exit": 0, "why": ""}
    ((task, argv, session),) = here.executor.entered
    assert argv == ("git", "status")
    assert session.tty == Tty(40, 100, "vt100")
    assert (task.env["ROTA_JOB"], task.env["ROTA_NUMBER"]) == ("a", "1")
    events = (await here.ask("GET", "/v1/events")).json()
    (event,) = [it for it in events if it["kind"] == "build.entered"]
    assert (event["build"], event["attempt"], event["program"], event["tty"]) == (
        build,
        1,
        "git",
        True,
    )
    assert event["by"]


async def test_who_goes_ends_what_runs(here: Here) -> None:
    build = await running(here)
    async with socket(here, build) as opened:
        await opened.send_json({})
        await told(opened)
    ((_, argv, session),) = here.executor.entered
    assert argv[0] == "/bin/sh"
    await here.until(lambda: session.code is not None or session.has_ended)


async def test_a_kept_workspace_is_not_removed_while_somebody_is_in_it(here: Here) -> None:
    await here.put("a", plan=Plan(code=1, output=b"oh\n"))
    build = await here.run("a", keep_workspace="on-failure")
    await here.finished(build["id"])
    await here.until(lambda: here.service.workspaces.kept())
    here.plans["a"] = HANGS
    async with socket(here, build["id"]) as opened:
        await opened.send_json({"command": ["cat"]})
        assert (await told(opened))["entered"]["running"] is False
        (it,) = (await here.ask("GET", "/v1/workspaces")).json()["workspaces"]
        assert it["shells"] == 1
        reply = await here.ask("DELETE", f"/v1/builds/{build['id']}/workspace")
        assert reply.status == 409
        assert reply.json()["detail"] == "1 shell is open in the workspace of a#1"
        await opened.send_json({"eof": True})
        await told(opened)
    await here.until(lambda: not here.service.workspaces.entered(here.service.workspaces.kept()[0]))
    assert (await here.ask("DELETE", f"/v1/builds/{build['id']}/workspace")).status == 200


async def test_one_in_which_nothing_stirs_ends_with_the_reason(here: Here) -> None:
    build = await running(here)
    await here.service.main.commit(
        {"settings.toml": IDLE},
        base=await here.store.head(),
        author=Author("ann", "ann@example"),
        message="a short patience",
        by="ann",
    )
    async with socket(here, build) as opened:
        await opened.send_json({})
        await told(opened)
        assert await told(opened) == {
            "exit": 129,
            "why": "nothing was typed or printed for 1s",
        }


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (b"ls", "the first message is bytes"),
        ("ls", "it cannot be read what to run: JSON is malformed"),
        ('{"comand": []}', "it cannot be read what to run: Object contains unknown field `comand`"),
        ('{"command": ["a\\u0000b"]}', "a word of the command has a NUL character"),
        ('{"tty": {"rows": 0}}', "it cannot be read what to run: Expected `int` >= 1"),
        ('{"tty": {"term": "x y"}}', "it cannot be read what to run: Expected `str` matching"),
    ],
)
async def test_nonsense_is_refused_and_nothing_runs(
    here: Here, first: bytes | str, error: str
) -> None:
    build = await running(here)
    async with socket(here, build) as opened:
        if isinstance(first, bytes):
            await opened.send_bytes(first)
        else:
            await opened.send_str(first)
        said = await told(opened)
        assert said["error"].startswith(error)
        assert said["code"] == "input"
        assert (await opened.receive()).type is aiohttp.WSMsgType.CLOSE
    assert here.executor.entered == []


async def test_nonsense_in_between_ends_it(here: Here) -> None:
    build = await running(here)
    async with socket(here, build) as opened:
        await opened.send_json({})
        await told(opened)
        await opened.send_str('{"resize": [1]}')
        assert (await told(opened))["error"].startswith("a message cannot be read: ")
    ((_, _, session),) = here.executor.entered
    await here.until(lambda: session.has_ended)


async def test_what_cannot_be_entered_says_why(here: Here) -> None:
    for job, plan in (("passed", Plan()), ("held", Plan())):
        await here.put(job, plan=plan)
    build = await here.run("passed")
    await here.finished(build["id"])
    await here.until(lambda: not (here.data / "builds" / build["id"]).exists())

    async def refusal(name: str, query: str = "") -> tuple[int, str]:
        reply = await here.ask("GET", f"/v1/builds/{name}/shell{query}")
        return reply.status, reply.json()["detail"]

    assert await refusal("nope") == (404, "no build 'nope'")
    assert await refusal("passed%231") == (404, "the workspace of passed#1 is not kept")
    assert await refusal("passed%231", "?attempt=3") == (404, "passed#1 has no attempt 3, only 1")
    assert await refusal(await running(here)) == (
        400,
        "this is for a WebSocket, and the request asks for none",
    )


async def test_a_viewer_may_not(here: Here) -> None:
    build = await running(here)
    here.who = lambda _: Principal(name="vera", role=Role.VIEWER)
    reply = await here.ask("GET", f"/v1/builds/{build}/shell")
    assert reply.status == 403
    assert reply.json()["detail"] == "vera is a viewer; `shell` needs a builder"


async def test_what_the_executor_cannot_start_is_told(here: Here) -> None:
    build = await running(here)
    here.plans["a"] = Plan(refusal="cannot start a shell: Too many open files")
    async with socket(here, build) as opened:
        await opened.send_json({})
        said = await told(opened)
        assert (said["error"], said["code"]) == (
            "cannot start a shell: Too many open files",
            "execution",
        )
