"""Answers that go on: bytes as they come, and server-sent events (HTML Living Standard, § 9.2).

Each event's id is where to go on: the journal's sequence, or the log's byte offset. So a client
that comes back, here or at another agent, sends `Last-Event-ID` and misses nothing.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import msgspec
from aiohttp import web

from rota.errors import RotaError
from rota.http import problems
from rota.ports.journal import Entry
from rota.service.events import Gap, kind_shown, show

logger = logging.getLogger(__name__)

#: Proxies and clients drop connections on which nothing happens; a comment line keeps them.
KEEP_ALIVE_S = 15.0
#: An answer that has nothing to say yet gets its head out after this, so that it is seen to be one.
HEAD_S = 0.5
MEDIA_TYPE = "text/event-stream"


def is_wanted(request: web.Request) -> bool:
    """Whether the caller asks for server-sent events."""
    return MEDIA_TYPE in request.headers.get("Accept", "")


async def send(
    request: web.Request, response: web.StreamResponse, pieces: AsyncGenerator[bytes]
) -> web.StreamResponse:
    """Send pieces as they come. A slow client slows only itself: it is waited for.

    Raises:
        RotaError: before the first piece: there is still an answer to be made of it.
    """
    async with contextlib.aclosing(pieces):
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        first = await _first(request, response, pieces)
        with _under_way(request):
            if isinstance(first, RotaError):
                raise first
            await response.prepare(request)
            await response.write(first)
            async for piece in pieces:
                await response.write(piece)
            await response.write_eof()
    return response


async def _first(
    request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]
) -> bytes | RotaError:
    """Return the first piece; or the error in its place, if the answer's head is out by then."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_or_error(pieces))
        await asyncio.wait({task}, timeout=HEAD_S)
        if not task.done():
            with contextlib.suppress(ConnectionError):
                await response.prepare(request)
    first = task.result()
    if isinstance(first, RotaError) and not response.prepared:
        raise first
    return first


async def _or_error(pieces: AsyncIterator[bytes]) -> bytes | RotaError:
    try:
        return await anext(pieces, b"")
    except RotaError as error:
        return error


@contextlib.contextmanager
def _under_way(request: web.Request) -> Iterator[None]:
    """Break the connection off at an error: the status is out, and nothing else would show it."""
    try:
        yield
    except ConnectionError:
        return  # the reader has gone
    except RotaError as error:
        logger.info("%s %s broke off: %s", request.method, request.path, error.message)
    except Exception:
        logger.exception("%s %s broke off", request.method, request.path)
    else:
        return
    if request.transport is not None:
        request.transport.close()


async def stream(request: web.Request, events: AsyncGenerator[bytes]) -> web.StreamResponse:
    """Send server-sent events, with a comment now and then for who is between."""
    response = web.StreamResponse(
        headers={"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    async with contextlib.aclosing(events):
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(_keep_alive(response))
            try:
                with _under_way(request):
                    await response.write(b": rota\n\n")
                    async for event in events:
                        await response.write(event)
                    await response.write_eof()
            finally:
                beat.cancel()
    return response


async def _keep_alive(response: web.StreamResponse) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            await asyncio.sleep(KEEP_ALIVE_S)
            await response.write(b": still here\n\n")


async def journal_events(entries: AsyncGenerator[Entry | Gap]) -> AsyncGenerator[bytes]:
    """Yield journal entries as server-sent events; a gap is an event of that name."""
    async with contextlib.aclosing(entries):
        try:
            async for entry in entries:
                if isinstance(entry, Gap):
                    data = msgspec.json.encode(entry)
                    yield b"id: %d\nevent: gap\ndata: %s\n\n" % (entry.first - 1, data)
                else:
                    kind = kind_shown(entry).encode()
                    yield b"id: %d\nevent: %s\ndata: %s\n\n" % (entry.seq, kind, show(entry))
        except RotaError as error:
            yield _error_event(error)


async def log_events(start: int, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Yield a log as server-sent events; ``id`` is the offset behind each piece.

    Text is cut between characters, so that no piece has half of one. With ``start`` below 0 the
    pieces have no place in the log, and the events no id.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    offset, has_place = max(start, 0), start >= 0
    async with contextlib.aclosing(pieces):
        try:
            async for piece in pieces:
                text = decoder.decode(piece)
                offset += len(piece)
                held_back = len(decoder.getstate()[0])
                if text:
                    yield _log_event(offset - held_back if has_place else None, text)
        except RotaError as error:
            yield _error_event(error)
            return
    if rest := decoder.decode(b"", final=True):
        yield _log_event(offset if has_place else None, rest)
    yield b"event: end\ndata: {}\n\n"


def _log_event(offset: int | None, text: str) -> bytes:
    head = b"" if offset is None else b"id: %d\n" % offset
    return head + b"event: log\ndata: %s\n\n" % msgspec.json.encode({"text": text})


def _error_event(error: RotaError) -> bytes:
    return b"event: error\ndata: %s\n\n" % problems.encode(problems.details(error))
