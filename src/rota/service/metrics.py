"""Metrics that builds told."""

from __future__ import annotations

from fnmatch import fnmatchcase

from rota.core.metrics import branch_of, metrics_of
from rota.errors import NotFoundError
from rota.service import report_messages as r
from rota.service.builds import refuse_unknown_job
from rota.service.case_runs import finished_of
from rota.service.context import Principal, Service

#: Names of a branch that others are compared with.
MAINS = ("main", "master")


async def metrics(
    service: Service, request: r.MetricsRequest, who: Principal
) -> list[r.MetricView]:
    """List the metrics of a job's last builds."""
    refuse_unknown_job(service.world, request.job)
    builds = [
        build
        for build in finished_of(service, request.job, request.builds)
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
