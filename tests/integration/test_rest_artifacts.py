"""Artifacts over REST: whole or not at all, under no other name than their own."""

import asyncio
import gc
import gzip
import hashlib
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.harness.agent import Here

from rota.adapters.scripted import Plan


async def running(here: Here, job: str = "a") -> str:
    await here.put(job, plan=Plan(hangs=True))
    build = await here.run(job)
    await here.running(build["id"])
    return str(build["id"])


async def test_a_file_is_kept_listed_and_read_while_it_runs_and_afterwards(here: Here) -> None:
    build = await running(here)
    data = random.Random(1).randbytes(3 << 20)
    kept = await here.ask("PUT", f"/v1/builds/{build}/artifacts/dist/web%20%C3%A4.tgz", body=data)
    assert kept.status == 201
    wanted = {"path": "dist/web ä.tgz", "size": 3 << 20, "sha256": hashlib.sha256(data).hexdigest()}
    assert kept.json() == wanted
    for _ in range(2):
        [shown] = (await here.ask("GET", f"/v1/builds/{build}/artifacts")).json()
        assert shown.pop("kept_at").endswith("Z")
        assert shown == wanted
        got = await here.ask("GET", f"/v1/builds/{build}/artifacts/dist/web%20%C3%A4.tgz")
        assert got.body == data
        assert got.headers["Content-Type"] == "application/octet-stream"
        assert got.headers["Content-Disposition"] == "attachment"
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert got.headers["ETag"] == f'"{wanted["sha256"]}"'
        part = await here.ask(
            "GET", f"/v1/builds/{build}/artifacts/dist/web%20%C3%A4.tgz", Range="bytes=0-1"
        )
        assert (part.status, part.headers["Accept-Ranges"]) == (200, "bytes")
        head = await here.ask("HEAD", f"/v1/builds/{build}/artifacts/dist/web%20%C3%A4.tgz")
        assert (head.status, head.headers["Content-Length"]) == (200, str(3 << 20))
        (await here.running(build)).finish() if _ == 0 else None
        await here.finished(build)


async def test_who_has_the_beginning_is_given_the_rest(here: Here) -> None:
    build = await running(here)
    data = random.Random(1).randbytes(1_200_001)
    path = f"/v1/builds/{build}/artifacts/x"
    assert (await here.ask("PUT", path, body=data)).status == 201
    etag = (await here.ask("HEAD", path)).headers["ETag"]
    for start in (1, 524_288, 600_000, 1_200_000):
        got = await here.ask("GET", path, Range=f"bytes={start}-", **{"If-Range": etag})
        assert got.status == 206
        assert got.headers["Content-Range"] == f"bytes {start}-1200000/1200001"
        assert got.body == data[start:]
    for wrong in ("bytes=0-", "bytes=1200001-", "bytes=99999999999-", "bytes=-5", "bytes=1-2,4-"):
        got = await here.ask("GET", path, Range=wrong)
        assert (got.status, got.body) == (200, data), wrong
    got = await here.ask("GET", path, Range="bytes=5-", **{"If-Range": '"another"'})
    assert (got.status, got.body) == (200, data)


async def test_an_empty_file_is_a_file(here: Here) -> None:
    build = await running(here)
    assert (await here.ask("PUT", f"/v1/builds/{build}/artifacts/empty", body=b"")).status == 201
    got = await here.ask("GET", f"/v1/builds/{build}/artifacts/empty")
    assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "%2e%2e/x",
        "a/%2e%2e%2fb",
        "/etc/passwd",
        "%2fetc/passwd",
        "a%00b",
        "a%0ab",
        ".",
        "./",
        "%7f",
        "x" * 600,
        "a/" * 300 + "x",
        "%E2%80%AE",
    ],
)
async def test_a_path_that_leads_elsewhere_or_is_no_name_is_refused(here: Here, path: str) -> None:
    build = await running(here)
    before = await here.seq()
    target = f"/v1/builds/{build}/artifacts/{path}"
    reply = await here.ask("PUT", target, body=b"data")
    assert reply.status == 400, reply.text
    assert reply.json()["detail"].startswith(("bad artifact path ", "the artifact's path has "))
    assert reply.json()["hint"]
    assert await here.seq() == before
    assert here.blobs._blobs == {}
    assert (await here.ask("GET", target)).status in (400, 404)


async def test_a_path_without_a_name_is_no_route(here: Here) -> None:
    build = await running(here)
    assert (await here.ask("PUT", f"/v1/builds/{build}/artifacts/", body=b"x")).status == 404
    assert (await here.ask("PUT", f"/v1/builds/{build}/artifacts", body=b"x")).status == 405


async def test_the_same_path_again_replaces_the_file_however_it_is_spelled(here: Here) -> None:
    build = await running(here)
    for path, data in (("a/b", b"one"), ("a//./b", b"two")):
        assert (
            await here.ask("PUT", f"/v1/builds/{build}/artifacts/{path}", body=data)
        ).status == 201
    assert [
        it["path"] for it in (await here.ask("GET", f"/v1/builds/{build}/artifacts")).json()
    ] == ["a/b"]
    assert (await here.ask("GET", f"/v1/builds/{build}/artifacts/a/b")).body == b"two"


async def test_of_many_that_write_one_path_at_once_one_is_kept_whole(here: Here) -> None:
    build = await running(here)
    files = [random.Random(n).randbytes(300_000 + n) for n in range(12)]
    target = f"/v1/builds/{build}/artifacts/x"
    replies = await asyncio.gather(*(here.ask("PUT", target, body=data) for data in files))
    assert {reply.status for reply in replies} == {201}
    listed = (await here.ask("GET", f"/v1/builds/{build}/artifacts")).json()
    got = await here.ask("GET", target)
    assert len(listed) == 1
    assert hashlib.sha256(got.body).hexdigest() == listed[0]["sha256"]
    assert len(here.service.turns) == 0


async def test_twenty_different_files_at_once_are_all_kept(here: Here) -> None:
    build = await running(here)
    replies = await asyncio.gather(
        *(here.ask("PUT", f"/v1/builds/{build}/artifacts/f{n}", body=b"x" * n) for n in range(20))
    )
    assert {reply.status for reply in replies} == {201}
    listed = (await here.ask("GET", f"/v1/builds/{build}/artifacts")).json()
    assert sorted(it["size"] for it in listed) == list(range(20))


@pytest.mark.parametrize(
    "request_",
    [
        b"Content-Length: 1000\r\n\r\nonly this",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\nonly\r\n",
    ],
)
async def test_an_upload_that_breaks_off_leaves_nothing(
    here: Here, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    build = await running(here)
    before = await here.seq()
    _, writer = await asyncio.open_unix_connection(here.socket)
    writer.write(f"PUT /v1/builds/{build}/artifacts/x HTTP/1.1\r\nHost: x\r\n".encode() + request_)
    await here.until(lambda: here.service.turns or b"zz" in request_)
    writer.transport.abort()
    await here.until(lambda: not here.service.turns)
    assert here.blobs._blobs == {}
    assert await here.seq() == before
    assert (await here.ask("GET", f"/v1/builds/{build}/artifacts/x")).status == 404
    gc.collect()
    assert "Traceback" not in caplog.text
    assert "never retrieved" not in caplog.text


async def test_a_compressed_body_is_refused_not_unpacked(here: Here) -> None:
    build = await running(here)
    target = f"/v1/builds/{build}/artifacts/x"
    reply = await here.ask("PUT", target, body=gzip.compress(b"x"), Content_Encoding="gzip")
    assert reply.status == 400
    assert reply.json()["detail"] == (
        "the body is sent with Content-Encoding 'gzip', which is not taken"
    )
    assert reply.json()["hint"] == "send it as it is"


async def test_only_a_running_build_keeps_files(here: Here) -> None:
    build = await running(here)
    (await here.running(build)).finish()
    await here.finished(build)
    reply = await here.ask("PUT", f"/v1/builds/{build}/artifacts/x", body=b"late")
    assert reply.status == 409
    assert reply.json()["detail"] == "a#1 is finished; only a running build keeps artifacts"
    assert reply.json()["hint"].startswith("put them from within its script")


async def test_an_upload_that_is_overtaken_by_the_builds_end_is_not_kept(here: Here) -> None:
    build = await running(here)
    go = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"begin"
        await go.wait()
        yield b"end"

    upload = asyncio.create_task(here.ask("PUT", f"/v1/builds/{build}/artifacts/x", body=slowly()))
    await here.until(lambda: here.service.turns)
    (await here.running(build)).finish()
    await here.finished(build)
    go.set()
    assert (await upload).status == 409
    assert here.blobs._blobs == {}


async def test_the_limit_of_files_names_itself_and_still_lets_replace(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.service.artifacts.MAX_ARTIFACTS", 2)
    build = await running(here)
    statuses = [
        (await here.ask("PUT", f"/v1/builds/{build}/artifacts/{name}", body=b"x")).status
        for name in ("a", "b", "c", "a")
    ]
    assert statuses == [201, 201, 409, 201]


async def test_a_file_that_is_not_what_was_kept_is_broken_off(here: Here) -> None:
    build = await running(here)
    target = f"/v1/builds/{build}/artifacts/x"
    await here.ask("PUT", target, body=b"x" * 2_000_000)
    name = next(iter(here.blobs._blobs))
    for other in (b"y" * 2_000_000, b"x" * 1_999_999, b"x" * 2_000_001):
        here.blobs._blobs[name] = other
        assert await broken(here, target)
    del here.blobs._blobs[name]
    gone = await here.ask("GET", target)
    assert gone.status == 404


async def broken(here: Here, target: str) -> bool:
    """Whether an answer ends before its end."""
    try:
        async with here.stream("GET", target) as response:
            await response.read()
    except aiohttp.ClientPayloadError:
        return True
    return False


async def test_what_a_build_left_cannot_be_found_under_another_build(here: Here) -> None:
    one, two = await running(here, "a"), await running(here, "b")
    await here.ask("PUT", f"/v1/builds/{one}/artifacts/x", body=b"x")
    reply = await here.ask("GET", f"/v1/builds/{two}/artifacts/x")
    assert (reply.status, reply.json()["detail"]) == (404, "b#1 left no 'x'")
    assert reply.json()["hint"] == "see what it left: rota artifacts 'b#1'"
    climbing: Any = await here.ask("GET", f"/v1/builds/{two}/artifacts/../{one}/x")
    assert climbing.status == 404
