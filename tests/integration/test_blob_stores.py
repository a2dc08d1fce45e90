"""Stores of artifacts: a bucket that fails in every way, a full disk, and going from one to another."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from msgspec.structs import replace
from tests.harness.bucket import Buckets

import rota.adapters.blob_bucket as bucket_module
from rota.adapters.blob_bucket import BucketBlobs, Keys, Place
from rota.adapters.blob_files import FileBlobs
from rota.adapters.memory import MemoryBlobs
from rota.bootstrap.blobs import BLOB_STORES
from rota.core.settings import Artifacts, Bucket, Settings
from rota.errors import NotFoundError, UnavailableError
from rota.ports.blobs import Blobs
from rota.service.stores import Stores

LATER = datetime(2100, 1, 1, tzinfo=UTC)
EARLIER = datetime(2020, 1, 1, tzinfo=UTC)


async def keys() -> Keys:
    return Keys(id="key-id", secret="the-key")


async def read_secret(name: str) -> bytes:
    assert name == "bucket-key"
    return b"the-key\n"


async def stream(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 60_000):
        yield data[at : at + 60_000]


async def broken(data: bytes) -> AsyncIterator[bytes]:
    async for piece in stream(data):
        yield piece
    raise OSError("the file went away")


async def read(blobs: Blobs, name: str, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in blobs.get(name, offset)])


async def test_a_large_file_is_several_objects_and_nothing_is_left_of_what_broke_off(
    buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "PIECE", 300_000)
    name = buckets.make()
    blobs = BucketBlobs(Place(bucket=name, endpoint=buckets.endpoint, prefix="ci/"), keys)
    data = random.Random(1).randbytes(1_000_000)
    await blobs.put("x", stream(data))
    assert len(buckets.keys(name)) == 4 + 1
    assert all(key.startswith("ci/") for key in buckets.keys(name))
    for offset in (0, 299_999, 300_000, 300_001, 999_999, 1_000_000):
        assert await read(blobs, "x", offset) == data[offset:]
    with pytest.raises(OSError, match="the file went away"):
        await blobs.put("x", broken(data))
    assert len(buckets.keys(name)) == 4 + 1
    await blobs.put("x", stream(data[:10]))
    assert len(buckets.keys(name)) == 1 + 1
    # An agent that died in the middle:
    await blobs._write("ci/pieces/0123/4567/000000", b"left")
    await blobs._write("ci/pieces/0123/4567/000001", b"left")
    assert await blobs.tidy(EARLIER) == 0, "it may be under way"
    assert await blobs.tidy(LATER) == 1
    assert len(buckets.keys(name)) == 1 + 1
    await blobs.drop("x")
    assert buckets.keys(name) == []


async def test_no_bucket_is_told(buckets: Buckets) -> None:
    blobs = BucketBlobs(Place(bucket="nobodys", endpoint=buckets.endpoint), keys)
    for ask in (blobs.put("x", stream(b"a")), blobs.find("x"), read(blobs, "x"), blobs.drop("x")):
        with pytest.raises(UnavailableError) as caught:
            await ask
        assert caught.value.message == f"there is no bucket 'nobodys' at {buckets.endpoint}"
        assert caught.value.hint == "make it, or correct [bucket] name"


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(answer: Answer) -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return runner, f"http://{host}:{port}"


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
async def test_a_wrong_key_is_told_and_not_shown(code: str) -> None:
    async def refuse(request: web.Request) -> web.Response:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
        return web.Response(status=403, text=text, content_type="application/xml")

    runner, url = await serve(refuse)
    try:
        with pytest.raises(UnavailableError) as caught:
            await BucketBlobs(Place(bucket="mine", endpoint=url), keys).put("x", stream(b"a"))
    finally:
        await runner.cleanup()
    assert caught.value.message == f"the bucket 'mine' at {url} refuses this agent: {code}"
    assert caught.value.hint == "look at [bucket] key and secret, and what they may do there"
    assert "the-key" not in str(caught.value)


async def test_nobody_there_and_one_who_never_answers_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from datetime import timedelta

    monkeypatch.setattr(bucket_module, "MAX_RETRIES", 0)
    monkeypatch.setattr(bucket_module, "TRY", timedelta(seconds=0.2))
    blobs = BucketBlobs(Place(bucket="mine", endpoint="http://127.0.0.1:1"), keys)
    with pytest.raises(
        UnavailableError, match=r"'mine' at http://127.0.0.1:1 cannot be reached: "
    ) as refused:
        await blobs.find("x")
    assert refused.value.message.endswith(" cannot be reached: Connection refused")

    async def hang(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    runner, url = await serve(hang)
    try:
        with pytest.raises(UnavailableError, match="cannot be reached: ") as caught:
            await BucketBlobs(Place(bucket="mine", endpoint=url), keys).put("x", stream(b"a"))
    finally:
        await runner.cleanup()
    assert caught.value.message.endswith(" cannot be reached: it did not answer in time")
    assert caught.value.hint == "look at [bucket] endpoint"


async def test_what_is_cut_off_in_the_middle_is_an_error_and_no_short_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    label = (
        b'{"blob":{"name":"x","size":1000000,"sha256":"00"},"upload":"0123456789abcdef","pieces":1}'
    )

    async def cut(request: web.Request) -> web.StreamResponse:
        if "/labels/" in request.path:
            return web.Response(body=label)
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        await response.write(b"x" * 300_000)
        assert request.transport is not None
        request.transport.close()
        return response

    monkeypatch.setattr(bucket_module, "MAX_RETRIES", 0)
    runner, url = await serve(cut)
    try:
        with pytest.raises(UnavailableError, match="the bucket 'mine' at "):
            await read(BucketBlobs(Place(bucket="mine", endpoint=url), keys), "x")
    finally:
        await runner.cleanup()


async def test_files_that_broke_off_are_tidied(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    await blobs.put("x", stream(b"a" * 200_000))
    await blobs.put("x", stream(b"b" * 200_000))
    with pytest.raises(OSError, match="the file went away"):
        await blobs.put("x", broken(b"c" * 200_000))
    files = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert len(files) == 2
    (files[0].parent / "0123.4567").write_bytes(b"left")
    assert await blobs.tidy(EARLIER) == 0
    assert await blobs.tidy(LATER) == 1
    assert await blobs.names() == ["x"]
    assert await read(blobs, "x") == b"b" * 200_000


async def test_a_reader_goes_on_with_what_was_there_when_it_began(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    await blobs.put("x", stream(b"a" * 3_000_000))
    reading = blobs.get("x")
    first = await anext(reading)
    await blobs.put("x", stream(b"b"))
    assert first + b"".join([piece async for piece in reading]) == b"a" * 3_000_000


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
async def test_a_full_disk_is_told_and_leaves_the_former_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    await blobs.put("x", stream(b"good"))
    opened = os.open

    def full(path: object, flags: int, mode: int = 0o777) -> int:
        is_upload = flags & os.O_EXCL
        return opened("/dev/full", os.O_WRONLY) if is_upload else opened(path, flags, mode)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(UnavailableError) as caught:
            await blobs.put("x", stream(b"x" * 2_000_000))
    assert caught.value.message == f"cannot write to {tmp_path}/blobs: No space left on device"
    assert caught.value.hint == "make room, or lower [artifacts] max_bytes"
    assert await read(blobs, "x") == b"good"


class Cluster:
    """Stores as an agent has them."""

    def __init__(self, root: Path) -> None:
        self.settings, self.alone = Settings(), True
        self.engine, self.own = MemoryBlobs(), FileBlobs(root / "own")
        self.stores = Stores(
            self.engine,
            self.own,
            BLOB_STORES,
            settings=lambda: self.settings,
            is_alone=lambda: self.alone,
            read_secret=read_secret,
            since=datetime.now(UTC),
        )


async def test_what_an_agent_kept_while_it_was_alone_is_handed_over_once_it_is_not(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path)
    for name in ("a", "b", "c"):
        await cluster.stores.put(name, stream(name.encode()))
    assert sorted(await cluster.own.names()) == ["a", "b", "c"]
    assert await cluster.stores.hand_over() == 0
    cluster.alone = False
    await cluster.stores.put("b", stream(b"newer"))
    assert sorted(await cluster.own.names()) == ["a", "c"]
    assert await read(cluster.stores, "a") == b"a", "it is read wherever it is"
    assert await cluster.stores.hand_over() == 2
    assert await cluster.own.names() == []
    found = [await read(cluster.engine, name) for name in ("a", "b", "c")]
    assert found == [b"a", b"newer", b"c"]


async def test_another_store_is_for_what_is_new_and_the_former_one_is_still_read(
    tmp_path: Path, buckets: Buckets
) -> None:
    cluster = Cluster(tmp_path)
    cluster.alone = False
    await cluster.stores.put("old", stream(b"engine"))
    name = buckets.make()
    cluster.settings = Settings(
        artifacts=Artifacts(store="bucket"),
        bucket=Bucket(
            name=name, endpoint=buckets.endpoint, key="key-id", secret="bucket-key", prefix=""
        ),
    )
    await cluster.stores.put("new", stream(b"bucket"))
    assert len(buckets.keys(name)) == 2
    assert await read(cluster.stores, "old") == b"engine"
    assert await read(cluster.stores, "new") == b"bucket"
    cluster.settings = replace(
        cluster.settings, artifacts=Artifacts(store="files", path=str(tmp_path / "shared"))
    )
    await cluster.stores.put("old", stream(b"files"))
    assert await cluster.engine.find("old") is None
    assert (tmp_path / "shared").is_dir()
    assert await read(cluster.stores, "new") == b"bucket"
    assert await read(cluster.stores, "old") == b"files"
    await cluster.stores.drop("new")
    assert buckets.keys(name) == []
    with pytest.raises(NotFoundError):
        await read(cluster.stores, "new")


async def test_a_store_that_is_away_hides_what_may_be_there(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.alone = False
    bucket = Bucket(name="mine", endpoint="http://127.0.0.1:1", key="key-id", secret="bucket-key")
    await cluster.stores.put("x", stream(b"here"))
    cluster.settings = Settings(bucket=bucket)
    assert await read(cluster.stores, "x") == b"here"


async def test_what_a_dead_daemon_left_half_done_is_gone_at_the_next_start(tmp_path: Path) -> None:
    before = Cluster(tmp_path)
    await before.stores.put("x", stream(b"whole"))
    folder = next((tmp_path / "own").iterdir())
    left = folder / f"{'0' * 40}.0123456789abcdef"
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    after = Cluster(tmp_path)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(after.stores.run())
        async with asyncio.timeout(30):
            while left.exists():
                await asyncio.sleep(0.01)
        running.cancel()
    assert await read(after.stores, "x") == b"whole"
