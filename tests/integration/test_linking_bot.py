"""Somebody links himself in chat to a real agent, which is killed whenever it hurts."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.chat_server import ChatServer
from tests.harness.daemon import Daemon

pytestmark = [pytest.mark.nats, pytest.mark.slow]


class Site:
    """An agent, the network that its bot is on, and the people there."""

    def __init__(self, daemon: Daemon, server: ChatServer) -> None:
        self.daemon, self.server = daemon, server
        self._read = 0

    async def rota(self, *words: str) -> str:
        """Run a command that must succeed."""
        return str(await asyncio.to_thread(self.daemon.ok, *words))

    async def kill(self) -> None:
        """Kill the daemon, start it, and wait for its bot."""
        await asyncio.to_thread(self.daemon.kill)
        while self.server.ears:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(self.daemon.start)
        await self.server.joined()

    async def say(self, text: str, who: str, **more: Any) -> str:
        """Say something to the bot alone, and return its next answer."""
        self.server.hear(text, who=who, nick="ann", room="@ann", is_direct=True, **more)
        return await self.answer()

    async def answer(self) -> str:
        """Return the bot's next message."""
        async with asyncio.timeout(60):
            await self.server.until(self._read + 1)
        self._read += 1
        return self.server.said[self._read - 1].saying.text


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with ChatServer(tmp_path / "s").running() as server:
        daemon = Daemon(tmp_path / "data")
        await asyncio.to_thread(daemon.start)
        try:
            await asyncio.to_thread(_push, daemon, tmp_path / "clone", server.setting)
            await server.joined()
            yield Site(daemon, server)
        finally:
            await asyncio.to_thread(daemon.end)


def _push(daemon: Daemon, clone: Path, server: str) -> None:
    daemon.ok("clone", str(clone))
    text = f'[chat.team]\nkind = "bridge"\nserver = "{server}"\n'
    (clone / "settings.toml").write_text(text)
    (clone / "users").mkdir()
    (clone / "users" / "ann.toml").write_text('# Ann\nrole = "builder"\n')
    (clone / "jobs").mkdir(exist_ok=True)
    (clone / "jobs" / "web").write_text("#!/bin/sh\n")
    env = {**os.environ, "ROTA_DATA": str(daemon.data)}
    who = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for words in (["add", "."], [*who, "commit", "-qm", "chat"], ["push", "-q"]):
        subprocess.run(["git", "-C", str(clone), *words], check=True, env=env)


async def test_who_is_linked_stays_so_whatever_is_killed_and_nobody_else_is(site: Site) -> None:
    code, later = [(await site.rota("user", "link", "--user", "ann")).split()[0] for _ in range(2)]
    assert "I do not know you" in await site.say("run web", "account:ann")
    # Killed, the agent still knows the code: it is in the journal, in a way that helps nobody.
    await site.kill()
    said = await site.say(f"link {code}", "account:ann")
    assert said == "you are ann here from now on, a builder"
    assert "opens nothing" in await site.say(f"link {code}", "account:eve")
    assert "account:ann" in await site.rota("user", "show", "ann")
    said = await site.say(f"link {later.lower()}", "session:1")
    assert said == "you are ann here for as long as this session, a builder"
    await site.kill()
    for number, who in enumerate(("account:ann", "session:1"), 1):
        assert f"web#{number}" in await site.say("run web", who)
        build = await asyncio.to_thread(site.daemon.until, f"web#{number}", "finished")
        assert build["trigger"]["by"] == "ann"
        await site.answer()  # how it ended
    assert "I do not know you" in await site.say("run web", "session:2")
    # The code stands nowhere in what was written down.
    events = await site.rota("events", "-n", "1000", "--json")
    assert "chat.heard" in events
    assert code not in events
    assert later.lower() not in events
    # Who goes is nobody, at once and everywhere.
    await site.rota("user", "rm", "ann")
    for who in ("account:ann", "session:1"):
        assert "I do not know you" in await site.say("run web", who)
