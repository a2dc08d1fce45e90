"""What a build is kept to: what its job asks for, within what the settings allow."""

from __future__ import annotations

import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_header import good, script

from rota.agent.confining import at_home, check_bounds
from rota.core.confinement import (
    ABILITIES,
    Bounds,
    Confinement,
    abilities_for,
    confinement_of,
    trespasses,
)
from rota.core.container import Image, Service
from rota.core.definitions import check_changes, check_tree
from rota.core.job import Spec
from rota.core.resources import Isolation, Resources
from rota.core.settings import parse_settings
from rota.core.surroundings import Place
from rota.errors import ExecutionError

GIB = 1 << 30
FREE = Bounds()
TIGHT = Bounds(
    user="build",
    users=("deploy",),
    network="none",
    no_new_privs=True,
    private_tmp=True,
    private_pids=True,
    resources=Resources(cpus=4, memory_bytes=GIB, pids=500),
)


def test_a_job_that_says_nothing_is_kept_to_nothing() -> None:
    assert confinement_of(Spec(), FREE) is None
    assert list(trespasses(Spec(), FREE)) == []


def test_a_job_that_says_nothing_gets_what_the_settings_say() -> None:
    assert confinement_of(Spec(), TIGHT) == Confinement(
        resources=TIGHT.resources,
        user="build",
        network="none",
        no_new_privs=True,
        private_tmp=True,
        private_pids=True,
    )
    assert list(trespasses(Spec(), TIGHT)) == []


def test_a_job_may_be_kept_to_more() -> None:
    spec = Spec(
        resources=Resources(cpus=1),
        user="deploy",
        network="none",
        isolation=Isolation(no_new_privs=True),
    )
    assert list(trespasses(spec, TIGHT)) == []
    kept = confinement_of(spec, TIGHT)
    assert kept is not None
    assert (kept.user, kept.resources) == ("deploy", Resources(1, GIB, 500))


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (Spec(resources=Resources(cpus=5)), "it asks for 5 cpus, and may have 4"),
        (
            Spec(resources=Resources(memory_bytes=2 * GIB)),
            f"it asks for {2 * GIB} bytes of memory, and may have {GIB}",
        ),
        (Spec(resources=Resources(pids=501)), "it asks for 501 pids, and may have 500"),
        (Spec(user="root"), "it may not run as 'root': only as build, deploy"),
        (Spec(network="host"), "it asks for the network 'host', and may have none"),
        (
            Spec(isolation=Isolation(no_new_privs=False)),
            "no_new_privs is for all builds, it cannot be turned off",
        ),
        (
            Spec(isolation=Isolation(private_pids=False)),
            "private_pids is for all builds, it cannot be turned off",
        ),
        (
            Spec(isolation=Isolation(private_tmp=False)),
            "private_tmp is for all builds, it cannot be turned off",
        ),
        (
            Spec(container=Image(name="a"), services=(Service(name="db", image="b"),)),
            "it has services, and may have no network to reach them by",
        ),
        (
            Spec(container=Image(name="a"), resources=Resources(cpus=5)),
            "it asks for 5 cpus, and may have 4",
        ),
    ],
)
def test_a_job_may_not_be_kept_to_less(spec: Spec, fault: str) -> None:
    assert list(trespasses(spec, TIGHT)) == [fault]


def test_a_plain_build_has_no_network_of_its_own() -> None:
    assert list(trespasses(Spec(network="private"), FREE)) == [
        "only a container has a private network: a plain build has the host's, or none"
    ]


def test_a_container_is_none_of_it() -> None:
    spec = Spec(container=Image(name="a"), user="1000", isolation=Isolation(no_new_privs=True))
    assert confinement_of(spec, TIGHT) is None
    assert abilities_for(spec) == ()
    assert list(trespasses(spec, TIGHT)) == []


def test_a_build_that_was_asked_for_before_is_refused_as_it_begins() -> None:
    check_bounds(Spec(user="deploy"), TIGHT)
    with pytest.raises(ExecutionError) as caught:
        check_bounds(Spec(user="root", resources=Resources(pids=501)), TIGHT)
    assert str(caught.value) == (
        "it asks for 501 pids, and may have 500; it may not run as 'root': only as build, deploy"
    )
    assert caught.value.hint == "[isolation] in settings.toml says what may be"


def test_a_build_of_another_user_has_that_users_home_and_the_door_for_builds() -> None:
    place = Place(
        workspace="/d/w", tmp="/d/t", bin="/d/bin", user="me", home="/me", agent="a", socket="/d/s"
    )
    nobody = pwd.getpwnam("nobody")
    there = at_home(place, Confinement(user="nobody"))
    assert (there.user, there.home, there.socket) == ("nobody", nobody.pw_dir, "/d/run/s")
    assert at_home(place, Confinement(private_tmp=True)).socket == "/d/run/s"
    assert at_home(place, Confinement(user="no-such-user")).user == "me"
    assert at_home(place, Confinement(network="none")) == place
    assert at_home(place, None) == place


LIMITS = st.builds(
    Resources,
    cpus=st.sampled_from([0.0, 0.5, 4.0, 8.0]),
    memory_bytes=st.sampled_from([0, GIB, 2 * GIB]),
    pids=st.sampled_from([0, 10, 500]),
)
WISHES = st.none() | st.booleans()
SPECS = st.builds(
    Spec,
    resources=LIMITS,
    user=st.sampled_from(["", "build", "deploy", "root"]),
    network=st.sampled_from(["", "host", "none"]),
    isolation=st.builds(Isolation, no_new_privs=WISHES, private_tmp=WISHES, private_pids=WISHES),
)
BOUNDS = st.builds(
    Bounds,
    user=st.sampled_from(["", "build"]),
    users=st.sampled_from([(), ("deploy",)]),
    network=st.sampled_from(["host", "none"]),
    no_new_privs=st.booleans(),
    private_tmp=st.booleans(),
    private_pids=st.booleans(),
    resources=LIMITS,
)


@given(SPECS, BOUNDS)
def test_what_does_not_trespass_is_within_the_bounds(spec: Spec, bounds: Bounds) -> None:
    if list(trespasses(spec, bounds)):
        return
    kept = confinement_of(spec, bounds) or Confinement()
    for name in ("cpus", "memory_bytes", "pids"):
        most = getattr(bounds.resources, name)
        assert not most or 0 < getattr(kept.resources, name) <= most
    assert not bounds.user or kept.user in (bounds.user, *bounds.users)
    assert kept.no_new_privs >= bounds.no_new_privs
    assert kept.private_tmp >= bounds.private_tmp
    assert kept.private_pids >= bounds.private_pids
    assert bounds.network == "host" or kept.network == "none"
    # And no wish of the job's own is passed over.
    assert not spec.user or kept.user == spec.user
    assert spec.network != "none" or kept.network == "none"


# -- what an agent must be able to do -----------------------------------------------------------


def test_a_job_asks_for_agents_that_can_do_what_it_says() -> None:
    job = good(script('labels = "linux || arm"', 'network = "none"', "resources = { pids = 9 }"))
    assert job.spec.labels == "(linux || arm) && can-limit-pids && can-cut-network"
    alone = good(script("isolation = { private_tmp = true, no_new_privs = false }"))
    assert alone.spec.labels == "can-private-tmp"
    assert good(script('labels = "linux"', 'network = "host"')).spec.labels == "linux"


def test_labels_of_a_matrix_ask_for_it_as_well() -> None:
    job = good(script('labels = "{os}"', 'user = "build"', 'matrix = { os = ["linux", "bsd"] }'))
    assert job.spec.labels == "({os}) && can-set-user"


def test_each_ability_has_a_label_of_its_own() -> None:
    assert len(set(ABILITIES.values())) == len(ABILITIES)


# -- settings -----------------------------------------------------------------------------------


def test_bounds_are_settings() -> None:
    text = """\
[isolation]
user = "build"
users = ["deploy"]
network = "none"
no_new_privs = true
private_tmp = true
private_pids = true
resources = { cpus = 4, memory = "1G", pids = 500 }
"""
    assert parse_settings(text)[0].isolation == TIGHT


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            'network = "private"',
            "settings.toml:2:11: isolation.network cannot be 'private' (known: host, none)",
        ),
        (
            "sudo = false",
            (
                "settings.toml:2:1: unknown key isolation.sudo "
                "(known: user, users, network, resources, no_new_privs, private_tmp, private_pids)"
            ),
        ),
        ('users = ["a b"]', "settings.toml:2:10: isolation.users[1] is no user's name: 'a b'"),
    ],
)
def test_bounds_that_are_none_are_told(line: str, fault: str) -> None:
    _, problems = parse_settings(f"[isolation]\n{line}\n")
    assert str(problems[0]).startswith(fault)


def test_a_job_that_goes_too_far_is_refused_where_it_is_written() -> None:
    tree = {
        "settings.toml": b"[isolation]\nresources = { pids = 50 }\n",
        "jobs/wide": script("resources = { pids = 51 }").encode(),
        "jobs/fits": script("resources = { pids = 50 }").encode(),
    }
    _, problems = check_tree(tree)
    assert [str(it) for it in problems] == [
        "jobs/wide: it asks for 51 pids, and may have 50 ([isolation] in settings.toml says what may be)"
    ]
    changed = check_changes(
        {"settings.toml": tree["settings.toml"]},
        others={"jobs/wide": tree["jobs/wide"]},
        settings=tree["settings.toml"],
    )
    assert changed == problems
