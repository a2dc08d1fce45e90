"""Metrics: numbers of a build that are worth following from build to build.

A script tells them by ``rota metric NAME VALUE``, which prints a workflow command, or by that command
itself: ``::metric name=NAME,unit=UNIT::VALUE``. Coverage is one; some every build has for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rota.core.build import Build, Metric
from rota.core.metric_line import checked
from rota.core.reports import Covered

#: Of one build.
MAX_METRICS = 100
COVERAGE = "coverage"
BRANCHES = "coverage.branches"


def metric_of(name: str, value: str, unit: str = "") -> Metric:
    """Return a metric as it was written.

    Raises:
        MetricError: it is none.
    """
    name, number, unit = checked(name, value, unit)
    return Metric(name=name, value=number, unit=unit)


def metrics_of(build: Build) -> Iterator[Metric]:
    """Yield what is known of a finished build in numbers: what it told, and what each has."""
    yield from build.metrics
    told = {metric.name for metric in build.metrics}
    for metric in _free(build):
        if metric.name not in told:
            yield metric


def _free(build: Build) -> Iterator[Metric]:
    if build.started_at is not None and build.finished_at is not None:
        took = (build.finished_at - build.started_at).total_seconds()
        yield Metric(name="duration", value=max(took, 0.0), unit="s")
        yield Metric(name="log", value=float(build.log_bytes), unit="B")
    if build.usage.user_s or build.usage.system_s:
        cpu = build.usage.user_s + build.usage.system_s
        yield Metric(name="cpu", value=round(cpu, 3), unit="s")
    if build.usage.max_rss_bytes:
        yield Metric(name="memory", value=float(build.usage.max_rss_bytes), unit="B")
    if build.tests is not None:
        yield Metric(name="tests", value=float(build.tests.total))
        yield Metric(name="tests.failed", value=float(build.tests.bad))
        yield Metric(name="tests.duration", value=build.tests.duration_s, unit="s")


def merged(*groups: Iterable[Metric]) -> tuple[Metric, ...]:
    """Return metrics by name, later ones in place of earlier ones, at most so many."""
    found: dict[str, Metric] = {}
    for metric in (metric for group in groups for metric in group):
        if metric.name in found or len(found) < MAX_METRICS:
            found[metric.name] = metric
    return tuple(found.values())


def coverage_metrics(covered: Covered | None) -> tuple[Metric, ...]:
    """Return what reports of coverage say, as metrics."""
    if covered is None:
        return ()
    percents = ((COVERAGE, covered.line_percent), (BRANCHES, covered.branch_percent))
    return tuple(Metric(name=name, value=it, unit="%") for name, it in percents if it is not None)


def value_of(build: Build, name: str) -> float | None:
    """Return a metric that a build told, by name."""
    return next((it.value for it in build.metrics if it.name == name), None)


def branch_of(build: Build) -> str:
    """Return the branch that a build is of; of a pull request the one that it is for."""
    source, data = build.source, build.trigger.data
    if source is not None and (source.base or source.branch):
        return source.base or source.branch
    return data.get("base") or data.get("branch") or ""


def rival(build: Build, former: Iterable[Build]) -> Build | None:
    """Return the build whose coverage another one's is compared with; ``None`` if there is none.

    It is the first of ``former`` with the same parameters that has coverage, and is of the same branch;
    if there is none such, of any.
    """
    other = None
    for each in former:
        if each.id == build.id or each.params != build.params or value_of(each, COVERAGE) is None:
            continue
        if branch_of(each) == branch_of(build):
            return each
        other = other or each
    return other
