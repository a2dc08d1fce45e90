"""Verbs on what builds report: tests of a build, tests over the builds of a job, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import NamedTuple

from rota.core.build import Build
from rota.core.case_history import Read, Run, Standing, bits, flaky, slowest, standings
from rota.core.cases import Case, Tally
from rota.core.metrics import branch_of, metrics_of
from rota.core.states import State
from rota.errors import ConflictError, InputError, NotFoundError, UnavailableError
from rota.ports.case_index import CaseIndex
from rota.ports.reports import Reading, Reports
from rota.service import artifacts
from rota.service import report_messages as r
from rota.service.builds import find_build, find_definition
from rota.service.context import Principal, Service
from rota.service.messages import ArtifactRequest

#: Files that are fetched at the same time, and those that are read in one go.
AT_ONCE = 16
BATCH = 50
#: A larger one is not read by the daemon: whoever wants it gets it as a file.
MAX_PACKED = 32 * 1024 * 1024
#: Former builds among which one is looked for to compare with.
FORMER = 50
#: Of one test, the last durations that are told.
DURATIONS = 30
#: Names of a branch that others are compared with.
MAINS = ("main", "master")
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


async def test_history(
    service: Service, request: r.CaseHistoryRequest, who: Principal
) -> r.CaseHistoryView:
    """Show the tests of a job over its last builds: failing, flaky, slow; or all of one test."""
    find_definition_or_builds(service, request.job)
    builds = _finished(service, request.job, request.builds)
    told = [build for build in builds if any(_attempts(build))]
    kept = [build for build in told if _is_kept(service, build)]
    runs = await _runs(service, request.job, kept, who)
    view = r.CaseHistoryView(
        job=request.job,
        builds=len({run.build for run in runs}),
        missing=len(told) - len({run.build for run in runs}),
        tests=runs[0].ran.bit_count() if runs else 0,
        passing=_passing(runs),
        failing=[],
        flaky=[],
        slowest=[],
    )
    index = _index(service)
    if request.case:
        return _of_one(view, index, request, runs)
    flakes = flaky(runs)
    bad = dict.fromkeys(_bits(runs[0].bad), 1.0) if runs else {}
    slow = slowest(runs[:DURATIONS], request.limit)
    titles = index.titles(request.job, sorted({*bad, *flakes, *slow}))

    def views(ranks: Mapping[int, float]) -> list[r.StandingView]:
        # By name where they rank alike: tests are numbered on each agent as it came to know them.
        ordered = sorted(ranks.keys() & titles.keys(), key=lambda it: (-ranks[it], titles[it]))
        stand = standings(runs, ordered[: request.limit])
        return [
            _view(titles[test], test, runs, its, flakes.get(test, 0)) for test, its in stand.items()
        ]

    return r.CaseHistoryView(
        job=view.job,
        builds=view.builds,
        missing=view.missing,
        tests=view.tests,
        passing=view.passing,
        failing=views(bad),
        flaky=views(flakes),
        slowest=views(slow),
    )


async def metrics(
    service: Service, request: r.MetricsRequest, who: Principal
) -> list[r.MetricView]:
    """List the metrics of a job's last builds."""
    find_definition_or_builds(service, request.job)
    builds = [
        build
        for build in _finished(service, request.job, request.builds)
        if not request.branch or branch_of(build) == request.branch
    ]
    points: dict[str, list[r.PointView]] = {}
    units: dict[str, str] = {}
    for build in reversed(builds):
        for metric in metrics_of(build):
            units[metric.name] = metric.unit
            points.setdefault(metric.name, []).append(
                r.PointView(
                    build=build.ref,
                    at=build.finished_at or build.requested_at,
                    value=metric.value,
                    result=str(build.result),
                    branch=branch_of(build),
                )
            )
    wanted = {name: its for name, its in points.items() if fnmatchcase(name, request.name)}
    if not wanted and request.name != "*":
        known = ", ".join(sorted(points)) or "none"
        raise NotFoundError(
            f"no build of {request.job} told a metric {request.name!r}",
            hint=f"its metrics: {known}",
        )
    return [_metric(name, units[name], its) for name, its in sorted(wanted.items())]


def find_definition_or_builds(service: Service, job: str) -> None:
    """Do nothing if there is such a job, or was.

    Raises:
        NotFoundError: there never was one.
    """
    if not service.world.last_number(job):
        find_definition(service.world, job)


# -- of one build -------------------------------------------------------------------------------


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
    packed = await _fetched(service, build, tally.cases, who)
    return await _reports(service).cases(
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


async def _fetched(service: Service, build: Build, path: str, who: Principal) -> bytes:
    kept, pieces = await artifacts.artifact(
        service, ArtifactRequest(build=build.id, path=path), who
    )
    if kept.size > MAX_PACKED:
        raise NotFoundError(
            f"there are too many to list: {kept.size >> 20} MiB, packed",
            hint=f"get the file: rota artifacts get {build.ref!r} {path}",
        )
    return b"".join([piece async for piece in pieces])


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
        for it in _finished(service, build.job, FORMER, before=build.requested_seq)
        if it.params == build.params and it.tests is not None and _is_kept(service, it)
    ]
    branch = branch_of(build)
    same = [it for it in past if branch_of(it) == branch]
    try:
        runs = await _runs(service, build.job, [build, *past], who)
        own = next(run for run in runs if run.build == build.id)
    except (UnavailableError, StopIteration):
        return _Compared()
    by_build = {run.build: run for run in reversed(runs)}
    before = next((it for it in (*same, *past) if it.id in by_build), None)
    then = by_build[before.id] if before is not None else None
    new = own.bad & ~then.bad if then is not None else 0
    fixed = then.bad & own.passed if then is not None else 0
    flakes = [test for test in flaky(runs) if (own.bad | own.flaky) >> test & 1]
    index = _index(service)
    titles = index.titles(build.job, [*_bits(new), *_bits(fixed), *flakes])

    def named(tests: Iterable[int]) -> list[str]:
        return sorted(titles[test] for test in tests if test in titles)[: r.MAX_BUILDS]

    return _Compared(
        before.ref if before is not None else "",
        named(_bits(new)),
        named(_bits(fixed)),
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


# -- over builds --------------------------------------------------------------------------------


def _finished(
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


def _attempts(build: Build) -> Iterable[tuple[int, str]]:
    """Yield the attempts that reported tests, and where these lie."""
    if build.tests is not None and build.tests.cases:
        yield build.attempt, build.tests.cases
    for former in build.former:
        if former.tests is not None and former.tests.cases:
            yield former.attempt, former.tests.cases


def _is_kept(service: Service, build: Build) -> bool:
    """Whether its artifacts are there still: so that every agent says the same."""
    return service.world.removed(build.id).artifacts_at is None


async def _runs(
    service: Service, job: str, builds: Sequence[Build], who: Principal
) -> Sequence[Run]:
    """Return the runs of builds, newest first; what the index does not have is read first.

    Cost: about 20 µs a build that the index has; about 10 ms for each other one.
    """
    index = _index(service)
    ids = [build.id for build in builds]
    async with service.turn(f"tests of {job}"):
        runs = index.runs(job, ids)
        known = {(run.build, run.attempt) for run in runs}
        missing = [
            (build, attempt, path)
            for build in builds
            for attempt, path in _attempts(build)
            if (build.id, attempt) not in known
        ]
        for at in range(0, len(missing), BATCH):
            await _take(service, index, job, missing[at : at + BATCH], who)
    return [run for run in (index.runs(job, ids) if missing else runs) if run.ran]


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
                return await _fetched(service, build, path, who)
            except NotFoundError:
                return None  # it may be on its way here: the next question asks again

    fetched = await asyncio.gather(*(fetch(build, path) for build, _, path in missing))
    there = [
        (it, packed) for it, packed in zip(missing, fetched, strict=True) if packed is not None
    ]
    if not there:
        return
    reads: Sequence[Read | None] = await _reports(service).runs([packed for _, packed in there])
    rows = zip(there, reads, strict=True)
    index.add(job, [(build, attempt, read) for ((build, attempt, _), _), read in rows])


def _passing(runs: Sequence[Run]) -> float | None:
    ran = sum((run.ran & ~run.skipped).bit_count() for run in runs)
    bad = sum(run.bad.bit_count() for run in runs)
    return round(1 - bad / ran, 4) if ran else None


def _view(title: str, test: int, runs: Sequence[Run], its: Standing, flakes: int) -> r.StandingView:
    spans = [run.duration_s(test) for run in islice(_with(runs, test), DURATIONS)]
    return r.StandingView(
        test=title,
        ran=its.ran,
        failed=its.bad,
        flaky=flakes,
        since="" if its.since is None else _ref(runs[its.since]),
        last_failed="" if its.last_bad is None else _ref(runs[its.last_bad]),
        duration_s=round(sum(spans) / len(spans), 4) if spans else 0.0,
        durations_s=[round(span, 4) for span in reversed(spans)],
    )


def _with(runs: Sequence[Run], test: int) -> Iterable[Run]:
    return (run for run in runs if run.ran >> test & 1)


def _of_one(
    view: r.CaseHistoryView, index: CaseIndex, request: r.CaseHistoryRequest, runs: Sequence[Run]
) -> r.CaseHistoryView:
    found = index.find(request.job, request.case, 11)
    if not found:
        raise NotFoundError(
            f"no build of {request.job} had a test {request.case!r}",
            hint=f"see some: rota tests {request.job}",
        )
    if len(found) > 1:
        names = ", ".join(repr(title) for title in list(found.values())[:10])
        more = ", …" if len(found) > 10 else ""
        raise InputError(f"several tests contain {request.case!r}: {names}{more}")
    ((test, title),) = found.items()
    its = [run for run in runs if run.ran >> test & 1]
    return r.CaseHistoryView(
        job=view.job,
        builds=view.builds,
        missing=view.missing,
        tests=view.tests,
        passing=view.passing,
        failing=[],
        flaky=[],
        slowest=[],
        case=_view(title, test, runs, standings(runs, [test])[test], flaky(runs).get(test, 0)),
        runs=[_case_run(request.job, run, test) for run in its],
    )


def _case_run(job: str, run: Run, test: int) -> r.CaseRunView:
    outcome = run.outcome(test)
    assert outcome is not None
    return r.CaseRunView(
        build=f"{job}#{run.number}",
        attempt=run.attempt,
        at=run.at,
        outcome=outcome,
        duration_s=round(run.duration_s(test), 4),
        revision=run.revision,
        flaky=bool(run.flaky >> test & 1),
    )


def _metric(name: str, unit: str, points: list[r.PointView]) -> r.MetricView:
    last = points[-1]
    before = points[-2] if len(points) > 1 else None
    # On main itself that would say the same twice.
    others = () if last.branch in MAINS else reversed(points[:-1])
    on_main = next((it for it in others if it.branch in MAINS), None)
    return r.MetricView(
        name=name,
        unit=unit,
        last=last.value,
        change=None if before is None else round(last.value - before.value, 6),
        change_main=None if on_main is None else round(last.value - on_main.value, 6),
        points=points,
    )


def _index(service: Service) -> CaseIndex:
    if service.case_index is None:
        raise UnavailableError("this agent keeps no index of tests")
    return service.case_index


def _reports(service: Service) -> Reports:
    if service.reports is None:
        raise UnavailableError("this agent reads no reports")
    return service.reports


def _bits(number: int) -> list[int]:
    return list(bits(number))


def _ref(run: Run) -> str:
    return f"#{run.number}"
