"""Schedules on three real agents whose leaders are lost, and whose clocks are minutes apart."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from tests.harness.daemon import wait_until
from tests.harness.lab import Host, NotHereError, lab, leader
from tests.harness.timetabled import fired, judge, lose_leaders, put

pytestmark = [pytest.mark.fault, pytest.mark.nats, pytest.mark.slow]


def troubles(host: Host) -> str:
    with host.rest(10.0) as rest:
        return " ".join(rest.call("GET", "/v1/status")["trouble"])


def test_each_instant_fires_once_though_leaders_are_lost(tmp_path: Path) -> None:
    with lab(tmp_path) as made:
        hosts = made.cluster(3, slots=4)
        put(hosts[0])
        wait_until("something fired", lambda: _has_builds(hosts[0]))
        lose_leaders(hosts, 3)
        fired(leader(hosts), 6)
        for report in judge(hosts):
            assert report.findings == ()
            # How many more, depends on how long the losses of the leaders took.
            assert report.fired == report.recorded >= 6


def test_clocks_ten_minutes_apart_fire_each_instant_once_and_are_told(tmp_path: Path) -> None:
    with lab(tmp_path) as made:
        early, late = made.add(), made.add()
        try:
            early.skewable()
            late.skewable()
        except NotHereError as error:
            pytest.skip(str(error))
        early.skew(300.0)
        late.skew(-300.0)
        made.join(early)
        made.join(late)
        first = leader([early, late])
        other = late if first is early else early
        wait_until("the clocks are told", lambda: "clocks are apart" in troubles(first), 30)
        ahead = "behind" if first is early else "ahead"
        assert f"{other.name} is 10m {ahead}" in troubles(first)
        put(first, tolerates=0)
        wait_until("something fired", lambda: _has_builds(first))
        first.slay("daemon")
        first.start()
        fired(leader([early, late]), 3, 30.0) if first is late else None
        for report in judge([early, late]):
            assert report.findings == ()
            assert report.fired > 0


def _has_builds(host: Host) -> bool:
    with contextlib.suppress(OSError), host.rest(10.0) as rest:
        return bool(rest.call("GET", "/v1/builds?job=often&limit=1"))
    return False
