"""Every setting takes effect as soon as `main` moves: no agent is started anew for any of them."""

import ast
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.harness.agent import Here, agent_here

from rota.adapters.scripted import Plan
from rota.core.settings import _SETTINGS, Settings

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "rota"

See = Callable[[Here], Awaitable[object]]


async def settle(here: Here, text: str) -> None:
    await here.commit({"settings.toml": text.encode()})


def variable(name: str) -> See:
    async def see(here: Here) -> object:
        await here.put("a")
        await here.finished((await here.run("a"))["id"])
        return here.envs["a"].get(name)

    return see


async def timeout(here: Here) -> object:
    await here.put("a")
    return (await here.run("a"))["spec"].get("timeout_s")


def policy(name: str) -> See:
    async def see(here: Here) -> object:
        return getattr(here.service.world.cluster.picture.policy, name)

    return see


async def hook_url(here: Here) -> object:
    await here.ask("PUT", "/v1/hooks/h", body={"repo": "https://git.example/web.git"})
    [hook] = (await here.ask("GET", "/v1/hooks")).json()
    return hook["url"]


async def shared_with(here: Here) -> object:
    reply = await here.ask("GET", "/v1/jobs", Origin="https://page.example")
    return reply.headers.get("Access-Control-Allow-Origin")


async def groups(here: Here) -> object:
    await here.ask("PUT", "/v1/users/ann", body={"role": "viewer"})
    return (await here.ask("GET", "/v1/users/ann")).json().get("groups", [])


async def kept(here: Here) -> object:
    await here.put("bad", plan=Plan(code=1))
    build = await here.finished((await here.run("bad"))["id"])
    await here.until(lambda: build["id"] not in here.agent.runner.active)
    return build["id"] in (await here.ask("GET", "/v1/workspaces")).text


async def told_of(here: Here) -> object:
    """The limits that the engine was told of last."""
    return here.told  # type: ignore[attr-defined]  # set below


async def secret(here: Here) -> object:
    assert here.service.secrets is not None
    await here.put(
        "s",
        "#!/bin/sh\n# /// script\n# [tool.rota]\n# secrets = [{ name = 'own:wordy', env = 'X' }]\n# ///\n",
    )
    build = await here.finished((await here.run("s"))["id"])
    return build["result"]


async def chat(here: Here) -> object:
    return [it["name"] for it in (await here.ask("GET", "/v1/chat")).json()]


async def seen_by_stranger(here: Here) -> object:
    from aiohttp import ClientSession

    async with (
        ClientSession() as session,
        session.get(f"http://127.0.0.1:{here.port}/metrics") as response,
    ):
        return response.status


#: What is set, what is looked at, and what is seen then.
TABLE: dict[str, tuple[str, See, object]] = {
    "path": ('path = ["/opt/x"]', variable("PATH"), "…:/opt/x"),
    "env": ('env = { LANG = "C" }', variable("LANG"), "C"),
    "timeout": ('timeout = "7m"', timeout, 420.0),
    "limits": ("[limits]\nlicence = 5", policy("limits"), {"licence": 5}),
    "share": ("[share]\nweb = 3", policy("share"), {"web": 3}),
    "queue": ("[queue]\nageing = 7", policy("ageing"), 7),
    "url": ('url = "https://ci.example"', hook_url, "https://ci.example/v1/hooks/h"),
    "rest": (
        '[rest]\norigins = ["https://page.example"]',
        shared_with,
        "https://page.example",
    ),
    "groups": ('[groups]\nrelease = ["ann"]', groups, ["release"]),
    "builds": ("[builds]\nkeep_failed_workspaces = 0", kept, False),
    "logs": ('[logs]\nmax_age = "3d"', told_of, 3 * 86400.0),
    "metrics": ("[metrics]\nopen = true", seen_by_stranger, 200),
    "chat": (
        '[chat.team]\nkind = "bridge"\nserver = "unix:/nowhere"',
        chat,
        ["team"],
    ),
    "secrets": (
        '[secrets.provider.own]\ncommand = ["/bin/echo", "{path}"]\njobs = ["s"]',
        secret,
        "passed",
    ),
}

#: What takes more than one agent, a network or a disk to be seen: a test that sets it on one that runs.
ELSEWHERE = {
    "access": "tests/integration/test_access_rest.py",
    "agents": "tests/fault/test_chat.py",
    "artifacts": "tests/integration/test_blob_stores.py",
    "bucket": "tests/integration/test_blob_stores.py",
    "cloud": "tests/fault/test_clouds.py",
    "forge": "tests/integration/test_statuses.py",
    "isolation": "tests/acceptance/test_isolation.py",
    "mail": "tests/integration/test_notices_rest.py",
    "notify": "tests/integration/test_notices_rest.py",
    "oidc": "tests/integration/test_oidc.py",
    "outlet": "tests/integration/test_users_rest.py",
    "traces": "tests/integration/test_traces.py",
}

#: What is asked for anew whenever it is needed, and of which no test waits for the moment.
READ_ANEW = {
    "caches": "agent/caching.py, agent/cache_sweeper.py: at each save and sweep",
    "certificates": "agent/certificates.py: at each look at the certificate",
    "containers": "agent/contained.py: at each container",
    "throttle": "with limits, share and queue: one policy",
    "voters": "agent/membership.py: at each step of the ensemble",
    "workspaces": "agent/workspaces.py: at each build that is kept, and each sweep",
}


def test_no_setting_is_forgotten_here() -> None:
    named = [*TABLE, *ELSEWHERE, *READ_ANEW]
    assert sorted(named) == sorted(_SETTINGS), "say of a new section here how it takes effect"
    for name, path in ELSEWHERE.items():
        assert name in (ROOT / path).read_text(), f"{path} does not set {name}"


@pytest.mark.parametrize("name", TABLE)
async def test_a_setting_takes_effect_when_main_moves(name: str) -> None:
    text, see, expected = TABLE[name]
    async with agent_here() as here:

        async def configure(settings: Settings) -> None:
            here.told = settings.logs.max_age_s  # type: ignore[attr-defined]  # for `told_of`

        here.told = None  # type: ignore[attr-defined]  # for `told_of`
        here.agent.members.limits._configure = configure
        assert not _fits(await see(here), expected)
        await settle(here, text)
        async with asyncio.timeout(30):
            while not _fits(await see(here), expected):
                await asyncio.sleep(0.01)
        await settle(here, "")
        async with asyncio.timeout(30):
            while _fits(await see(here), expected):
                await asyncio.sleep(0.01)


def _fits(seen: object, expected: object) -> bool:
    if isinstance(expected, str) and expected.startswith("…"):
        return str(seen).endswith(expected[1:])
    return seen == expected


class _Kept(ast.NodeVisitor):
    """Finds attributes that are set to a part of the settings, which would outlive them."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_Assign(self, node: ast.Assign) -> None:
        keeps = any(isinstance(it, ast.Attribute) for it in node.targets)
        value: Any = node.value
        text = ast.unparse(value)
        if keeps and "definitions.settings" in text and not isinstance(value, ast.Lambda):
            self.found.append(f"{node.lineno}: {ast.unparse(node)}")


def test_nobody_keeps_a_part_of_the_settings() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        if "definitions.settings" not in text:
            continue
        finder = _Kept()
        finder.visit(ast.parse(text))
        if path.name == "bot.py":
            finder.found.clear()  # compares with it, to see that they are others
        assert not finder.found, f"{path}:{finder.found}"


def test_this_test_would_notice() -> None:
    finder = _Kept()
    finder.visit(ast.parse("self.limit = world.definitions.settings.caches.max_bytes"))
    assert finder.found
