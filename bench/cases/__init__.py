"""The cases, by the names they are run by."""

from bench.case import Case
from bench.cases import (
    artifacts,
    burst,
    cli,
    cluster,
    followers,
    history,
    idle,
    latency,
    log,
    schedules,
    start,
    thousand,
    webhook,
    why,
)

CASES: dict[str, Case] = {
    "latency": latency.run,
    "webhook": webhook.run,
    "burst": burst.run,
    "log": log.run,
    "followers": followers.run,
    "idle": idle.run,
    "start": start.run,
    "cli": cli.run,
    "history": history.run,
    "artifacts": artifacts.run,
    "schedules-steady": schedules.steady,
    "schedules-instant": schedules.instant,
    "schedules-many": schedules.many,
    "cluster-latency": cluster.latency,
    "cluster-burst": cluster.burst,
    "cluster-stop": cluster.planned,
    "cluster-takeover": cluster.takeover,
    "cluster-host": cluster.host_lost,
    "cluster-lost": cluster.agent_lost,
    "cluster-thousand": thousand.run,
    "why": why.run,
}
