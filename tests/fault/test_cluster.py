"""Three real agents, on hosts of their own where the machine allows it, and what befalls them.

Each test breaks one thing under load; then the checker reads journal, stores, logs and marks from
outside. `make torture` does it by chance and for long.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.harness.chaos import Chaos, Fault, Load
from tests.harness.checker import check, read_builds
from tests.harness.daemon import wait_until
from tests.harness.lab import Host, Lab, NotHereError, heads, lab, leader, no_spaces
from tests.harness.rest import RefusedError

from rota.agent.leadership import LEASE_S

pytestmark = [pytest.mark.fault, pytest.mark.nats, pytest.mark.slow]

needs_spaces = pytest.mark.skipif(bool(no_spaces()), reason=no_spaces())


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three agents with three voters, used by all tests of this module one after the other."""
    with lab(tmp_path_factory.mktemp("lab")) as made:
        made.cluster(3)
        wait_until("there are three voters", lambda: tolerates(made.hosts[0], 1), 60)
        yield made


def tolerates(host: Host, failures: int) -> bool:
    """Whether an agent says that the cluster survives so many."""
    with contextlib.suppress(OSError, RefusedError), host.rest(5.0) as rest:
        return bool(rest.call("GET", "/v1/status")["tolerates"] >= failures)
    return False


def survived(three: Lab, *struck: Fault) -> list[str]:
    """Let faults happen under load; return what of the promises is broken afterwards."""
    load = Load(three, seed=1, pause_s=0.2)
    chaos = Chaos(three, load, say=lambda _: None)
    load.begin()
    try:
        for fault in struck:
            chaos.strike(fault)
        chaos.mend()
    finally:
        load.end()
    evidence = load.evidence(three.hosts)
    assert load.acks
    left = [] if evidence.settled else ["the cluster did not come to rest"]
    return [*map(str, check(evidence)), *load.faults, *left]


def number_of(three: Lab, host: Host) -> int:
    return three.hosts.index(host)


def test_the_leader_is_struck_under_load_and_every_promise_holds(three: Lab) -> None:
    number = number_of(three, leader(three.hosts))
    kinds = ("kill daemon", "freeze daemon", "kill engine", "kill both")
    assert survived(three, *(Fault(kind, number, 0.5, 0.5) for kind in kinds)) == []


def test_the_leaders_host_dies_under_load_and_every_promise_holds(three: Lab) -> None:
    number = number_of(three, leader(three.hosts))
    assert survived(three, Fault("kill host", number, 4.0, 0.5)) == []


@needs_spaces
def test_the_leaders_host_is_cut_off_under_load_and_every_promise_holds(three: Lab) -> None:
    number = number_of(three, leader(three.hosts))
    assert survived(three, Fault("cut", number, 9.0, 0.5)) == []


def test_all_hosts_die_at_once_under_load_and_every_promise_holds(three: Lab) -> None:
    assert survived(three, Fault("kill all", 0, 0.3, 1.0)) == []


@needs_spaces
def test_a_minority_refuses_writes_at_once_and_still_reads(three: Lab) -> None:
    alone = leader(three.hosts)
    with alone.rest(30.0) as rest:
        rest.call("PUT", "/v1/jobs/quick", b"#!/bin/sh\necho fine\n")
        rest.call("POST", "/v1/jobs/quick/builds", {})
    alone.cut()
    try:
        wait_until("it knows that it is alone", lambda: _refuses(alone), 30)
        began = time.monotonic()
        with alone.rest(10.0) as rest, pytest.raises(RefusedError) as refused:
            rest.call("POST", "/v1/jobs/quick/builds", {})
        assert refused.value.status == 503
        assert time.monotonic() - began < 3.0
        assert read_builds(alone)
    finally:
        alone.heal()
    wait_until("it takes triggers again", lambda: not _refuses(alone), 60)


def _refuses(host: Host) -> bool:
    try:
        with host.rest(10.0) as rest:
            rest.call("POST", "/v1/jobs/quick/builds", {})
    except RefusedError as error:
        return error.status == 503
    except OSError:
        return False
    return False


@needs_spaces
def test_an_agent_whose_clock_is_wrong_is_an_agent_like_any_other(tmp_path: Path) -> None:
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
        assert survived(made, Fault("kill daemon", 0, 1.5, 1.0)) == []


def test_folders_are_hosts_where_namespaces_are_not_allowed(tmp_path: Path) -> None:
    with lab(tmp_path, spaces=False) as made:
        one, other = made.cluster(2)
        with one.rest(30.0) as rest:
            rest.call("PUT", "/v1/jobs/quick", b"#!/bin/sh\necho fine\n")
            build = rest.call("POST", "/v1/jobs/quick/builds", {})["id"]
        wait_until("the other agent knows the build", lambda: build in read_builds(other))
        one.slay("host")
        assert other.is_up


def test_what_lost_a_race_and_was_made_again_arrives_whole_everywhere(three: Lab) -> None:
    def put(host: Host) -> None:
        for number in range(8):
            text = f"#!/bin/sh\necho {host} {number}\n".encode()
            with host.rest(30.0) as rest, contextlib.suppress(RefusedError):
                rest.call("PUT", f"/v1/jobs/race/{host}/{number}", text)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(put, three.hosts))
    wait_until(
        "main is the same everywhere",
        lambda: len({heads(host)["main"] for host in three.hosts}) == 1,
    )


def led_s(host: Host) -> float:
    """Return for how long the present leader has led."""
    with host.rest(10.0) as rest:
        since = rest.call("GET", "/v1/cluster")["leader_since"]
    if since is None:
        return 0.0
    return (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()


def test_agents_that_are_started_one_by_one_wait_for_each_other(three: Lab) -> None:
    with three.hosts[0].rest(30.0) as rest:
        rest.call("PUT", "/v1/jobs/quick", b"#!/bin/sh\necho fine\n")
    for host in three.hosts:
        assert host.run("stop").returncode == 0
    first, second, third = three.hosts
    alone = first.run(*first._agent(""), "--daemon")
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.startswith(f"{first} is up: ")
    assert f"{first} waits for a quorum of the voters (no quorum: 2 of the" in alone.stderr
    with first.rest(10.0) as rest:
        assert "quick" in {job["name"] for job in rest.call("GET", "/v1/jobs")}
        with pytest.raises(RefusedError) as refused:
            rest.call("POST", "/v1/jobs/quick/builds", {})
    assert refused.value.status == 503
    assert first.end_of_log().count("waits for a quorum") == 1
    starting = second.start_soon()
    wait_until("two of three take a build", lambda: not _refuses(first), 60)
    # The lease's stream is in memory, and has no leader before the third server is back.
    wait_until("one of them leads, and stays it", lambda: led_s(first) > 3 * LEASE_S, 60)
    third.start()
    assert starting.wait(60) == 0
    wait_until("there is one leader again", lambda: tolerates(first, 1) and leader(three.hosts), 60)
