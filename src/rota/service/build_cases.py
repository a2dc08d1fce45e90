"""The tests of one build, and how they differ from those of the build before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rota.core.build import Build
from rota.core.case_history import bits, flaky
from rota.core.cases import Case, Tally
from rota.core.metrics import branch_of
from rota.core.states import State
from rota.errors import ConflictError, NotFoundError, UnavailableError
from rota.ports.reports import Reading
from rota.service import report_messages as r
from rota.service.builds import find_build
from rota.service.case_runs import fetched, finished_of, index_of, is_kept, reports_of, runs_of
from rota.service.context import Principal, Service

#: Former builds among which one is looked for to compare with.
FORMER = 50
NOTHING_KEPT = "of the single tests nothing was stored"


async def tests(service: Service, request: r.CasesRequest, who: Principal) -> r.CasesView:
    """Show the tests of a build, and how they differ from those of the build before."""
    build = find_build(service.world, request.build)
    if build.group is not None:
        return _of_group(service, build)
    attempt = request.attempt or build.attempt
    tally = _tally_of(build, attempt)
    if tally is None:
        raise _no_tests(build, attempt)
    reading, gone = Reading(cases=[], total=tally.total), ""
    try:
        reading = await _cases(service, build, tally, request, who)
    except NotFoundError as error:
        gone = error.message
    compared = _Compared()
    if not gone and attempt == build.attempt:
        compared = await _compared(service, build, who)
    return r.CasesView(
        build=build.ref,
        attempt=attempt,
        tests=tally,
        cases=_views(reading.cases, tally),
        total=reading.total,
        slowest=_views(reading.slowest, tally),
        former=compared.former,
        new=compared.new,
        fixed=compared.fixed,
        flaky=compared.flaky,
        gone=gone,
        cells=[],
    )


async def is_flaky(service: Service, who: Principal, build: Build) -> bool:
    """Whether a build failed by nothing but tests that are known to be flaky.

    Cost: as of :func:`tests`, where nobody asked before.
    """
    tally = build.tests
    if tally is None or not tally.bad or len(tally.failures) < tally.bad:
        return False
    known = set((await _compared(service, build, who)).flaky)
    return all(failure.test in known for failure in tally.failures)


def _tally_of(build: Build, attempt: int) -> Tally | None:
    if attempt == build.attempt and build.state is State.FINISHED:
        return build.tests
    return next((it.tests for it in build.former if it.attempt == attempt), None)


def _no_tests(build: Build, attempt: int) -> NotFoundError | ConflictError:
    which = f" in attempt {attempt}" if attempt != build.attempt else ""
    if attempt == build.attempt and build.state is not State.FINISHED:
        return ConflictError(
            f"{build.ref} is {build.state}: its reports are read once it is over",
            hint=f"see how far it is: rota log {build.ref!r}",
        )
    hint = 'name the files in its header: tests = ["reports/*.xml"]'
    if build.spec.tests is not None:
        hint = f"see what became of its files: rota show {build.ref!r}"
    return NotFoundError(f"{build.ref} reported no tests{which}", hint=hint)


async def _cases(
    service: Service, build: Build, tally: Tally, request: r.CasesRequest, who: Principal
) -> Reading:
    """Return the cases of a build.

    Raises:
        NotFoundError: they are not kept.
    """
    if not tally.cases:
        raise NotFoundError(NOTHING_KEPT)
    packed = await fetched(service, build, tally.cases, who)
    return await reports_of(service).cases(
        packed, match=request.match, bad=request.bad, limit=request.limit
    )


def _views(cases: Iterable[Case], tally: Tally) -> list[r.CaseView]:
    """Return cases with their places in the log, of those that it is known of."""
    offsets = {it.test: it.offset for it in tally.failures}
    return [
        r.CaseView(
            test=case.title,
            suite=case.suite,
            name=case.name,
            outcome=case.outcome,
            duration_s=case.duration_s,
            message=case.message,
            details=case.details,
            file=case.file,
            line=case.line,
            offset=offsets.get(case.title) if case.outcome.is_bad else None,
            flaky=case.flaky,
        )
        for case in cases
    ]


class _Compared(NamedTuple):
    """The build before, what fails newly, what is mended, and which of its tests are flaky."""

    former: str = ""
    new: Sequence[str] = ()
    fixed: Sequence[str] = ()
    flaky: Sequence[str] = ()


async def _compared(service: Service, build: Build, who: Principal) -> _Compared:
    """Return how a build's tests differ from those of the build before."""
    past = [
        it
        for it in finished_of(service, build.job, FORMER, before=build.requested_seq)
        if it.params == build.params and it.tests is not None and is_kept(service, it)
    ]
    branch = branch_of(build)
    same = [it for it in past if branch_of(it) == branch]
    try:
        runs = await runs_of(service, build.job, [build, *past], who)
        own = next(run for run in runs if run.build == build.id)
    except (UnavailableError, StopIteration):
        return _Compared()
    by_build = {run.build: run for run in reversed(runs)}
    before = next((it for it in (*same, *past) if it.id in by_build), None)
    then = by_build[before.id] if before is not None else None
    new = own.bad & ~then.bad if then is not None else 0
    fixed = then.bad & own.passed if then is not None else 0
    flakes = [test for test in flaky(runs) if (own.bad | own.flaky) >> test & 1]
    titles = index_of(service).titles(build.job, [*bits(new), *bits(fixed), *flakes])

    def named(tests: Iterable[int]) -> list[str]:
        return sorted(titles[test] for test in tests if test in titles)[: r.MAX_BUILDS]

    return _Compared(
        before.ref if before is not None else "",
        named(bits(new)),
        named(bits(fixed)),
        named(flakes),
    )


def _of_group(service: Service, group: Build) -> r.CasesView:
    assert group.group is not None
    found = [service.world.find(edge.build) for edge in group.group.cells]
    cells = [
        r.CellTests(
            build=cell.ref,
            cell=cell.cell,
            result=str(cell.result or cell.state),
            tests=cell.tests if cell.state is State.FINISHED else None,
        )
        for cell in found
        if cell is not None
    ]
    told = [cell.tests for cell in cells if cell.tests is not None]
    if not told:
        raise NotFoundError(f"no cell of {group.ref} reported tests so far")
    total = Tally(
        passed=sum(it.passed for it in told),
        failed=sum(it.failed for it in told),
        errored=sum(it.errored for it in told),
        skipped=sum(it.skipped for it in told),
        flaky=sum(it.flaky for it in told),
        duration_s=round(sum(it.duration_s for it in told), 3),
        files=sum(it.files for it in told),
        partial=any(it.partial for it in told),
    )
    return r.CasesView(
        build=group.ref,
        attempt=group.attempt,
        tests=total,
        cases=[],
        total=total.total,
        slowest=[],
        former="",
        new=[],
        fixed=[],
        flaky=[],
        gone="",
        cells=cells,
    )
