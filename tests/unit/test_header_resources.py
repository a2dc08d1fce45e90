"""What a header says of a build's resources, user and network."""

from __future__ import annotations

import pytest
from tests.unit.test_header import faults, good, script

from rota.core.resources import Isolation, Resources


def test_resources_are_read() -> None:
    spec = good(
        script(
            'resources = { cpus = 1.5, memory = "512M", pids = 100 }',
            'user = "build:docker"',
            'network = "none"',
            "isolation = { no_new_privs = true, private_tmp = false }",
        )
    ).spec
    assert spec.resources == Resources(cpus=1.5, memory_bytes=512 << 20, pids=100)
    assert (spec.user, spec.network) == ("build:docker", "none")
    assert spec.isolation == Isolation(no_new_privs=True, private_tmp=False)


def test_a_header_that_says_nothing_limits_nothing() -> None:
    spec = good(script("timeout = '1m'")).spec
    assert (bool(spec.resources), spec.user, spec.network) == (False, "", "")
    assert spec.isolation == Isolation()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("resources = 2", "j:4:15: resources must be a table, not an integer"),
        ("resources = {}", "j:4:15: resources is empty, so that it says nothing"),
        (
            "resources = { cpu = 2 }",
            "j:4:17: unknown key resources.cpu (did you mean 'cpus'?)",
        ),
        ("resources = { cpus = 0 }", "j:4:24: resources.cpus must be between 0.01 and 4096, not 0"),
        (
            "resources = { cpus = nan }",
            "j:4:24: resources.cpus must be between 0.01 and 4096, not nan",
        ),
        ("resources = { cpus = true }", "j:4:24: resources.cpus must be a number, not a boolean"),
        (
            "resources = { memory = 512 }",
            "j:4:26: resources.memory must be between 1048576 and 1152921504606846976 bytes, not 512",
        ),
        (
            "resources = { memory = '1 gig' }",
            "j:4:26: resources.memory must be a size, not '1 gig'",
        ),
        ("resources = { pids = 0 }", "j:4:24: resources.pids must be between 1 and 4194304, not 0"),
        ("user = 'a b'", "j:4:10: user is no user's name: 'a b'"),
        ("user = ''", "j:4:10: user is no user's name: ''"),
        ("user = 1000", "j:4:10: user must be a string, not an integer"),
        ("network = 'off'", "j:4:13: network cannot be 'off' (known: host, none, private)"),
        (
            "isolation = { sudo = false }",
            "j:4:17: unknown key isolation.sudo (known: no_new_privs, private_tmp, private_pids)",
        ),
        ("isolation = {}", "j:4:15: isolation is empty, so that it says nothing"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(line: str, fault: str) -> None:
    assert faults(script(line))[0].startswith(fault)


def test_limits_stand_above_others() -> None:
    most = Resources(cpus=4, memory_bytes=1 << 30, pids=500)
    assert Resources(cpus=1).under(most) == Resources(cpus=1, memory_bytes=1 << 30, pids=500)
    assert Resources().under(Resources()) == Resources()
