"""Whoever sends too much, too often, or too slowly, is refused in words, and costs nobody else."""

import asyncio
import contextlib
import json
from typing import Any

import aiohttp
import pytest
from tests.harness.agent import PATIENCE_S, TOKEN, Here, Reply

from rota.adapters.scripted import Plan
from rota.http import app, arguments, connections, rates
from rota.ports.store import Author

AUTHORIZED = f"Authorization: Bearer {TOKEN}\r\n"


async def tcp(here: Here, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def whole(here: Here, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of what comes back before the agent closes the connection."""
    reader, writer = await tcp(here, sent)
    async with asyncio.timeout(PATIENCE_S):
        raw = await reader.read()
    writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    named = (line.partition(": ") for line in lines)
    return int(first.split()[1]), {name.lower(): value for name, _, value in named}, body


def problem(answer: tuple[int, dict[str, str], bytes]) -> dict[str, Any]:
    status, headers, body = answer
    assert headers["content-type"].startswith("application/problem+json")
    said: dict[str, Any] = json.loads(body)
    assert said["status"] == status
    return said


async def test_a_head_that_never_ends_is_given_up(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.05)
    for sent in (b"", b"GET /health HTTP/1.1\r\nX-A: b\r\n"):
        said = problem(await whole(here, sent))
        assert said["status"] == 408
        assert said["detail"] == "no request came in time"
    assert here.service.counts.refusals == {"slow-head": 2}


async def test_a_caller_that_keeps_its_connection_is_not_hurried(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.05)
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    reader, writer = await tcp(here, request)
    async with asyncio.timeout(PATIENCE_S):
        await reader.readuntil(b"ok\n")
        await asyncio.sleep(0.1)
        writer.write(request)
        await reader.readuntil(b"ok\n")
    writer.close()


async def test_a_connection_is_kept_by_an_agent_that_stood_still_for_longer_than_it_is_kept(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All timers are due at once then, and what callers asked meanwhile is not read yet."""
    monkeypatch.setattr(connections, "LATE_S", -1.0)  # each is late
    monkeypatch.setattr(connections, "KEEP_ALIVE_S", 0.05)
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    reader, writer = await tcp(here, request)
    async with asyncio.timeout(PATIENCE_S):
        await reader.readuntil(b"ok\n")
        await asyncio.sleep(0.2)
        writer.write(request)
        await reader.readuntil(b"ok\n")
    writer.close()


async def test_a_reader_who_never_reads_is_let_go(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "READER_S", 0.05)
    await here.put("a", plan=Plan(output=(b"x" * 79 + b"\n") * 20_000))
    build = await here.run("a")
    await here.finished(build["id"])
    target = f"/v1/builds/{build['id']}/log".encode()
    # A stream with so small a limit stops reading at once.
    _, writer = await asyncio.open_connection("127.0.0.1", here.port, limit=1)
    # The kernel takes some megabytes for who does not read: it is asked for often enough.
    asked = b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n" + AUTHORIZED.encode() + b"\r\n"
    writer.write(asked * 60)
    await here.until(lambda: "slow-reader" in here.service.counts.refusals)
    writer.transport.abort()


async def test_one_address_has_so_many_connections_and_others_are_served(here: Here) -> None:
    here.connections._most_of_address = 3
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            _, writer = await tcp(here)
            stack.callback(writer.close)
        await here.until(lambda: here.connections._count["127.0.0.1"] == 3)
        answer = await whole(here, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        said = problem(answer)
        assert (said["status"], said["detail"]) == (429, "too many connections from this address")
        assert answer[1]["retry-after"] == "5"
        assert (await here.ask("GET", "/health")).status == 200  # on the Unix socket
    await here.until(lambda: not here.connections._count["127.0.0.1"])
    assert problem_free(await whole(here, b"GET /health HTTP/1.0\r\n\r\n"))


def problem_free(answer: tuple[int, dict[str, str], bytes]) -> bool:
    return answer[0] == 200


SECRET = "not-to-be-quoted"


@pytest.mark.parametrize(
    ("sent", "status", "detail"),
    [
        (f"GET /{SECRET}{'x' * 9000} HTTP/1.1\r\n\r\n", 414, "the URL has more than 8190 bytes"),
        (f"GET / HTTP/1.1\r\nA: {SECRET}{'x' * 9000}\r\n\r\n", 431, "a header has more than"),
        ("GET / HTTP/1.1\r\n" + f"A: {SECRET}\r\n" * 200 + "\r\n", 431, "more than 128 headers"),
        (f"{SECRET}\r\n\r\n", 400, "no HTTP request"),
        (f"GET / HTTP/1.1\r\nA\x00: {SECRET}\r\n\r\n", 400, "no HTTP request"),
        (f"GET / HTTP/1.1\r\nContent-Length: -1\r\nA: {SECRET}\r\n\r\n", 400, "no HTTP request"),
    ],
)
async def test_what_is_no_request_is_told_so_without_being_quoted(
    here: Here, sent: str, status: int, detail: str
) -> None:
    answer = await whole(here, sent.encode())
    said = problem(answer)
    assert said["status"] == status
    assert detail in said["detail"]
    assert said["hint"]
    assert SECRET not in answer[2].decode()


@pytest.mark.parametrize("header", ["Last-Event-ID", "Rota-Seq"])
@pytest.mark.parametrize("number", ["0" * 5000, "9" * 5000, "-1", "1.0", "٣"])
async def test_a_number_in_a_header_is_one_or_is_refused(
    here: Here, header: str, number: str
) -> None:
    reply = await here.ask("GET", "/v1/events?limit=1", **{header: number})
    assert reply.status == 400
    assert reply.json()["detail"].startswith(f"bad {header} ")
    assert len(reply.body) < 500


BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def over_tcp(here: Here, method: str, path: str, **headers: str) -> Reply:
    url = f"http://127.0.0.1:{here.port}{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers, json={"type": "a.b"} if method == "POST" else None) as answer,
    ):  # fmt: skip
        return Reply(answer.status, answer.headers, await answer.read())


async def set_rates(here: Here, text: str) -> None:
    """Put ``[rest]`` into the settings."""
    await here.service.main.commit(
        {"settings.toml": f"[rest]\n{text}\n".encode()},
        base=here.service.world.commit,
        author=Author("root", "root@example.org"),
        message="rates",
        by="root",
    )


def too_many(reply: Reply, what: str) -> None:
    assert reply.status == 429
    said = reply.json()
    assert said["detail"] == f"too many {what} are taken"
    assert said["title"] == "Too many"
    assert 1 <= int(reply.headers["Retry-After"]) <= 3600


async def test_who_asks_too_often_is_told_when_to_come_again(here: Here) -> None:
    await set_rates(here, 'requests = "3/h"')
    for _ in range(3):
        assert (await over_tcp(here, "GET", "/v1/status", **BEARER)).status == 200
    reply = await over_tcp(here, "GET", "/v1/status", **BEARER)
    too_many(reply, "requests: 3 in 3600 s")
    assert here.service.counts.refusals == {"requests": 1}
    # A build is another caller; who sits at the machine is none that is counted.
    build = (await here.run("a"))["id"] if await here.put("a") else ""
    assert (
        await over_tcp(here, "GET", "/v1/status", **BEARER, **{"Rota-Build": build})
    ).status == 200
    assert (await here.ask("GET", "/v1/status")).status == 200


async def test_a_build_makes_up_so_many_events_and_no_more(here: Here) -> None:
    await set_rates(here, 'events = "2/h"')
    await here.put("a")
    build = (await here.run("a"))["id"]
    headers = {"Rota-Build": build}
    for _ in range(2):
        reply = await here.ask("POST", "/v1/events", body={"type": "a.b"}, **headers)
        assert reply.status < 300, reply.text
    before = await here.seq()
    too_many(
        await here.ask("POST", "/v1/events", body={"type": "a.b"}, **headers),
        "events: 2 in 3600 s",
    )
    assert await here.seq() == before


async def test_wrong_tokens_are_soon_not_looked_at_and_a_good_one_always_is(here: Here) -> None:
    wrong = {"Authorization": "Bearer nonsense"}
    for _ in range(30):
        assert (await over_tcp(here, "GET", "/v1/status", **wrong)).status == 401
    too_many(
        await over_tcp(here, "GET", "/v1/status", **wrong),
        "requests without a good credential: 30 in 60 s",
    )
    # Git asks without any first, and shows its token when it is asked for one.
    assert (await over_tcp(here, "GET", "/v1/status")).status == 401
    assert (await over_tcp(here, "GET", "/v1/status", **BEARER)).status == 200


async def test_a_webhook_is_called_so_often(here: Here) -> None:
    await set_rates(here, 'calls = "2/h"')
    await here.ask("PUT", "/v1/hooks/x", body={})
    for _ in range(2):
        assert (await over_tcp(here, "POST", "/v1/hooks/x")).status == 401
    too_many(await over_tcp(here, "POST", "/v1/hooks/x"), "calls of this webhook: 2 in 3600 s")
    assert (await over_tcp(here, "POST", "/v1/hooks/y")).status == 404


async def test_a_body_that_does_not_come_is_given_up(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "BODY_S", 0.05)
    monkeypatch.setattr(app, "CHUNK_S", 0.05)
    monkeypatch.setattr(connections, "LINGER_S", 0.05)
    await here.put("a", plan=Plan(hangs=True))
    build = (await here.run("a"))["id"]
    await here.running(build)
    for target in ("POST /v1/events", f"PUT /v1/builds/{build}/artifacts/x"):
        head = f"{target} HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}Content-Length: 100\r\nConnection: close\r\n\r\n{{"
        said = problem(await whole(here, head.encode()))
        assert said["status"] == 408
        assert "body" in said["detail"]
    assert (await here.ask("GET", f"/v1/builds/{build}/artifacts")).json() == []


async def test_so_many_answers_of_one_caller_go_on_at_once(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "MOST_STREAMS", 2)
    request = f"GET /v1/events?follow=true HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}\r\n".encode()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            reader, writer = await tcp(here, request)
            stack.callback(writer.close)
            async with asyncio.timeout(PATIENCE_S):
                await reader.readuntil(b": rota\n\n")
        reply = await over_tcp(here, "GET", "/v1/events?follow=true", **BEARER)
        assert reply.status == 429
        assert reply.json()["detail"] == "too many answers that go on: 2 are open for you"
        assert (await over_tcp(here, "GET", "/v1/status", **BEARER)).status == 200
    await here.until(lambda: not here.service.counts.streams["events"])
    reader, writer = await tcp(here, request)
    async with asyncio.timeout(PATIENCE_S):
        await reader.readuntil(b": rota\n\n")
    writer.close()
