"""Generated nonsense at every operation: each gets problem details or sense, never a 5xx."""

import asyncio
import json
import os
import re
from typing import Any
from urllib.parse import quote

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.harness.agent import Here, Reply, agent_here

from rota.adapters.scripted import Plan
from rota.http.openapi import describe
from rota.service.verbs import VERBS, Verb

DOCUMENT = describe()
EXAMPLES = int(os.environ.get("ROTA_TEST_EXAMPLES", "200"))
BY_NAME = {verb.name: verb for verb in VERBS}

odd_text = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["", "*", "..", "a#1", "a#0", "null", "true", "1", "-1", "1e9", "9" * 40]),
)
odd_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | odd_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=6,
)
requests = st.sampled_from([verb for verb in VERBS if verb.name != "stop"]).flatmap(
    lambda verb: st.tuples(
        st.just(verb),
        st.dictionaries(st.sampled_from(["job", "build", "path", "agent", "id"]), odd_text),
        st.dictionaries(
            st.sampled_from([*verb.request.__struct_fields__, "x"]), odd_text, max_size=4
        ),
        st.one_of(
            st.none(),
            st.binary(max_size=60),
            st.dictionaries(st.sampled_from([*verb.request.__struct_fields__, "x"]), odd_json),
            odd_json,
        ),
        st.dictionaries(
            st.sampled_from(["If-Match", "If-None-Match", "Idempotency-Key", "Last-Event-ID"]),
            st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
            max_size=2,
        ),
    )
)


PLACES = tuple(sorted({name for verb in VERBS for name in re.findall(r"{(\w+)}", verb.path)}))
#: What needs a schedule, a gate or a repository: their own tests have them.
ELSEWHERE = {
    "login",
    "login_device",
    "login_poll",
    "login_renew",
    "reload",  # tests/integration/test_reload.py
    "doctor",  # tests/integration/test_doctor.py
    "audit_head",  # tests/integration/test_audit_rest.py
    "link_code",  # tests/integration/test_users_rest.py
    "unlink",
    "try_target",  # tests/integration/test_notices_rest.py
    "rm_caches",  # tests/acceptance/test_caches.py
    "tests",
    "why_not",
    "backfill",
    "approve",
    "reject",
    "ask",
    "question",
    "answer",
    "watch",
    "unwatch",
    "pause_cloud",  # tests/integration/test_clouds.py
    "end_machine",
}
HERE = {"job": "a", "build": "a", "agent": "here"}
#: What needs other machines; tests/integration/test_peers.py and tests/fault/ have them.
AMONG_OTHERS = {
    "leave",
    "forget",
    "revoke_agent",
    "rotate_key",
    "invite",
    "invitations",
    "revoke",
    "recover",
}


def schema_of(verb: Verb) -> dict[str, Any]:
    operation = DOCUMENT["paths"][verb.path][verb.method.lower()]
    content = operation["responses"][str(verb.status)]["content"]
    return dict(content["application/json"]["schema"])


def check_reply(verb: Verb, reply: Reply) -> None:
    """Fail unless a JSON answer fits the schema that the document gives it."""
    schema = {**schema_of(verb), "components": DOCUMENT["components"]}
    jsonschema.validate(reply.json(), schema)


def check_problem(reply: Reply) -> None:
    assert reply.headers["Content-Type"] == "application/problem+json", reply.text
    body = reply.json()
    schema = {"$ref": "#/components/schemas/ProblemDetails", "components": DOCUMENT["components"]}
    jsonschema.validate(body, schema)
    assert body["status"] == reply.status
    assert body["detail"].strip()
    assert "Traceback" not in reply.text


def test_nonsense_at_any_operation_gets_an_answer_that_makes_sense() -> None:
    with asyncio.Runner() as runner:
        loop = Nonsense(runner)
        try:
            loop.run()
        finally:
            loop.close()


class Nonsense:
    """One agent for all examples: state grows, as it does in life."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._context = agent_here()
        self._here = runner.run(self._begin())

    async def _begin(self) -> Here:
        here = await self._context.__aenter__()
        await here.put("a")
        await here.finished((await here.run("a"))["id"])
        return here

    def run(self) -> None:
        @settings(max_examples=EXAMPLES)
        @given(requests)
        def throw(request: Any) -> None:
            self._runner.run(self._throw(*request))

        throw()

    async def _throw(
        self,
        verb: Verb,
        path: dict[str, str],
        query: dict[str, str],
        body: object,
        headers: dict[str, str],
    ) -> None:
        places = {name: quote(path.get(name, "a"), safe="") for name in PLACES}
        query = {key: value for key, value in query.items() if key not in ("follow", "wait")}
        target = verb.path.format(**places)
        if query:
            target += "?" + "&".join(f"{quote(k)}={quote(v, safe='')}" for k, v in query.items())
        reply = await self._here.ask(verb.method, target, body=body, **headers)
        assert reply.status < 500 or "search" in reply.text, (reply.status, reply.text)
        if reply.status >= 400:
            check_problem(reply)

    def close(self) -> None:
        self._runner.run(self._context.__aexit__(None, None, None))


def _plain(verb: Verb) -> bool:
    return verb.reply is not bytes


async def test_each_good_answer_fits_its_schema(here: Here) -> None:
    await here.commit(
        {"settings.toml": b'[mail]\nserver = "smtp://127.0.0.1:9"\nfrom = "rota@ci.example"\n'}
    )
    params = "# /// script\n# [tool.rota]\n# stdin = true\n# [tool.rota.params]\n# x = {}\n# ///\n"
    await here.put(
        "b", "#!/bin/sh\n" + params, Plan(output=b"::error file=a,line=3::m\n", hangs=True)
    )
    running = await here.run("b", params={"x": "1"})
    attempt = await here.running(running["id"])
    await here.put("a", plan=Plan(code=3, output=b"::warning::x\n"))
    build = await here.run("a")
    done = await here.finished(build["id"])
    places = {"job": "b", "build": running["id"], "path": "dist/x", "agent": "here", "hook": "x",
              "secret": "TOKEN", "promotion": "v1", "user": "ann", "number": 1}  # fmt: skip
    bodies: dict[str, object] = {
        "put": {"script": "#!/bin/sh\necho\n"},
        "check": {"script": "# /// script\n# [tool.rota]\n# x = 1\n# ///\n"},
        "emit": {"type": "a.b", "data": {"x": [1, {"y": None}]}},
        "run": {"params": {"x": "1"}, "priority": 3},
        "send": {"text": "x"},
        "put_secret": {"value": "c2VjcmV0cw=="},
        "label": {"labels": {"gpu": ""}},
        "keep": b"bytes",
        "promote": {"to": "v1"},
        "put_user": {"emails": ["a@b"]},
        "add_notify": {"to": ["mail"]},
        "quiet": {"days": ["sun"]},
        "make_token": {"user": "ann"},
    }
    order = [
        "status", "agents", "audit", "du", "caches", "chat", "clouds", "cluster", "label", "jobs", "check", "run", "keep", "artifacts", "send", "job", "builds",
        "build", "why", "steps", "tree", "queue", "limits", "emit", "events", "pause", "resume", "cancel", "promote", "promotions", "promotion", "demote", "retry", "check_secrets", "put", "rm",
        "put_hook", "hooks", "hook", "rm_hook", "schedules", "asks", "notices", "test_history", "metrics", "overview", "trend", "watches", "workspaces",
        "put_secret", "secrets", "rotate_secrets", "rm_secret",
        "put_user", "users", "user", "add_notify", "quiet", "rm_notify", "make_token", "tokens", "revoke_token", "login_ways", "rm_user",
        "rm_workspace", "drain", "stop",
    ]  # fmt: skip
    assert sorted(order) == sorted(
        verb.name for verb in VERBS if _plain(verb) and verb.name not in AMONG_OTHERS | ELSEWHERE
    ), "a new verb stands in `order`, where its answer is good; or in ELSEWHERE, with who asks it"
    for name in order:
        verb = BY_NAME[name]
        if name == "promote":
            await here.finished(running["id"])
        where = {**places, "build": done["id"]} if name in ("retry", "rm_workspace") else places
        reply = await here.ask(verb.method, verb.path.format(**where), body=bodies.get(name))
        assert reply.status == verb.status, (name, reply.text)
        check_reply(verb, reply)
        if name == "make_token":
            places["id"] = reply.json()["id"]
        if name == "job":
            assert json.loads(reply.body)["params"]["x"] == {}
    assert here.stopped.is_set()
    attempt.lose()


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
async def test_unknown_arguments_are_refused_in_query_and_body(here: Here, verb: Verb) -> None:
    await here.put("a", plan=Plan(hangs=True))
    await here.running((await here.run("a"))["id"])
    target = verb.path.format(**{**dict.fromkeys(PLACES, "x"), **HERE})
    before = await here.seq()
    reply = await here.ask(verb.method, target + "?surely_not=1")
    assert reply.status == 400, reply.text
    assert "unknown argument 'surely_not'" in reply.json()["detail"]
    if verb.method == "POST":
        reply = await here.ask(verb.method, target, body={"surely_not": 1})
        assert "unknown argument 'surely_not'" in reply.json()["detail"]
    assert await here.seq() == before
