"""Roles on some jobs: what somebody may there, and that of all else nothing is seen."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from tests.harness.agent import Here, Reply, agent_here

from rota.adapters.scripted import Plan
from rota.core.cache_entry import Entry
from rota.core.events import EPOCH, CacheSaved, Known, NoticesQueued, kind_of
from rota.core.outbox import Due, Tale, Telling
from rota.service.context import Principal
from rota.service.verbs import VERBS, About, Role, Verb

SETTINGS = b"""\
[groups]
web = ["cho"]
[limits]
licence = 1
[mail]
server = "smtp://127.0.0.1:9"
from = "rota@ci.example"
[[access]]
jobs = "web/**"
who = "@web"
role = "maintainer"
[[access]]
jobs = ["web/**", "db/test"]
who = ["dan"]
role = "viewer"
[[access]]
jobs = "db/*"
who = "bob"
role = "builder"
"""
FILES = {
    "settings.toml": SETTINGS,
    "users/bob.toml": b'role = "viewer"\n',
    "users/cho.toml": b'role = "none"\n',
    "users/dan.toml": b'role = "none"\n',
    "users/eve.toml": b'role = "none"\n',
}
#: What stands in names, texts and logs of jobs that cho does not see, and nowhere else.
HIDDEN = "hush"
CRON = (
    "# /// script\n# [tool.rota]\n# description = '{0}'\n# on = [{{ cron = '0 3 * * *' }}]\n# ///\n"
)
LIMITED = "# /// script\n# [tool.rota]\n# limits = ['licence']\n# concurrency = 1\n# ///\n"


class Office:
    """An agent with users, and tokens of theirs."""

    def __init__(self, here: Here) -> None:
        self.here = here
        self.ids: dict[str, str] = {}

    def become(self, name: str, **scope: Any) -> None:
        """Have requests come from a user, until :meth:`root`."""
        judge = self.here.service.world.judge
        rights = judge.user(name)
        self.here.who = lambda request: Principal(name, rights.everywhere, rights=rights)

    def root(self) -> None:
        self.here.who = None

    async def as_(self, name: str, method: str, path: str, body: object = None) -> Reply:
        self.become(name)
        try:
            return await self.here.ask(method, path, body=body)
        finally:
            self.root()


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with agent_here() as here:
        await here.commit(dict(FILES))
        yield Office(here)


def said(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json()["detail"]


# -- one thing at a time ------------------------------------------------------------------------


async def test_a_rule_gives_its_role_on_its_jobs_and_nothing_on_others(office: Office) -> None:
    await office.here.put("web/test")
    await office.here.put("db/test")
    built = await office.as_("cho", "POST", "/v1/jobs/web/test/builds", {})
    assert (built.status, built.json()["trigger"]["by"]) == (201, "cho")
    script = {"script": "#!/bin/sh\necho 2\n"}
    assert (await office.as_("cho", "PUT", "/v1/jobs/web/new", script)).status == 200
    for method, path in (
        ("POST", "/v1/jobs/db/test/builds"),
        ("GET", "/v1/jobs/db/test"),
        ("DELETE", "/v1/jobs/db/test"),
        ("POST", "/v1/jobs/db/test/pause"),
    ):
        reply = await office.as_("cho", method, path, {} if method == "POST" else None)
        assert said(reply) == (404, "no job 'db/test'"), path
        # It says the same of what there is and of what there is not.
        none = await office.as_("cho", method, path.replace("db/test", "db/none"), {})
        assert said(none) == (404, "no job 'db/none'")
        assert "db/" not in none.json()["hint"] + reply.json()["hint"]


async def test_who_would_make_a_job_elsewhere_is_told_what_is_missing(office: Office) -> None:
    await office.here.put("db/test")
    for job in ("db/test", "db/none"):
        reply = await office.as_("cho", "PUT", f"/v1/jobs/{job}", {"script": "#!/bin/sh\n"})
        assert said(reply) == (
            403,
            f"cho is without a role of {job}; `add` or `edit` needs a maintainer",
        )


async def test_nobody_has_a_job_run_by_a_need_that_he_may_not_run(office: Office) -> None:
    await office.here.put("db/test")
    for job in ("db/test", "db/none"):
        script = f"# /// script\n# [tool.rota]\n# needs = ['{job}']\n# ///\n"
        for method, path, body in (
            ("PUT", "/v1/jobs/web/a", {"script": script}),
            ("POST", "/v1/check", {"job": "web/a", "script": script}),
        ):
            reply = await office.as_("cho", method, path, body)
            assert said(reply) == (
                403,
                f"web/a needs {job}, and for that one must be a builder of it",
            )


async def test_less_than_a_verb_needs_is_said_with_the_job(office: Office) -> None:
    await office.here.put("web/test")
    await office.here.put("db/test")
    reply = await office.as_("dan", "POST", "/v1/jobs/db/test/builds", {})
    assert said(reply) == (403, "dan is a viewer; `run` needs a builder")
    reply = await office.as_("bob", "POST", "/v1/jobs/web/test/builds", {})
    assert said(reply) == (403, "bob is a viewer of web/test; `run` needs a builder")
    assert (await office.as_("bob", "POST", "/v1/jobs/db/test/builds", {})).status == 201
    reply = await office.as_("cho", "POST", "/v1/stop")
    assert said(reply) == (403, "cho is without a role but for some jobs; `stop` needs an admin")
    reply = await office.as_("bob", "POST", "/v1/agents/here/drain", {})
    assert said(reply) == (
        403,
        "bob is a viewer, more than that for some jobs; `drain` needs a maintainer",
    )
    reply = await office.as_("eve", "GET", "/v1/jobs")
    assert said(reply) == (403, "eve is without a role; `jobs` needs a viewer")


async def test_a_build_is_there_for_who_sees_its_job(office: Office) -> None:
    here = office.here
    await here.put("web/test", plan=Plan(output=b"x\n"))
    await here.put("db/test", plan=Plan(output=b"y\n"))
    web, db = (await here.run("web/test")), (await here.run("db/test"))
    for build in (web, db):
        await here.finished(build["id"])
    for named in (db["id"], db["id"][:8], "db%2Ftest%231", "db%2Ftest"):
        for rest in ("", "/log", "/why", "/tree", "/steps", "/artifacts"):
            reply = await office.as_("cho", "GET", f"/v1/builds/{named}{rest}")
            assert reply.status == 404, (named, rest, reply.text)
        assert (await office.as_("dan", "GET", f"/v1/builds/{named}/log")).body == b"y\n"
    for named in (web["id"], web["id"][:8], "web%2Ftest%231", "web%2Ftest"):
        assert (await office.as_("cho", "GET", f"/v1/builds/{named}/log")).body == b"x\n"
        assert (await office.as_("cho", "POST", f"/v1/builds/{named}/retry", {})).status == 200
        await here.finished(web["id"])


async def test_lists_have_what_is_seen_and_count_nothing_else(office: Office) -> None:
    here = office.here
    for job in ("web/a", "web/b", "db/a", "db/b"):
        await here.put(job, plan=Plan(output=b"needle\n"))
        await here.finished((await here.run(job))["id"])
    jobs = (await office.as_("cho", "GET", "/v1/jobs")).json()
    assert [it["name"] for it in jobs] == ["web/a", "web/b"]
    builds = (await office.as_("cho", "GET", "/v1/builds")).json()
    assert [it["job"] for it in builds] == ["web/b", "web/a"]
    paged = await office.as_("cho", "GET", "/v1/builds?limit=1")
    assert [it["job"] for it in paged.json()] == ["web/b"]
    found = (await office.as_("cho", "GET", "/v1/logs?pattern=needle")).text.splitlines()
    assert [json.loads(line).get("build") for line in found] == ["web/b#1", "web/a#1", None]
    assert json.loads(found[-1])["builds"] == 2
    status = (await office.as_("cho", "GET", "/v1/status")).json()
    assert (status["jobs"], status["queued"]) == (2, 0)
    reply = await office.as_("cho", "GET", "/v1/builds?job=db%2Fa")
    assert said(reply) == (404, "no job 'db/a'")
    reply = await office.as_("cho", "GET", "/v1/logs?pattern=x&job=db%2F*")
    assert said(reply) == (404, "no job that was ever built matches 'db/*'")


async def test_a_user_s_rules_change_with_the_settings_at_once(office: Office) -> None:
    here = office.here
    await here.put("web/test")
    assert (await office.as_("eve", "GET", "/v1/jobs/web/test")).status == 403
    more = SETTINGS + b'[[access]]\njobs = "**"\nwho = "*"\nrole = "viewer"\n'
    await here.commit({"settings.toml": more})
    assert (await office.as_("eve", "GET", "/v1/jobs/web/test")).status == 200
    await here.commit({"settings.toml": b""})
    assert (await office.as_("cho", "GET", "/v1/jobs/web/test")).status == 403


# -- the whole table ----------------------------------------------------------------------------


class Hidden(NamedTuple):
    """What there is that is not seen, and one thing that is."""

    build: str
    seen: str


async def furnish(here: Here) -> Hidden:
    """Have something of each kind that verbs tell of, of a hidden job and of one that is seen."""
    build: dict[str, Any] = {}
    for job in (f"{HIDDEN}/a", "web/a"):
        word = job.partition("/")[0]
        plan = Plan(output=f"{word} needle\n::error::{word}\n".encode())
        await here.put(job, "#!/bin/sh\n" + CRON.format(word), plan)
        build = await here.run(job)
        await here.finished(build["id"])
        await here.put(f"{word}/kept", plan=Plan(hangs=True))
        kept = await here.run(f"{word}/kept")
        await here.running(kept["id"])
        sent = await here.ask("PUT", f"/v1/builds/{kept['id']}/artifacts/{word}", body=b"x")
        assert sent.status == 201, sent.text
        await here.ask("POST", f"/v1/builds/{kept['id']}/cancel", body={})
        await here.finished(kept["id"])
        body = {"to": f"{word}-1"}
        promoted = await here.ask("POST", f"/v1/builds/{kept['id']}/promote", body=body)
        assert promoted.status == 200, promoted.text
    await here.put(f"{HIDDEN}/held", "#!/bin/sh\n" + LIMITED, Plan(hangs=True))
    await here.put("web/held", "#!/bin/sh\n" + LIMITED)
    await here.put(f"{HIDDEN}/ask", "# /// script\n# [tool.rota]\n# approve = ['bob']\n# ///\n")
    holder = await here.run(f"{HIDDEN}/held")
    await here.running(holder["id"])
    for job in (f"{HIDDEN}/held", "web/held", f"{HIDDEN}/ask"):
        await here.run(job)
    now = here.service.clock.now()
    for saver, word in ((holder["id"], HIDDEN), (build["id"], "web")):
        entry = Entry(
            key=word, sha256=word, size=1, saved_at=now, scope="main", paths=("x",), parts=(1,), build=saver
        )  # fmt: skip
        await here.service.write(CacheSaved(at=now, entry=entry))
    tale = Tale(build=holder["id"], ref=f"{HIDDEN}/held#1", notices=(Due("mail:a@b", "failed"),))
    telling = Telling(build=holder["id"], mark="1", tales=(tale,))
    await here.service.write(NoticesQueued(at=now, tellings=(telling,)))
    emitted = {"type": "a.b", "data": {"x": HIDDEN}}
    assert (await here.ask("POST", "/v1/events", body=emitted)).status == 201
    return Hidden(holder["id"], "web/a")


def targets(verb: Verb, hidden: Hidden) -> list[str]:
    """Return paths with each thing of the hidden job that a verb's path can name."""
    build = quote(hidden.build, safe="")
    places = {
        "job": f"{HIDDEN}/a", "build": build, "promotion": f"{HIDDEN}-1", "path": HIDDEN,
        "question": "1", "number": "1", "agent": "here", "hook": "x", "watch": "x", "secret": "X",
        "user": "cho", "id": "x", "cloud": "x", "machine": "x",
    }  # fmt: skip
    path = verb.path.format(**places)
    query = {
        "grep": "?pattern=needle",
        "events": "?after=0&limit=1000",
        "jobs": "?recent=5",
        "why_not": "?at=2026-11-01T03:00",
    }
    return [path + query.get(verb.name, "")]


async def test_no_verb_tells_anything_of_what_is_not_seen(office: Office) -> None:
    here = office.here
    hidden = await furnish(here)
    office.become("cho")
    for verb in VERBS:
        if verb.method != "GET":
            continue
        for target in targets(verb, hidden):
            reply = await here.ask("GET", target)
            asked = {HIDDEN, hidden.build} if reply.status >= 400 else set()
            if not asked:
                assert HIDDEN not in reply.text, (verb.name, target, reply.text)
                assert hidden.build not in reply.text, (verb.name, target)
            else:
                assert reply.status in (403, 404), (verb.name, reply.text)
            if verb.about in (About.JOB, About.BUILD):
                assert reply.status == 404, (verb.name, reply.text)
    why = await here.ask("GET", "/v1/builds/web%2Fheld/why")
    assert why.json()["text"] == "waits for the limit licence: 1 of 1 taken, place 1 in its line"
    assert HIDDEN not in why.text
    office.root()
    # And an admin is told, so that there was something to be told of.
    for name in (
        "jobs",
        "builds",
        "queue",
        "overview",
        "limits",
        "schedules",
        "asks",
        "events",
        "caches",
        "notices",
    ):
        verb = next(it for it in VERBS if it.name == name)
        told = await here.ask("GET", targets(verb, hidden)[0])
        assert HIDDEN in told.text, name


async def test_of_a_needed_job_that_is_not_seen_only_the_name_is_told(office: Office) -> None:
    here = office.here
    await here.put(f"{HIDDEN}/a", plan=Plan(hangs=True))
    # Whoever made it so may run both.
    await here.put("web/a", f"# /// script\n# [tool.rota]\n# needs = ['{HIDDEN}/a']\n# ///\n")
    await here.run("web/a")
    tree = (await office.as_("cho", "GET", "/v1/builds/web%2Fa/tree")).json()
    assert [it["job"] for it in tree["builds"]] == ["web/a"]
    why = (await office.as_("cho", "GET", "/v1/builds/web%2Fa/why")).json()
    assert why["text"] == f"waits for {HIDDEN}/a (unknown)"


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_each_verb_says_what_it_is_judged_by(verb: Verb) -> None:
    fields = set(verb.request.__struct_fields__)
    if verb.about is About.JOB:
        assert "job" in fields
    elif verb.about is About.BUILD:
        assert "build" in fields
    else:
        # What names a job or a build in its path is judged by it.
        assert not {"{job}", "{build}"} & set(re.findall(r"{\w+}", verb.path))
    if verb.about in (About.EACH, About.ONESELF):
        # More than looking is judged by the handler, which is one of these: tested one by one.
        assert verb.role is Role.VIEWER or verb.name in ("demote", "try_target")


async def test_nobody_changes_what_is_hidden(office: Office) -> None:
    here = office.here
    hidden = await furnish(here)
    office.become("cho")
    before = await here.seq()
    for verb in VERBS:
        if verb.method == "GET" or verb.about in (About.ONESELF, About.NOBODY):
            continue
        if verb.name in ("check", "stop"):
            continue
        for target in targets(verb, hidden):
            body = b"x" if verb.name == "keep" else {"script": "x"} if verb.name == "put" else {}
            reply = await here.ask(verb.method, target, body=body)
            assert reply.status in (400, 403, 404), (verb.name, reply.status, reply.text)
            if verb.about in (About.JOB, About.BUILD) and reply.status == 400:
                assert "is required" in reply.text or "missing" in reply.text, reply.text
    assert await here.seq() == before


# -- events -------------------------------------------------------------------------------------


async def test_a_follower_is_told_of_what_he_sees_in_order(office: Office) -> None:
    here = office.here
    await here.put("web/a")
    await here.put(f"{HIDDEN}/a")
    office.become("cho")
    after = await here.seq()
    kinds: list[str] = []

    async with here.stream("GET", f"/v1/events?follow=true&after={after}") as stream:
        office.root()
        await here.finished((await here.run(f"{HIDDEN}/a"))["id"])
        await here.finished((await here.run("web/a"))["id"])
        async for line in stream.content:
            assert HIDDEN.encode() not in line
            if line.startswith(b"event: build."):
                kinds.append(line.decode().strip())
            if line == b"event: build.finished\n":
                break
    assert kinds == [f"event: build.{it}" for it in ("requested", "started", "finished")]


def test_each_kind_of_event_is_told_by_what_it_is_of_or_not_at_all() -> None:
    """A kind that nobody thought of is hidden: those that are shown are named here."""
    from rota.core import disclosure

    shown = {
        kind_of(_empty(kind))
        for kind in Known.__args__
        if disclosure.as_seen(_empty(kind), "cho", lambda _: False, lambda _: False) is not None
    }
    assert shown == {
        "agent.joined", "agent.started", "agent.stopped", "agent.lost", "agent.drained", "agent.found",
        "agent.labelled", "agent.left", "leader.elected", "leader.resigned", "voter.appointed",
        "voter.listening", "voter.dismissed",
    }  # fmt: skip


def _empty(kind: Any) -> Any:
    """Return an event of a kind with something in each field that has no default."""
    with contextlib.suppress(TypeError):
        return kind(at=EPOCH)
    import msgspec

    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.required and field.name != "at":
            given[field.name] = () if "tuple" in str(field.type) else "x"
    return kind(at=EPOCH, **given)
