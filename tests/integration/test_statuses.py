"""Forges are told how builds are: a real HTTP client, and a forge that fails, hangs and throttles."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.harness.facts import moment

from rota.adapters.clocks import ManualClock
from rota.adapters.forges import HttpForges
from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex
from rota.agent import statuses as module
from rota.agent.statuses import Statuses
from rota.core.backoff import Backoff
from rota.core.build import Trigger
from rota.core.cluster import Cluster
from rota.core.definitions import Definitions
from rota.core.events import (
    AgentJoined,
    BuildCancelled,
    BuildFinished,
    BuildRequested,
    BuildStarted,
    Event,
    HistorySealed,
    LeaderElected,
    StatusPosted,
)
from rota.core.job import Reason, Spec
from rota.core.settings import Forge, Settings
from rota.errors import UnavailableError
from rota.ports.journal import Entry
from rota.service.world import World

SHA = "ab" * 20
TOKEN = "t0ken-of-the-forge"


class FakeForge:
    """Answers as ``fate`` says: a status, or a coroutine that makes one; 201 by default."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.fate: list[Any] = []
        self.port = 0

    async def respond(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        said = json.loads(body) if body else dict(request.query)
        self.asked.append((request.path, dict(request.headers), said))
        fate = self.fate.pop(0) if self.fate else 201
        if callable(fate):
            fate = await fate()
        if isinstance(fate, web.Response):
            return fate
        return web.Response(status=fate, text='{"message": "so it is"}')

    @property
    def states(self) -> list[str]:
        return [said["state"] for _, _, said in self.asked]


class Here:
    """One agent's duty, over a journal in memory; all that is written is folded at once."""

    def __init__(self, forge: FakeForge, folder: Path) -> None:
        self.forge, self.journal = forge, MemoryJournal()
        self.clock = ManualClock(moment())
        (folder / "token").write_text(TOKEN + "\n")
        self.host = f"127.0.0.1:{forge.port}"
        self.api = f"http://{self.host}"
        self.settings = {self.host: Forge(token_file=str(folder / "token"))}
        self.agents: list[Agent] = []

    async def __call__(self, event: Event) -> None:
        seq = await self.journal.append(event)
        for agent in self.agents:
            await agent.world.reached(seq, 5.0)

    async def asked(self, build: str = "x", job: str = "web", **data: str) -> None:
        where = {"forge": "github", "api": self.api, "project": "ann/web", "commit": SHA}
        trigger = Trigger(kind="push", data={**where, "repo": f"{self.host}/ann/web", **data})
        await self(BuildRequested(at=moment(), build=build, job=job, spec=Spec(), trigger=trigger))

    async def started(self, build: str = "x") -> None:
        await self(BuildStarted(at=moment(), agent="a", build=build, attempt=1))

    async def ended(self, build: str = "x", code: int = 0) -> None:
        await self(
            BuildFinished(
                at=moment(), agent="a", build=build, attempt=1, reason=Reason.SCRIPT, exit_code=code
            )
        )

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not is_so():
                await asyncio.sleep(0.002)

    async def posted(self) -> list[StatusPosted]:
        found = [entry.event async for entry in self.journal.read()]
        return [event for event in found if isinstance(event, StatusPosted)]


class Agent:
    """An agent that folds, and tells forges while it leads."""

    def __init__(self, here: Here, name: str, forges: HttpForges) -> None:
        self.here, self.name = here, name
        self.world = World(here.journal, MemoryIndex(), Cluster())
        self.world.definitions = Definitions(settings=Settings(forge=here.settings))
        self.duty = Statuses(
            name=name,
            world=self.world,
            journal=here.journal,
            clock=here.clock,
            forges=forges,
            base=lambda: "https://ci.example",
        )
        self.duty.fence = lambda: self.fence
        self.fence = 0
        self.leading: asyncio.Task[None] | None = None
        self.folding = asyncio.create_task(self._fold())
        here.agents.append(self)

    async def _fold(self) -> None:
        async with contextlib.aclosing(self.here.journal.read(follow=True)) as entries:
            async for entry in entries:
                self.duty.folded(entry, self.world.fold(Entry(entry.seq, entry.event)))

    async def lead(self) -> None:
        event = LeaderElected(at=moment(), agent=self.name)
        self.fence = await self.here.journal.append(event)
        await self.world.reached(self.fence, 5.0)
        self.leading = asyncio.create_task(self.duty.run())

    async def stop(self) -> None:
        for task in (self.leading,):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self.leading = None


@pytest.fixture
async def forge() -> AsyncIterator[FakeForge]:
    fake = FakeForge()
    app = web.Application()
    app.router.add_post("/{tail:.*}", fake.respond)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.port = runner.addresses[0][1]
    yield fake
    await runner.cleanup()


@pytest.fixture
async def here(
    forge: FakeForge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Here]:
    monkeypatch.setattr(module, "Backoff", partial(Backoff, 0.01))
    monkeypatch.setattr(module, "POST_S", 0.3)
    found = Here(forge, tmp_path)
    await found(AgentJoined(at=moment(), name="a", pin="p"))
    async with HttpForges() as forges:
        for name in ("a", "b"):
            Agent(found, name, forges)
        yield found
        for agent in found.agents:
            await agent.stop()
            agent.folding.cancel()
            await asyncio.gather(agent.folding, return_exceptions=True)


async def test_a_forge_is_told_from_the_queue_to_the_result(here: Here, forge: FakeForge) -> None:
    await here.agents[0].lead()
    await here.asked()
    await here.until(lambda: len(forge.asked) == 1)
    await here.until(lambda: here.agents[0].world.cluster.picture.statuses["x"] == "queued")
    await here.started()
    await here.until(lambda: len(forge.asked) == 2)
    await here.ended(code=3)
    await here.until(lambda: not here.agents[0].world.cluster.picture.statuses)
    path, headers, said = forge.asked[-1]
    assert path == f"/repos/ann/web/statuses/{SHA}"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert said == {
        "state": "failure",
        "target_url": "https://ci.example/v1/builds/x",
        "description": "web#1 failed, exit code 3",
        "context": "rota/web",
    }
    assert forge.states == ["pending", "pending", "failure"]
    assert [(it.state, it.final) for it in await here.posted()] == [
        ("queued", False), ("running", False), ("failed", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "path", "header", "state"),
    [
        ("github", f"/repos/ann/web/statuses/{SHA}", "Authorization", "success"),
        ("gitea", f"/repos/ann/web/statuses/{SHA}", "Authorization", "success"),
        ("forgejo", f"/repos/ann/web/statuses/{SHA}", "Authorization", "success"),
        ("gitlab", f"/projects/ann/web/statuses/{SHA}", "PRIVATE-TOKEN", "success"),
        ("bitbucket", f"/repositories/ann/web/commit/{SHA}/statuses/build", "Authorization", "SUCCESSFUL"),
        ("bitbucket-server", f"/rest/build-status/1.0/commits/{SHA}", "Authorization", "SUCCESSFUL"),
    ],
)  # fmt: skip
async def test_each_forge_in_its_own_words(
    here: Here, forge: FakeForge, kind: str, path: str, header: str, state: str
) -> None:
    await here.asked(forge=kind, branch="main")
    await here.started()
    await here.ended()
    await here.agents[0].lead()
    await here.until(lambda: not here.agents[0].world.cluster.picture.statuses)
    ((asked, headers, said),) = forge.asked
    assert (asked, said["state"]) == (path, state)
    assert headers[header].endswith(TOKEN)


async def test_what_fails_is_tried_again_and_nothing_overtakes(
    here: Here, forge: FakeForge
) -> None:
    forge.fate = [500, 502, web.Response(status=429, headers={"Retry-After": "0"}), 201]
    await here.agents[0].lead()
    await here.asked()
    await here.until(lambda: len(forge.asked) >= 2)
    assert "answers 50" in here.agents[0].world.troubles[f"forge {here.host}"]
    await here.started()
    await here.ended()
    await here.until(lambda: not here.agents[0].world.cluster.picture.statuses)
    assert forge.states[-1] == "success"
    assert not here.agents[0].world.troubles
    assert (await here.posted())[-1].final


async def test_what_hung_and_comes_late_does_not_have_the_last_word(
    here: Here, forge: FakeForge
) -> None:
    release = asyncio.Event()

    async def hang() -> int:
        await release.wait()
        return 201

    forge.fate = [201, hang]
    await here.agents[0].lead()
    await here.asked()
    await here.until(lambda: here.agents[0].world.cluster.picture.statuses["x"] == "queued")
    await here.started()
    await here.until(lambda: len(forge.asked) == 2)
    await here.ended()
    await here.until(lambda: not here.agents[0].world.cluster.picture.statuses)
    assert forge.states[-2:] == ["success", "success"], "said once more, when nothing is on its way"
    release.set()


async def test_a_forge_that_hangs_holds_up_no_other(
    here: Here, forge: FakeForge, tmp_path: Path
) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections, and nothing more
    other = f"127.0.0.1:{silent.getsockname()[1]}"
    here.settings[other] = Forge(token_file=str(tmp_path / "token"))
    await here.agents[0].lead()
    await here.asked("y", "dead", repo=f"{other}/ann/web", api=f"http://{other}")
    for number in range(5):
        await here.asked(f"x{number}", f"job{number}")
    await here.until(lambda: len(forge.asked) == 5)
    await here.until(lambda: f"forge {other}" in here.agents[0].world.troubles)
    assert here.agents[0].world.cluster.picture.statuses["y"] == ""
    await here.agents[0].stop()
    silent.close()


async def test_a_new_leader_goes_on_where_the_former_one_was(here: Here, forge: FakeForge) -> None:
    one, other = here.agents
    await one.lead()
    await here.asked()
    await here.until(lambda: other.world.cluster.picture.statuses.get("x") == "queued")
    await one.stop()
    await here.started()
    await here.ended()
    await here(HistorySealed(at=moment(), through=one.world.seq))
    await other.lead()
    await here.until(lambda: not other.world.cluster.picture.statuses)
    assert forge.states == ["pending", "success"]
    # Who lost the lease writes nothing more.
    one.leading = asyncio.create_task(one.duty.run())
    await here.asked("z", "shop")
    await here.until(lambda: other.world.cluster.picture.statuses.get("z") == "queued")
    assert {it.agent for it in (await here.posted())[1:]} == {"b"}


async def test_what_is_refused_is_written_down_and_shown(here: Here, forge: FakeForge) -> None:
    forge.fate = [404, 401]
    await here.agents[0].lead()
    await here.asked()
    await here.until(lambda: here.agents[0].world.cluster.picture.statuses["x"] == "queued")
    await here(BuildCancelled(at=moment(), build="x"))
    await here.until(lambda: not here.agents[0].world.cluster.picture.statuses)
    first, last = await here.posted()
    assert first.why == f'{here.host} answers 404: {{"message": "so it is"}}'
    assert (last.final, "answers 401" in last.why) == (True, True)
    assert TOKEN not in str(await here.posted()) + str(here.agents[0].world.troubles)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"api": "https://evil.example"}, "https://evil.example is not on 127.0.0.1"),
        ({"forge": "cvs"}, "nobody said how 127.0.0.1"),
        ({"project": ""}, "nobody said how"),
        ({"repo": "off.example/x"}, "statuses are off for off.example"),
        ({"repo": "none.example/x", "api": "http://none.example"}, "no token for none.example: `git credential fill` has none on a"),
    ],
)  # fmt: skip
async def test_who_cannot_be_told_is_said(
    here: Here, forge: FakeForge, data: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    here.settings["off.example"] = Forge(statuses=False)
    await here.agents[0].lead()
    await here.asked(**data)
    await here.until(lambda: not here.agents[0].world.cluster.picture.statuses)
    (said,) = await here.posted()
    assert said.why.startswith(why)
    assert not forge.asked


async def test_the_newer_build_of_a_commit_speaks_for_it(here: Here, forge: FakeForge) -> None:
    await here.asked("x")
    await here.asked("y")
    await here.agents[0].lead()
    await here.until(lambda: here.agents[0].world.cluster.picture.statuses == {"y": "queued"})
    (said,) = [said for _, _, said in forge.asked]
    assert said["target_url"].endswith("/y")


async def test_a_token_comes_from_gits_own_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(
        '[credential "https://git.example"]\n  helper = "!f() { echo username=x; echo password=pw; }; f"\n'
        '[credential "https://slow.example"]\n  helper = "!sleep 60 && echo"\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setattr("rota.adapters.forges.CREDENTIAL_S", 0.3)
    async with HttpForges() as forges:
        assert await forges.token("https://git.example", "") == "pw"
        assert await forges.token("https://other.example", "") == ""
        with pytest.raises(UnavailableError, match=r"credential helper for .* does not answer"):
            await forges.token("https://slow.example", "")
        with pytest.raises(UnavailableError, match="cannot read /nowhere"):
            await forges.token("https://git.example", "/nowhere")
