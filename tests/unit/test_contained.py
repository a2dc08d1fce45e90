"""What a header asks of a container, and what becomes of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.harness.joined import script

from rota.adapters.docker.body import container_body, environment_of, topmost
from rota.adapters.docker.found import watch_engine
from rota.adapters.docker.home import Home, parse_outcome
from rota.adapters.docker.images import Progress, auth_header, registry_of, split_reference
from rota.adapters.docker.interpreter import wanted_programs
from rota.adapters.docker.multiplexed import lines_of
from rota.adapters.docker.shell import Shell, bring
from rota.agent.contained import check_leave, environment, parse_login
from rota.core.confinement import Bounds, abilities_for, confinement_of, trespasses
from rota.core.container import Dockerfile, Image, Service
from rota.core.header import parse_header
from rota.core.header_container import with_engine
from rota.core.job import Spec
from rota.core.resources import Isolation, Resources
from rota.core.settings import Containers, Settings, parse_settings
from rota.errors import ExecutionError
from rota.ports.containers import Login, Prepared
from rota.ports.executor import Container, Mount, Task


def spec(header: str) -> Spec:
    job, problems = parse_header(script(header) + "true\n", name="j", path="j")
    assert not problems, [str(it) for it in problems]
    assert job is not None
    return job.spec


def faults(header: str) -> list[str]:
    return [str(it) for it in parse_header(script(header) + "true\n", name="j", path="j")[1]]


# the header


def test_the_name_of_an_image_is_short_for_a_table() -> None:
    assert spec('image = "debian:12"').container == Image(name="debian:12")
    full = 'image = { name = "r.example:5000/a/b", pull = "always", auth = "LOGIN", shm = "64M" }'
    assert spec(full).container == Image(
        name="r.example:5000/a/b", pull="always", auth="LOGIN", shm_bytes=64 << 20
    )


def test_a_dockerfile_is_said_in_short_or_at_length() -> None:
    assert spec('image = { build = "." }').container == Image(build=Dockerfile())
    want = Image(build=Dockerfile(context="ci", file="ci/D", target="t", args={"A": "1"}))
    short = 'image = { build = "ci", dockerfile = "ci/D", target = "t", args = { A = "1" } }'
    long = 'image = { build = { context = "ci", dockerfile = "ci/D", target = "t", args = { A = "1" } } }'
    assert spec(short).container == spec(long).container == want


def test_services_are_named_and_may_say_more() -> None:
    header = (
        'image = "a"\nservices = { db = "postgres:16", kv = { image = "redis", port = 6379, '
        'command = "redis-server --save '
        '", ready_timeout = "5s", aliases = ["cache"] } }'
    )
    db, kv = spec(header).services
    assert db == Service(name="db", image="postgres:16")
    assert kv.command == ("/bin/sh", "-c", "redis-server --save ")
    assert (kv.port, kv.ready_timeout_s, kv.aliases) == (6379, 5.0, ("cache",))


def test_a_job_with_an_image_asks_for_an_engine() -> None:
    assert spec('image = "a"').labels == "containers"
    assert spec('image = "a"\nlabels = "arm || x"').labels == "(arm || x) && containers"
    assert with_engine("os={os}") == "(os={os}) && containers"


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (
            "image = 1",
            "j:4:11: image must be a string or a table, not an integer (such as image = ",
        ),
        (
            'image = "Debian"',
            "j:4:11: image is no name of an image: 'Debian' (names of images have no capital letters: debian)",
        ),
        (
            'image = "a b"',
            "j:4:11: image is no name of an image: 'a b' (such as debian:12 or registry.example/team/build:1.4)",
        ),
        ("image = {}", "j:4:11: image needs name or build (such as name = "),
        (
            'image = { name = "a", build = "." }',
            "j:4:25: image has both name and build (keep one of them)",
        ),
        (
            'image = { name = "a", target = "x" }',
            "j:4:25: image.target says nothing without build (add build = ",
        ),
        (
            'image = { build = "../x" }',
            "j:4:21: image.build must be a path in the workspace, not '../x' (",
        ),
        (
            'image = { name = "a", mounts = ["data"] }',
            "j:4:35: image.mounts[1] must be absolute, not 'data' (such as /scratch)",
        ),
        (
            'image = { name = "a", pull = "now" }',
            "j:4:32: image.pull cannot be 'now' (known: missing, always, never)",
        ),
        (
            'image = { name = "a", capabilities = ["a b"] }',
            "j:4:41: image.capabilities[1] is no capability: 'a b' (such as SYS_PTRACE)",
        ),
        (
            'image = "a:{nope}"',
            "j:4:11: image names 'nope', which is no parameter (parameters: there are none)",
        ),
        (
            'services = { db = "a" }',
            "j:4:3: services are reached from a container alone (add image = ",
        ),
        (
            'image = "a"\nservices = { D_B = "a" }',
            "j:5:16: services.D_B is no name of a host: small letters, digits and -, ",
        ),
        (
            'image = "a"\nservices = { db = { port = 1 } }',
            "j:5:21: services.db needs image (such as image = ",
        ),
        (
            'image = "a"\nservices = { a = "x", b = { image = "y", aliases = ["a"] } }',
            "j:5:29: services a and b both have the name 'a'",
        ),
        (
            'image = "a"\nnetwork = "none"\nservices = { a = "x" }',
            'j:5:13: network = "none" keeps the script from its services (leave it out)',
        ),
    ],
)
def test_a_fault_is_told_with_its_place(header: str, fault: str) -> None:
    found = faults(header)
    assert len(found) == 1
    assert found[0].startswith(fault), found[0]


def test_what_only_plain_builds_need_is_asked_of_no_agent() -> None:
    asked = spec('image = "a"\nuser = "node"\nnetwork = "private"\nresources = { cpus = 1 }')
    assert abilities_for(asked) == ()
    assert asked.labels == "containers"
    bounds = Bounds(user="build", resources=Resources(cpus=0.5))
    assert confinement_of(asked, bounds) is None
    assert list(trespasses(asked, bounds)) == ["it asks for 1 cpus, and may have 0.5"]


def test_the_settings_say_what_is_allowed() -> None:
    text = '[containers]\nprivileged = true\nmounts = ["/srv"]\ncapabilities = ["CAP_SYS_PTRACE"]\n'
    settings, problems = parse_settings(text)
    assert not problems
    assert settings.containers == Containers(
        privileged=True, mounts=("/srv",), capabilities=("SYS_PTRACE",)
    )


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        (Image(privileged=True), "the settings allow no privileged containers"),
        (Image(mounts=("/srv/data:/d",)), "the settings allow no mount of /srv/data"),
        (Image(capabilities=("NET_ADMIN",)), "the settings allow no capability NET_ADMIN"),
    ],
)
def test_what_the_settings_do_not_allow_is_refused(wanted: Image, fault: str) -> None:
    with pytest.raises(ExecutionError, match=fault):
        check_leave(wanted, Settings(containers=Containers(mounts=("/srv/other",))))
    allowed = Containers(privileged=True, mounts=("/srv",), capabilities=("NET_ADMIN",))
    check_leave(wanted, Settings(containers=allowed))


# the stage


def task(**more: Any) -> Task:
    told = {"home": Path("/h"), "argv": ("/s/x",), "cwd": Path("/h/work"), **more}
    return Task(**{"env": {}, **told})


class AnyBuild:
    """As much of a build as the environment depends on."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.spec = Spec(env=dict(env))


def env_of(given: Mapping[str, str], prepared: Prepared, **more: Any) -> Mapping[str, str]:
    env = environment(AnyBuild({}), task(env=given, **more), prepared, prepared.user)  # type: ignore[arg-type]
    return {name: value for name, value in env.items() if not name.startswith("GIT_CONFIG_")}


def test_what_is_the_agents_user_is_left_to_the_image() -> None:
    given = {"PATH": "/agent", "HOME": "/home/ci", "USER": "ci", "SHELL": "/bin/sh", "CI": "true"}
    prepared = Prepared(id="i", called="c", env={"PATH": "/opt/jdk/bin:/bin", "LANG": "de"})
    assert env_of({**given, "LANG": "C.UTF-8"}, prepared) == {
        "PATH": "/opt/jdk/bin:/bin",
        "CI": "true",
    }


def test_a_cache_at_home_says_where_home_is() -> None:
    cache = Mount(source=Path("/h/caches/0.0/.m2"), target="~/.m2")
    root = Prepared(id="i", called="c")
    assert env_of({}, root, mounts=(cache,))["HOME"] == "/root"
    assert env_of({}, replace(root, user="node"), mounts=(cache,))["HOME"] == "/h/home"
    told = replace(root, env={"HOME": "/opt/me"})
    assert env_of({}, told, mounts=(cache,))["HOME"] == "/opt/me"


def test_a_login_is_read_in_both_forms() -> None:
    assert parse_login("X", b"ann:a:b\n") == Login(user="ann", password="a:b")
    assert parse_login("X", b'{"username": "ann", "password": "p"}').password == "p"


@pytest.mark.parametrize("secret", [b"", b"hunter2", b"ann:", b'{"user": "hunter2"}', b"{hunter2"])
def test_what_is_no_login_is_refused_without_saying_it(secret: bytes) -> None:
    with pytest.raises(ExecutionError, match="the secret X is no login of a registry") as fault:
        parse_login("X", secret)
    assert "hunter2" not in f"{fault.value.message}{fault.value.hint}"


# the adapter


def test_the_body_of_a_container_says_no_more_than_is_asked_for(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    (home / "output").touch()
    for own in (Home(home).run, Home(home).own):
        own.mkdir()
    shell = Shell(tmp_path / "carried", ("/c/ld.so", "/c/sh"), tells_signals=True)
    container = Container(image="sha256:1", called="a", labels={"rota.attempt": "b.1"})
    asked = Task(
        home=home,
        argv=("/bin/sh", "-c", "x"),
        cwd=home / "work",
        env={"A": "1"},
        container=container,
    )
    body = container_body(asked, container, shell)
    assert body["Entrypoint"] == ["/c/ld.so", "/c/sh", str(tmp_path / "carried" / "contain.sh")]
    assert body["Env"] == ["A=1"]
    assert body["Labels"] == {"rota.attempt": "b.1"}
    host = body["HostConfig"]
    assert host["Privileged"] is False
    assert host["SecurityOpt"][0] == "no-new-privileges"
    assert host["LogConfig"] == {"Type": "none"}
    assert {it["Target"]: it["ReadOnly"] for it in host["Mounts"]} == {
        str(home / "work"): False,
        str(home / "container"): False,
        str(home / "output"): False,
        str(home / "container.own"): True,
        str(tmp_path / "carried"): True,
    }
    assert "Memory" not in host
    limited = replace(container, resources=Resources(cpus=1.5, memory_bytes=1 << 30, pids=10))
    host = container_body(asked, limited, shell)["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (1_500_000_000, 1 << 30, 11)


def test_a_service_network_has_names() -> None:
    container = Container(image="i", called="c", network="rota-1", aliases=("build",))
    body = container_body(
        task(home=Path("/h"), argv=("sh",)),
        container,
        Shell(Path("/c"), ("sh",), tells_signals=True),
    )
    assert body["NetworkingConfig"]["EndpointsConfig"] == {"rota-1": {"Aliases": ["build"]}}


def test_only_the_topmost_folders_are_mounted() -> None:
    paths = [Path("/a/b/c"), Path("/a/b"), Path("/a/bc"), Path("/a/b")]
    assert sorted(topmost(paths)) == [Path("/a/b"), Path("/a/bc")]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("#!/bin/sh -e", ("/bin/sh", "")),
        ("#!/usr/bin/env bash", ("/usr/bin/env", "bash")),
        ("#!/usr/bin/env -S A=1 uv run", ("/usr/bin/env", "uv")),
        ("echo no line", ("", "")),
        ("#!", ("", "")),
    ],
)
def test_the_first_line_says_what_runs_a_script(
    tmp_path: Path, line: str, wanted: tuple[str, str]
) -> None:
    path = tmp_path / "s"
    path.write_text(line + "\n")
    assert wanted_programs(task(argv=(str(path),))) == wanted


def test_a_program_of_the_image_is_looked_for_there() -> None:
    assert wanted_programs(task(argv=("/bin/sh", "-c", "x"))) == ("/bin/sh", "")
    assert wanted_programs(task(argv=("make",))) == ("", "make")


@pytest.mark.parametrize(
    ("name", "split", "registry"),
    [
        ("busybox", ("busybox", "latest"), "https://index.docker.io/v1/"),
        ("team/a:1", ("team/a", "1"), "https://index.docker.io/v1/"),
        ("r.example:5000/a", ("r.example:5000/a", "latest"), "r.example:5000"),
        ("localhost/a:2", ("localhost/a", "2"), "localhost"),
        ("r.example/a:1@sha256:00", ("r.example/a", "sha256:00"), "r.example"),
    ],
)
def test_a_reference_comes_apart(name: str, split: tuple[str, str], registry: str) -> None:
    assert split_reference(name) == split
    assert registry_of(name) == registry


def test_a_login_is_sent_for_the_registry_of_the_image() -> None:
    import base64
    import json

    told = json.loads(base64.urlsafe_b64decode(auth_header(Login("u", "p"), "r.example/a")))
    assert told == {"username": "u", "password": "p", "serveraddress": "r.example"}


def test_progress_is_said_every_few_seconds() -> None:
    said: list[str] = []
    progress = Progress(said.append)
    layer = {"id": "a", "status": "Downloading", "progressDetail": {"current": 5e6, "total": 1e7}}
    progress.tell({"status": "Pulling from a", "id": "1"}, 0.0)
    progress.tell(layer, 0.0)
    progress.tell(layer, 1.9)
    progress.tell({"id": "a", "status": "Pull complete", "progressDetail": {}}, 2.1)
    progress.tell({"status": "Status: Downloaded newer image for a"}, 2.2)
    assert said == [
        "0 of 1 layers, 5.0 MB fetched",
        "1 of 1 layers, 10.0 MB fetched",
        "Status: Downloaded newer image for a",
    ]


@given(st.text(max_size=200))
def test_a_torn_outcome_is_none(text: str) -> None:
    whole = "code 3\npeak 10\noom 0\n0m0.1s 0m0.2s\n1m0.5s 0m2.5s\nend\n"
    found = parse_outcome(f"Killed\n{whole}")
    assert found is not None
    assert (found.code, found.is_told, found.user_s, found.system_s) == (3, True, 60.5, 2.5)
    assert parse_outcome(whole[:-2]) is None
    parse_outcome(text)  # nothing makes it raise


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=30)), max_size=8))
def test_frames_of_output_come_together(frames: list[tuple[int, bytes]]) -> None:
    import struct

    data = b"".join(struct.pack(">BxxxI", kind, len(it)) + it for kind, it in frames)
    whole = b"".join(it for _, it in frames)
    if frames:
        assert lines_of(data) == whole.decode("utf-8", "replace").splitlines()
    lines_of(whole)  # whatever it is


def test_variables_of_an_image_are_read() -> None:
    assert environment_of(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}


def test_the_shell_that_is_brought_along_runs_without_the_machines_libraries(
    tmp_path: Path,
) -> None:
    shell = bring(tmp_path)
    ran = subprocess.run(
        [*shell.words, "-c", "echo $((6 * 7))"], capture_output=True, env={}, text=True, check=True
    )
    assert ran.stdout == "42\n"
    assert bring(tmp_path) == shell, "made once"
    assert Path(shell.supervisor).is_file()


def test_what_is_no_program_cannot_be_brought(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("#!/bin/sh\n")
    with pytest.raises(ExecutionError, match="no program of 64 bits"):
        bring(tmp_path, str(tmp_path / "text"))


def test_an_outcome_that_was_never_written_is_none(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert (home.outcome(), home.record(), home.verdict(), home.pid()) == (None, None, None, 0)


def test_a_daemon_that_runs_no_container_loads_no_library_for_it() -> None:
    code = "import sys, rota.bootstrap.daemon; print('aiodocker' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_no_new_privileges_can_be_given_up() -> None:
    assert spec('image = "a"\nisolation = { no_new_privs = false }').isolation == Isolation(
        no_new_privs=False
    )


async def test_labels_are_looked_for_when_an_engine_is_gone_and_when_it_is_back() -> None:
    failed, looked = asyncio.Event(), asyncio.Queue[str]()
    found: dict[str, str] = {"containers": "docker"}
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def find() -> dict[str, str]:
        loop.call_soon_threadsafe(asked.set)
        return found

    watching = asyncio.create_task(
        watch_engine(failed, lambda: looked.put_nowait("look"), find, look_s=0.001)
    )
    failed.set()
    await asyncio.wait_for(asked.wait(), 20)
    assert looked.empty(), "it is there: what failed was something else"
    found = {}
    failed.set()
    assert await asyncio.wait_for(looked.get(), 20) == "look"
    found = {"containers": "docker"}
    assert await asyncio.wait_for(looked.get(), 20) == "look"
    watching.cancel()


def test_a_mount_is_what_its_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to("/etc")
    allowed = Settings(containers=Containers(mounts=(f"{tmp_path}/open",)))
    check_leave(Image(mounts=(f"{tmp_path}/open/new:/x",)), allowed)
    with pytest.raises(ExecutionError, match="the settings allow no mount of /etc"):
        check_leave(Image(mounts=(f"{tmp_path}/open/link:/x",)), allowed)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "huge"])
def test_what_a_container_put_in_place_of_a_record_is_not_read(tmp_path: Path, kind: str) -> None:
    home = Home(tmp_path)
    home.run.mkdir()
    path = home.run / "exit"
    if kind == "link":
        (tmp_path / "secret").write_text("code 3\npeak 10\noom 0\n0m0s 0m0s\n0m0s 0m0s\nend\n")
        path.symlink_to(tmp_path / "secret")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"x" * 10_000_000)
    assert home.outcome() is None
