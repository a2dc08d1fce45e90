"""Reading logs: by byte, by line, from the end, filtered, live; never a whole log in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Protocol

from rota.core.build import Build
from rota.core.retention import Removed, by_rule
from rota.core.states import State
from rota.errors import InputError, NotFoundError
from rota.ports.logs import LogKey, Logs
from rota.service import messages as m
from rota.service.builds import find_build
from rota.service.context import Principal, Service
from rota.service.world import World

BLOCK = 256 * 1024


class Source(Protocol):
    """A log's bytes, wherever they are."""

    async def end(self) -> int:
        """Return how many bytes there are now."""
        ...

    def read(self, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from ``start`` to ``stop``."""
        ...

    def follow(self, start: int) -> AsyncGenerator[bytes]:
        """Yield from ``start`` on, until the log is whole."""
        ...


async def log(
    service: Service, request: m.LogRequest, who: Principal
) -> tuple[int, AsyncGenerator[bytes]]:
    """Return the byte offset that the answer starts at, and the answer's bytes.

    The offset is -1 for a filtered answer, which has no place in the log.
    """
    build = find_build(service.world, request.build)
    _refuse_two_starts(request)
    attempt = _attempt(build, request)
    source = AttemptLog(service.world, service.logs, build.id, attempt)
    await _refuse_removed(service.world, build, attempt, source)
    start = await _start(source, request)
    pieces = source.follow(start) if request.follow else source.read(start, await source.end())
    if request.follow and who.build:
        pieces = _awaited(service, who.build, build.id, pieces)
    if request.limit:
        pieces = _limited(pieces, request.limit)
    if request.grep:
        return -1, service.searches.matching(request.grep, pieces)
    return start, pieces


async def last_words(service: Service, build: Build, attempt: int, most: int = 8192) -> str:
    """Return the end of an attempt's log as text: of the step in which it failed, if that is known.

    Args:
        service: Of the agent that is asked.
        build: A build.
        attempt: Which attempt of it.
        most: Bytes that are read.
    """
    source = AttemptLog(service.world, service.logs, build.id, attempt)
    end, first = await source.end(), 0
    if build.step and attempt == build.attempt:
        for step in build.steps:
            if step.name == build.step:
                first, end = step.offset, min(end, step.end or end)
    start = max(first, end - most)
    async with contextlib.aclosing(source.read(start, end)) as pieces:
        data = b"".join([piece async for piece in pieces])
    text = data.decode("utf-8", "replace")
    # What was cut off in its middle is no line.
    return text.partition("\n")[2] if start > first and "\n" in text else text


async def _awaited(
    service: Service, waiter: str, build: str, pieces: AsyncGenerator[bytes]
) -> AsyncGenerator[bytes]:
    """Yield a followed log's pieces; a script that follows one waits for that build."""
    async with service.waits.of(waiter, build), contextlib.aclosing(pieces):
        async for piece in pieces:
            yield piece


def _refuse_two_starts(request: m.LogRequest) -> None:
    starts = {
        "offset": request.offset > 0,
        "tail": request.tail >= 0,
        "line": request.line > 0,
    }
    given = [name for name, is_given in starts.items() if is_given]
    if len(given) > 1:
        raise InputError(
            f"{' and '.join(given)} are given, and each says where to start", hint="give one"
        )


def _attempt(build: Build, request: m.LogRequest) -> int:
    ahead = 1 if request.follow and build.state in (State.HELD, State.QUEUED) else 0
    if request.attempt > build.attempt + ahead:
        raise NotFoundError(
            f"{build.ref} has no attempt {request.attempt}, only {build.attempt}",
            hint="without `attempt` it is the last one",
        )
    return request.attempt or build.attempt + ahead


async def _refuse_removed(world: World, build: Build, attempt: int, source: AttemptLog) -> None:
    """Do nothing if the log is there, or never was.

    Raises:
        NotFoundError: it was removed; when and by which rule, if that is known.
    """
    if (build.state is not State.FINISHED and attempt >= build.attempt) or await source.end():
        return
    text = removed_text(build, attempt, world.removed(build.id))
    if text:
        raise NotFoundError(
            f"the log of {build.ref} {text}",
            hint=f"its record stays: rota show {build.ref!r}",
        )


def removed_text(build: Build, attempt: int, known: Removed) -> str:
    """Return how a log that is not there ended: "was removed on …"; empty if it never was."""
    if build.finished_at is None and attempt >= build.attempt:
        return ""
    each = {former.attempt: (former.log_bytes, former.finished_at) for former in build.former}
    if build.finished_at is not None:
        each[build.attempt] = (build.log_bytes, build.finished_at)
    size, finished_at = each.get(attempt, (0, None))
    if known.logs_at is not None and (finished_at is None or finished_at <= known.logs_at):
        return f"was removed on {known.logs_at:%Y-%m-%d} by {by_rule(known.logs)}"
    return "is no longer kept" if size else ""


class AttemptLog:
    """One attempt's log: its file while it runs here, else the engine's copy.

    Both hold the same bytes by offset, so a reader may begin with one and go on with the other.
    """

    def __init__(self, world: World, logs: Logs, build: str, attempt: int) -> None:
        self._world, self._logs = world, logs
        self._build, self._attempt = build, attempt

    @property
    def _key(self) -> LogKey:
        return LogKey(self._build, self._attempt)

    async def end(self) -> int:
        """Return how many bytes there are now."""
        live = self._world.live_logs.get((self._build, self._attempt))
        return live.end if live is not None else await self._logs.end(self._key)

    async def read(self, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from ``start`` to ``stop``."""
        live = self._world.live_logs.get((self._build, self._attempt))
        pieces = (
            live.read(start, stop) if live is not None else self._logs.read(self._key, start, stop)
        )
        async with contextlib.aclosing(pieces) as open_pieces:
            async for piece in open_pieces:
                yield piece

    async def follow(self, start: int) -> AsyncGenerator[bytes]:
        """Yield from ``start`` on, until the log is whole."""
        while True:
            live = self._world.live_logs.get((self._build, self._attempt))
            if live is not None:
                async with contextlib.aclosing(live.follow(start)) as pieces:
                    async for piece in pieces:
                        start += len(piece)
                        yield piece
                return
            over = self._is_over()
            end = await self._logs.end(self._key)
            async with contextlib.aclosing(self._logs.read(self._key, start, end)) as pieces:
                async for piece in pieces:
                    start += len(piece)
                    yield piece
            if over:
                return
            # Not begun yet, or between two places: the build's next event tells.
            await self._world.changed(self._build, 1.0)

    def _is_over(self) -> bool:
        build = self._world.find(self._build)
        return build is None or build.state is State.FINISHED or build.attempt > self._attempt


async def _start(source: Source, request: m.LogRequest) -> int:
    if request.tail >= 0:
        return await _lines_before_end(source, request.tail)
    if request.line > 1:
        return await _line_offset(source, request.line)
    return request.offset


async def _lines_before_end(source: Source, lines: int) -> int:
    """Return the offset of the last ``lines`` lines. Reads backwards, no further than needed."""
    end = stop = await source.end()
    if lines == 0:
        return end
    block = 64 * 1024
    left = lines
    while stop > 0:
        start = max(0, stop - block)
        data = b"".join([piece async for piece in source.read(start, stop)])
        at = len(data)
        if stop == end and data.endswith(b"\n"):
            at -= 1
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            left -= 1
            if left == 0:
                return start + at + 1
        stop, block = start, BLOCK
    return 0


async def _line_offset(source: Source, line: int) -> int:
    """Return the offset at which line number ``line`` (from 1) begins; the end if there is none."""
    left, offset = line - 1, 0
    async with contextlib.aclosing(source.read(0, await source.end())) as pieces:
        async for piece in pieces:
            count = piece.count(b"\n")
            if count >= left:
                at = -1
                for _ in range(left):
                    at = piece.find(b"\n", at + 1)
                return offset + at + 1
            left -= count
            offset += len(piece)
    return offset


async def _limited(pieces: AsyncGenerator[bytes], limit: int) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            yield piece[:limit]
            limit -= len(piece)
            if limit <= 0:
                return
