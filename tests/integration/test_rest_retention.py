"""What a reader is told of logs and artifacts that were removed."""

from __future__ import annotations

from typing import Any

from tests.harness.agent import Here

from rota.adapters.scripted import Plan
from rota.core.events import BuildsSwept
from rota.core.retention import Swept
from rota.ports.logs import LogKey
from rota.service.artifacts import blob_name


async def swept(here: Here) -> dict[str, Any]:
    """Return a build that left a log and two files, of which the log and one file are removed."""
    await here.put("a", plan=Plan(output=b"hello\n", hangs=True))
    build = await here.run("a")
    running = await here.running(build["id"])
    for name in ("gone", "kept"):
        reply = await here.ask("PUT", f"/v1/builds/{build['id']}/artifacts/{name}", body=b"12")
        assert reply.status == 201, reply.text
    running.finish()
    done = await here.finished(build["id"])
    await here.until(lambda: not here.service.world.live_logs)
    await here.until(lambda: not list(here.service.world.live()))
    await here.logs.drop(LogKey(build["id"], 1))
    await here.blobs.drop(blob_name(build["id"], "gone"))
    return done


async def record(here: Here, build: str) -> str:
    now = here.service.clock.now()
    each = Swept(build, logs="keep.builds", artifacts="artifacts.max_age")
    await here.service.journal.append(BuildsSwept(at=now, swept=(each,)))
    await here.until(lambda: here.service.world.removed(build).logs)
    return f"{now:%Y-%m-%d}"


async def test_a_removed_log_says_when_and_by_which_rule(here: Here) -> None:
    build = await swept(here)
    reply = await here.ask("GET", f"/v1/builds/{build['id']}/log")
    assert reply.status == 404
    assert reply.json()["detail"] == "the log of a#1 is no longer kept"
    day = await record(here, build["id"])
    for query in ("", "?tail=3", "?follow"):
        reply = await here.ask("GET", f"/v1/builds/{build['id']}/log{query}")
        assert reply.status == 404
        text = f"the log of a#1 was removed on {day} by its job's `keep.builds`"
        assert reply.json()["detail"] == text
        assert reply.json()["hint"] == "its record stays: rota show 'a#1'"


async def test_a_removed_artifact_is_listed_as_such(here: Here) -> None:
    build = await swept(here)
    day = await record(here, build["id"])
    listed = (await here.ask("GET", f"/v1/builds/{build['id']}/artifacts")).json()
    why = f"removed on {day} by the cluster's `artifacts.max_age`"
    assert [(it["path"], it.get("removed")) for it in listed] == [("gone", why), ("kept", None)]
    reply = await here.ask("GET", f"/v1/builds/{build['id']}/artifacts/gone")
    assert reply.status == 404
    assert reply.json()["detail"] == f"'gone' of a#1 was {why}"
    assert (await here.ask("GET", f"/v1/builds/{build['id']}/artifacts/kept")).body == b"12"


async def test_where_nobody_knows_why_it_is_removed_all_the_same(here: Here) -> None:
    build = await swept(here)
    listed = (await here.ask("GET", f"/v1/builds/{build['id']}/artifacts")).json()
    assert [it.get("removed") for it in listed] == ["removed", None]


async def test_a_build_that_printed_nothing_has_an_empty_log(here: Here) -> None:
    await here.put("quiet")
    build = await here.run("quiet")
    await here.finished(build["id"])
    reply = await here.ask("GET", f"/v1/builds/{build['id']}/log")
    assert (reply.status, reply.body) == (200, b"")
