"""What a build asks for besides an agent: room in pools, and its turn by its job's rate.

A pool is a named limit of the settings, or a job's own (``concurrency``), one for each value of
its ``concurrency_key``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rota.core.build import Build
from rota.core.job import Rate

#: Of a demand: all of the limit, whatever that is; nobody else has any of it meanwhile.
ALL = 0
#: Of a demand: the settings say how much there is.
BY_SETTINGS = -1
LIMIT = "limit"
JOB = "job"
_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}")


class Pool(NamedTuple):
    """What is shared: ``kind`` is :data:`LIMIT` or :data:`JOB`; ``key`` tells a job's pools apart."""

    kind: str
    name: str
    key: str = ""


class Demand(NamedTuple):
    """``take`` of a pool that holds ``capacity``."""

    pool: Pool
    take: int
    capacity: int = BY_SETTINGS


class Wish(NamedTuple):
    """All of what a build asks for; those with equal wishes are alike to all but their order."""

    demands: tuple[Demand, ...] = ()
    rate: Rate | None = None
    job: str = ""  # whose rate it is


NOTHING = Wish()


def wish_of(build: Build) -> Wish:
    """Return what a build asks for; :data:`NOTHING` for most."""
    spec = build.spec
    if not spec.concurrency and not spec.limits and spec.rate is None:
        return NOTHING
    takes: dict[Pool, Demand] = {}
    if spec.concurrency > 0:
        pool = Pool(JOB, build.job, filled(spec.concurrency_key, build))
        takes[pool] = Demand(pool, 1, spec.concurrency)
    for take in spec.limits:
        pool = Pool(LIMIT, take.name)
        takes[pool] = Demand(pool, max(ALL, take.take))
    rate = spec.rate if spec.rate is not None and spec.rate.is_sound else None
    return Wish(tuple(sorted(takes.values())), rate, build.job if rate is not None else "")


def filled(text: str, build: Build) -> str:
    """Return ``text`` with parameters, and fields of the trigger, for their names; else nothing."""

    def value(match: re.Match[str]) -> str:
        found = build.params.get(match[1], build.trigger.data.get(match[1], ""))
        return str(found).lower() if isinstance(found, bool) else str(found)

    return _NAME.sub(value, text) if "{" in text else text


def project_of(job: str) -> str:
    """Return the project that a job belongs to: the first part of its name, if it has several."""
    first, slash, _ = job.partition("/")
    return first if slash else ""
