"""The journal, logs, blobs, presence and lease in memory: for tests, and for running no engine.

They keep every promise of the ports but durability. What is written is encoded and read back, so
that nobody shares an object by accident. Agents of one process that share a twin are a cluster.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec.structs import replace

from rota.core.codec import decode, encode
from rota.core.events import LEADER, key_of
from rota.errors import FencedError, InputError, InvariantError, NotFoundError, StaleError
from rota.ports.blobs import Blob
from rota.ports.journal import MAX_EVENT_BYTES, Entry
from rota.ports.logs import MAX_CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from datetime import datetime

    from rota.core.events import Event
    from rota.ports.lease import Beat
    from rota.ports.logs import LogKey
    from rota.ports.presence import Word

T = TypeVar("T")


class _News:
    """Wakes everybody who waits for more."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        await self._event.wait()


class _Hearers(Generic[T]):
    """Whoever listens right now gets what is said, and nobody what was said before."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[T]] = set()

    def tell(self, what: T) -> None:
        for queue in self._queues:
            queue.put_nowait(what)

    @contextmanager
    def listen(self) -> Iterator[asyncio.Queue[T]]:
        queue: asyncio.Queue[T] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)


class MemoryJournal:
    """See :class:`rota.ports.journal.Journal`. Its first event gets the sequence ``first``."""

    def __init__(self, first: int = 1) -> None:
        self._first = first
        self._raw: list[bytes] = []
        self._last: dict[str, int] = {}
        self._news = _News()

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        """Write ``event`` and return its sequence."""
        if expect is not None and fence is not None:
            raise InvariantError("an append has either an expectation or a fence")
        data, key = encode(event), key_of(event)
        if len(data) > MAX_EVENT_BYTES:
            raise InputError(
                f"the event has {len(data)} bytes, the limit is {MAX_EVENT_BYTES}",
                hint="keep large data as an artifact and name it in the event",
            )
        if expect is not None and expect != self._last.get(key, 0):
            raise StaleError("somebody else wrote first")
        if fence is not None and fence != self._last.get(LEADER, 0):
            raise FencedError("another leader was elected")
        self._raw.append(data)
        self._last[key] = last = self._end
        self._news.tell()
        return last

    @property
    def _end(self) -> int:
        return self._first + len(self._raw) - 1

    async def read(self, *, after: int = 0, follow: bool = False) -> AsyncGenerator[Entry, None]:
        """Yield the events above ``after``; see the port."""
        stop = self._end
        while True:
            after = max(after, self._first - 1)
            while after < (self._end if follow else stop):
                after += 1
                raw = self._raw[after - self._first]
                yield Entry(after, decode(raw), hashlib.sha256(raw).digest())
                after = max(after, self._first - 1)
            if not follow:
                return
            await self._news.wait()

    async def bounds(self) -> tuple[int, int]:
        """Return the first and last sequence."""
        return (self._first, self._end)

    async def trim(self, *, before: int) -> None:
        """Forget what lies below ``before``."""
        if before > self._first:
            del self._raw[: before - self._first]
            self._first = before
            self._last = {key: seq for key, seq in self._last.items() if seq >= before}


class MemoryLogs:
    """See :class:`rota.ports.logs.Logs`."""

    def __init__(self) -> None:
        self._logs: dict[LogKey, bytearray] = {}
        self._news = _News()

    async def append(self, key: LogKey, offset: int, data: bytes) -> int:
        """Add ``data`` at ``offset`` and return the new end."""
        if not 0 < len(data) <= MAX_CHUNK_BYTES:
            raise InputError(f"a piece of {len(data)} bytes, the limit is 1 to {MAX_CHUNK_BYTES}")
        end = await self.end(key)
        if offset != end:
            raise StaleError(f"the log ends at byte {end}, not at {offset}")
        self._logs.setdefault(key, bytearray()).extend(data)
        self._news.tell()
        return offset + len(data)

    async def end(self, key: LogKey) -> int:
        """Return how many bytes are there."""
        return len(self._logs.get(key, b""))

    async def read(
        self, key: LogKey, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` up to ``stop``."""
        end = await self.end(key)
        stop = end if stop is None else min(stop, end)
        while start < stop:
            piece = bytes(self._logs.get(key, b"")[start : min(stop, start + MAX_CHUNK_BYTES)])
            if not piece:
                return
            yield piece
            start += len(piece)

    async def follow(self, key: LogKey, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` on, for ever."""
        while True:
            async for piece in self.read(key, start):
                yield piece
                start += len(piece)
            if start >= await self.end(key):
                await self._news.wait()

    async def drop(self, key: LogKey) -> None:
        """Forget a log."""
        self._logs.pop(key, None)


class MemoryBlobs:
    """See :class:`rota.ports.blobs.Blobs`."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    async def put(self, name: str, data: AsyncIterator[bytes]) -> Blob:
        """Store ``data`` once all of it arrived."""
        whole = b"".join([part async for part in data])
        self._blobs[name] = whole
        return Blob(name, len(whole), hashlib.sha256(whole).hexdigest())

    async def get(self, name: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``offset`` on."""
        if name not in self._blobs:
            raise NotFoundError(f"nothing is stored as {name!r}")
        whole = self._blobs[name]
        for at in range(offset, len(whole), MAX_CHUNK_BYTES):
            yield whole[at : at + MAX_CHUNK_BYTES]

    async def find(self, name: str) -> Blob | None:
        """Return what is stored under ``name``."""
        whole = self._blobs.get(name)
        if whole is None:
            return None
        return Blob(name, len(whole), hashlib.sha256(whole).hexdigest())

    async def drop(self, name: str) -> None:
        """Forget it."""
        self._blobs.pop(name, None)

    async def tidy(self, before: datetime) -> int:
        """Do nothing: what broke off was never here."""
        return 0


class MemoryPresence:
    """See :class:`rota.ports.presence.Presence`."""

    def __init__(self) -> None:
        self._hearers: _Hearers[Word] = _Hearers()
        self._asking: dict[str, asyncio.Future[bool]] = {}
        self._asked = 0

    async def say(self, word: Word) -> None:
        """Tell everybody who hears."""
        self._hearers.tell(word)

    async def ask(self, word: Word, *, within_s: float) -> bool:
        """Say it, and return whether it was confirmed."""
        self._asked += 1
        answer = str(self._asked)
        asking = self._asking[answer] = asyncio.get_running_loop().create_future()
        self._hearers.tell(replace(word, answer=answer))
        try:
            async with asyncio.timeout(within_s):
                await asking
        except TimeoutError:
            return False
        finally:
            del self._asking[answer]
        return True

    async def confirm(self, word: Word) -> None:
        """Answer a word that was heard."""
        asking = self._asking.get(word.answer)
        if asking is not None and not asking.done():
            asking.set_result(True)

    async def hear(self) -> AsyncGenerator[Word, None]:
        """Yield what agents say from now on, for ever."""
        with self._hearers.listen() as words:
            while True:
                yield await words.get()


class MemoryLease:
    """See :class:`rota.ports.lease.Lease`."""

    def __init__(self) -> None:
        self._hearers: _Hearers[Beat] = _Hearers()

    async def beat(self, beat: Beat, *, within_s: float) -> None:
        """Take the beat."""
        self._hearers.tell(beat)

    async def follow(self) -> AsyncGenerator[Beat, None]:
        """Yield beats as they come, for ever."""
        with self._hearers.listen() as beats:
            while True:
                yield await beats.get()
