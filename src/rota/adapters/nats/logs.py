"""Logs as messages of one stream: a chunk is a message, its offset stands in the subject.

A chunk's payload is a small head (version, codec, how many bytes it stands for) and the bytes,
compressed with Zstandard where that makes them fewer. A chunk is stored only if its subject has
none yet, and a writer sends one only after the one before it was confirmed, so chunks of a log lie
in the stream in order, without a hole.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from rota.adapters.nats.jetstream import Spec, Stored, Stream, subject_of
from rota.errors import InputError, InvariantError, NotFoundError, StaleError
from rota.ports.logs import MAX_CHUNK_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rota.adapters.nats.client import Client
    from rota.ports.logs import LogKey

DAY_NS = 86_400 * 10**9
LEVEL = 1
#: Above this a chunk is compressed in a thread: the switch costs less than the loop would stand.
INLINE_BYTES = 32 << 10
#: Below this compression saves nothing.
TINY_BYTES = 64
#: What a follower's feed may hold: a few chunks of incompressible bytes.
FEED_BYTES = 3 * MAX_CHUNK_BYTES
#: Ends of logs that are remembered; one more costs a round trip at its next append.
MAX_TAILS = 256
_HEAD = struct.Struct("<BBI")
_VERSION = 1
_RAW, _ZSTD = 0, 1


class Chunk(msgspec.Struct, gc=False):
    """A piece of a log: ``size`` bytes from ``offset`` on, at ``seq`` in the stream."""

    seq: int
    offset: int
    size: int
    payload: bytes

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + self.size


class _Tail:
    """Where a log ends once all is written that is under way, and the last piece of that."""

    __slots__ = ("end", "last")

    def __init__(self, end: int, last: asyncio.Future[bool]) -> None:
        self.end = end
        self.last = last


class NatsLogs:
    """See :class:`rota.ports.logs.Logs`. Call :meth:`open` once before."""

    def __init__(self, client: Client, *, max_bytes: int = -1, max_age_days: int = 30) -> None:
        self._stream = Stream(client, "LOG")
        self._spec = Spec(
            name="LOG",
            subjects=("rota.log.>",),
            max_bytes=max_bytes,
            max_age=max_age_days * DAY_NS,
            republish={"src": "rota.log.>", "dest": "rota.live.log.>"},
        )
        self._is_limited = False
        self._tails: dict[LogKey, _Tail] = {}
        self._compressor = zstd.ZstdCompressor(LEVEL)
        self._me = secrets.token_hex(6)
        self._count = 0

    async def open(self) -> None:
        """Make the stream, or give it the present limits. Safe to call twice.

        Until :meth:`limit` says what they are, one that is there keeps those that it has: lower ones,
        for a moment only, would throw logs away.

        Raises:
            UnavailableError: the engine did not agree in time.
        """
        as_found = () if self._is_limited else ("max_age", "max_bytes")
        await self._stream.ensure(self._spec, as_found=as_found)

    async def limit(self, *, max_bytes: int, max_age_s: float) -> None:
        """Keep no more than this from now on; the oldest chunks go first.

        Raises:
            UnavailableError: the engine did not agree in time.
        """
        wanted = replace(self._spec, max_bytes=max_bytes, max_age=round(max_age_s * 1e9))
        if wanted != self._spec or not self._is_limited:
            self._spec, self._is_limited = wanted, True
            await self.open()

    async def append(self, key: LogKey, offset: int, data: bytes) -> int:
        """Add ``data`` at ``offset``; one round trip, and one more where we did not write before."""
        if not 0 < len(data) <= MAX_CHUNK_BYTES:
            raise InputError(f"a piece of {len(data)} bytes, the limit is 1 to {MAX_CHUNK_BYTES}")
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        before, tail = self._join(key, offset, len(data), done)
        written = False
        try:
            payload = await self._pack(data)
            await self._await_turn(key, offset, before)
            self._count += 1
            subject = f"{_stem('log', key)}.{offset}"
            msg_id = f"{self._me}-{self._count}"
            await self._stream.publish(subject, payload, msg_id, 0)
            written = True
        finally:
            done.set_result(written)
            if not written and self._tails.get(key) is tail:
                del self._tails[key]
        return offset + len(data)

    def _join(
        self, key: LogKey, offset: int, size: int, done: asyncio.Future[bool]
    ) -> tuple[asyncio.Future[bool] | None, _Tail]:
        """Line up behind what is under way; return whom to wait for, ``None`` if unknown."""
        tail = self._tails.get(key)
        if tail is not None and tail.end == offset:
            before, tail.last = tail.last, done
            tail.end = offset + size
            return before, tail
        if tail is not None and not tail.last.done():
            raise StaleError(f"the log will end at byte {tail.end}, not at {offset}")
        self._tails[key] = tail = _Tail(offset + size, done)
        self._forget_old()
        return None, tail

    def _forget_old(self) -> None:
        if len(self._tails) > MAX_TAILS:
            idle = next((k for k, tail in self._tails.items() if tail.last.done()), None)
            if idle is not None:
                del self._tails[idle]

    async def _await_turn(
        self, key: LogKey, offset: int, before: asyncio.Future[bool] | None
    ) -> None:
        if before is not None:
            await asyncio.wait([before])  # it is bounded by its own publish
            if not before.result():
                raise StaleError(f"the piece before byte {offset} was not written")
        elif offset > 0 and (end := await self.end(key)) != offset:
            raise StaleError(f"the log ends at byte {end}, not at {offset}")

    async def _pack(self, data: bytes) -> bytes:
        size = len(data)
        if size <= TINY_BYTES:
            packed = data
        elif size <= INLINE_BYTES:
            packed = self._compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
        else:
            packed = await asyncio.to_thread(zstd.compress, data, LEVEL)
        if len(packed) < size:
            return _HEAD.pack(_VERSION, _ZSTD, size) + packed
        return _HEAD.pack(_VERSION, _RAW, size) + data

    async def end(self, key: LogKey) -> int:
        """Return how many bytes are there; one round trip."""
        last = await self._last(key)
        return 0 if last is None else last.end

    async def read(
        self, key: LogKey, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` up to ``stop``; see the port."""
        last = await self._last(key)
        end = 0 if last is None else last.end
        stop = end if stop is None else min(stop, end)
        if last is None or start >= stop:
            return
        at, first = start, await self._find(key, start, last)
        async for batch in self._stream.scan(_pattern("log", key), first.seq, last.seq):
            for each in batch:
                if at >= stop:
                    return
                chunk = _chunk_at(each, at)
                yield _cut(chunk, at, stop)
                at = chunk.end

    async def follow(self, key: LogKey, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` on, for ever; see the port."""
        at = start
        last = await self._last(key)
        if last is None:
            seq = 1
        elif start >= last.end:
            seq = last.seq + 1
        else:
            seq = (await self._find(key, start, last)).seq
        following = self._stream.follow(
            _pattern("log", key),
            _pattern("live.log", key),
            seq,
            lambda each: _offset(each) <= at,
            limit_bytes=FEED_BYTES,
        )
        async with aclosing(following):
            async for each in following:
                chunk = _chunk_at(each, at)
                if chunk.end > at:
                    yield _cut(chunk, at, chunk.end)
                    at = chunk.end

    async def drop(self, key: LogKey) -> None:
        """Forget a log."""
        self._tails.pop(key, None)
        await self._stream.purge(subject=_pattern("log", key))

    async def _last(self, key: LogKey) -> Chunk | None:
        # Another copy than the one that answers here may have more: a log that is finished is to
        # be read whole, and one that is written is to be continued at its end.
        found = await self._stream.surely_last(_pattern("log", key))
        return None if found is None else _chunk(found)

    async def _find(self, key: LogKey, start: int, last: Chunk) -> Chunk:
        """Return the chunk that holds byte ``start``, which is below ``last.end``.

        Offsets rise with the sequences, so it is searched for: by interpolation and by halves in
        turn, as other logs lie between. Cost: a few round trips, at most twice the logarithm of
        the sequences between the log's first chunk and its last.

        Raises:
            NotFoundError: that part of the log is no longer kept.
        """
        pattern = _pattern("log", key)
        if start >= last.offset:
            return last
        first = await self._chunk_from(pattern, 1)
        if start < first.offset:
            raise _gone(first)
        low, high, turn = first, last, 0
        while not low.offset <= start < low.end:
            span = high.seq - low.seq
            share = (start - low.end) / (high.offset - low.end) if turn % 2 == 0 else 0.5
            guess = low.seq + 1 + int(share * (span - 1))
            turn += 1
            chunk = await self._chunk_from(pattern, guess)
            if chunk.offset <= start:
                low = chunk
            else:
                high = msgspec.structs.replace(chunk, seq=guess)
        return low

    async def _chunk_from(self, pattern: str, seq: int) -> Chunk:
        found = await self._stream.next(pattern, seq)
        if found is None:
            raise NotFoundError("the log is no longer kept")
        return _chunk(found)


def _stem(kind: str, key: LogKey) -> str:
    build = subject_of(key.build).replace(".", "%2E")
    return f"rota.{kind}.{build}.{key.attempt}"


def _pattern(kind: str, key: LogKey) -> str:
    return f"{_stem(kind, key)}.*"


def _offset(found: Stored) -> int:
    return int(found.subject.rpartition(".")[2])


def _chunk(found: Stored) -> Chunk:
    version, _, size = _HEAD.unpack_from(found.data)
    if version != _VERSION:
        raise InvariantError(f"a log chunk of version {version}, this program knows {_VERSION}")
    return Chunk(found.seq, _offset(found), size, found.data)


def _chunk_at(found: Stored, at: int) -> Chunk:
    """Return a chunk that must not begin behind ``at``: the oldest are thrown away first."""
    chunk = _chunk(found)
    if chunk.offset > at:
        raise _gone(chunk)
    return chunk


def _gone(chunk: Chunk) -> NotFoundError:
    return NotFoundError(
        f"the first {chunk.offset} bytes of the log are no longer kept",
        hint=f"read it from byte {chunk.offset}",
    )


def _cut(chunk: Chunk, start: int, stop: int) -> bytes:
    """Return the chunk's bytes between two offsets of the log."""
    body = chunk.payload[_HEAD.size :]
    if chunk.payload[1] == _ZSTD:
        body = zstd.decompress(body)
    if start <= chunk.offset and stop >= chunk.end:
        return body
    return body[max(start - chunk.offset, 0) : stop - chunk.offset]
