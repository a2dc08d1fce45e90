"""Searching logs by regular expression, in processes of their own.

A pattern such as ``(a+)+$`` can keep Python busy for years, and nothing in the same process could
stop it. So each search has its own, with a limit to the time and memory that it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

from rota import child
from rota.errors import InputError, UnavailableError
from rota.service.grep_worker import LENGTH, PLACE

#: A piece of half a mebibyte takes milliseconds; what takes this long will not end.
LIMIT_S = 5.0
#: About 10 MB each while they run.
MAX_AT_ONCE = 8
#: Pieces are searched this large at most, so that the limit is one of the pattern alone.
PIECE = 512 * 1024


class Searches:
    """The searches that run now on this agent; there are at most ``MAX_AT_ONCE``."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._running = 0

    async def matching(self, pattern: str, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """Yield the lines of a log that match, each with its line end; a last one gets one.

        Cost: a process of about 20 ms and 10 MB, for as long as the search runs.

        Raises:
            InputError: it is no regular expression, or takes too long to match.
            UnavailableError: too many searches run already.
        """
        async with contextlib.aclosing(pieces), self._worker() as worker:
            await _begin(worker, pattern)
            async for piece in pieces:
                for at in range(0, len(piece), PIECE):
                    if found := await _ask(worker, pattern, piece[at : at + PIECE]):
                        yield found
            if found := await _ask(worker, pattern, b""):
                yield found

    @contextlib.asynccontextmanager
    async def places(self, pattern: str, limit: int) -> AsyncIterator[Finder]:
        """Give what finds at most ``limit`` matches in one log after another, with their places.

        Cost and errors: as of :meth:`matching`, for as long as the context is open.
        """
        async with self._worker(str(limit)) as worker:
            await _begin(worker, pattern)
            yield Finder(worker, pattern)

    @contextlib.asynccontextmanager
    async def _worker(self, *arguments: str) -> AsyncIterator[Process]:
        if self._running >= MAX_AT_ONCE:
            raise UnavailableError(
                f"{MAX_AT_ONCE} searches run already on this agent, which is the limit",
                hint="try again when one of them has ended",
            )
        self._running += 1
        try:
            worker = await _started(self._limit_s, *arguments)
            try:
                yield worker
            finally:
                await child.end(worker)
        finally:
            self._running -= 1


class Match(NamedTuple):
    """A line that matches: its number from 1, where it begins in the log, and its bytes."""

    line: int
    offset: int
    text: bytes


class Finder:
    """Finds matching lines in one log after another; one caller at a time."""

    def __init__(self, worker: Process, pattern: str) -> None:
        self._worker, self._pattern = worker, pattern

    async def feed(self, piece: bytes) -> AsyncGenerator[Match]:
        """Yield the matches that are complete with the log's next bytes."""
        for at in range(0, len(piece), PIECE):
            for match in _places(await _ask(self._worker, self._pattern, piece[at : at + PIECE])):
                yield match

    async def finish(self) -> list[Match]:
        """Return a match in a last line without an end; what is fed next is of another log."""
        return list(_places(await _ask(self._worker, self._pattern, b"")))


def _places(found: bytes) -> Iterator[Match]:
    at = 0
    while at < len(found):
        line, offset, size = PLACE.unpack_from(found, at)
        at += PLACE.size
        yield Match(line, offset, found[at : at + size])
        at += size


async def _started(limit_s: float, *arguments: str) -> Process:
    program = Path(__file__).with_name("grep_worker.py")
    # No site packages and no variables of ours: it starts in a few milliseconds and sees nothing.
    argv = (sys.executable, "-I", "-S", "-W", "ignore", str(program), str(limit_s), *arguments)
    try:
        return await child.begin(*argv, stdin=PIPE, stderr=DEVNULL, env={})
    except OSError as error:
        raise UnavailableError(f"cannot start a search: {error.strerror}") from error


async def _begin(worker: Process, pattern: str) -> None:
    """Give the pattern.

    Raises:
        InputError: it is none.
    """
    fault = await _ask(worker, pattern, pattern.encode())
    if fault:
        raise InputError(
            f"bad regular expression {pattern!r}: {fault.decode(errors='replace')}",
            hint="Python's syntax: https://docs.python.org/3/library/re.html",
        )


async def _ask(worker: Process, pattern: str, data: bytes) -> bytes:
    """Return the answer to one frame."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(LENGTH.pack(len(data)) + data)
        await worker.stdin.drain()
        head = await worker.stdout.readexactly(LENGTH.size)
        return await worker.stdout.readexactly(LENGTH.unpack(head)[0])
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise InputError(
            f"the regular expression {pattern!r} takes too long or too much memory on this log",
            hint="avoid a repetition within a repetition, such as (a+)+",
        ) from error
