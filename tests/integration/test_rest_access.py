"""Who may ask what, and how the HTTP edge behaves towards those who speak it badly."""

import asyncio
import base64
import contextlib
import hashlib
import logging
import re
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.harness.agent import TOKEN, Here

from rota.adapters.scripted import Plan
from rota.http.access import Access
from rota.service.context import Principal
from rota.service.verbs import VERBS, About, Role, Verb

OPEN = ("/health", "/openapi.json")
PROBLEM = "application/problem+json"


def target(verb: Verb) -> str:
    return re.sub(r"{\w+}", "a", verb.path)


async def over_tcp(here: Here, path: str, **headers: str) -> Any:
    """Return status, headers and JSON of an answer over TCP."""
    url = f"http://127.0.0.1:{here.port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        body = await response.read()
        assert TOKEN.encode() not in body
        return response.status, response.headers, body


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("given", "says", "hint"),
    [
        (None, "no credential", "send `Authorization: Bearer TOKEN`"),
        ("", "no credential", "send `Authorization: Bearer TOKEN`"),
        ("Bearer", "no credential", "send"),
        ("Bearer ", "no credential", "send"),
        ("Basic ???", "no credential", "send"),
        ("Basic \u00e4", "no credential", "send"),
        ("Digest " + TOKEN, "no credential", "send"),
        (TOKEN, "no credential", "send"),
        ("Bearer " + TOKEN[:-1], "the token is not known here", "rota login URL asks for it"),
        ("Bearer " + TOKEN + "x", "the token is not known here", "rota login URL asks for it"),
        ("Bearer " + TOKEN.upper(), "the token is not known here", "rota login URL asks for it"),
        ("Bearer \u00e4\udcff", "the token is not known here", "rota login URL asks for it"),
        (basic("git", "wrong"), "the token is not known here", "rota login URL asks for it"),
        (basic(TOKEN, ""), "the token is not known here", "rota login URL asks for it"),
    ],
)
async def test_over_tcp_nobody_passes_without_the_token_not_even_from_loopback(
    here: Here, given: str | None, says: str, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/v1/status", "/v1/nothing", "/store.git/info/refs", "/"):
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        if given is not None:
            head += f"Authorization: {given}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(head.encode("utf-8", "surrogateescape") + b"\r\n")
        answer = (await reader.read()).decode()
        writer.close()
        assert answer.startswith("HTTP/1.1 401 "), answer
        assert 'WWW-Authenticate: Bearer, Basic realm="rota"' in answer
        if path.startswith("/store.git/"):  # git shows text/plain alone
            assert f"\r\n\r\n{says}\n{hint}" in answer
        else:
            assert f'"detail":"{says}"' in answer
            assert f'"hint":"{hint}' in answer
        assert TOKEN not in answer
    assert TOKEN not in caplog.text


async def test_the_token_opens_as_bearer_and_as_basic_password(here: Here) -> None:
    for given in (f"Bearer {TOKEN}", f"bearer  {TOKEN} ", basic("git", TOKEN), basic("", TOKEN)):
        status, _, body = await over_tcp(here, "/v1/status", Authorization=given)
        assert status == 200, (given, body)
    await here.put("a")
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        url = f"http://127.0.0.1:{here.port}/v1/jobs/a/builds"
        async with session.post(url, json={}) as response:
            assert (await response.json())["trigger"]["by"] == "admin"


async def test_a_token_of_any_other_agent_is_as_good_as_ours(here: Here) -> None:
    others = ["other_agents", "still-another"]
    digests = [hashlib.sha256(token.encode()).hexdigest() for token in others]
    here.who = Access(TOKEN, tokens=lambda: digests).principal
    for token in (TOKEN, *others):
        given = f"Bearer {token}"
        assert (await over_tcp(here, "/v1/status", Authorization=given))[0] == 200
    # What is known of a token is not the token.
    for wrong in (digests[0], "other_agent", ""):
        given = basic("git", wrong)
        assert (await over_tcp(here, "/v1/status", Authorization=given))[0] == 401
    digests.clear()
    given = f"Bearer {others[0]}"
    assert (await over_tcp(here, "/v1/status", Authorization=given))[0] == 401


@pytest.mark.parametrize("name", ["Rota-Principal", "X-Forwarded-Proto", "Forwarded"])
async def test_headers_of_peers_open_nothing_without_a_certificate(here: Here, name: str) -> None:
    value = "https" if name == "X-Forwarded-Proto" else "anna;ADMIN"
    assert (await over_tcp(here, "/v1/status", **{name: value}))[0] == 401
    for path in ("/peer/ca", "/peer/join"):
        status, _, body = await over_tcp(here, path, **{name: value})
        assert (status, b"not found" in body) == (404, True)
    for path in ("/peer/voters", "/peer/snapshot"):
        assert (await over_tcp(here, path, **{name: value}))[0] == 401


async def test_a_process_that_speaks_for_users_is_heard_while_it_lives(here: Here) -> None:
    here.who = Access(TOKEN, speaks=here.service.speakers.knows).principal
    await here.put("a")
    body: dict[str, str] = {}
    with here.service.speakers.admitted() as token, here.service.speakers.admitted() as other:
        for shown in (token, other):
            reply = await here.ask(
                "POST",
                "/v1/jobs/a/builds",
                body=body,
                Authorization=f"Bearer {shown}",
                Rota_Principal="ann%20b;BUILDER",
            )
            assert (reply.status, reply.json()["trigger"]["by"]) == (201, "ann b")
        given = {"Authorization": f"Bearer {token}"}
        status, _, _ = await over_tcp(
            here, "/v1/status", **given, **{"Rota-Principal": "ann;VIEWER"}
        )
        assert status == 200
        # Its token says nothing alone, and less than its user may is refused.
        assert (await over_tcp(here, "/v1/status", **given))[0] == 401
        reply = await here.ask("POST", "/v1/stop", **given, Rota_Principal="ann;MAINTAINER")
        assert (reply.status, reply.json()["detail"]) == (
            403,
            "ann is a maintainer; `stop` needs an admin",
        )
        for wrong in ("ann", ";ADMIN", "ann;admin", "ann;ROOT", ""):
            reply = await here.ask("GET", "/v1/status", **given, Rota_Principal=wrong)
            assert (reply.status, reply.json()["hint"]) == (400, "NAME;ROLE")
    # What is left of a process that is gone is not taken for who owns the socket.
    for known in (f"Bearer {token}", f"Bearer {TOKEN}", ""):
        reply = await here.ask("GET", "/v1/status", Authorization=known, Rota_Principal="ann;ADMIN")
        assert reply.status == 401
        assert reply.json()["detail"] == (
            "the header Rota-Principal speaks for another, which its sender may not"
        )


async def test_health_and_the_document_are_open_and_nothing_else_is(here: Here) -> None:
    for path in OPEN:
        assert (await over_tcp(here, path))[0] == 200
    for path in ("/health/", "//health", "/health%2f", "/openapi.json/", "/v1/status?/health"):
        assert (await over_tcp(here, path))[0] == 401, path
    for verb in VERBS:
        if verb.method == "GET" and verb.about is not About.NOBODY:
            assert (await over_tcp(here, target(verb)))[0] == 401, verb.name


async def test_a_malformed_request_with_the_token_in_it_leaves_no_trace_of_it(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for broken in (
        f"GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\0\r\n\r\n",
        f"GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization Bearer {TOKEN}\r\n\r\n",
        f"GET /{TOKEN} HTTP/9.9\r\n\r\n",
        f"Bearer {TOKEN}\r\n\r\n",
    ):
        answer = await here.raw(broken.encode())
        assert answer.startswith(b"HTTP/1.")
        assert b" 400 " in answer.split(b"\r\n")[0]
    assert TOKEN not in caplog.text
    assert (await here.ask("GET", "/health")).status == 200


def a(role: Role) -> str:
    return role.title


@pytest.mark.parametrize(
    ("verb", "role"),
    [(it, role) for it in VERBS for role in Role if it.role - 1 <= role <= it.role],
    ids=lambda it: it.name,
)
async def test_each_verb_asks_for_its_role_before_anything_else(
    here: Here, verb: Verb, role: Role
) -> None:
    here.who = lambda request: Principal("eve", role)
    before = await here.seq()
    reply = await here.ask(verb.method, target(verb) + "?surely=wrong", body=b"{")
    # What is one's own is looked at by its handler: whoever has no role has tokens all the same.
    is_own = verb.about is About.ONESELF and verb.role is Role.VIEWER
    if role < verb.role and not is_own:
        assert reply.status == 403
        assert reply.json()["detail"] == (f"eve is {a(role)}; {verb.command} needs {a(verb.role)}")
    else:
        assert reply.status == 400
    assert await here.seq() == before
    assert not here.stopped.is_set()


async def test_a_push_wants_a_maintainer_of_something_however_its_path_is_written(
    here: Here,
) -> None:
    # Of what, is looked at once it is known what it changes.
    here.who = lambda request: Principal("eve", Role.BUILDER)
    for path in (
        "/store.git/git-receive-pack",
        "/store.git/git%2Dreceive%2Dpack",
        "/store.git/info/refs?service=git-receive-pack",
        "/store.git/info/refs?service=git%2Dreceive%2Dpack",
    ):
        reply = await here.ask("POST", path)
        assert (reply.status, "needs a maintainer" in reply.text) == (403, True), path
    assert (await here.ask("GET", "/store.git/info/refs?service=git-upload-pack")).status == 404


# -- methods and routes -------------------------------------------------------------------------


async def test_what_is_no_route_is_a_problem_that_says_where_all_are(here: Here) -> None:
    for method, path in (("GET", "/"), ("GET", "/v2/status"), ("PUT", "/v1/"), ("GET", "/%00")):
        reply = await here.ask(method, path)
        assert (reply.status, reply.headers["Content-Type"]) == (404, PROBLEM)
        assert reply.json()["hint"] == "all routes: GET /openapi.json"
        assert reply.json()["detail"].endswith(": not found")


async def test_another_method_is_a_problem_that_says_which_are_allowed(here: Here) -> None:
    for method, path, allowed in (
        ("POST", "/v1/status", "GET,HEAD"),
        ("PATCH", "/v1/jobs/a", "DELETE,GET,HEAD,PUT"),
        ("DELETE", "/v1/builds/a", "GET,HEAD"),
        ("DELETE", "/health", "GET,HEAD"),
    ):
        reply = await here.ask(method, path)
        assert (reply.status, reply.headers["Content-Type"]) == (405, PROBLEM)
        assert reply.headers["Allow"] == allowed
        assert reply.json()["hint"] == f"allowed are: {allowed}"


async def test_options_says_what_is_allowed(here: Here) -> None:
    reply = await here.ask("OPTIONS", "/v1/jobs/a")
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, PUT"
    assert (await here.ask("OPTIONS", "/v2")).status == 404


async def test_head_is_get_without_the_body(here: Here) -> None:
    await here.put("a", plan=Plan(output=b"x" * 100_000))
    await here.finished((await here.run("a"))["id"])
    for verb in VERBS:
        if verb.method != "GET":
            continue
        for query in ("", "?follow") if verb.name in ("log", "events") else ("",):
            get = b"" if query else (await here.raw(request("GET", target(verb)))).split(b"\r\n")[0]
            answer = await here.raw(request("HEAD", target(verb) + query))
            head, _, rest = answer.partition(b"\r\n\r\n")
            assert rest == b"", verb.name
            assert head.split(b"\r\n")[0] == (get or b"HTTP/1.1 200 OK")
    # The connection is still of use afterwards.
    two = request("HEAD", "/v1/builds/a/log", close=False) + request("GET", "/health")
    assert (await here.raw(two)).endswith(b"ok\n")


def request(method: str, path: str, *, close: bool = True) -> bytes:
    end = "Connection: close\r\n\r\n" if close else "\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{end}".encode()


# -- faults of our own --------------------------------------------------------------------------


async def test_an_unexpected_fault_is_a_problem_here_and_a_traceback_in_the_log(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(request: web.Request) -> Principal:
        raise ZeroDivisionError("secret detail")

    here.who = broken
    reply = await here.ask("GET", "/v1/status")
    assert (reply.status, reply.headers["Content-Type"]) == (500, PROBLEM)
    assert reply.json()["code"] == "invariant"
    assert reply.json()["detail"] == "the agent met a fault of its own; nothing more is known here"
    assert "agent.log" in reply.json()["hint"]
    assert "secret detail" not in reply.text
    assert "ZeroDivisionError: secret detail" in caplog.text
    here.who = None
    assert (await here.ask("GET", "/v1/status")).status == 200


@pytest.mark.parametrize("query", ["", "?follow"])
async def test_a_fault_in_the_middle_of_an_answer_breaks_it_off(
    here: Here, query: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def pieces(*_: object, **__: object) -> Any:
        yield b"some"
        raise ZeroDivisionError("in the middle")

    await here.put("a", plan=Plan(output=b"x"))
    await here.finished((await here.run("a"))["id"])
    monkeypatch.setattr(here.logs, "read", pieces)
    for headers in ({}, {"Accept": "text/event-stream"}):
        with pytest.raises(aiohttp.ClientPayloadError):  # noqa: PT012 - where in it does not matter
            async with here.stream("GET", f"/v1/builds/a/log{query}", headers=headers) as response:
                assert response.status == 200
                await response.read()
    assert "ZeroDivisionError: in the middle" in caplog.text


# -- floods and slowness ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flood",
    [
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"X" * 1_000_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
        b"PUT /v1/jobs/a HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/jobs/a HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_a_flood_is_refused_and_the_agent_goes_on(here: Here, flood: bytes) -> None:
    answer = await here.raw(flood)
    assert answer == b"" or b" 4" in answer.split(b"\r\n")[0]
    assert (await here.ask("GET", "/v1/status")).status == 200


async def test_who_sends_slowly_holds_up_nobody(here: Here) -> None:
    await here.put("a")
    writers = []
    for n in range(200):
        _, writer = await asyncio.open_unix_connection(here.socket)
        half = (
            b"GET /v1/sta"
            if n % 2
            else b"PUT /v1/jobs/slow HTTP/1.1\r\nContent-Length: 9\r\n\r\nab"
        )
        writer.write(half)
        writers.append(writer)
    assert (await here.ask("GET", "/v1/status")).status == 200
    assert (await here.run("a"))["number"] == 1
    before = await here.seq()
    for writer in writers:
        writer.transport.abort()
    with contextlib.suppress(TimeoutError):
        assert (await here.ask("GET", "/v1/jobs/slow")).status == 404
    requested = await here.ask("GET", f"/v1/events?kind=store.moved&after={before}")
    assert requested.json() == []


async def test_what_was_asked_is_done_although_the_caller_goes_away(here: Here) -> None:
    body = b"#!/bin/sh\necho\n"
    head = f"PUT /v1/jobs/a HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with here.service.turn("main"):
        _, writer = await asyncio.open_unix_connection(here.socket)
        writer.write(head + body)
        await here.until(lambda: here.service.turn("main")._waiters)
        writer.transport.abort()
        # The agent has seen by now that nobody is there any more.
        await here.ask("GET", "/v1/status")
    await here.until(lambda: "a" in here.service.world.definitions.jobs)


async def test_a_header_that_is_no_utf8_is_refused_by_name(here: Here) -> None:
    await here.put("a")
    for name, path in (
        (b"Idempotency-Key", b"POST /v1/jobs/a/builds"),
        (b"If-Match", b"DELETE /v1/jobs/a"),
        (b"If-None-Match", b"GET /v1/jobs/a"),
        (b"Last-Event-ID", b"GET /v1/events"),
    ):
        answer = await here.raw(
            path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + name + b": \xff\xfe\r\n\r\n"
        )
        assert b" 400 " in answer.split(b"\r\n")[0], answer
        assert b"the header " + name + b" is not UTF-8" in answer
