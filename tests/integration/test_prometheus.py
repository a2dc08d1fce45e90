"""What is shipped for Prometheus, played through by Prometheus itself."""

import asyncio
import contextlib
import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.harness.agent import TOKEN, Here, agent_here

from rota.service.meters import METERS

SHIPPED = Path(__file__).parents[2] / "packaging" / "prometheus"
DASHBOARD = json.loads((SHIPPED / "dashboard.json").read_text())
PATIENCE_S = 30.0
#: What there is only where something is owed, launched, or wrong.
MAY_BE_EMPTY = re.compile(r"cloud|notices_owed|trouble|\[45\]|!=\"script\"|!=\"passed\"|elections")


def queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for it in DASHBOARD["annotations"]["list"]:
        yield it["expr"]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: package prometheus")
    return found


def test_the_alerts_fire_when_they_should() -> None:
    promtool = tool("promtool")
    for command in (("check", "rules", "rota.rules.yml"), ("test", "rules", "rota.rules.test.yml")):
        done = subprocess.run(
            [promtool, *command],
            cwd=SHIPPED,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_dashboard_and_alerts_name_only_what_is_told() -> None:
    known = {it.name for it in METERS}
    known |= {
        it.name + end for it in METERS if it.kind == "histogram" for end in ("_bucket", "_count")
    }
    text = (SHIPPED / "rota.rules.yml").read_text()
    for expression in (*queries(), *re.findall(r"expr: (.*)", text)):
        for name in re.findall(r"\b(?:rota|process)_\w+", expression):
            assert name in known, f"{name} in {expression}"


def test_the_dashboard_is_laid_out_without_overlaps() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert x < 24
                assert (x, y) not in taken, panel["title"]
                taken.add((x, y))


@contextlib.asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[str]:
    """A Prometheus that reads an agent; yields its address."""
    program = tool("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "prometheus.yml").write_text(
        "global: { scrape_interval: 250ms, scrape_timeout: 250ms }\n"
        f"rule_files: ['{SHIPPED / 'rota.rules.yml'}']\n"
        "scrape_configs:\n"
        f"  - job_name: rota\n"
        f"    authorization: {{ credentials: {TOKEN} }}\n"
        f"    static_configs: [{{ targets: ['{target}'] }}]\n"
    )
    process = await asyncio.create_subprocess_exec(
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def ask(session: aiohttp.ClientSession, base: str, query: str) -> list[Any]:
    """Return what a query finds now; nothing while Prometheus is not up yet."""
    try:
        async with session.get(f"{base}/api/v1/query", params={"query": query}) as response:
            if response.status == 503:
                return []
            answer = await response.json()
    except aiohttp.ClientConnectionError:
        return []
    assert answer["status"] == "success", f"{query}: {answer.get('error')}"
    return list(answer["data"]["result"])


async def until_found(session: aiohttp.ClientSession, base: str, query: str) -> list[Any]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await ask(session, base, query)):
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"nothing is found by {query}") from None
    return found


async def _builds(here: Here) -> None:
    await here.put("web/a")
    await here.put("mac", '#!/bin/sh\n# /// script\n# [tool.rota]\n# labels = "macos"\n# ///\n')
    await here.run("mac")
    for _ in range(3):
        await here.finished((await here.run("web/a"))["id"])


async def test_every_query_of_the_dashboard_finds_something(tmp_path: Path) -> None:
    async with (
        agent_here() as here,
        aiohttp.ClientSession() as session,
        prometheus(tmp_path, f"127.0.0.1:{here.port}") as base,
    ):
        await until_found(session, base, "rota_info")
        await _builds(here)
        # Two scrapes that tell of it, since a rate is made of two.
        await until_found(
            session, base, "count_over_time(rota_agent_requests_total{verb='run'}[1m]) > 1"
        )
        for query in queries():
            text = query.replace("$__rate_interval", "1m").replace("$job", "rota")
            if MAY_BE_EMPTY.search(query):
                await ask(session, base, text)
            else:
                await until_found(session, base, text)
        passed = await until_found(session, base, "rota_builds_total{result='passed'} == 3")
        assert passed[0]["metric"]["job"] == "rota"
        named = await until_found(session, base, "rota_job_builds_total{job_name='web/a'}")
        assert named[0]["value"][1] == "3"
