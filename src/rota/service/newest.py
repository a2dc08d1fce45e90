"""Builds wherever they are, newest first: those in memory, and those in the index page by page."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from rota.core.build import Build
from rota.service.world import World

PAGE = 100
#: Up to so many jobs each has its own way through the index; beyond, all builds are looked at.
MAX_JOBS = 50


def newest(
    world: World, jobs: Sequence[str] | None, result: str = "", *, before: int | None = None
) -> Iterator[Build]:
    """Yield the builds of ``jobs`` (``None``: all), newest first, live ones included; each once.

    Args:
        world: Where to look.
        jobs: At most :data:`MAX_JOBS` of them.
        result: How they ended; anyhow, and those that have not, if empty.
        before: Only those whose request has a sequence below this.
    """
    live = [
        build
        for build in world.live()
        if (jobs is None or build.job in jobs)
        and (not result or build.result == result)
        and (before is None or build.requested_seq < before)
    ]
    each: list[str | None] = [None] if jobs is None else [*jobs]
    past = [_past(world, job, result, before) for job in each]
    last = ""
    for build in heapq.merge(sorted(live, key=_age), *past, key=_age):
        # One that was sealed in the meantime comes twice, next to each other.
        if build.id != last:
            yield build
        last = build.id


def _past(world: World, job: str | None, result: str, before: int | None) -> Iterator[Build]:
    while page := world.past(job=job, result=result or None, before=before, limit=PAGE):
        yield from page
        before = page[-1].requested_seq


def _age(build: Build) -> int:
    return -build.requested_seq
