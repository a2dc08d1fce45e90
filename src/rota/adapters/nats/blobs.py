"""Blobs as messages of one stream: the pieces of an upload, and a label that names the upload.

The label is written last and replaces the former one: an upload that broke off was never there.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import deque
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec

from rota.adapters.nats.jetstream import Spec, Stream
from rota.errors import NotFoundError, UnavailableError
from rota.ports.blobs import Blob

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
    from datetime import datetime

    from rota.adapters.nats.client import Client

log = logging.getLogger(__name__)

DAY_NS = 86_400 * 10**9
PIECE_BYTES = 512 << 10
#: So many pieces are on their way to the engine at once: what bounds an upload's memory.
WINDOW = 8


#: So many pieces are asked for before they are wanted.
AHEAD = 4

T = TypeVar("T")


class _Label(msgspec.Struct):
    blob: Blob
    upload: str
    pieces: int


class NatsBlobs:
    """See :class:`rota.ports.blobs.Blobs`. Call :meth:`open` once before."""

    def __init__(self, client: Client, *, max_bytes: int = -1, max_age_days: int = 0) -> None:
        self._stream = Stream(client, "BLOB")
        self._spec = Spec(
            name="BLOB",
            subjects=("rota.blob.>",),
            max_bytes=max_bytes,
            max_age=max_age_days * DAY_NS,
            max_msgs_per_subject=1,
        )

    async def open(self) -> None:
        """Make the stream, or give it the present limits. Safe to call twice.

        Raises:
            UnavailableError: the engine did not agree in time.
        """
        await self._stream.ensure(self._spec)

    async def put(self, name: str, data: AsyncIterator[bytes]) -> Blob:
        """Store ``data``; one round trip for each half mebibyte."""
        stem, upload = _stem(name), secrets.token_hex(8)
        try:
            label = await self._upload(name, f"{stem}.{upload}", upload, data)
        except BaseException:
            await self._forget(f"{stem}.{upload}.*")
            raise
        former, body = await self._label(name), msgspec.json.encode(label)
        await self._stream.publish(f"{stem}.label", body, upload, None)
        if former is not None:
            await self._forget(f"{stem}.{former.upload}.*")
        return label.blob

    async def _forget(self, pattern: str) -> None:
        """Give back the space of pieces that no label names."""
        try:
            await self._stream.purge(subject=pattern)
        except UnavailableError as error:
            log.warning("pieces of a blob are left behind as %s: %s", pattern, error.message)

    async def _upload(
        self, name: str, stem: str, upload: str, data: AsyncIterator[bytes]
    ) -> _Label:
        size, count, digest = 0, 0, hashlib.sha256()
        loop, pieces = asyncio.get_running_loop(), _pieces(data)
        under_way: deque[asyncio.Task[int]] = deque()
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    if len(under_way) == WINDOW:
                        _ = await under_way[0]
                        _ = under_way.popleft()
                    put = self._stream.publish(f"{stem}.{count}", piece, f"{upload}-{count}", 0)
                    under_way.append(loop.create_task(put))
                    # The lock is free meanwhile, so that hashing costs other callers nothing.
                    await asyncio.to_thread(digest.update, piece)
                    size += len(piece)
                    count += 1
            while under_way:
                _ = await under_way[0]
                _ = under_way.popleft()
        finally:
            # What is sent is stored, whether anybody waits or not: purged too soon it would stay.
            _ = await asyncio.gather(*under_way, return_exceptions=True)
        return _Label(Blob(name, size, digest.hexdigest()), upload, count)

    async def get(self, name: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the bytes, some pieces of which are fetched ahead; see the port."""
        label = await self._label(name)
        if label is None:
            raise NotFoundError(f"nothing is stored as {name!r}")
        stem, (first, skip) = f"{_stem(name)}.{label.upload}", divmod(offset, PIECE_BYTES)
        async with ahead(self._piece, (f"{stem}.{n}" for n in range(first, label.pieces))) as found:
            async for piece in found:
                if piece is None:
                    raise UnavailableError(f"{name!r} was replaced or dropped while it was read")
                yield piece[skip:] if skip else piece
                skip = 0

    async def _piece(self, subject: str) -> bytes | None:
        found = await self._stream.last(subject)
        return None if found is None else found.data

    async def find(self, name: str) -> Blob | None:
        """Return what is stored under ``name``; one round trip."""
        label = await self._label(name)
        return None if label is None else label.blob

    async def drop(self, name: str) -> None:
        """Forget it."""
        await self._stream.purge(subject=f"{_stem(name)}.>")

    async def tidy(self, before: datetime) -> int:
        """Forget uploads that no label names and that got no piece since ``before``; see the port."""
        uploads: dict[str, list[str]] = {}
        async for page in self._stream.subjects("rota.blob.*.*.0"):
            for subject in page:
                stem, upload, _ = subject.rsplit(".", 2)
                uploads.setdefault(stem, []).append(upload)
        labelled: set[str] = set()
        async for page in self._stream.subjects("rota.blob.*.label"):
            labelled.update(subject.removesuffix(".label") for subject in page)
        count = 0
        for stem, found in uploads.items():
            # A label is replaced before the pieces of the former one go: one alone is its own.
            if len(found) > 1 or stem not in labelled:
                count += await self._tidy(stem, found, before)
        return count

    async def _tidy(self, stem: str, uploads: list[str], before: datetime) -> int:
        count = 0
        for upload in uploads:
            last = await self._stream.last(f"{stem}.{upload}.*")
            if last is None or last.at >= before:
                continue
            # Looked up only now: an upload that is complete by now has its label.
            found = await self._stream.last(f"{stem}.label")
            if found is None or msgspec.json.decode(found.data, type=_Label).upload != upload:
                await self._stream.purge(subject=f"{stem}.{upload}.*")
                count += 1
        return count

    async def pieces(self) -> int:
        """Return how many messages are stored, labels included."""
        return (await self._stream.bounds()).messages

    async def _label(self, name: str) -> _Label | None:
        found = await self._stream.last(f"{_stem(name)}.label")
        return None if found is None else msgspec.json.decode(found.data, type=_Label)


def _stem(name: str) -> str:
    """Return the subject of a name, whatever characters it has."""
    return f"rota.blob.{hashlib.sha256(name.encode()).hexdigest()[:40]}"


@asynccontextmanager
async def ahead(
    fetch: Callable[[str], Awaitable[T]], names: Iterator[str]
) -> AsyncGenerator[AsyncGenerator[T, None], None]:
    """Yield what ``fetch`` returns for each name, in their order; ``AHEAD`` are under way at once.

    Leaving the context ends those.
    """
    loop = asyncio.get_running_loop()
    waiting: deque[asyncio.Task[T]] = deque()

    async def one(name: str) -> T:
        return await fetch(name)

    async def each() -> AsyncGenerator[T, None]:
        for name in names:
            waiting.append(loop.create_task(one(name)))
            if len(waiting) == AHEAD:
                yield await waiting[0]
                _ = waiting.popleft()
        while waiting:
            yield await waiting[0]
            _ = waiting.popleft()

    found = each()
    try:
        yield found
    finally:
        await found.aclose()
        for task in waiting:
            _ = task.cancel()
        _ = await asyncio.gather(*waiting, return_exceptions=True)


async def _pieces(data: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the same bytes in pieces of the size that suits the engine; each is copied once."""
    held: list[bytes] = []
    size = 0
    async for part in data:
        held.append(part)
        size += len(part)
        while size >= PIECE_BYTES:
            over = size - PIECE_BYTES
            last = held[-1]
            if over:
                held[-1] = last[: len(last) - over]
            yield held[0] if len(held) == 1 else b"".join(held)
            held = [last[len(last) - over :]] if over else []
            size = over
    if held:
        yield b"".join(held)
