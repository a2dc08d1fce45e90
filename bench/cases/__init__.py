"""The cases, by the names they are run by."""

from bench.case import Case
from bench.cases import burst, cli, followers, history, idle, latency, log, start

CASES: dict[str, Case] = {
    "latency": latency.run,
    "burst": burst.run,
    "log": log.run,
    "followers": followers.run,
    "idle": idle.run,
    "start": start.run,
    "cli": cli.run,
    "history": history.run,
}
