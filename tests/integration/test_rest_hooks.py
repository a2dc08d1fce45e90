"""Webhooks over HTTP: who may call, what is refused, and that the same call is one event."""

import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness import forges as f
from tests.harness.agent import Here, Reply, agent_here
from tests.harness.forges import ZERO, A, B, C, Call

from rota.core.events import AgentStarted
from rota.core.hook import secret_of
from rota.service.verbs import Role

KEY = b"the key of the cluster's authority"


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    async with agent_here() as agent:
        agent.service.ca_key = lambda: KEY
        yield agent


async def made(here: Here, name: str = "x", **body: object) -> str:
    """Make a webhook; return its secret."""
    reply = await here.ask("PUT", f"/v1/hooks/{name}", body=body)
    assert reply.status == 200, reply.text
    return str(reply.json()["secret"])


async def sent(here: Here, headers: dict[str, str], body: bytes, name: str = "x") -> Reply:
    """Call a webhook over TCP, as a forge does: without any token."""
    url = f"http://127.0.0.1:{here.port}/v1/hooks/{name}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=io.BytesIO(body), headers=headers) as response,
    ):
        return Reply(response.status, response.headers, await response.read())


async def call(here: Here, what: Call, secret: str, **more: str) -> Reply:
    headers = what.signed(secret, int(time.time())) | more
    return await sent(here, headers, what.body)


async def events(here: Here, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        await here.ask("GET", f"/v1/events?kind={kind}&after=0&limit=1000")
    ).json()
    return found


ON = "#!/bin/sh\n# /// script\n# [tool.rota]\n# on = [ {} ]\n{}# ///\n"
PUSHES = [
    f.github_push(),
    f.gitea_push(),
    f.gitea_push("forgejo"),
    f.gitlab_push(),
    f.gitlab_push(is_signed=True),
    f.bitbucket_push(),
    f.server_push(),
]


@pytest.mark.parametrize("push", PUSHES, ids=lambda it: it.forge)
async def test_a_push_starts_a_job_once_however_often_it_is_told(here: Here, push: Call) -> None:
    rule = '{ push = "main", params = { what = "{branch} {commit}" } }'
    await here.put("web", ON.format(rule, "# [tool.rota.params]\n# what = {}\n"))
    secret = await made(here)
    first = await call(here, push, secret)
    assert first.status == 202, first.text
    again = await call(here, push, secret)
    assert (again.status, again.json()) == (202, first.json())
    assert first.json()["refs"] == ["refs/heads/main"]
    await here.until(lambda: here.service.world.last_number("web") == 1)
    (changed,) = await events(here, "scm.changed")
    assert changed["forge"] == push.forge.removesuffix("-signed")
    build = (await here.ask("GET", "/v1/builds/web")).json()
    assert build["params"] == {"what": f"main {B}"}
    trigger = build["trigger"]
    assert (trigger["kind"], trigger["by"], trigger["cause"]) == ("push", "ann", changed["seq"])
    assert trigger["data"]["commit"] == B


@pytest.mark.parametrize("push", PUSHES, ids=lambda it: it.forge)
async def test_a_wrong_or_missing_signature_changes_nothing(here: Here, push: Call) -> None:
    secret = await made(here)
    before = await here.seq()
    good = push.signed(secret, int(time.time()))
    names = good.keys() - push.headers.keys() - {"Content-Type", "webhook-id", "webhook-timestamp"}
    bare = {key: value for key, value in good.items() if key not in names}
    missing = await sent(here, bare, push.body)
    assert missing.status == 401
    assert missing.json()["detail"].startswith("no signature: the header ")
    assert "rota hook x" in missing.json()["hint"]
    other = push.signed(secret_of(KEY, "y", 1), int(time.time()))
    for headers, body in ((other, push.body), (good, push.body[:-1] + b" }")):
        if push.forge == "gitlab" and headers is good:
            continue  # a token signs no body
        wrong = await sent(here, headers, body)
        assert wrong.status == 401
        assert any(
            wrong.json()["detail"].lower() == f"the signature in {n} does not fit".lower()
            for n in names
        )
        assert secret not in wrong.text
    for name in names:
        twice = [(key, value) for key, value in good.items()] + [(name, good[name])]
        reply = await sent(here, twice, push.body)  # type: ignore[arg-type]
        assert (reply.status, f"{name} is there 2 times".lower() in reply.text.lower()) == (
            400,
            True,
        )
        for nonsense in ("", "sha256=", "ä€", "sha1=" + "0" * 40, "t=1,v1=zz", "x" * 3000):
            reply = await sent(here, good | {name: nonsense}, push.body)
            assert reply.status in (400, 401), nonsense
    assert await here.seq() == before


async def test_a_former_member_cannot_work_out_a_secret_that_was_made_after_it_was_revoked(
    here: Here,
) -> None:
    secret, push = await made(here), f.github_push()
    assert secret == secret_of(KEY, "x", 1)  # what it had on its disk
    up = AgentStarted(at=here.service.clock.now(), agent="there", slots=1)
    seq = await here.journal.append(up)
    await here.until(lambda: here.service.world.seq >= seq)
    revoked = (await here.ask("POST", "/v1/agents/there/revoke")).json()
    assert revoked["todo"] == [
        "there knew the secrets of webhooks, new ones for who calls them: rota hook x --rotate;"
    ]
    assert revoked["recipient"].startswith("age1")
    assert (await call(here, push, secret)).status == 202  # until its caller has the new one
    hook = (await here.ask("PUT", "/v1/hooks/x", body={"rotate": True})).json()
    assert hook["secret"] not in {secret_of(KEY, "x", number) for number in range(9)}
    assert (await call(here, push, secret_of(KEY, "x", 2))).status == 401
    assert (await call(here, push, hook["secret"])).status == 202


async def test_another_agent_that_gets_the_repeat_says_the_same(here: Here) -> None:
    secret = await made(here)
    reply = await call(here, f.github_push(), secret)
    async with agent_here(name="there", journal=here.journal) as there:
        there.service.ca_key = lambda: KEY
        definitions = here.service.world.definitions
        there.service.world.definitions = definitions
        again = await call(there, f.github_push(), secret)
        assert (again.status, again.json()) == (202, reply.json())
        # Before it has folded the first one, the journal refuses the second.
        there.service.world.cluster.picture.tips.clear()
        again = await call(there, f.github_push(), secret)
        assert (again.status, again.json()) == (202, reply.json())
    assert len(await events(here, "scm.changed")) == 1


async def test_a_call_is_taken_within_the_time_that_it_signs(here: Here) -> None:
    secret = await made(here)
    what = f.plain({"n": 1})
    now = int(time.time())
    for at, status in ((now - 3600, 401), (now + 3600, 401), (now - 240, 202), (now + 240, 202)):
        reply = await sent(here, what.signed(secret, at), what.body)
        assert reply.status == status, reply.text
        if status == 401:
            assert reply.json()["detail"].startswith("X-Rota-Signature is of another time: 3")
    what = f.gitlab_push(is_signed=True)
    reply = await sent(here, what.signed(secret, now - 3600), what.body)
    assert reply.json()["detail"].startswith("Webhook-Signature is of another time: 36")
    assert len(await events(here, "hook.called")) == 2


async def test_the_generic_hook_starts_a_job_by_its_body(here: Here) -> None:
    rule = '{ hook = "x", where = { env = "pr*" }, params = { v = "{data.release.version}" } }'
    await here.put("ship", ON.format(rule, "# [tool.rota.params]\n# v = {}\n"))
    secret = await made(here)
    body = {"env": "prod", "release": {"version": 7}}
    assert (await call(here, f.plain(body), secret)).status == 202
    assert (await call(here, f.plain({"env": "test"}), secret)).status == 202
    await here.until(lambda: here.service.world.last_number("ship") == 1)
    assert (await here.ask("GET", "/v1/builds/ship")).json()["params"] == {"v": "7"}
    form = Call("plain", {}, b"env=prod&release=9", "application/x-www-form-urlencoded")
    assert (await call(here, form, secret)).status == 202
    await here.until(lambda: here.service.world.cluster.picture.failures)
    (failed,) = await events(here, "trigger.failed")
    assert "params.v asks for {data.release.version}, there is env, release, " in failed["why"]
    # Without a time or an id the same body is the same call; with an id it is another one.
    same = Call("plain", {}, json.dumps(body).encode())
    for headers in (
        {},
        {},
        {"X-Rota-Delivery": "1"},
        {"X-Rota-Delivery": "1"},
        {"X-Rota-Delivery": "2"},
    ):
        assert (await call(here, same._replace(headers=headers), secret)).status == 202
    assert len(await events(here, "hook.called")) == 3 + 3


async def test_a_form_of_github_is_as_good_as_json(here: Here) -> None:
    secret = await made(here)
    from urllib.parse import urlencode

    push = f.github_push()
    body = urlencode({"payload": push.body.decode()}).encode()
    reply = await call(
        here, push._replace(body=body, content_type="application/x-www-form-urlencoded"), secret
    )
    assert reply.json()["refs"] == ["refs/heads/main"]


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"[]", "application/json", "the body is not a JSON object"),
        (b"{", "application/json", "the body is not a JSON object"),
        (b"\xff", "application/json", "the body is not a JSON object"),
        (b"[" * 100_000, "application/json", "the body is not a JSON object"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "application/json", "the body is not a JSON object"),
        (b"\xff=1", "application/x-www-form-urlencoded", "the body is not a form"),
        (b"a&" * 2000, "application/x-www-form-urlencoded", "the body is not a form"),
        (b"payload=7", "application/x-www-form-urlencoded", "the body is not a JSON object"),
        (b"<x/>", "text/xml", "the body is text/xml, which is not taken"),
        (b'{"n": 1e999}', "application/json", ""),
        (b'{"n": 99999999999999999999999}', "application/json", ""),
        (b'{"x": "' + b"y" * (300 * 1024) + b'"}', "application/json", "the body has 307"),
    ],
)
async def test_a_body_that_is_none_is_refused(
    here: Here, body: bytes, kind: str, says: str
) -> None:
    secret = await made(here)
    reply = await call(here, Call("plain", {}, body, kind), secret)
    if says:
        assert reply.status == 400
        assert reply.json()["detail"].startswith(says)
        assert not await events(here, "hook.called")
    else:
        assert reply.status in (202, 400)


async def test_a_body_beyond_the_limit_is_not_read(here: Here) -> None:
    secret = await made(here)
    reply = await call(here, Call("plain", {}, b" " * ((1 << 20) + 1)), secret)
    assert reply.status == 413
    reply = await call(here, Call("plain", {"Content-Encoding": "gzip"}, b"{}"), secret)
    assert (reply.status, "Content-Encoding" in reply.text) == (400, True)


async def test_a_ping_is_answered_and_what_nobody_waits_for_is_not_kept(here: Here) -> None:
    secret = await made(here)
    before = await here.seq()
    assert (await call(here, f.github("ping", {"zen": "x"}), secret)).json()["note"] == "pong"
    other = await call(here, f.github("issues", {"action": "opened"}, "d-2"), secret)
    assert other.json()["note"] == 'no job waits for this: on = [{ hook = "x" }]'
    assert await here.seq() == before
    await here.put("triage", ON.format('{ hook = "x", where = { event = "issues" } }', ""))
    await call(here, f.github("issues", {"action": "opened"}, "d-2"), secret)
    await here.until(lambda: here.service.world.last_number("triage") == 1)


async def test_an_unknown_webhook_says_nothing_and_one_of_another_repository_what_is_wrong(
    here: Here,
) -> None:
    secret = await made(here, repo="https://github.com/ann/shop")
    reply = await sent(here, f.github_push().signed(secret), f.github_push().body, "y")
    assert (reply.status, reply.json()["detail"]) == (404, "no such webhook")
    assert "hint" not in reply.json()
    reply = await call(here, f.github_push(), secret)
    assert reply.status == 403
    assert reply.json()["detail"] == (
        "this webhook is for github.com/ann/shop, the call is of github.com/ann/web"
    )
    assert not await events(here, "scm.changed")
    assert await made(here, repo="git@github.com:ann/web.git") == secret
    assert (await call(here, f.github_push(), secret)).status == 202


async def test_a_rotated_secret_opens_nothing_any_more(here: Here) -> None:
    old = await made(here)
    assert await made(here) == old
    new = await made(here, rotate=True)
    assert new != old
    assert (await call(here, f.github_push(), old)).status == 401
    assert (await call(here, f.github_push(), new)).status == 202
    listed = (await here.ask("GET", "/v1/hooks")).json()
    assert [(it["name"], it["generation"], it["secret"]) for it in listed] == [("x", 2, "")]
    tree = here.service.world.definitions.files
    assert "hooks/x.toml" in tree
    assert (await here.ask("DELETE", "/v1/hooks/x")).json()["changed"]
    assert (await call(here, f.github_push(), new)).status == 404
    assert (await here.ask("GET", "/v1/hooks/x")).status == 404


async def test_a_webhooks_secret_is_for_those_who_may_change_it(here: Here) -> None:
    await made(here)
    from rota.service.context import Principal

    here.who = lambda _: Principal(name="eve", role=Role.BUILDER)
    assert (await here.ask("GET", "/v1/hooks/x")).status == 403
    assert (await here.ask("PUT", "/v1/hooks/x", body={"rotate": True})).status == 403
    assert (await here.ask("GET", "/v1/hooks")).status == 200


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("-x", {}, "bad webhook name '-x'"),
        ("x", {"repo": "web"}, "no repository's URL: 'web'"),
        (
            "x",
            {"repo": "https://ann:pw@git.example/x"},
            "the repository's URL has a password in it",
        ),
        ("x", {"repos": "x"}, "unknown argument 'repos'"),
    ],
)
async def test_a_bad_webhook_is_not_made(here: Here, name: str, body: object, says: str) -> None:
    reply = await here.ask("PUT", f"/v1/hooks/{name}", body=body)
    assert (reply.status, reply.json()["detail"]) == (400, says)


async def test_rules_by_branch_tag_and_file(here: Here) -> None:
    jobs = {
        "main": '{ push = ["*", "!wip/*"], repo = "https://github.com/ann/web" }',
        "tag": '{ tag = "v*" }',
        "docs": '{ push = true, files = "docs/**" }',
        "code": '{ push = true, files = ["!docs/**", "!*.md"] }',
        "pull": '{ pull_request = "main" }',
        "other": '{ push = true, repo = "git@github.com:ann/other.git" }',
    }
    for job, rule in jobs.items():
        await here.put(job, ON.format(rule, ""))
    secret = await made(here)

    async def after(what: Call) -> set[str]:
        before = {job: here.service.world.last_number(job) for job in jobs}
        assert (await call(here, what, secret)).status == 202
        await here.ask("POST", "/v1/events", body={"type": "mark"})
        reactor = here.agent.loop.settled
        await here.until(lambda: reactor() == here.service.world.seq)
        return {job for job in jobs if here.service.world.last_number(job) > before[job]}

    assert await after(f.github_push(A, B, "refs/heads/main", "docs/a.md")) == {"main", "docs"}
    assert await after(f.github_push(B, C, "refs/heads/main", "src/a.py", "docs/x/y.md")) == {
        "main",
        "docs",
        "code",
    }
    assert await after(f.github_push(ZERO, C, "refs/heads/wip/x")) == {"docs", "code"}
    assert await after(f.github_push(ZERO, C, "refs/tags/v1")) == {"tag"}
    assert await after(f.github_push(C, ZERO, "refs/heads/wip/x")) == set()
    assert await after(f.github_pull()) == {"pull"}
    assert await after(f.github_pull("synchronize", C)) == {"pull"}
    assert await after(f.github_pull("closed", C)) == set()
    pulled = (await here.ask("GET", "/v1/builds/pull")).json()["trigger"]
    assert (pulled["kind"], pulled["data"]["number"]) == ("pull-request", "7")
    # Several jobs by one push are one pipeline.
    main = (await here.ask("GET", "/v1/builds/main%232")).json()
    docs = (await here.ask("GET", "/v1/builds/docs%232")).json()
    code = (await here.ask("GET", "/v1/builds/code%231")).json()
    assert len({build["pipeline"] or build["id"] for build in (main, docs, code)}) == 1


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "X-GitHub-Event",
                "X-Gitlab-Event",
                "X-Event-Key",
                "X-Gitea-Event",
                "X-Rota-Event",
                "X-Rota-Signature",
                "X-Gitlab-Token",
                "Content-Type",
                "X-Hub-Signature-256",
            ]
        ),
        st.sampled_from(
            ["push", "Push Hook", "repo:push", "ping", "", "\u00e4", "t=1,v1=0", "application/json"]
        ),
    ),
    st.binary(max_size=200),
)
def test_no_unsigned_call_whatever_is_taken(headers: dict[str, str], body: bytes) -> None:
    from rota.core.webhook import identify
    from rota.errors import DeniedError

    lines = {key.lower(): [value] for key, value in headers.items()}
    with pytest.raises(DeniedError):
        identify("x", lines, body, "whsec_AAAA", 1.0)
