"""The bot's process: begun, asked, killed and begun again."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.chat_server import ChatServer

from rota.adapters.chat_process import ChatProcess
from rota.errors import InputError, LaterError
from rota.ports.chat_wire import Setup, Wanted
from rota.ports.networks import Saying
from rota.service.speakers import Speakers


def bridge(server: ChatServer) -> Wanted:
    """Return the settings of a bridge as the process gets them."""
    return Wanted(name="team", kind="bridge", values={"server": server.setting})


@contextlib.asynccontextmanager
async def speaking(chat: ChatProcess, position: str = "") -> AsyncIterator[None]:
    """Keep the process for as long as the context is open."""
    running = asyncio.create_task(chat.run({"team": position}))
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def settled(chat: ChatProcess, troubles: dict[str, str]) -> None:
    """Wait until these are the troubles."""
    while chat.troubles() != troubles:
        await asyncio.sleep(0.01)


def saying(text: str, name: str = "one", room: str = "#room") -> Saying:
    """Return a message of ours."""
    return Saying(id=name, room=room, text=text)


async def test_what_is_heard_and_said_goes_through_the_process(tmp_path: Path) -> None:
    async with ChatServer(tmp_path / "s").running() as server:
        server.hear("before us")

        async def setup() -> Setup:
            return Setup(networks=(bridge(server),))

        speakers = Speakers()
        chat = ChatProcess(setup, speakers.admitted)
        async with speaking(chat):
            await server.joined()
            server.hear("!ps")
            reports = chat.reports()
            reported = await anext(reports)
            assert (reported.network, reported.heard.text) == ("team", "!ps")
            said = await chat.say("team", saying("hello\x1b[31m @channel"))
            assert said.thread == "s1"
            assert server.texts() == ["hello @\u2060channel"]
            assert await chat.was_said("team", saying("hello")) is True
            assert await chat.was_said("team", saying("hello", "two")) is False
            await settled(chat, {})
            server.refused["#gone"] = "no such room"
            with pytest.raises(InputError, match="team: no such room"):
                await chat.say("team", saying("hello", room="#gone"))
            with pytest.raises(InputError, match="no network 'other'"):
                await chat.say("other", saying("hello"))
            server.late_s = 7.5
            with pytest.raises(LaterError) as late:
                await chat.say("team", saying("hello", "three"))
            assert late.value.after_s == 7.5
        with pytest.raises(LaterError, match="not there yet"):
            await chat.say("team", saying("hello"))


async def test_a_process_that_is_killed_begins_again_where_it_was(tmp_path: Path) -> None:
    async with ChatServer(tmp_path / "s").running() as server:

        async def setup() -> Setup:
            return Setup(networks=(bridge(server),))

        speakers = Speakers()
        chat = ChatProcess(setup, speakers.admitted)
        async with speaking(chat, "0"):
            await server.joined()
            assert chat.pid is not None
            server.silent = True
            unsure = asyncio.create_task(chat.say("team", saying("half")))
            await server.until(1)
            os.kill(chat.pid, signal.SIGKILL)
            with pytest.raises(LaterError, match="perhaps said it before"):
                await unsure
            server.silent = False
            while len(server.began) < 2:
                server.changed = asyncio.Event()
                await server.changed.wait()
            assert await chat.was_said("team", saying("half")) is True


async def test_who_cannot_be_had_is_a_trouble_and_holds_up_nobody(tmp_path: Path) -> None:
    async with ChatServer(tmp_path / "s").running() as server:
        bad = Wanted(name="bad", kind="bridge", values={"server": "nowhere"})
        missing = Wanted(name="missing", kind="bridge", fault="token = 'x': no secret x")
        strange = Wanted(name="strange", kind="pigeon")

        async def setup() -> Setup:
            return Setup(networks=(bad, missing, strange, bridge(server)))

        speakers = Speakers()
        chat = ChatProcess(setup, speakers.admitted)
        async with speaking(chat):
            await server.joined()
            await chat.say("team", saying("hello"))
            expected = {
                "bad": "bad: 'nowhere' is no place of a bridge (HOST:PORT or unix:PATH)",
                "missing": "missing: token = 'x': no secret x",
                "strange": "strange: there is no kind 'pigeon' of network",
            }
            await settled(chat, expected)


async def test_other_settings_begin_another_process(tmp_path: Path) -> None:
    async with ChatServer(tmp_path / "s").running() as server:
        networks: tuple[Wanted, ...] = ()

        async def setup() -> Setup:
            return Setup(networks=networks)

        speakers = Speakers()
        chat = ChatProcess(setup, speakers.admitted)
        async with speaking(chat):
            networks = (bridge(server),)
            chat.changed()
            await server.joined()
            networks = ()
            chat.changed()
            while chat.pid is not None:
                await asyncio.sleep(0.01)
            assert chat.troubles() == {}


def test_a_daemon_loads_nothing_of_what_speaks_on_networks() -> None:
    heavy = ("pydle", "slixmpp", "nio", "slack_sdk", "apprise", "rota.chat", "rota.adapters.irc")
    code = "import sys, rota.bootstrap.run; print(*[it for it in sys.modules if it in sys.argv])"
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, check=True)
    assert done.stdout.split() == []
