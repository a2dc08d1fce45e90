"""A majority of the voters is lost for ever: one command goes on with who is left."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from tests.harness.daemon import wait_until
from tests.harness.lab import Host, heads, lab, until_settled
from tests.harness.rest import RefusedError

pytestmark = [pytest.mark.fault, pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(400)]

PATIENCE_S = 90.0


def builds_of(host: Host) -> list[tuple[int, str]]:
    with host.rest(30.0) as rest:
        found = rest.call("GET", "/v1/builds?limit=100")
    return [(build["number"], build["id"]) for build in found]


def took(host: Host) -> bool:
    with contextlib.suppress(OSError, RefusedError), host.rest(30.0) as rest:
        rest.call("POST", "/v1/jobs/quick/builds", {})
        return True
    return False


def says(host: Host, failures: int) -> bool:
    with contextlib.suppress(OSError, RefusedError), host.rest(5.0) as rest:
        return bool(rest.call("GET", "/v1/status")["tolerates"] == failures)
    return False


def has_finished(host: Host, count: int) -> bool:
    with host.rest(30.0) as rest:
        found = rest.call("GET", "/v1/builds?state=finished&limit=100")
    return len(found) == count


def test_what_an_agent_has_seen_outlives_the_voters_that_are_gone(tmp_path: Path) -> None:
    with lab(tmp_path) as four:
        a, b, c, d = four.cluster(4)
        wait_until("there are three voters", lambda: says(a, 1), PATIENCE_S)
        with a.rest(30.0) as rest:
            rest.call("PUT", "/v1/jobs/quick", b"#!/bin/sh\necho fine\n")
            voters = set(rest.call("GET", "/v1/status")["voters"])
        plain = next(host for host in (a, b, c, d) if host.name not in voters)
        left, *gone = (host for host in (a, b, c, d) if host is not plain)

        # One voter falls behind, and what the others take now is seen by the agent that is none.
        left.freeze("host")
        for _ in range(3):
            wait_until("a trigger is taken", lambda: took(plain), PATIENCE_S)
        wait_until("all have run", lambda: has_finished(plain, 3), PATIENCE_S)
        before = builds_of(plain)
        for host in gone:
            host.slay("host")
        left.thaw("host")

        wait_until("writes are refused", lambda: says(left, -1) and not took(left), PATIENCE_S)
        done = left.run("recover", "--json", within_s=120.0)
        assert done.returncode == 0, done.stderr
        wait_until("triggers are taken again", lambda: took(left), PATIENCE_S)
        wait_until("it has run", lambda: has_finished(plain, 4), PATIENCE_S)
        assert builds_of(plain)[1:] == before
        wait_until("all say the same", lambda: builds_of(left) == builds_of(plain), PATIENCE_S)

        for host in gone:
            host.start()
        until_settled((a, b, c, d), PATIENCE_S)
        same = builds_of(plain)
        assert [number for number, _ in same] == [4, 3, 2, 1]
        wait_until("the dead agree", lambda: all(builds_of(h) == same for h in gone), PATIENCE_S)
        wait_until("a failure is tolerated again", lambda: says(a, 1), 2 * PATIENCE_S)
        wait_until(
            "all stores are equal",
            lambda: len({tuple(heads(host).items()) for host in (a, b, c, d)}) == 1,
            PATIENCE_S,
        )
