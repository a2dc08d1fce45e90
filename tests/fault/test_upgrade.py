"""Agents of the version before and of this one, together: upgraded one by one, and back, under load."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.chaos import Chaos, Load
from tests.harness.checker import check
from tests.harness.daemon import wait_until
from tests.harness.former import former
from tests.harness.lab import Host, Lab, NotHereError, heads, lab

pytestmark = [pytest.mark.fault, pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(400)]

#: It runs as long as the file is not there: across all that happens meanwhile.
LONG = """#!/bin/sh
echo begun
until [ -e {gate} ]; do sleep 0.2; done
echo ended
"""


@pytest.fixture
def before() -> Path:
    """The code of the version before."""
    try:
        return former()
    except NotHereError as error:
        pytest.skip(str(error))


@pytest.fixture
def three(tmp_path: Path, before: Path) -> Iterator[Lab]:
    """Three agents of the version before, as one cluster."""
    with lab(tmp_path / "lab") as made:
        for _ in range(3):
            host = made.add()
            host.slots, host.source = 3, before
            made.join(host)
        yield made


def change(chaos: Chaos, host: Host, source: Path | None) -> None:
    """Stop an agent by plan, and start another version in its folder."""
    assert host.run("stop").returncode == 0
    host.source = source
    chaos.start(host)
    chaos.mend()


def test_a_cluster_is_upgraded_agent_by_agent_under_load(
    three: Lab, before: Path, tmp_path: Path
) -> None:
    first, second, third = three.hosts
    gate = tmp_path / "gate"
    first.add("long", LONG.format(gate=gate))
    for host in three.hosts:
        wait_until(f"{host} knows it", functools.partial(_knows, host, "long"))
    ids = [first.json("run", "long")["id"] for _ in three.hosts]
    for id_ in ids:
        first.until(id_, "running")
    load = Load(three, seed=7, pause_s=0.3)
    chaos = Chaos(three, load, say=lambda _: None)
    chaos.former = before
    load.begin()
    try:
        for host, source in ((first, None), (second, None), (first, before)):
            change(chaos, host, source)
            assert chaos.level() == 1, "one is of the version before"
        _refuses_what_not_all_know(second, third)
        chaos.raise_all()
        wait_until("the cluster is raised", lambda: chaos.level() == 2, 120)
        _refuses_the_way_back(second, before)
        chaos.start(second)
        chaos.mend()
    finally:
        gate.touch()
        load.end()
    assert [first.until(id_, "finished")["result"] for id_ in ids] == ["passed"] * 3
    assert [first.build(id_)["attempt"] for id_ in ids] == [1, 1, 1], "none was lost by it"
    assert [third.ok("log", id_) for id_ in ids] == ["begun\nended\n"] * 3
    evidence = load.evidence(three.hosts)
    assert load.acks
    left = [] if evidence.settled else ["the cluster did not come to rest"]
    # What the load's scripts print is known to who checks; of these builds all was looked at above.
    broken = [it for it in map(str, check(evidence)) if not any(id_ in it for id_ in ids)]
    assert [*broken, *load.faults, *left] == []
    assert all(heads(host) == heads(first) for host in three.hosts)
    _lets_no_machine_of_the_version_before_in(three, before)


def _knows(host: Host, job: str) -> bool:
    return bool(host.run("show", job).returncode == 0)


def _refuses_what_not_all_know(asked: Host, behind: Host) -> None:
    asked.ok("user", "set", "ann", "--role", "builder")
    refused = asked.run("token", "create", "--for", "ann")
    assert refused.returncode != 0
    assert "waits for agents whose rota does not know it: " in refused.stderr
    assert f"{behind} (rota " in refused.stderr
    assert f"{asked} (rota " not in refused.stderr
    # The others would go on with the role that ann had.
    refused = asked.run("user", "set", "ann", "--role", "none")
    assert refused.returncode != 0
    assert 'users/ann.toml: `role = "none"` needs level 2' in refused.stderr


def _refuses_the_way_back(host: Host, before: Path) -> None:
    assert host.run("stop").returncode == 0
    host.source = before
    refused = host.run("agent", "--data", str(host.data), "--daemon")
    assert refused.returncode != 0
    assert f"{host}, raised to level 2: a rota older than" in refused.stderr
    host.source = None


def _lets_no_machine_of_the_version_before_in(made: Lab, before: Path) -> None:
    late = made.add()
    late.source = before
    token = made.hosts[0].token()
    refused = late.run("agent", "--data", str(late.data), "--join", token, "--daemon")
    assert refused.returncode != 0
    assert "the cluster is at level 2, and the rota of this machine knows 1" in refused.stderr
