"""`GET /metrics`: what is on the page, who may read it, and that it stays small."""

import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.harness.agent import TOKEN, Here, agent_here
from tests.harness.agent import here as here

from rota.adapters.scripted import Plan
from rota.agent.loop import Loop
from rota.core.exposition import OTHER
from rota.core.settings import parse_settings
from rota.service.context import Principal
from rota.service.log_fields import FIELDS, about
from rota.service.meters import METERS, page
from rota.service.verbs import Role


class Page:
    """A page, by name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self.kinds: dict[str, str] = {}
        for found in text_string_to_metric_families(text):
            self.kinds[found.name] = found.type
            for it in found.samples:
                key = it.name, frozenset(it.labels.items())
                assert key not in self.values, f"{key} is there twice"
                self.values[key] = it.value

    def get(self, name: str, **labels: str) -> float:
        return self.values[name, frozenset(labels.items())]

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(its)[label] for found, its in self.values if found == name}


async def look(here: Here) -> Page:
    reply = await here.ask("GET", "/metrics")
    assert reply.status == 200, reply.text
    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Page(reply.text)


async def test_what_happens_after_the_first_look_is_counted(here: Here) -> None:
    await here.put("web/a")
    await here.put("web/b", plan=Plan(code=3))
    await here.finished((await here.run("web/a"))["id"])
    assert not here.service.counts.is_on
    assert (await look(here)).get("rota_builds_total", result="passed") == 0
    for job in ("web/a", "web/a", "web/b"):
        await here.finished((await here.run(job))["id"])
    found = await look(here)
    assert found.get("rota_builds_total", result="passed") == 2
    assert found.get("rota_job_builds_total", job_name="web/b", result="failed") == 1
    assert found.get("rota_build_duration_seconds_count", job_name="web/a") == 2
    assert found.get("rota_build_wait_seconds_count") == 3
    assert found.get("rota_attempts_total", reason="script") == 3
    assert found.get("rota_agent_requests_total", verb="run", status="201") == 3
    assert found.get("rota_agent_append_seconds_count") > 0
    assert found.get("rota_agents", state="up") == 1
    assert found.get("rota_jobs") == 2
    assert found.get("rota_slots", agent="here") == 4


async def test_the_queue_is_told_by_label_expression_with_the_age_of_its_oldest(here: Here) -> None:
    await here.put("mac", '#!/bin/sh\n# /// script\n# [tool.rota]\n# labels = "macos"\n# ///\n')
    await here.run("mac")
    await here.run("mac")
    found = await look(here)
    assert found.get("rota_builds_queued", labels="macos") == 2
    assert found.get("rota_queue_oldest_seconds", labels="macos") >= 0


async def test_streams_that_are_open_are_counted_until_they_are_closed(here: Here) -> None:
    async with here.stream("GET", "/v1/events?follow=true", headers={}) as response:
        await response.content.readany()
        assert (await look(here)).get("rota_agent_streams", verb="events") == 1
    await here.until(lambda: here.service.counts.streams["events"] == 0)


async def test_an_answer_that_is_refused_is_counted_by_its_status(here: Here) -> None:
    await look(here)
    assert (await here.ask("GET", "/v1/jobs/nope")).status == 404
    assert (await here.ask("GET", "/nowhere")).status == 404
    found = await look(here)
    assert found.get("rota_agent_requests_total", verb="job", status="404") == 1
    assert found.get("rota_agent_requests_total", verb="other", status="404") == 1


async def _over_tcp(here: Here, headers: Mapping[str, str] = {}) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{here.port}/metrics"
        async with session.get(url, headers=headers) as response:
            return response.status, await response.text()


async def test_without_a_token_it_is_told_only_where_the_settings_say_so(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = here.service.clock.monotonic()
    monkeypatch.setattr(here.service.clock, "monotonic", lambda: moment)
    status, text = await _over_tcp(here)
    assert status == 401
    assert "no credential" in text
    assert (await _over_tcp(here, {"Authorization": f"Bearer {TOKEN}"}))[0] == 200
    settings, faults = parse_settings("[metrics]\nopen = true\n")
    assert not faults
    here.service.world.definitions = _with(here, settings)
    status, text = await _over_tcp(here)
    assert status == 200
    # Who need not say who he is makes one page a second at most, however often he asks.
    monkeypatch.setattr("rota.http.app.page", lambda _: b"another")
    assert await _over_tcp(here) == (200, text)
    moment += 1.0
    assert await _over_tcp(here) == (200, "another")


async def test_a_viewer_may_look(here: Here) -> None:
    here.who = lambda _: Principal("vi", Role.VIEWER)
    await look(here)
    here.who = lambda _: Principal("no", Role.NONE)
    refused = await here.ask("GET", "/metrics")
    assert refused.status == 403
    assert "/metrics needs a viewer" in refused.text


async def test_jobs_beyond_the_bound_are_one(here: Here) -> None:
    settings, _ = parse_settings("[metrics]\njobs = 2\n")
    here.service.world.definitions = _with(here, settings)
    await look(here)
    for job in ("a", "b", "c", "d"):
        await here.put(job)
        here.service.world.definitions = _with(here, settings)
        await here.finished((await here.run(job))["id"])
    found = await look(here)
    assert found.labels("rota_job_builds_total", "job_name") == {"a", "b", OTHER}
    assert found.get("rota_job_builds_total", job_name=OTHER, result="passed") == 2


def _with(here: Here, settings: Any) -> Any:
    from msgspec.structs import replace

    return replace(here.service.world.definitions, settings=settings)


async def test_many_label_expressions_are_bounded(here: Here) -> None:
    script = '#!/bin/sh\n# /// script\n# [tool.rota]\n# labels = "{}"\n# ///\n'
    for number in range(60):
        await here.put(f"j{number}", script.format(f"x{number}"))
        await here.run(f"j{number}")
    found = await look(here)
    assert len(found.labels("rota_builds_queued", "labels")) == 51
    assert found.get("rota_builds_queued", labels=OTHER) == 10


def test_names_follow_the_conventions() -> None:
    names = [it.name for it in METERS]
    assert len(names) == len(set(names))
    for it in METERS:
        assert it.name.startswith(("rota_", "process_")), it.name
        assert it.name.endswith("_total") == (it.kind == "counter"), it.name
        assert it.help.endswith("."), it.name


async def test_promtool_finds_nothing_wrong(here: Here) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: package prometheus")
    await here.put("a")
    page(here.service)
    await here.finished((await here.run("a"))["id"])
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=page(here.service),
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert checked.returncode == 0, checked.stderr
    assert checked.stderr == b""


async def test_what_is_decided_is_not_about_the_build_of_whoever_asks(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[object] = []
    monkeypatch.setattr(Loop, "_decide", lambda _: found.append(FIELDS.get()))
    about(build="web#1")
    here.agent.loop.decide_soon()
    await here.until(lambda: found)
    assert found == [None]


async def test_a_second_agent_counts_by_itself() -> None:
    async with agent_here() as other:
        await look(other)
        assert other.service.counts.is_on
