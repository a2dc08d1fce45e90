"""What tests did in builds of a job, as the index has it; what it lacks is read first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from rota.core.build import Build
from rota.core.case_history import Read, Run
from rota.core.states import State
from rota.errors import NotFoundError, UnavailableError
from rota.ports.case_index import CaseIndex
from rota.ports.reports import Reports
from rota.service import artifacts
from rota.service.context import Principal, Service
from rota.service.messages import ArtifactRequest

#: Files that are fetched at the same time, and those that are read in one go.
AT_ONCE = 16
BATCH = 50
#: A larger one is not read by the daemon: whoever wants it gets it as a file.
MAX_PACKED = 32 * 1024 * 1024


def finished_of(
    service: Service, job: str, limit: int, *, before: int | None = None
) -> Sequence[Build]:
    """Return finished builds of a job, newest first, of those requested before a sequence."""
    past = service.world.past(job=job, result=None, before=before, limit=limit)
    live = (
        it
        for it in service.world.live()
        if it.job == job
        and it.state is State.FINISHED
        and (before is None or it.requested_seq < before)
    )
    both = {build.id: build for build in (*past, *live) if build.group is None}
    return sorted(both.values(), key=lambda build: -build.requested_seq)[:limit]


def attempts_of(build: Build) -> Iterable[tuple[int, str]]:
    """Yield the attempts that reported tests, and where these lie."""
    if build.tests is not None and build.tests.cases:
        yield build.attempt, build.tests.cases
    for former in build.former:
        if former.tests is not None and former.tests.cases:
            yield former.attempt, former.tests.cases


def is_kept(service: Service, build: Build) -> bool:
    """Whether its artifacts are there still: so that every agent says the same."""
    return service.world.removed(build.id).artifacts_at is None


async def runs_of(
    service: Service, job: str, builds: Sequence[Build], who: Principal
) -> Sequence[Run]:
    """Return the runs of builds, newest first; what the index does not have is read first.

    Cost: about 20 µs a build that the index has; about 10 ms for each other one.
    """
    index = index_of(service)
    ids = [build.id for build in builds]
    async with service.turn(f"tests of {job}"):
        runs = index.runs(job, ids)
        known = {(run.build, run.attempt) for run in runs}
        missing = [
            (build, attempt, path)
            for build in builds
            for attempt, path in attempts_of(build)
            if (build.id, attempt) not in known
        ]
        for at in range(0, len(missing), BATCH):
            await _take(service, index, job, missing[at : at + BATCH], who)
    return [run for run in (index.runs(job, ids) if missing else runs) if run.ran]


async def fetched(service: Service, build: Build, path: str, who: Principal) -> bytes:
    """Return what is stored of the single tests of an attempt, packed.

    Raises:
        NotFoundError: it is not there, or more than the daemon reads.
    """
    kept, pieces = await artifacts.artifact(
        service, ArtifactRequest(build=build.id, path=path), who
    )
    if kept.size > MAX_PACKED:
        raise NotFoundError(
            f"there are too many to list: {kept.size >> 20} MiB, packed",
            hint=f"get the file: rota artifacts get {build.ref!r} {path}",
        )
    return b"".join([piece async for piece in pieces])


async def _take(
    service: Service,
    index: CaseIndex,
    job: str,
    missing: Sequence[tuple[Build, int, str]],
    who: Principal,
) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def fetch(build: Build, path: str) -> bytes | None:
        async with turns:
            try:
                return await fetched(service, build, path, who)
            except NotFoundError:
                return None  # it may be on its way here: the next question asks again

    found = await asyncio.gather(*(fetch(build, path) for build, _, path in missing))
    there = [(it, packed) for it, packed in zip(missing, found, strict=True) if packed is not None]
    if not there:
        return
    reads: Sequence[Read | None] = await reports_of(service).runs([packed for _, packed in there])
    rows = zip(there, reads, strict=True)
    index.add(job, [(build, attempt, read) for ((build, attempt, _), _), read in rows])


def index_of(service: Service) -> CaseIndex:
    """Return the index of tests.

    Raises:
        UnavailableError: this agent keeps none.
    """
    if service.case_index is None:
        raise UnavailableError("this agent keeps no index of tests")
    return service.case_index


def reports_of(service: Service) -> Reports:
    """Return who reads reports.

    Raises:
        UnavailableError: this agent does not.
    """
    if service.reports is None:
        raise UnavailableError("this agent reads no reports")
    return service.reports
