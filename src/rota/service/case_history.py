"""The tests of a job over its last builds: failing, flaky, slow; or all of one test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from rota.core.case_history import Run, Standing, bits, flaky, slowest, standings
from rota.errors import InputError, NotFoundError
from rota.ports.case_index import CaseIndex
from rota.service import report_messages as r
from rota.service.builds import refuse_unknown_job
from rota.service.case_runs import attempts_of, finished_of, index_of, is_kept, runs_of
from rota.service.context import Principal, Service

#: Of one test, the last durations that are told.
DURATIONS = 30


async def test_history(
    service: Service, request: r.CaseHistoryRequest, who: Principal
) -> r.CaseHistoryView:
    """Show the tests of a job over its last builds: failing, flaky, slow; or all of one test."""
    refuse_unknown_job(service.world, request.job)
    builds = finished_of(service, request.job, request.builds)
    told = [build for build in builds if any(attempts_of(build))]
    kept = [build for build in told if is_kept(service, build)]
    runs = await runs_of(service, request.job, kept, who)
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
    index = index_of(service)
    if request.case:
        return _of_one(view, index, request, runs)
    flakes = flaky(runs)
    bad = dict.fromkeys(bits(runs[0].bad), 1.0) if runs else {}
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


def _ref(run: Run) -> str:
    return f"#{run.number}"
