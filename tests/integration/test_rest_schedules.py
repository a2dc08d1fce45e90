"""Schedules over REST: what comes next, why something did not fire, making up for it, pauses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.harness.agent import PATIENCE_S, Here

from rota.core.schedules import decode_notes

HEADER = "#!/bin/sh\n# /// script\n# [tool.rota]\n# on = [ {} ]\n# [tool.rota.params]\n"
PARAM = '# suite = {{ default = "fast", choices = ["fast", "full"] }}\n# ///\necho\n'
NIGHTLY = '{ cron = "30 2 * * *", tz = "Europe/Berlin", name = "n" }'
OFTEN = '{ every = "1s", name = "each" }'


def script(*rules: str) -> str:
    return HEADER.replace("{}", ", ".join(rules)) + PARAM.replace("{{", "{").replace("}}", "}")


async def why(here: Here, job: str, at: str) -> dict[str, Any]:
    reply = await here.ask("GET", f"/v1/jobs/{job}/why-not?at={at.replace('+', '%2B')}")
    assert reply.status == 200, reply.text
    (answer,) = reply.json()["answers"]
    return dict(answer)


async def known(here: Here, job: str) -> None:
    """Return when the leader has taken a job's schedules over."""
    world = here.service.world
    while not any(it.job == job for it in world.cluster.picture.schedules.values()):
        await world.reached(world.seq + 1, PATIENCE_S)


async def fired(here: Here, job: str) -> dict[str, Any]:
    """Return a build of a schedule, once there is one."""
    world = here.service.world
    while not world.last_number(job):
        await world.reached(world.seq + 1, PATIENCE_S)
    return dict((await here.ask("GET", f"/v1/builds/{job}%231?wait=30")).json())


async def test_what_is_to_fire_next_is_listed_in_order(here: Here) -> None:
    await here.put("a", script(NIGHTLY))
    await here.put("b", script('{ every = "30m", priority = 3 }'))
    await known(here, "a")
    await known(here, "b")
    view = (await here.ask("GET", "/v1/schedules?limit=40&start=2027-03-27T00:00:00Z")).json()
    times = [it["at"] for it in view["next"]]
    assert times == sorted(times)
    assert times[0] == "2027-03-27T00:00:00Z"
    assert [it["at"] for it in view["next"] if it["job"] == "a"] == ["2027-03-27T01:30:00Z"]
    assert {it["rule"] for it in view["next"]} == {"every 30m", "30 2 * * * Europe/Berlin"}
    only = (await here.ask("GET", "/v1/schedules?match=a&limit=2&start=2027-03-27")).json()
    assert [it["at"] for it in only["next"]] == ["2027-03-27T01:30:00Z", "2027-03-28T01:00:00Z"]


async def test_a_build_of_a_schedule_says_which_instant_it_is(here: Here) -> None:
    await here.put("a", script('{ every = "1s", name = "each", params = { suite = "full" } }'))
    build = await fired(here, "a")
    assert build["trigger"]["kind"] == "schedule"
    assert build["trigger"]["source"] == "a:each"
    assert (build["result"], build["params"]) == ("passed", {"suite": "full"})
    answer = await why(here, "a", build["trigger"]["at"])
    assert answer["build"] == "a#1"
    assert answer["text"].startswith("fired as a#1, ")


async def test_parameters_that_are_refused_are_a_skip_with_the_reason(here: Here) -> None:
    await here.put("a", script('{ every = "1s", name = "each", params = { suite = "none" } }'))
    world = here.service.world
    while world.cluster.picture.schedules.get("a:each") is None or (
        world.cluster.picture.schedules["a:each"].cursor is None
    ):
        await world.reached(world.seq + 1, PATIENCE_S)
    at = world.cluster.picture.schedules["a:each"].cursor
    assert at is not None
    answer = await why(here, "a", at.isoformat())
    assert answer["build"] is None
    assert "it cannot be asked for: a cannot take these parameters" in answer["text"]
    assert "'none'" in answer["text"]


async def test_a_moment_that_is_no_instant_or_not_yet_or_too_early_is_told_so(here: Here) -> None:
    await here.put("a", script(NIGHTLY))
    await known(here, "a")
    no = await why(here, "a", "2027-06-01T12:00")
    assert no["at"] == "2027-06-01T10:00:00Z"  # by the schedule's own clock
    assert no["text"].startswith("not an instant of it: the cron expression '30 2 * * *'")
    later = await why(here, "a", "2057-06-01T02:30")
    assert later["text"].startswith("not yet: it is due in ")
    early = await why(here, "a", "2020-06-01T02:30")
    assert early["text"].startswith("before the rule was first seen, at 20")
    assert here.service.world.commit[:10] in early["text"]


async def test_bad_times_and_jobs_without_schedules_are_told_what_to_do(here: Here) -> None:
    await here.put("bare")
    await here.put("a", script(NIGHTLY))
    await known(here, "a")
    bad = await here.ask("GET", "/v1/jobs/a/why-not?at=teatime")
    assert bad.status == 400
    assert "'teatime' is no date and time" in bad.text
    none = await here.ask("GET", "/v1/jobs/bare/why-not?at=2027-01-01")
    assert none.status == 404
    assert "bare has no schedule" in none.text
    fill = await here.ask("POST", "/v1/jobs/bare/backfill", body={"start": "2020-01-01"})
    assert (fill.status, "bare has no schedule" in fill.text) == (400, True)
    future = await here.ask(
        "POST", "/v1/jobs/a/backfill", body={"start": "2020-01-01", "end": "2057-01-01"}
    )
    assert "2056-12-31T23:00:00Z is still to come" in future.text
    back = await here.ask(
        "POST", "/v1/jobs/a/backfill", body={"start": "2020-01-02", "end": "2020-01-01"}
    )
    assert "the time ends at 2019-12-31T23:00:00Z, before it begins" in back.text
    much = await here.ask("POST", "/v1/jobs/a/backfill", body={"start": "1990-01-01"})
    assert "more than 5000 instants" in much.text


async def test_a_backfill_asks_once_however_often_it_is_asked_for(here: Here) -> None:
    await here.put("a", script(NIGHTLY))
    wanted = {"start": "2025-03-29", "end": "2025-04-01"}
    dry = (await here.ask("POST", "/v1/jobs/a/backfill", body={**wanted, "dry_run": True})).json()[
        "instants"
    ]
    assert [(it["at"], it["build"], it["is_new"]) for it in dry] == [
        ("2025-03-29T01:30:00Z", None, True),
        ("2025-03-30T01:00:00Z", None, True),  # 02:30 was left out on that day
        ("2025-03-31T00:30:00Z", None, True),
    ]
    first = (await here.ask("POST", "/v1/jobs/a/backfill", body=wanted)).json()["instants"]
    again = (await here.ask("POST", "/v1/jobs/a/backfill", body=wanted)).json()["instants"]
    assert [it["is_new"] for it in (*first, *again)] == [True] * 3 + [False] * 3
    assert [it["build"] for it in first] == [it["build"] for it in again]
    assert len((await here.ask("GET", "/v1/builds?job=a")).json()) == 3
    answer = await why(here, "a", "2025-03-31T02:30")
    assert "made up for as a#" in answer["text"]


async def test_what_a_pause_kept_from_firing_is_on_record_when_it_ends(here: Here) -> None:
    await here.put("a", script(OFTEN))
    await fired(here, "a")
    world = here.service.world
    assert (await here.ask("POST", "/v1/jobs/a/pause", body={"reason": "db"})).status == 200
    await paused(here, is_so=True)
    view = (await here.ask("GET", "/v1/schedules")).json()
    assert view["next"] == []
    assert view["idle"][0]["why"].endswith(": db")
    rest = world.cluster.picture.schedules["a:each"].settled
    await until(rest + timedelta(seconds=1.2))
    await here.ask("POST", "/v1/jobs/a/resume")
    await paused(here, is_so=False)
    answer = await why(here, "a", (rest + timedelta(seconds=1)).isoformat())
    assert answer["text"].startswith("skipped: paused by ")
    assert answer["text"].endswith(": db")


async def paused(here: Here, *, is_so: bool) -> None:
    """Return when the schedule rests, or does not any more."""
    world = here.service.world
    while (world.cluster.picture.schedules["a:each"].pause is not None) is not is_so:
        await world.reached(world.seq + 1, PATIENCE_S)


async def until(moment: datetime) -> None:
    """Return when the clock has come so far."""
    import asyncio

    await asyncio.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))


async def test_a_schedule_that_went_is_told_of_by_the_ledger(here: Here) -> None:
    await here.put("a", script(OFTEN))
    build = await fired(here, "a")
    assert (await here.ask("DELETE", "/v1/jobs/a")).status == 200
    world = here.service.world
    while "a:each" in world.cluster.picture.schedules:
        await world.reached(world.seq + 1, PATIENCE_S)
    while world.cluster.picture.ledger:
        await world.reached(world.seq + 1, PATIENCE_S)
    await here.agent.historian.settled()
    notes = [note async for data in here.store.ledger() for note in decode_notes(data)]
    assert any("a:each" in note.removed for note in notes)
    assert any(fire.build == build["id"] for note in notes for fire in note.fires)
    answer = await why(here, "a", build["trigger"]["at"])
    assert answer["text"].startswith("fired as a#1")
