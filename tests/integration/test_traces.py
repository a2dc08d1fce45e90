"""Builds told as traces to a collector that reads them by the official messages."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.harness.agent import Here, agent_here
from tests.harness.collector import FakeCollector

from rota.adapters.otlp import HttpCollector
from rota.adapters.scripted import Plan
from rota.agent.tracer import Tracer
from rota.core.spans import parse_traceparent

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HELD = "#!/bin/sh\n# /// script\n# [tool.rota]\n# needs = ['web/lib']\n# ///\n"
AGAIN = "#!/bin/sh\n# /// script\n# [tool.rota]\n# retry = 1\n# ///\n"
STEPS = b"::step::compile\nx\n::step::test\ny\n"


@pytest.fixture
async def collector() -> AsyncIterator[FakeCollector]:
    async with FakeCollector().running() as found:
        yield found


async def settle(here: Here, text: str) -> None:
    """Put settings on main."""
    await here.commit({"settings.toml": text.encode()})


@contextlib.asynccontextmanager
async def traced(collector: FakeCollector, more: str = "") -> AsyncIterator[Here]:
    async with HttpCollector() as http, agent_here(collector=http) as here:
        await settle(here, f'[traces]\nendpoint = "http://127.0.0.1:{collector.port}"\n{more}')
        yield here


async def test_a_pipeline_is_one_trace_with_all_that_happened(collector: FakeCollector) -> None:
    async with traced(collector) as here:
        await here.put("web/lib", plan=Plan(output=STEPS))
        await here.put("web/app", HELD, plan=Plan(code=3))
        build = await here.run("web/app")
        await here.finished(build["id"])
        whole = await collector.until("pipeline web/app")
        app, lib = await collector.until("web/app#1"), await collector.until("web/lib#1")
        compiled = await collector.until("compile")
        held = await collector.until("held")
        attempts = {it.id: it for it in collector.named("attempt 1")}
        assert {it.trace for it in collector.spans} == {whole.trace}
        assert app.parent == whole.id
        assert lib.parent == app.id
        assert held.parent == app.id
        assert attempts[compiled.parent].parent == lib.id
        assert attempts[compiled.parent].resource["service.instance.id"] == "here"
        assert app.is_error
        assert whole.is_error
        assert not lib.is_error
        assert whole.attributes["cicd.pipeline.result"] == "failure"
        assert whole.end >= app.end >= lib.end
        told = parse_traceparent(here.envs["web/lib"]["TRACEPARENT"])
        assert told is not None
        assert (told.trace, told.span) == (whole.trace, compiled.parent)
        assert len({it.id for it in collector.spans}) == len(collector.spans)


async def test_a_trigger_may_be_part_of_a_trace(collector: FakeCollector) -> None:
    async with traced(collector) as here:
        await here.put("a")
        reply = await here.ask("POST", "/v1/jobs/a/builds", body={}, traceparent=GIVEN)
        await here.finished(reply.json()["id"])
        whole = await collector.until("pipeline a")
        assert (whole.trace, whole.parent) == (GIVEN[3:35], GIVEN[36:52])
        assert here.envs["a"]["TRACEPARENT"].startswith(f"00-{GIVEN[3:35]}-")
        # What is none is passed over, and what is not sampled is not told.
        reply = await here.ask("POST", "/v1/jobs/a/builds", body={}, traceparent="nonsense")
        await here.finished(reply.json()["id"])
        unsampled = GIVEN[:-2] + "00"
        reply = await here.ask("POST", "/v1/jobs/a/builds", body={}, traceparent=unsampled)
        await here.finished(reply.json()["id"])
        assert here.envs["a"]["TRACEPARENT"].endswith("-00")
        await here.finished((await here.run("a"))["id"])
        await collector.until("a#4")
        assert not collector.named("a#3")
        assert len({it.trace for it in collector.named("pipeline a")}) == 3


async def test_without_a_collector_a_trace_is_handed_on_all_the_same() -> None:
    async with agent_here() as here:
        await here.put("a")
        await here.finished((await here.run("a"))["id"])
        assert "TRACEPARENT" not in here.envs["a"]
        reply = await here.ask("POST", "/v1/jobs/a/builds", body={}, traceparent=GIVEN)
        await here.finished(reply.json()["id"])
        assert here.envs["a"]["TRACEPARENT"] == GIVEN


async def test_a_collector_that_is_away_costs_builds_nothing(collector: FakeCollector) -> None:
    async with traced(collector) as here:
        collector.status = 503
        await here.put("a")
        for _ in range(5):
            await here.finished((await here.run("a"))["id"])
        await here.until(lambda: "traces" in here.service.world.troubles)
        said = (await here.ask("GET", "/v1/status")).json()["trouble"]
        assert any("the collector answers 503" in it for it in said)
        collector.status = 200
        await collector.until("pipeline a", 5)
        await here.until(lambda: "traces" not in here.service.world.troubles)
        assert len({it.id for it in collector.spans}) == len(collector.spans)
        collector.status = 400
        await here.finished((await here.run("a"))["id"])
        await here.until(lambda: here.service.counts.spans_dropped)
        assert "refuses spans with 400: not now" in here.service.world.troubles["traces"]


async def test_a_secret_is_sent_along(collector: FakeCollector) -> None:
    async with traced(collector, 'headers = "otel"\n') as here:
        await here.put("a")
        await here.finished((await here.run("a"))["id"])
        await here.until(lambda: "traces" in here.service.world.troubles)
        assert "the secret otel cannot be read" in here.service.world.troubles["traces"]
        value = b"x-api-key=abc, x-team=web"
        reply = await here.ask("PUT", "/v1/secrets/otel", body={"value": _base64(value)})
        assert reply.status in (200, 201), reply.text
        await collector.until("pipeline a")
        assert collector.headers[-1]["x-api-key"] == "abc"
        assert collector.headers[-1]["x-team"] == "web"


def _base64(value: bytes) -> str:
    import base64

    return base64.b64encode(value).decode()


async def test_who_leads_next_tells_what_may_not_have_been_told_and_nothing_is_there_twice(
    collector: FakeCollector,
) -> None:
    async with traced(collector) as here, HttpCollector() as http:
        world = here.service.world
        other = Tracer(
            world=world,
            collector=http,
            clock=here.service.clock,
            counts=here.service.counts,
            read_secret=here.service.secrets.read,  # type: ignore[union-attr]  # it has them
            version="0",
        )
        here.agent.loop.on_change.append(other.folded)
        await here.put("a")
        for _ in range(3):
            await here.finished((await here.run("a"))["id"])
        await collector.until("pipeline a", 3)
        before = {it.id: (it.name, it.start, it.end, it.parent) for it in collector.spans}
        collector.spans.clear()
        import asyncio

        leading = asyncio.create_task(other.run())
        await collector.until("pipeline a", 3)
        leading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leading
        after = {it.id: (it.name, it.start, it.end, it.parent) for it in collector.spans}
        assert after == before


async def test_settings_that_say_nothing_any_more_end_it(collector: FakeCollector) -> None:
    async with traced(collector) as here:
        await here.put("a")
        await here.finished((await here.run("a"))["id"])
        await collector.until("pipeline a")
        await settle(here, "")
        asked = collector.asked
        await here.finished((await here.run("a"))["id"])
        assert "TRACEPARENT" not in here.envs["a"]
        assert collector.asked == asked
