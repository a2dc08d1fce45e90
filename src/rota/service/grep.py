"""Looking through the logs of many builds, newest first: matches go out as they are found.

It is done by the agent that is asked, whichever ran the builds: of what runs here it reads the
files, of all else the engine's copies. Memory is bounded by a few pieces of logs; all ends when the
caller goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from rota.core.build import Build
from rota.core.moments import parse_moment
from rota.errors import NotFoundError
from rota.service import messages as m
from rota.service.builds import check_result
from rota.service.context import Principal, Service
from rota.service.logs import AttemptLog, removed_text
from rota.service.newest import MAX_JOBS, PAGE, newest
from rota.service.search import Finder, Match
from rota.service.sight import Sees
from rota.service.world import World

#: Logs that are opened at the same time: the engine's answers take longer than the search.
AHEAD = 8

_encoder = msgspec.json.Encoder()


class _Log(NamedTuple):
    build: Build
    attempt: int
    first: bytes
    rest: AsyncGenerator[bytes] | None  # None: it is no longer kept


@dataclasses.dataclass
class _Count:
    builds: int = 0
    bytes: int = 0
    matches: int = 0
    removed: int = 0
    last: str = ""  # build


async def grep(service: Service, request: m.GrepRequest, who: Principal) -> AsyncGenerator[bytes]:
    """Yield a line of JSON for each match (`Found`), and one at the end (`Searched`).

    Cost: a process for as long as it takes; per log of 100 KB about a millisecond.

    Raises:
        InputError: the pattern, a time or the result is none.
        NotFoundError: no job matches.
        UnavailableError: too many searches run already, or the engine does not answer.
    """
    builds = _builds(service, request, who.sees)
    count = _Count()
    async with (
        service.searches.places(request.pattern, request.max) as finder,
        contextlib.aclosing(_opened(service, builds)) as logs,
    ):
        async for log in logs:
            count.builds += log.build.id != count.last
            count.last = log.build.id
            count.removed += log.rest is None
            async with contextlib.aclosing(_matches(finder, log, count)) as matches:
                async for match in matches:
                    count.matches += 1
                    yield _shown(log, match)
            if count.matches >= request.max:
                break
    yield _line(
        m.Searched(
            builds=count.builds,
            bytes=count.bytes,
            matches=count.matches,
            removed=count.removed,
            more=count.matches >= request.max,
        )
    )


async def _matches(finder: Finder, log: _Log, count: _Count) -> AsyncGenerator[Match]:
    if log.rest is None:
        return
    async with contextlib.aclosing(log.rest):
        piece = log.first
        while piece:
            count.bytes += len(piece)
            async for match in finder.feed(piece):
                yield match
            piece = await anext(log.rest, b"")
    for match in await finder.finish():
        yield match


def _shown(log: _Log, match: Match) -> bytes:
    return _line(
        m.Found(
            build=log.build.ref,
            id=log.build.id,
            attempt=log.attempt,
            is_last=log.attempt == log.build.attempt,
            line=match.line,
            offset=match.offset,
            text=match.text.decode("utf-8", "replace"),
        )
    )


def _line(value: object) -> bytes:
    return _encoder.encode(value) + b"\n"


# -- logs, opened ahead ---------------------------------------------------------------------------


async def _opened(service: Service, builds: AsyncIterator[Build]) -> AsyncGenerator[_Log]:
    """Yield the logs of all attempts, the last one of each build first."""
    ahead: list[tuple[Build, int]] = []
    async for build in builds:
        for attempt in range(build.attempt, 0, -1):
            ahead.append((build, attempt))
            if len(ahead) == AHEAD:
                async for log in _at_once(service, ahead):
                    yield log
                ahead.clear()
    async for log in _at_once(service, ahead):
        yield log


async def _at_once(service: Service, wanted: Sequence[tuple[Build, int]]) -> AsyncGenerator[_Log]:
    """Open some logs at the same time, and yield them in order."""
    opening = (_open(service, *each) for each in wanted)
    logs = await asyncio.gather(*opening, return_exceptions=True)
    try:
        for log in logs:
            if isinstance(log, BaseException):
                raise log
            yield log
    finally:
        for log in logs:
            if isinstance(log, _Log) and log.rest is not None:
                await log.rest.aclose()


async def _open(service: Service, build: Build, attempt: int) -> _Log:
    source = AttemptLog(service.world, service.logs, build.id, attempt)
    end = await source.end()
    pieces = source.read(0, end)
    try:
        first = await anext(pieces, b"")
    except NotFoundError:
        return _Log(build, attempt, b"", None)
    if not first and removed_text(build, attempt, service.world.removed(build.id)):
        return _Log(build, attempt, b"", None)
    return _Log(build, attempt, first, pieces)


# -- builds -------------------------------------------------------------------------------------


def _builds(service: Service, request: m.GrepRequest, sees: Sees) -> AsyncIterator[Build]:
    check_result(request.result)
    now = service.clock.now()
    after, before = (
        parse_moment(request.after, now, "after"),
        parse_moment(request.before, now, "before"),
    )
    jobs = _jobs(service.world, request.job, sees)
    return _chosen(service.world, request, jobs, sees, after, before)


async def _chosen(
    world: World,
    request: m.GrepRequest,
    jobs: list[str] | None,
    sees: Sees,
    after: datetime | None,
    before: datetime | None,
) -> AsyncGenerator[Build]:
    left = request.builds
    for count, build in enumerate(newest(world, jobs, request.result)):
        if count % PAGE == PAGE - 1:
            await asyncio.sleep(0)
        if after is not None and build.requested_at < after:
            return
        if build.attempt == 0 or (before is not None and build.requested_at >= before):
            continue
        if jobs is None and not (fnmatchcase(build.job, request.job) and sees(build.job)):
            continue
        yield build
        left -= 1
        if not left:
            return


def _jobs(world: World, glob: str, sees: Sees) -> list[str] | None:
    """Return the jobs that match, ``None`` if they are too many to look at one by one."""
    known = world.cluster.picture.numbers
    if glob in known and sees(glob):
        return [glob]
    jobs = [job for job in known if fnmatchcase(job, glob) and sees(job)]
    if not jobs and glob != "*":
        raise NotFoundError(
            f"no job that was ever built matches {glob!r}", hint="see what there is: rota jobs"
        )
    return jobs if len(jobs) <= MAX_JOBS else None
