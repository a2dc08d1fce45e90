"""What every store of blobs must do, in memory and with a real engine."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.harness.bucket import Buckets
from tests.harness.engine import forget_stream

from rota.adapters.blob_bucket import BucketBlobs, Keys, Place
from rota.adapters.blob_files import FileBlobs
from rota.adapters.memory import MemoryBlobs
from rota.adapters.nats import NatsBlobs
from rota.errors import NotFoundError
from rota.ports.blobs import Blob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rota.adapters.nats import Client
    from rota.ports.blobs import Blobs

NAME = "0123456789abcdef/dist/rota 1.0 (ä).tar.gz"


async def keys() -> Keys:
    return Keys(id="key-id", secret="the-key")


@pytest.fixture(params=["memory", "files", "bucket", pytest.param("nats", marks=pytest.mark.nats)])
async def blobs(
    request: pytest.FixtureRequest, client: Client, buckets: Buckets, tmp_path: Path
) -> Blobs:
    if request.param == "memory":
        return MemoryBlobs()
    if request.param == "files":
        return FileBlobs(tmp_path / "blobs")
    if request.param == "bucket":
        return BucketBlobs(Place(bucket=buckets.make(), endpoint=buckets.endpoint), keys)
    await forget_stream(client, "BLOB")
    nats = NatsBlobs(client)
    await nats.open()
    return nats


async def stream(data: bytes, size: int = 60_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def broken(data: bytes) -> AsyncIterator[bytes]:
    yield data
    raise OSError("the file went away")


async def read(blobs: Blobs, name: str = NAME) -> bytes:
    return b"".join([piece async for piece in blobs.get(name)])


@pytest.mark.parametrize("size", [0, 1, 524_288, 1_200_001])
async def test_a_blob_is_read_back_as_it_was_stored(blobs: Blobs, size: int) -> None:
    data = random.Random(size).randbytes(size)
    blob = await blobs.put(NAME, stream(data))
    assert blob == Blob(NAME, size, hashlib.sha256(data).hexdigest())
    assert await read(blobs) == data


@pytest.mark.parametrize("offset", [1, 524_287, 524_288, 524_289, 1_200_000, 1_200_001, 9_999_999])
async def test_a_blob_is_read_from_anywhere(blobs: Blobs, offset: int) -> None:
    data = random.Random(1).randbytes(1_200_001)
    _ = await blobs.put(NAME, stream(data))
    assert b"".join([piece async for piece in blobs.get(NAME, offset)]) == data[offset:]


async def test_a_name_nobody_stored_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(NotFoundError) as caught:
        await anext(blobs.get("nothing"))
    assert caught.value.message == "nothing is stored as 'nothing'"


async def test_a_second_put_replaces_the_first(blobs: Blobs) -> None:
    await blobs.put(NAME, stream(b"old" * 400_000))
    await blobs.put(NAME, stream(b"new"))
    assert await read(blobs) == b"new"


async def test_a_put_that_breaks_off_leaves_what_was_there(blobs: Blobs) -> None:
    with pytest.raises(OSError, match="the file went away"):
        await blobs.put(NAME, broken(b"x" * 600_000))
    with pytest.raises(NotFoundError):
        await read(blobs)
    await blobs.put(NAME, stream(b"good"))
    with pytest.raises(OSError, match="the file went away"):
        await blobs.put(NAME, broken(b"x" * 600_000))
    assert await read(blobs) == b"good"


async def test_a_dropped_blob_is_gone_and_others_stay(blobs: Blobs) -> None:
    await blobs.put(NAME, stream(b"one"))
    await blobs.put("other", stream(b"two"))
    await blobs.drop(NAME)
    await blobs.drop(NAME)
    with pytest.raises(NotFoundError):
        await read(blobs)
    assert await read(blobs, "other") == b"two"


@pytest.mark.nats
async def test_replaced_and_broken_puts_leave_no_bytes_behind(client: Client) -> None:
    await forget_stream(client, "BLOB")
    blobs = NatsBlobs(client)
    await blobs.open()
    for data in (b"a" * 600_000, b"b" * 600_000):
        await blobs.put(NAME, stream(data))
    with pytest.raises(OSError, match="the file went away"):
        await blobs.put(NAME, broken(b"x" * 600_000))
    assert await blobs.pieces() == 2 + 1
    await blobs.drop(NAME)
    assert await blobs.pieces() == 0


async def test_what_is_stored_can_be_found_without_its_bytes(blobs: Blobs) -> None:
    assert await blobs.find(NAME) is None
    blob = await blobs.put(NAME, stream(b""))
    assert await blobs.find(NAME) == blob
    await blobs.drop(NAME)
    assert await blobs.find(NAME) is None


@pytest.mark.nats
async def test_tidying_takes_what_broke_off_and_nothing_else(client: Client) -> None:
    await forget_stream(client, "BLOB")
    blobs = NatsBlobs(client)
    await blobs.open()
    data = random.Random(1).randbytes(1_200_000)
    for name in ("whole", "replaced", "empty"):
        await blobs.put(name, stream(b"" if name == "empty" else data))
    await blobs.put("replaced", stream(data[:600_000]))
    there = await blobs.pieces()
    for name in ("whole", "never"):
        await _leave_pieces(blobs, name, 2)
    assert await blobs.tidy(datetime(2020, 1, 1, tzinfo=UTC)) == 0
    assert await blobs.pieces() == there + 4, "they may be under way"
    assert await blobs.tidy(datetime(2100, 1, 1, tzinfo=UTC)) == 2
    assert await blobs.pieces() == there
    assert await blobs.tidy(datetime(2100, 1, 1, tzinfo=UTC)) == 0
    assert await read(blobs, "whole") == data
    assert await read(blobs, "replaced") == data[:600_000]
    assert await read(blobs, "empty") == b""


async def _leave_pieces(blobs: NatsBlobs, name: str, count: int) -> None:
    """Write what an agent leaves that dies within an upload."""
    stem = f"rota.blob.{hashlib.sha256(name.encode()).hexdigest()[:40]}.0123456789abcdef"
    for number in range(count):
        await blobs._stream.publish(f"{stem}.{number}", b"piece", f"{name}-{number}", 0)
