"""Blobs in a bucket of S3, or of anything that speaks its protocol.

A file is a number of objects of ``PIECE`` bytes, most are one, and a label that names them and is
written last. No multi-part upload is begun, so that nothing can be left behind that no listing
shows: what broke off are objects without a label, and :meth:`BucketBlobs.tidy` finds them.

The library is loaded when a bucket is first used.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from rota.errors import NotFoundError, UnavailableError
from rota.ports.blobs import Blob

if TYPE_CHECKING:
    from obstore.store import S3Store

T = TypeVar("T")

PIECE = 8 << 20
#: So many objects are on their way at once: what bounds an upload's memory.
WINDOW = 4
#: A try of one object, and all tries of it together.
TRY = timedelta(seconds=60)
TRIES = timedelta(seconds=90)
CONNECT = timedelta(seconds=5)
MAX_RETRIES = 5


class Keys(msgspec.Struct, frozen=True):
    """Who we are to the bucket; empty is left to the environment, or to the machine's role."""

    id: str = ""
    secret: str = ""
    token: str = ""


class Place(msgspec.Struct, frozen=True):
    """Which bucket, and where in it. An empty ``endpoint`` is Amazon's."""

    bucket: str
    endpoint: str = ""
    region: str = ""
    prefix: str = ""


class _Label(msgspec.Struct):
    blob: Blob
    upload: str
    pieces: int


class BucketBlobs:
    """See :class:`rota.ports.blobs.Blobs`. ``keys`` is asked before the first use."""

    def __init__(self, place: Place, keys: Callable[[], Awaitable[Keys]]) -> None:
        self._place, self._keys = place, keys
        self._store: S3Store | None = None
        self._opening = asyncio.Lock()

    async def put(self, name: str, data: AsyncIterator[bytes]) -> Blob:
        """Store ``data``, some objects at a time."""
        upload = secrets.token_hex(8)
        former = await self._label(name)
        try:
            label = await self._upload(name, upload, data)
            await self._write(self._label_key(name), msgspec.json.encode(label))
        except BaseException:
            await self._forget_quietly(name, upload)
            raise
        if former is not None:
            await self._forget_quietly(name, former.upload)
        return label.blob

    async def _upload(self, name: str, upload: str, data: AsyncIterator[bytes]) -> _Label:
        size, count, digest = 0, 0, hashlib.sha256()
        loop = asyncio.get_running_loop()
        under_way: deque[asyncio.Task[None]] = deque()
        try:
            async for piece in _pieces(data):
                if len(under_way) == WINDOW:
                    await under_way[0]
                    _ = under_way.popleft()
                key = self._piece_key(name, upload, count)
                under_way.append(loop.create_task(self._write(key, piece)))
                await asyncio.to_thread(digest.update, piece)
                size += len(piece)
                count += 1
            while under_way:
                await under_way[0]
                _ = under_way.popleft()
        except asyncio.CancelledError:
            for task in under_way:
                task.cancel()  # what the bucket takes all the same, `tidy` finds
            raise
        finally:
            # Ended by then, so that none is written after what was written is forgotten.
            await asyncio.gather(*under_way, return_exceptions=True)
        return _Label(Blob(name, size, digest.hexdigest()), upload, count)

    async def get(self, name: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the bytes as they come, one object after another."""
        label = await self._label(name)
        if label is None:
            raise NotFoundError(f"nothing is stored as {name!r}")
        first, skip = divmod(offset, PIECE)
        for number in range(first, label.pieces):
            key = self._piece_key(name, label.upload, number)
            found = await self._call(partial(_get, key))
            if found is None:
                raise UnavailableError(f"{name!r} was replaced or dropped while it was read")
            try:
                async for part in found.stream(min_chunk_size=1 << 18):
                    data = bytes(part)
                    if skip:
                        data, skip = data[skip:], max(0, skip - len(data))
                    if data:
                        yield data
            except Exception as error:
                raise self._fault(error) from error

    async def find(self, name: str) -> Blob | None:
        """Return what is stored under ``name``; one request."""
        label = await self._label(name)
        return None if label is None else label.blob

    async def drop(self, name: str) -> None:
        """Forget it: first the label."""
        label = await self._label(name)
        if label is not None:
            await self._delete([self._label_key(name)])
            await self._forget(name, label.upload)

    async def tidy(self, before: datetime) -> int:
        """Forget objects that no label names; see the port. Cost: a request for a thousand objects."""
        prefix = f"{self._place.prefix}pieces/"
        old: dict[tuple[str, str], list[str]] = {}
        async for found in self._listed(prefix):
            stem, upload, _ = found["path"].removeprefix(prefix).split("/")
            if found["last_modified"] < before:
                old.setdefault((stem, upload), []).append(found["path"])
        count = 0
        for (stem, upload), keys in old.items():
            label = await self._label_at(f"{self._place.prefix}labels/{stem}")
            if label is None or label.upload != upload:
                await self._delete(keys)
                count += 1
        return count

    # -- objects --------------------------------------------------------------------------------

    def _label_key(self, name: str) -> str:
        return f"{self._place.prefix}labels/{_stem(name)}"

    def _piece_key(self, name: str, upload: str, number: int) -> str:
        return f"{self._place.prefix}pieces/{_stem(name)}/{upload}/{number:06}"

    async def _label(self, name: str) -> _Label | None:
        return await self._label_at(self._label_key(name))

    async def _label_at(self, key: str) -> _Label | None:
        async def read(lib: Any, store: S3Store) -> bytes:
            return bytes(await (await lib.get_async(store, key)).bytes_async())

        data = await self._call(read)
        try:
            return None if data is None else msgspec.json.decode(data, type=_Label)
        except ValueError as error:
            raise UnavailableError(f"the object {key!r} is none of ours") from error

    async def _write(self, key: str, data: bytes) -> None:
        found = await self._call(
            lambda lib, store: lib.put_async(store, key, data, use_multipart=False)
        )
        if found is None:
            raise UnavailableError(f"the bucket did not take {key!r}")

    async def _forget_quietly(self, name: str, upload: str) -> None:
        try:
            await self._forget(name, upload)
        except UnavailableError:
            return  # `tidy` finds it

    async def _forget(self, name: str, upload: str) -> None:
        prefix = f"{self._place.prefix}pieces/{_stem(name)}/{upload}/"
        await self._delete([found["path"] async for found in self._listed(prefix)])

    async def _delete(self, keys: list[str]) -> None:
        for at in range(0, len(keys), 1000):
            await self._call(partial(_delete, keys[at : at + 1000]))

    async def _listed(self, prefix: str) -> AsyncGenerator[Any, None]:
        store = await self._opened()
        import obstore

        try:
            async for page in obstore.list(store, prefix.rstrip("/")):
                for found in page:
                    yield found
        except Exception as error:
            raise self._fault(error) from error

    async def _call(self, ask: Callable[[Any, S3Store], Awaitable[T]]) -> T | None:
        """Return the answer; ``None`` if there is no such object."""
        store = await self._opened()
        import obstore

        try:
            return await ask(obstore, store)
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._fault(error) from error
            return None
        except Exception as error:
            raise self._fault(error) from error

    async def _opened(self) -> S3Store:
        async with self._opening:
            if self._store is None:
                self._store = await self._open()
            return self._store

    async def _open(self) -> S3Store:
        try:
            from obstore.store import S3Store
        except ImportError as error:
            raise UnavailableError(
                "this agent cannot speak to a bucket: the library obstore is not installed",
                hint="pip install 'rota[s3]'",
            ) from error
        place, keys = self._place, await self._keys()
        config: dict[str, Any] = {"region": place.region or "us-east-1"}
        if place.endpoint:
            config["endpoint"] = place.endpoint
        if keys.id:
            config |= {"access_key_id": keys.id, "secret_access_key": keys.secret}
        if keys.token:
            config["session_token"] = keys.token
        options: Any = {
            "allow_http": place.endpoint.startswith("http://"),
            "timeout": TRY,
            "connect_timeout": CONNECT,
        }
        return S3Store(
            place.bucket,
            client_options=options,
            retry_config={"max_retries": MAX_RETRIES, "retry_timeout": TRIES},
            **config,
        )

    def _fault(self, error: Exception) -> UnavailableError:
        """Return an error of the library in our words; keys are in none of its texts."""
        text, place = " ".join(str(error).split()), self._place
        where = f"the bucket {place.bucket!r}" + (f" at {place.endpoint}" if place.endpoint else "")
        if "NoSuchBucket" in text:
            return UnavailableError(
                f"there is no {where.removeprefix('the ')}",
                hint="make it, or correct [bucket] name",
            )
        kind = type(error).__name__
        refusals = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden")
        if kind in ("PermissionDeniedError", "UnauthenticatedError") or any(
            it in text for it in refusals
        ):
            self._store = None  # the secret may be another one by now
            why = next((it for it in refusals if it in text), "permission denied")
            return UnavailableError(
                f"{where} refuses this agent: {why}",
                hint="look at [bucket] key and secret, and what they may do there",
            )
        if any(
            it in text.lower() for it in ("error sending request", "connect", "dns", "timed out")
        ):
            return UnavailableError(
                f"{where} cannot be reached: {_why(text)}", hint="look at [bucket] endpoint"
            )
        return UnavailableError(f"{where} did not do it: {_why(text)}")


async def _get(key: str, lib: Any, store: S3Store) -> Any:
    return await lib.get_async(store, key)


async def _delete(keys: list[str], lib: Any, store: S3Store) -> bool:
    await lib.delete_async(store, keys)
    return True


def _why(text: str) -> str:
    """Return what an error of the library comes to: its text is that of all its causes, and long."""
    causes = re.findall(r'message: "([^"]+)"', text)
    if causes:
        return str(causes[-1])
    if "TimedOut" in text or "timed out" in text:
        return "it did not answer in time"
    text = text.partition(" Debug source")[0].rpartition(" - ")[2]
    return text if len(text) <= 200 else text[:199] + "…"


def _stem(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:40]


async def _pieces(data: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the same bytes in pieces of one size but for the last."""
    held = bytearray()
    async for part in data:
        held += part
        while len(held) >= PIECE:
            yield bytes(memoryview(held)[:PIECE])
            held = held[PIECE:]
    if held:
        yield bytes(held)
