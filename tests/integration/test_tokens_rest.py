"""Users' tokens over REST: made, shown, listed, revoked; and what each opens."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import aiohttp
import pytest
from tests.harness.agent import TOKEN, Here, agent_here

from rota.adapters.clocks import SystemClock
from rota.adapters.scripted import Plan
from rota.core.events import EPOCH, AgentStarted, TokenMade, TokenUsed, kind_of
from rota.core.rights import Role
from rota.core.tokens import is_token, printed_token, token_digest
from rota.errors import DeniedError, UnavailableError
from rota.http.access import Access
from rota.http.app import CALLERS
from rota.service.credentials import Credentials
from rota.service.members import spoken_for
from rota.service.world import World

SETTINGS = b'[[access]]\njobs = "web/**"\nwho = ["cho", "@release"]\nrole = "maintainer"\n'
USERS = {
    "users/ann.toml": b'role = "admin"\n',
    "users/bob.toml": b'role = "builder"\n',
    "users/cho.toml": b'role = "none"\n',
}


class Told(NamedTuple):
    """What an agent answered over TCP."""

    status: int
    body: Any

    @property
    def detail(self) -> str:
        return str(self.body["detail"])


@pytest.fixture
async def there() -> AsyncIterator[Here]:
    """An agent with users, which takes their tokens."""
    async with agent_here() as here:
        credentials = Credentials(here.service)
        here.who = Access(TOKEN, users=credentials, speaks=here.service.speakers.knows).principal
        await here.commit({**USERS, "settings.toml": SETTINGS})
        here.agent.follower.told.append(credentials.followed)
        writing = asyncio.create_task(credentials.run())
        yield here
        writing.cancel()
        await asyncio.wait({writing})


async def tcp(
    here: Here, method: str, path: str, token: str, body: object = None, **headers: str
) -> Told:
    sent = {"Authorization": f"Bearer {token}", **headers}
    url = f"http://127.0.0.1:{here.port}{path}"
    async with (
        aiohttp.ClientSession(headers=sent) as session,
        session.request(method, url, json=body) as answer,
    ):
        assert token.encode() not in await answer.read() or answer.status == 201
        return Told(answer.status, await answer.json(content_type=None))


async def make(here: Here, user: str = "ann", **more: object) -> dict[str, Any]:
    reply = await here.ask("POST", "/v1/access/tokens", body={"user": user, **more})
    assert reply.status == 201, reply.text
    return dict(reply.json())


async def events(here: Here, *kinds: str) -> list[Any]:
    return [
        entry.event
        async for entry in here.service.world.entries(0, follow=False)
        if kind_of(entry.event) in kinds
    ]


async def test_a_token_is_shown_once_and_the_journal_has_its_hash_alone(there: Here) -> None:
    made = await make(there, "ann", note="for my laptop")
    assert is_token(made["token"])
    assert (made["user"], made["role"], made["jobs"], made["note"]) == (
        "ann",
        "",
        [],
        "for my laptop",
    )
    [event] = await events(there, "token.made")
    assert isinstance(event, TokenMade)
    assert event.digest == token_digest(made["token"])
    assert event.until is not None
    assert timedelta(days=89) < event.until - event.at <= timedelta(days=90)
    listed = await there.ask("GET", "/v1/access/tokens")
    told = await there.ask("GET", "/v1/events")
    for text in (listed.text, told.text):
        assert made["id"] in text
        assert made["token"] not in text
        assert made["token"][5:48] not in text


async def test_a_token_is_its_user_for_whatever_is_written(there: Here) -> None:
    made = await make(there, "bob")
    await there.put("a")
    asked = await tcp(there, "POST", "/v1/jobs/a/builds", made["token"], {})
    assert asked.status == 201
    assert asked.body["trigger"]["by"] == "bob"
    [event] = await events(there, "build.requested")
    assert (event.by, event.token) == ("bob", made["id"])
    # As the password of Basic, too: that is how git shows it.
    basic = base64.b64encode(f"anybody:{made['token']}".encode()).decode()
    shown = await tcp(there, "GET", "/v1/status", made["token"], Authorization=f"Basic {basic}")
    assert shown.status == 200
    denied = await tcp(there, "POST", "/v1/stop", made["token"])
    assert (denied.status, denied.detail) == (403, "bob is a builder; `stop` needs an admin")


async def test_what_a_token_changes_on_main_says_by_which_token(there: Here) -> None:
    made = await make(there, "ann")
    body = {"script": "#!/bin/sh\necho\n"}
    assert (await tcp(there, "PUT", "/v1/jobs/a", made["token"], body)).status == 200
    moved = (await events(there, "store.moved"))[-1]
    assert (moved.by, moved.token) == ("ann", made["id"])


async def test_a_token_allows_at_most_its_role(there: Here) -> None:
    made = await make(there, "ann", role="viewer")
    denied = await tcp(there, "POST", "/v1/jobs/a/builds", made["token"], {})
    assert (denied.status, denied.detail) == (403, "ann is a viewer; `run` needs a builder")
    for path, body in (("/v1/access/tokens", {}), ("/v1/users/@me/codes", {"network": ""})):
        denied = await tcp(there, "POST", path, made["token"], body)
        assert denied.status == 403, path
        assert denied.detail.startswith(f"the token {made['id']} allows less than ann may; to ")


async def test_a_revoked_token_opens_nothing_from_then_on(there: Here) -> None:
    made = await make(there, "bob")
    assert (await tcp(there, "GET", "/v1/status", made["token"])).status == 200
    reply = await there.ask("DELETE", f"/v1/access/tokens/{made['id']}")
    assert (reply.status, reply.json()["revoked_by"] != "") == (200, True)
    refused = await tcp(there, "GET", "/v1/status", made["token"])
    assert refused.status == 401
    assert refused.detail.startswith(f"the token {made['id']} was revoked by ")
    assert made["id"] not in (await there.ask("GET", "/v1/access/tokens")).text


async def test_a_token_can_end_itself_and_so_logs_out(there: Here) -> None:
    for role in (None, "viewer"):
        made = await make(there, "bob", role=role)
        gone = await tcp(there, "DELETE", "/v1/access/tokens/@this", made["token"])
        assert (gone.status, gone.body["id"]) == (200, made["id"])
        assert (await tcp(there, "GET", "/v1/status", made["token"])).status == 401
    reply = await there.ask("DELETE", "/v1/access/tokens/@this")
    assert (reply.status, reply.json()["detail"]) == (404, "this request shows no token")


async def test_a_token_that_has_expired_says_so(there: Here) -> None:
    text, now = printed_token(bytes(32)), there.service.clock.now()
    digest = token_digest(text)
    await there.service.write(
        TokenMade(at=now, user="bob", digest=digest, until=now - timedelta(seconds=1))
    )
    refused = await tcp(there, "GET", "/v1/status", text)
    assert (refused.status, refused.detail) == (401, f"the token {digest[:10]} has expired")
    assert (await make(there, "bob", expires_s=0))["expires_at"] is None


async def test_a_token_of_a_user_who_is_gone_opens_nothing_also_if_one_comes_of_that_name(
    there: Here,
) -> None:
    made = await make(there, "bob")
    assert (await there.ask("DELETE", "/v1/users/bob")).status == 200
    refused = await tcp(there, "GET", "/v1/status", made["token"])
    assert refused.status == 401
    assert (await there.ask("PUT", "/v1/users/bob", body={"role": "admin"})).status == 200
    refused = await tcp(there, "GET", "/v1/status", made["token"])
    assert (refused.status, "was revoked" in refused.detail) == (401, True)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (printed_token(b"x" * 32), "the token is not known here"),
        (printed_token(b"x" * 32)[:-1], "the token is cut off, or mistyped"),
        ("rota_", "the token is cut off, or mistyped"),
        ("rota_\u00e4\udcff", "the token is cut off, or mistyped"),
    ],
)
async def test_what_is_no_token_is_told_from_what_is_not_known(
    there: Here, given: str, says: str
) -> None:
    head = f"GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {given}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
    writer.write(head.encode("utf-8", "surrogateescape") + b"Connection: close\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 401 ")
    assert f'"detail":"{says}"' in answer
    assert '"hint":"rota login URL; or a new token: rota token create --for NAME"' in answer


async def test_one_makes_and_ends_tokens_for_oneself_and_an_admin_for_anybody(there: Here) -> None:
    a, b = (await make(there, "ann"))["token"], (await make(there, "bob"))["token"]
    mine = await tcp(there, "POST", "/v1/access/tokens", b, {"role": "viewer", "expires_s": 60})
    assert (mine.status, mine.body["user"], mine.body["by"]) == (201, "bob", "bob")
    denied = await tcp(there, "POST", "/v1/access/tokens", b, {"user": "ann"})
    assert (denied.status, denied.detail) == (
        403,
        "bob is a builder; to make a token of ann needs an admin",
    )
    hers = (await make(there, "ann"))["id"]
    denied = await tcp(there, "DELETE", f"/v1/access/tokens/{hers}", b)
    assert (denied.status, denied.detail) == (404, f"no token '{hers}'")
    denied = await tcp(there, "GET", "/v1/access/tokens?user=ann", b)
    assert denied.status == 403
    listed = await tcp(there, "GET", "/v1/access/tokens", b)
    assert {it["user"] for it in listed.body} == {"bob"}
    listed = await tcp(there, "GET", "/v1/access/tokens", a)
    assert {it["user"] for it in listed.body} == {"ann", "bob"}
    assert (await tcp(there, "DELETE", f"/v1/access/tokens/{mine.body['id']}", a)).status == 200


async def test_a_token_made_by_showing_one_holds_no_longer_than_that(there: Here) -> None:
    first = await make(there, "bob", expires_s=600)
    for wanted in (0, 86_400):
        made = await tcp(there, "POST", "/v1/access/tokens", first["token"], {"expires_s": wanted})
        assert made.status == 201
        assert made.body["expires_at"] <= first["expires_at"]


async def test_tokens_that_cannot_be_are_refused(there: Here) -> None:
    for body, says in (
        ({"user": "zoe"}, "no user 'zoe'"),
        ({"user": "ann", "jobs": ["a//b"]}, "jobs: no job's name fits it: 'a//b'"),
        ({"user": "ann", "role": "owner"}, "role"),
        ({"user": "ann", "expires_s": -1}, "expires_s"),
    ):
        reply = await there.ask("POST", "/v1/access/tokens", body=body)
        assert reply.status in (400, 404)
        assert says in reply.json()["detail"], reply.text
    assert not await events(there, "token.made")


async def test_in_chat_no_token_is_shown(there: Here) -> None:
    with there.service.speakers.admitted() as speaker:
        reply = await there.ask(
            "POST",
            "/v1/access/tokens",
            body={},
            Authorization=f"Bearer {speaker}",
            Rota_Principal="bob;BUILDER",
        )
    assert (reply.status, reply.json()["detail"]) == (
        403,
        "a token is shown at a terminal alone: in chat others may see it",
    )


async def test_when_a_token_was_used_is_told_and_costs_an_event_an_hour(
    there: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.service.credentials.GATHERED_S", 0.0)
    made = await make(there, "bob")
    for _ in range(5):
        assert (await tcp(there, "GET", "/v1/jobs", made["token"])).status == 200
    tokens = there.service.world.cluster.picture.tokens
    await there.until(lambda: getattr(tokens.find(made["id"]), "used_at", None))
    used = await events(there, "token.used")
    assert used == [TokenUsed(at=used[0].at, agent="here", tokens=(made["id"],))]
    [listed] = (await there.ask("GET", "/v1/access/tokens")).json()
    assert re.match(r"20\d\d-", listed["used_at"])


async def test_who_is_removed_by_a_push_and_comes_again_has_no_token(
    there: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.service.credentials.GATHERED_S", 0.0)
    made = await make(there, "bob")
    tokens = there.service.world.cluster.picture.tokens
    await there.commit({"users/bob.toml": None})
    await there.until(lambda: getattr(tokens.find(made["id"]), "revoked_at", None))
    await there.commit({"users/bob.toml": b'role = "admin"\n'})
    assert (await tcp(there, "GET", "/v1/status", made["token"])).status == 401


# -- who speaks for others ----------------------------------------------------------------------


async def test_in_chat_somebody_has_his_roles_on_jobs_as_well(there: Here) -> None:
    for job in ("web/a", "db/a"):
        await there.put(job)
    with there.service.speakers.admitted() as speaker:
        for job, status in (("web/a", 201), ("db/a", 404)):
            reply = await there.ask(
                "POST",
                f"/v1/jobs/{job}/builds",
                body={},
                Authorization=f"Bearer {speaker}",
                Rota_Principal="cho;NONE",
            )
            assert reply.status == status, reply.text
        seen = await there.ask(
            "GET", "/v1/jobs", Authorization=f"Bearer {speaker}", Rota_Principal="cho;NONE"
        )
        assert [it["name"] for it in seen.json()] == ["web/a"]


async def test_a_peer_is_told_by_which_token_somebody_asks_and_works_out_what_it_allows(
    there: Here,
) -> None:
    credentials = Credentials(there.service)
    scoped = await make(there, "ann", role="builder", jobs=["web/**"])
    who = credentials.principal(scoped["token"])
    told = spoken_for(who)
    assert (told["Rota-Principal"], told["Rota-Token"]) == ("ann;NONE", scoped["id"])
    there_rights = credentials.rights("ann", Role.NONE, scoped["id"])
    assert there_rights == who.rights
    assert (there_rights.on("web/a"), there_rights.on("db/a")) == (Role.BUILDER, Role.NONE)
    # Whatever role is claimed beside it: the token counts.
    assert credentials.rights("ann", Role.ADMIN, scoped["id"]) == who.rights
    with pytest.raises(UnavailableError, match="here does not know the token 0123456789 yet"):
        credentials.rights("ann", Role.ADMIN, "0123456789")
    await there.ask("DELETE", f"/v1/access/tokens/{scoped['id']}")
    with pytest.raises(DeniedError, match="was revoked"):
        credentials.rights("ann", Role.NONE, scoped["id"])


async def test_an_agent_that_is_cut_off_answers_by_what_it_knew_and_says_so(
    there: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a token was revoked meanwhile it cannot know; nothing is written by it there."""
    made = await make(there, "ann")
    await there.journal.append(AgentStarted(at=EPOCH, agent="other", by="other"))
    await there.until(lambda: len(there.service.world.cluster.picture.agents) > 1)
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    monkeypatch.setattr(World, "stale_since", since)
    url = f"http://127.0.0.1:{there.port}/v1/jobs"
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {made['token']}"}) as session,
        session.get(url) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["Rota-Stale-Since"] == "2026-01-02T03:04:05Z"
    refused = await tcp(there, "POST", "/v1/events", made["token"], {"type": "a.b", "data": {}})
    assert (refused.status, "no quorum of the voters" in refused.detail) == (503, True)


async def test_the_clock_of_who_is_asked_ends_a_token(
    there: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await make(there, "bob", expires_s=300)
    now = there.service.clock.now()
    for by_s, status in ((-3600, 200), (299, 200), (301, 401)):
        monkeypatch.setattr(SystemClock, "now", lambda _, by=by_s: now + timedelta(seconds=by))
        assert (await tcp(there, "GET", "/v1/status", made["token"])).status == status


# -- what is open when a token ends -------------------------------------------------------------


class Stream:
    """An answer that goes on."""

    def __init__(self, session: aiohttp.ClientSession, answer: aiohttp.ClientResponse) -> None:
        self._session, self._answer = session, answer

    @classmethod
    async def opened(cls, here: Here, token: str, path: str) -> Stream:
        session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"})
        answer = await session.get(f"http://127.0.0.1:{here.port}{path}")
        assert answer.status == 200
        return cls(session, answer)

    @property
    def is_open(self) -> bool:
        return self._answer.connection is not None

    async def broken_off(self) -> None:
        """Return once it breaks off."""
        async with asyncio.timeout(10), self._session:
            with contextlib.suppress(aiohttp.ClientError):
                while await self._answer.content.readany():
                    pass
            self._answer.close()


@pytest.fixture
def recheck(there: Here) -> None:
    """Have the agent look at who is being answered, as a daemon does."""
    callers = there.app[CALLERS]
    there.agent.loop.on_entry.append(callers.noted)
    there.agent.follower.told.append(callers.recheck)


@pytest.mark.usefixtures("recheck")
@pytest.mark.parametrize("path", ["/v1/events?follow=true", "/v1/builds/a/log?follow=true"])
async def test_a_stream_ends_with_the_token_that_opened_it(there: Here, path: str) -> None:
    await there.put("a", plan=Plan(hangs=True, output=b"x\n"))
    await there.running((await there.run("a"))["id"])
    doomed, other = await make(there, "bob"), await make(there, "bob")
    streams = [await Stream.opened(there, it["token"], path) for it in (doomed, other)]
    assert (await there.ask("DELETE", f"/v1/access/tokens/{doomed['id']}")).status == 200
    await streams[0].broken_off()
    assert streams[1].is_open
    assert (await there.ask("DELETE", f"/v1/access/tokens/{other['id']}")).status == 200
    await streams[1].broken_off()


@pytest.mark.usefixtures("recheck")
async def test_who_logs_out_is_told_so(there: Here) -> None:
    made = await make(there, "bob")
    gone = await tcp(there, "DELETE", "/v1/access/tokens/@this", made["token"])
    assert (gone.status, gone.body["id"]) == (200, made["id"])


@pytest.mark.usefixtures("recheck")
async def test_a_stream_ends_when_its_token_expires(there: Here) -> None:
    made = await make(there, "bob", expires_s=0.5)
    stream = await Stream.opened(there, made["token"], "/v1/events?follow=true")
    await stream.broken_off()
    assert (await tcp(there, "GET", "/v1/status", made["token"])).status == 401


@pytest.mark.usefixtures("recheck")
async def test_a_stream_breaks_off_when_its_user_may_something_else(there: Here) -> None:
    bob, ann = (await make(there, "bob"))["token"], (await make(there, "ann"))["token"]
    streams = [await Stream.opened(there, it, "/v1/events?follow=true") for it in (bob, ann)]
    await there.commit({"users/bob.toml": b'role = "none"\n'})
    await streams[0].broken_off()
    assert (await tcp(there, "GET", "/v1/events?follow=true", bob)).status == 403
    await there.commit({"users/ann.toml": None})
    await streams[1].broken_off()
