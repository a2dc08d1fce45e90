"""Needs across jobs: what one names must be there, take the parameters, and lead to no circle."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from rota.core.job import Job, Need
from rota.core.problem import Problem, nearest

FOLDER = "jobs/"


def need_problems(
    jobs: Mapping[str, Job],
    names: Collection[str],
    *,
    changed: Collection[str],
    removed: Collection[str] = (),
) -> tuple[Problem, ...]:
    """Return what is wrong with the needs of jobs, as far as a change brought it about.

    Args:
        jobs: Those with needs at least, after the change, and those that they need.
        names: Of all jobs after the change.
        changed: Jobs that are new, or another text.
        removed: Jobs that are gone.
    """
    problems = []
    for job in jobs.values():
        for need in job.needs:
            if need.job not in names:
                if not need.optional and (job.name in changed or need.job in removed):
                    problems.append(_missing(job, need, names, removed))
            elif job.name in changed and (text := _params_fault(jobs.get(need.job), need)):
                problems.append(_problem(job, need, text))
    problems += _circles(jobs, changed)
    return tuple(sorted(problems))


def circle_from(jobs: Mapping[str, Job], start: str) -> tuple[str, ...]:
    """Return the shortest way from a job over its needs back to it; empty if there is none."""
    ways: dict[str, tuple[str, ...]] = {it.job: (start, it.job) for it in jobs[start].needs}
    seen: set[str] = set()
    while ways:
        if start in ways:
            return ways[start]
        seen |= ways.keys()
        further: dict[str, tuple[str, ...]] = {}
        for name, way in ways.items():
            for need in jobs[name].needs if name in jobs else ():
                if need.job not in seen:
                    further.setdefault(need.job, (*way, need.job))
        ways = further
    return ()


def circle_text(way: Collection[str]) -> str:
    """Return a circle in words."""
    first, *_ = way
    return f"{first} would wait for itself: {' → '.join(way)}"


def _circles(jobs: Mapping[str, Job], changed: Collection[str]) -> Iterator[Problem]:
    """Yield a problem for each changed job that waits for itself, where its need stands.

    A circle that is new goes through a job that was changed.
    """
    for name in changed:
        way = circle_from(jobs, name) if name in jobs else ()
        if way:
            need = next(need for need in jobs[name].needs if need.job == way[1])
            yield _problem(jobs[name], need, circle_text(way))


def _missing(job: Job, need: Need, names: Collection[str], removed: Collection[str]) -> Problem:
    if need.job in removed:
        return _problem(job, need, f"{job.name} needs {need.job}, which would be removed")
    hint = nearest(need.job, names) or "add that one first, or optional = true"
    return _problem(job, need, f"{job.name} needs {need.job}, and there is no such job", hint)


def _params_fault(needed: Job | None, need: Need) -> str:
    """Return why the needed job would not take the need's parameters; empty: it would."""
    if needed is None:
        return ""
    axes = {key for cell in needed.matrix.cells for key in cell} if needed.matrix else set()
    unknown = [name for name in need.params if name not in {*needed.params, *axes}]
    if not unknown:
        return ""
    known = ", ".join(sorted({*needed.params, *axes})) or "none"
    return f"{need.job} has no parameter {unknown[0]}, it has {known}"


def _problem(job: Job, need: Need, text: str, hint: str | None = None) -> Problem:
    return Problem(FOLDER + job.name, need.line, need.column, text, hint)
