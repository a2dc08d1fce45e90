"""The audit by REST: who did what, filtered; where the history ends; what is said when all is well."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence

import aiohttp
import pytest
from tests.harness.agent import TOKEN, Here

from rota.adapters.scripted import Plan
from rota.core.audit import Head, Progress, Step, read_head
from rota.errors import UnavailableError

pytest_plugins = ["tests.harness.agent"]


async def settled(here: Here) -> None:
    """Return once all that is there was sealed and is in the history."""
    await here.ask("POST", "/v1/events", body={"type": "all.done"})
    picture = here.service.world.cluster.picture
    await here.until(lambda: not picture.deeds and not picture.deeds_due)
    await here.agent.historian.settled()


async def test_deeds_are_listed_from_memory_and_from_the_history_alike(here: Here) -> None:
    await here.put("web/a")
    build = await here.run("web/a")
    await here.finished(build["id"])
    fresh = (await here.ask("GET", "/v1/audit")).json()
    await settled(here)
    here.service.world._sealed_deeds.clear()  # as after a start
    late = (await here.ask("GET", "/v1/audit")).json()
    verbs = [it["verb"] for it in fresh["deeds"]]
    assert (verbs[:2], verbs[-1]) == (["run", "commit"], "raise")
    assert late["deeds"][1:] == fresh["deeds"]
    assert late["deeds"][0]["on"] == ["all.done"]
    run = fresh["deeds"][0]
    assert (run["on"], run["kind"], run["agent"]) == (["web/a#1"], "build.requested", "here")


async def test_a_deed_says_from_where_it_was_asked_for_over_tcp_and_nobody_says_it_himself(
    here: Here,
) -> None:
    await here.ask("POST", "/v1/events", body={"type": "by.socket"}, Rota_Address="192.0.2.7")
    headers = {"Authorization": f"Bearer {TOKEN}", "Rota-Address": "192.0.2.7"}
    url = f"http://127.0.0.1:{here.port}/v1/events"
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(2):  # on one connection
            async with session.post(url, json={"type": "by.tcp"}) as answer:
                assert answer.status < 300
    deeds = (await here.ask("GET", "/v1/audit?what=emit")).json()["deeds"]
    assert [(it["on"], it["address"]) for it in deeds] == [
        (["by.tcp"], "127.0.0.1"),
        (["by.tcp"], "127.0.0.1"),
        (["by.socket"], ""),
    ]


async def test_they_are_filtered_and_paged(here: Here) -> None:
    await here.put("web/a")
    await here.put("app/b", plan=Plan(hangs=True))
    for _ in range(3):
        await here.run("web/a")
    build = await here.run("app/b")
    await here.ask("POST", f"/v1/builds/{build['id']}/cancel")

    async def found(query: str) -> list[str]:
        answer = (await here.ask("GET", f"/v1/audit?{query}")).json()
        return [f"{it['verb']} {' '.join(it['on'])}" for it in answer["deeds"]]

    assert await found("what=cancel") == ["cancel app/b#1"]
    assert await found("job=web/*&what=run") == ["run web/a#3", "run web/a#2", "run web/a#1"]
    assert await found("job=app/b") == ["cancel app/b#1", "run app/b#1", "commit main"]
    assert await found("by=nobody") == []
    assert await found("until=1h") == []
    assert await found("after=1h") == await found("")
    assert len(await found("")) >= 8
    page = (await here.ask("GET", "/v1/audit?limit=2")).json()
    assert page["more"]
    assert await found(f"what=run&before={page['deeds'][-1]['seq']}&limit=1") == ["run web/a#3"]
    reply = await here.ask("GET", "/v1/audit?after=yesterday")
    assert reply.status == 400
    assert reply.json()["detail"] == "bad after 'yesterday'"
    reply = await here.ask("GET", "/v1/audit?what=cancle")
    assert (reply.status, reply.json()["detail"]) == (400, "no deed is called 'cancle'")
    assert reply.json()["hint"] == "did you mean 'cancel'?"
    reply = await here.ask("GET", "/v1/audit?what=xyz")
    assert reply.json()["hint"].startswith("one of answer, approve, cancel, ")
    assert await found("what=build.cancelled") == ["cancel app/b#1"]
    assert await found("what=schedules.fired") == []


async def test_a_history_without_a_chain_has_no_head_and_one_with_a_chain_has(here: Here) -> None:
    await settled(here)
    view = (await here.ask("GET", "/v1/audit/head")).json()
    head = read_head(view["line"])
    assert head is not None
    assert (head.seq, head.chain, head.commit) == (view["seq"], view["chain"], view["commit"])
    assert view["agent"] == "here"


async def test_verify_says_how_far_it_is_and_what_it_looked_at(here: Here) -> None:
    await here.put("web/a", plan=Plan(output=b"some output\n"))
    await here.finished((await here.run("web/a"))["id"])
    await settled(here)
    reply = await here.ask("GET", "/v1/audit/verify")
    steps = [json.loads(line) for line in reply.body.splitlines()]
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    assert steps[0] == {"type": "progress", "stage": "objects", "done": 0, "total": 0}
    last = steps[-1]
    assert (last["type"], last["flaws"], last["logs"], last["gone"]) == ("verified", 0, 1, 0)
    assert last["events"] > 0


async def test_what_is_no_head_is_refused(here: Here) -> None:
    reply = await here.ask("GET", "/v1/audit/verify?head=rota-audit-1%207")
    assert reply.status == 400
    assert reply.json()["detail"] == "'rota-audit-1 7' is no head of a history"
    assert "rota audit head printed" in reply.json()["hint"]


@pytest.mark.parametrize("is_cut", [False, True])
async def test_a_log_that_is_not_what_it_was_is_named(here: Here, is_cut: bool) -> None:
    await here.put("web/a", plan=Plan(output=b"some output\n"))
    build = await here.finished((await here.run("web/a"))["id"])
    await settled(here)
    log = here.logs._logs[next(iter(here.logs._logs))]
    log[:] = log[:-1] if is_cut else log.replace(b"output", b"0utput")
    steps = [
        json.loads(line) for line in (await here.ask("GET", "/v1/audit/verify")).body.splitlines()
    ]
    flaws = [(it["what"], it["where"]) for it in steps if it["type"] == "flaw"]
    assert flaws == [("log", "web/a#1, attempt 1")]
    without = await here.ask("GET", "/v1/audit/verify?logs=false")
    assert json.loads(without.body.splitlines()[-1])["flaws"] == 0
    assert build["log_sha256"]


async def test_an_event_that_is_not_what_it_was_is_named(here: Here) -> None:
    await settled(here)
    await here.ask("POST", "/v1/events", body={"type": "a.b", "data": {"x": "1"}})
    await settled(here)
    at = next(n for n, raw in enumerate(here.journal._raw) if b'"a.b"' in raw)
    here.journal._raw[at] = here.journal._raw[at].replace(b'"1"', b'"2"')

    async def flaws() -> list[tuple[str, str]]:
        body = (await here.ask("GET", "/v1/audit/verify")).body
        steps = [json.loads(line) for line in body.splitlines()]
        return [(it["what"], it["where"]) for it in steps if it["type"] == "flaw"]

    assert await flaws() == [("journal", f"event {at + 1}")]
    here.service.world._recent.clear()  # as after a start, where nobody remembers the event itself
    (found,) = await flaws()
    assert found[0] == "journal"
    assert found[1].startswith("events ")


async def test_an_inspection_that_breaks_off_says_so_in_its_last_line(here: Here) -> None:
    class Breaks:
        async def inspect(self, heads: Sequence[Head] = ()) -> AsyncGenerator[Step]:
            if not heads:
                yield Progress("objects", 1, 2)
            raise UnavailableError("the inspection broke off", hint="look at the disk")

    here.service.inspector = Breaks()
    steps = [
        json.loads(line) for line in (await here.ask("GET", "/v1/audit/verify")).body.splitlines()
    ]
    assert steps[1] == {
        "type": "broke-off", "text": "the inspection broke off", "hint": "look at the disk",
    }  # fmt: skip
    head = "rota-audit-1%207%20-%20-"
    reply = await here.ask("GET", f"/v1/audit/verify?head={head}")
    assert (reply.status, reply.json()["detail"]) == (503, "the inspection broke off")
