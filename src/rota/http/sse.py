"""Answers that go on: bytes as they come, and server-sent events (HTML Living Standard, § 9.2).

Each event's id is where to go on: the journal's sequence, or the log's byte offset. So a client
that comes back, here or at another agent, sends `Last-Event-ID` and misses nothing.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import msgspec
from aiohttp import web

from rota.core.events import kind_of
from rota.errors import RotaError
from rota.http import problems
from rota.ports.journal import Entry
from rota.service.events import show

#: Proxies and clients drop connections on which nothing happens; a comment line keeps them.
KEEP_ALIVE_S = 15.0
MEDIA_TYPE = "text/event-stream"


def is_wanted(request: web.Request) -> bool:
    """Whether the caller asks for server-sent events."""
    return MEDIA_TYPE in request.headers.get("Accept", "")


async def send(
    request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Send pieces as they come. A slow client slows only itself: it is waited for."""
    first = await anext(pieces, b"")  # errors before the first byte still get their own answer
    await response.prepare(request)
    try:
        await response.write(first)
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    except RotaError:
        # The status is out: all that is left is to break off, so that the client sees it.
        if request.transport is not None:
            request.transport.close()
    except ConnectionError:
        pass
    return response


async def stream(request: web.Request, events: AsyncIterator[bytes]) -> web.StreamResponse:
    """Send server-sent events, with a comment now and then while there are none."""
    response = web.StreamResponse(
        headers={"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        await response.write(b": rota\n\n")
        async for event in _with_keep_alive(events):
            await response.write(event)
        await response.write_eof()
    return response


async def journal_events(entries: AsyncIterator[Entry]) -> AsyncGenerator[bytes]:
    """Yield journal entries as server-sent events."""
    async for entry in entries:
        kind = kind_of(entry.event).replace("\n", " ")
        yield b"id: %d\nevent: %s\ndata: %s\n\n" % (entry.seq, kind.encode(), show(entry))


async def log_events(start: int, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield a log as server-sent events; ``id`` is the offset behind each piece.

    Text is cut between characters, so that no piece has half of one.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    offset = max(start, 0)
    try:
        async for piece in pieces:
            text = decoder.decode(piece)
            offset += len(piece)
            held_back = len(decoder.getstate()[0])
            if text:
                yield _log_event(offset - held_back, text)
    except RotaError as error:
        yield b"event: error\ndata: " + msgspec.json.encode(problems.details(error)) + b"\n\n"
        return
    if rest := decoder.decode(b"", final=True):
        yield _log_event(offset, rest)
    yield b"event: end\ndata: {}\n\n"


def _log_event(offset: int, text: str) -> bytes:
    data = msgspec.json.encode({"text": text})
    return b"id: %d\nevent: log\ndata: %s\n\n" % (offset, data)


async def _with_keep_alive(events: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    following = aiter(events)
    async with asyncio.TaskGroup() as group:
        while True:
            event = group.create_task(_next(following))
            try:
                while not (await asyncio.wait({event}, timeout=KEEP_ALIVE_S))[0]:
                    yield b": still here\n\n"
            finally:
                if not event.done():
                    event.cancel()
            piece = event.result()
            if piece is None:
                return
            yield piece


async def _next(events: AsyncIterator[bytes]) -> bytes | None:
    return await anext(events, None)
