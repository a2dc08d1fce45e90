"""Schedules on real agents: leaders are lost around fire times, and each store proves what fired."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from tests.harness.daemon import wait_until
from tests.harness.lab import Host, dump, heads, leader, until_settled

from rota.cli.commands.reading import Clone
from rota.core.schedule_proof import Proof, prove
from rota.core.schedules import Scheduled
from rota.core.timetable import Timetable

JOB = b"""#!/bin/sh
# /// script
# [tool.rota]
# on = [
#   { every = "1s", name = "each" },
#   { cron = "*/2 * * * * *", misfire = "all", priority = 5 },
#   { every = "3s", overlap = "skip", jitter = "1s" },
# ]
# ///
exit 0
"""


def put(host: Host, *, tolerates: int = 1) -> None:
    """Add the job whose schedules fire, once so many voters may fail."""

    def is_ready() -> bool:
        with host.rest(5.0) as rest:
            return bool(rest.call("GET", "/v1/status")["tolerates"] >= tolerates)

    wait_until(f"{tolerates} voters may fail", is_ready, 60)
    with host.rest(30.0) as rest:
        rest.call("PUT", "/v1/jobs/often", JOB)


def lose_leaders(hosts: Sequence[Host], count: int) -> None:
    """Kill, stop and freeze whoever leads, about when something is to fire, so often."""
    for number in range(count):
        host = leader(hosts)
        time.sleep(1.0 - time.time() % 1.0 + (number % 7 - 3) * 0.004)
        match number % 3:
            case 0:
                host.slay("daemon")
            case 1:
                host.freeze("daemon")
                others = [it for it in hosts if it is not host]
                wait_until("another one leads", partial(_is_led_by_another, others, host))
                host.thaw("daemon")
            case _:
                assert host.run("stop", "--data", str(host.data)).returncode == 0
        if number % 3 != 1:
            host.start()


def _is_led_by_another(hosts: Sequence[Host], host: Host) -> bool:
    return leader(hosts) is not host


def fired(host: Host, count: int, patience_s: float = 30.0) -> None:
    """Return when so many builds of the job have been asked for since."""

    def number() -> int:
        with host.rest(10.0) as rest:
            return int(rest.call("GET", "/v1/builds?job=often&limit=1")[0]["number"])

    start = number()
    try:
        wait_until(f"{count} more builds", lambda: number() >= start + count, patience_s)
    except AssertionError as error:
        with host.rest(10.0) as rest:
            error.add_note(dump(rest.call("GET", "/v1/status")))
            error.add_note(dump(rest.call("GET", "/v1/schedules?limit=3")))
            error.add_note("\n".join(map(dump, rest.call("GET", "/v1/events?limit=1000")[-15:])))
        error.add_note(host.end_of_log())
        raise


def judge(hosts: Sequence[Host]) -> list[Proof]:
    """End the schedules, and return what a proof by each host's store comes to: it reads git alone."""
    with leader(hosts).rest(30.0) as rest:
        rest.call("DELETE", "/v1/jobs/often")
    until_settled(hosts)
    wait_until("all have one history", lambda: _are_one(hosts), 30)
    return [proof_of(host) for host in hosts]


def _are_one(hosts: Sequence[Host]) -> bool:
    if len({heads(host)["history"] for host in hosts}) != 1:
        return False
    return any("often:each" in note.removed for note in _clone(hosts[0]).notes())


def _clone(host: Host) -> Clone:
    return Clone(str(host.data / "store.git"))


def proof_of(host: Host) -> Proof:
    """Return what a proof by a host's store comes to."""

    def made(id_: str, scheduled: Scheduled) -> Timetable:
        return Timetable(scheduled.rule, id_, {})

    return prove(_clone(host).notes(), tuple(_clone(host).builds()), made)


def span_of(host: Host) -> timedelta:
    """Return the time from the first to the last note of a host's ledger."""
    times = [note.at for note in _clone(host).notes()]
    return max(times) - min(times)
