"""What builds need of a container engine: images had, services ready, nothing left. On real engines."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness import engines, images
from tests.harness.registry import registry

from rota.adapters.docker.containers import EngineContainers
from rota.adapters.docker.engine import Engine
from rota.adapters.docker.executor import ContainerExecutor
from rota.adapters.docker.found import found_engine
from rota.core.container import Dockerfile, Image, Service
from rota.core.resources import Resources
from rota.errors import ExecutionError, UnavailableError
from rota.homes import pipe
from rota.ports.containers import Login
from rota.ports.executor import Container, Exit, Running, Task

ATTEMPT = "b1.1"


class Place:
    """An agent's data folder with one attempt in it, and an engine."""

    def __init__(self, root: Path, engine: engines.Engine) -> None:
        self.said: list[str] = []
        self.root = root
        self.real = engine
        self.home = root / "builds" / "b1" / "1"
        self.work = self.home / "work"
        self.work.mkdir(parents=True)
        self.home.chmod(0o700)
        self.engine = Engine({"DOCKER_HOST": engine.url})
        self.containers = EngineContainers(self.engine, root / "containers", root)
        self.executor = ContainerExecutor(self.engine, root / "containers")

    async def image(self, wanted: Image, login: Login | None = None) -> str:
        found = await self.containers.image(
            wanted, work=self.work, login=login, say=self.said.append
        )
        return found.id

    async def run(self, script: str, container: Container, *, interpreter: str = "/bin/sh") -> Exit:
        path = self.home / "script"
        path.write_text(f"#!{interpreter}\n{script}\n")
        path.chmod(0o755)
        env = {"PATH": "/usr/bin:/bin"}
        task = Task(home=self.home, argv=(str(path),), cwd=self.work, env=env, container=container)
        running = await self.executor.start(task)
        ended = await running.wait()
        await running.terminate(0)
        return ended

    def container(self, **more: object) -> Container:
        told = {"image": self.real.busybox(), "called": "busybox", **more}
        return Container(labels=self.containers.labels(ATTEMPT), **told)  # type: ignore[arg-type]

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()

    async def serve(self, *services: Service) -> str:
        return await self.containers.serve(
            ATTEMPT, services, logins={}, say=self.said.append, internal=False
        )

    async def close(self) -> None:
        async with asyncio.timeout(20):
            while (found := pipe.reader(self.home / "output")) is not None:
                os.close(found[1])
                await asyncio.sleep(0.01)
        await self.containers.clear(ATTEMPT)
        await self.executor.close()
        await self.engine.close()


@pytest.fixture
async def place(tmp_path: Path, docker_engine: engines.Engine) -> AsyncIterator[Place]:
    made = Place(tmp_path, docker_engine)
    yield made
    await made.close()


@pytest.fixture
async def any_place(tmp_path: Path, any_engine: engines.Engine) -> AsyncIterator[Place]:
    made = Place(tmp_path, any_engine)
    yield made
    await made.close()


# images


async def test_an_image_is_pulled_once_with_its_progress_in_the_log(place: Place) -> None:
    with registry(place.real.host, images.busybox()) as there:
        wanted = Image(name=there.image)
        found = await place.containers.image(
            wanted, work=place.work, login=None, say=place.said.append
        )
        assert found.env["FROM"] == "registry"
        assert place.said[0] == f"pulling the image {there.image}"
        assert place.said[-2:] == [
            f"Digest: {there.digest}",
            f"Status: Downloaded newer image for {there.image}",
        ]
        place.said.clear()
        assert await place.image(wanted) == found.id
        assert place.said == []
        await place.image(Image(name=there.image, pull="always"))
        assert place.said[-1] == f"Status: Image is up to date for {there.image}"
        by_digest = f"{there.image.removesuffix(':1')}@{there.digest}"
        assert await place.image(Image(name=by_digest)) == found.id


async def test_a_registry_is_shown_the_login(place: Place) -> None:
    with registry(place.real.host, images.single("true"), "ann:s3cret") as there:
        wanted = Image(name=there.image)
        with pytest.raises(
            ExecutionError, match=r"cannot pull the image 10\.213.*(basic auth|no basic)"
        ):
            await place.image(wanted)
        with pytest.raises(ExecutionError, match=r"cannot pull the image.*") as fault:
            await place.image(wanted, Login(user="ann", password="wrong"))
        assert "wrong" not in fault.value.message
        await place.image(wanted, Login(user="ann", password="s3cret"))


async def test_an_image_that_is_nowhere_is_told_in_the_registrys_words(place: Place) -> None:
    with registry(place.real.host, images.single("true")) as there:
        name = f"{there.image.removesuffix(':1')}:nope"
        with pytest.raises(
            ExecutionError, match=rf"cannot pull the image {name}: .*manifest unknown"
        ):
            await place.image(Image(name=name))
        with pytest.raises(
            ExecutionError, match=f'the image {name} is not on this agent, and pull is "never"'
        ):
            await place.image(Image(name=name, pull="never"))


async def test_an_image_is_made_of_a_dockerfile_and_not_again_while_that_is_the_same(
    any_place: Place,
) -> None:
    place = any_place
    base = place.real.busybox()
    (place.work / "ci").mkdir()
    (place.work / "ci" / "Dockerfile").write_text(
        f"FROM {base} AS first\nARG WHAT\nCOPY a.txt /a.txt\nRUN echo $WHAT > /what; ls /ctx || true\n"
        f"FROM first AS second\nUSER nobody\n"
    )
    (place.work / "a.txt").write_text("one\n")
    (place.work / "big").write_text("left out")
    (place.work / ".dockerignore").write_text("big\nci\n")
    wanted = Image(build=Dockerfile(file="ci/Dockerfile", target="first", args={"WHAT": "x"}))
    first = await place.containers.image(wanted, work=place.work, login=None, say=place.said.append)
    assert first.called == "of ci/Dockerfile"
    assert place.said[0] == "::group::Image of ci/Dockerfile"
    assert any("COPY a.txt" in line for line in place.said)
    place.said.clear()
    os.utime(place.work / "a.txt", (1, 1))
    assert await place.image(wanted) == first.id
    assert place.said[0].startswith("the image of ci/Dockerfile is unchanged: rota-made:")
    (place.work / "a.txt").write_text("two\n")
    assert await place.image(wanted) != first.id
    ended = await place.run("cat /a.txt /what", place.container(image=first.id))
    assert (ended.code, place.log) == (0, "one\nx\n")
    assert not list(place.home.glob("context-*"))


async def test_a_dockerfile_that_fails_says_which_step(place: Place) -> None:
    (place.work / "Dockerfile").write_text(f"FROM {place.real.busybox()}\nRUN echo no; exit 4\n")
    with pytest.raises(
        ExecutionError, match=r"cannot make the image of Dockerfile: .*exit 4.*code: 4"
    ):
        await place.image(Image(build=Dockerfile()))
    assert "no" in place.said


@pytest.mark.parametrize(
    ("build", "fault"),
    [
        (Dockerfile(), "there is no Dockerfile to make an image of"),
        (Dockerfile(context="nowhere"), "image.build is 'nowhere', which is no folder"),
        (Dockerfile(context="out"), "'out' of the image leads out of the workspace"),
    ],
)
async def test_a_folder_of_which_no_image_can_be_made(
    place: Place, build: Dockerfile, fault: str
) -> None:
    (place.work / "out").symlink_to("/etc")
    with pytest.raises(ExecutionError, match=fault):
        await place.image(Image(build=build))


# services


async def test_a_service_is_found_by_its_names_once_it_is_healthy(any_place: Place) -> None:
    place = any_place
    image = place.real.busybox()
    # ready only after a while: a file appears, then it listens
    command = (
        "sh",
        "-c",
        "sleep 0.5; touch /ok; mkdir /w; echo $WORD > /w/a; exec httpd -f -p 80 -h /w",
    )
    network = await place.serve(
        Service(
            name="web",
            image=image,
            command=command,
            env={"WORD": "hello"},
            health="test -e /ok && wget -q -O- http://localhost/a",
            aliases=("site",),
        )
    )
    assert place.said[-1].startswith(f"service web: {image}, ready after ")
    script = "wget -q -O- http://web/a && wget -q -O- http://site/a"
    ended = await place.run(script, place.container(network=network, aliases=("build",)))
    assert (ended.code, place.log) == (0, "hello\nhello\n")
    assert await place.containers.ended(ATTEMPT, place.said.append) == []
    await place.containers.clear(ATTEMPT)
    assert place.real.containers(f"rota.attempt={ATTEMPT}") == []
    names = [it["Name"] for it in place.real.request("GET", "/networks")]
    assert network not in names


async def test_a_service_without_a_check_is_ready_when_its_port_is(place: Place) -> None:
    command = ("sh", "-c", "sleep 0.5; exec nc -l -p 5432")
    await place.serve(Service(name="db", image=place.real.busybox(), command=command, port=5432))


async def test_a_service_that_ends_shows_what_it_printed(place: Place) -> None:
    command = ("sh", "-c", "echo no such database >&2; exit 3")
    with pytest.raises(
        ExecutionError, match="the service db ended with exit code 3 before it was ready"
    ):
        await place.serve(
            Service(name="db", image=place.real.busybox(), command=command, health="false")
        )
    assert "  db | no such database" in place.said


async def test_a_service_that_is_not_ready_in_time_is_named(place: Place) -> None:
    service = Service(
        name="db",
        image=place.real.busybox(),
        command=("sh", "-c", "echo waiting; sleep 600"),
        health="false",
        ready_timeout_s=0.5,
    )
    with pytest.raises(ExecutionError, match=r"the service db was not ready within 0\.5 s"):
        await place.serve(service)
    assert "  db | waiting" in place.said


async def test_a_service_that_ends_while_the_build_runs_is_told(place: Place) -> None:
    command = ("sh", "-c", "while [ ! -e /end ]; do sleep 0.1; done; echo bye; exit 9")
    await place.serve(Service(name="db", image=place.real.busybox(), command=command))
    (there,) = place.real.containers("rota.service=db")
    body = {"Cmd": ["touch", "/end"]}
    made = place.real.request("POST", f"/containers/{there['Id']}/exec", body)
    place.real.request("POST", f"/exec/{made['Id']}/start", {"Detach": True})
    place.real.request("POST", f"/containers/{there['Id']}/wait")
    assert await place.containers.ended(ATTEMPT, place.said.append) == [
        "the service db ended with exit code 9 while the build ran"
    ]
    assert place.said[-1] == "  db | bye"


async def test_a_service_whose_image_is_nowhere_leaves_nothing(place: Place) -> None:
    good = Service(name="a", image=place.real.busybox(), command=("sleep", "600"))
    with pytest.raises(ExecutionError, match="nowhere:1"):
        await place.serve(good, Service(name="b", image="nowhere:1", pull="never"))
    await place.containers.clear(ATTEMPT)
    assert place.real.containers(f"rota.attempt={ATTEMPT}") == []


# the script's container


async def test_limits_are_the_kernels(place: Place) -> None:
    limits = Resources(cpus=0.5, memory_bytes=32 << 20, pids=20)
    script = (
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; "
        "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max; "
        "for i in $(seq 60); do sleep 60 & done"
    )
    ended = await place.run(script, place.container(resources=limits))
    assert str(32 << 20) in place.log
    assert "50000" in place.log
    assert ended.code != 0, "60 processes are more than 20"
    assert "fork" in place.log


async def test_what_takes_too_much_memory_is_told_as_such(any_place: Place) -> None:
    limits = Resources(memory_bytes=16 << 20)
    script = "exec awk 'BEGIN { s = \"x\"; while (1) s = s s }'"
    ended = await any_place.run(script, any_place.container(resources=limits))
    assert (ended.code, ended.signal, ended.oom_killed) == (137, 9, True)
    assert ended.usage.memory_bytes > 8 << 20


async def test_the_network_can_be_cut(place: Place) -> None:
    script = "ls /sys/class/net"
    await place.run(script, place.container(network="none"))
    assert place.log == "lo\n"


@pytest.mark.parametrize("user", ["build", "1000:1000", "build:nogroup"])
async def test_another_user_may_write_where_it_works(place: Place, user: str) -> None:
    (place.home / "tmp").mkdir()
    (place.work / "src").mkdir()
    (place.work / "src" / "a").write_text("x")
    (place.root / "pack").write_text("of a mirror")
    (place.work / "src" / "pack").hardlink_to(place.root / "pack")
    script = f"id -u; echo err >/dev/stderr; echo more >> src/a; touch made {place.home}/tmp/t"
    ended = await place.run(script, place.container(user=user))
    assert (ended.code, place.log) == (0, "1000\nerr\n")
    assert (place.work / "src" / "a").read_text() == "xmore\n"
    assert (place.root / "pack").stat().st_uid == os.geteuid()
    assert not stat.S_IMODE(place.root.joinpath("builds/b1/1").stat().st_mode) & 0o004


async def test_a_user_that_the_image_does_not_know_is_named(place: Place) -> None:
    with pytest.raises(ExecutionError, match="the image has no user 'nobody-here'"):
        await place.run("true", place.container(user="nobody-here"))
    assert place.real.containers(f"rota.attempt={ATTEMPT}") == []


async def test_rights_that_no_build_needs_are_not_there(place: Place) -> None:
    script = (
        "mknod x c 1 3 2>&1; grep -E 'NoNewPrivs|CapEff' /proc/self/status; mkdir y && chown 1:1 y"
    )
    ended = await place.run(script, place.container())
    assert "mknod: x: Operation not permitted" in place.log
    assert "NoNewPrivs:\t1" in place.log
    assert ended.code == 0, "a package manager has to change owners"


async def test_an_image_without_a_shell_runs_what_it_has(place: Place) -> None:
    image = place.real.single("awk")
    container = place.container(image=image, called=image)
    ended = await place.run(
        'BEGIN { print "no shell"; exit 5 }', container, interpreter="/bin/awk -f"
    )
    assert (ended.code, place.log) == (5, "no shell\n")


@pytest.mark.parametrize(
    ("interpreter", "lacks"),
    [
        ("/bin/bash", "/bin/bash"),
        ("/usr/bin/env bash", "/usr/bin/env"),
        ("/bin/env -S bash -e", "bash"),
    ],
)
async def test_an_image_that_lacks_the_interpreter_is_named(
    place: Place, interpreter: str, lacks: str
) -> None:
    with pytest.raises(
        ExecutionError, match=f"the image busybox has no {lacks}, which runs the script"
    ):
        await place.run("true", place.container(), interpreter=interpreter)
    assert place.real.containers(f"rota.attempt={ATTEMPT}") == []


async def test_an_image_that_went_away_is_named(place: Place) -> None:
    container = place.container(image="sha256:" + "0" * 64, called="gone:1")
    with pytest.raises(ExecutionError, match="the image gone:1 is not there any more"):
        await place.run("true", container)


async def test_what_others_own_is_taken_back_by_an_agent_that_is_not_root(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.run("mkdir -p a/b; touch a/b/c; chown -R 1234 a; chmod 700 a", place.container())
    assert (place.work / "a").stat().st_uid == 1234
    await place.containers.reclaim([place.home])
    assert (place.work / "a").stat().st_uid == 1234, "root may do anything anyway"
    monkeypatch.setattr("os.geteuid", lambda: 4321)
    await place.containers.reclaim([place.home])
    assert (place.work / "a" / "b" / "c").stat().st_uid == 4321
    assert place.real.containers("rota.attempt=reclaim") == []


async def test_what_is_left_is_swept_but_for_the_living(any_place: Place) -> None:
    place = any_place
    service = Service(name="a", image=place.real.busybox(), command=("sleep", "600"))
    await place.serve(service)
    assert await place.containers.sweep(lambda attempt: attempt == ATTEMPT) == 0
    assert len(place.real.containers(f"rota.attempt={ATTEMPT}")) == 1
    others = EngineContainers(place.engine, place.root / "containers", place.root / "builds")
    assert await others.sweep(lambda _: False) == 0, "another agent's"
    assert await place.containers.sweep(lambda _: False) == 2
    assert place.real.containers(f"rota.attempt={ATTEMPT}") == []


# the engine itself


def test_an_engine_is_a_label(any_engine: engines.Engine) -> None:
    assert found_engine({"DOCKER_HOST": any_engine.url}) == {"containers": any_engine.kind}


def test_no_engine_is_no_label(tmp_path: Path) -> None:
    assert found_engine({"DOCKER_HOST": f"unix://{tmp_path}/none"}) == {}


async def test_an_engine_that_is_not_there_is_told_with_its_socket(tmp_path: Path) -> None:
    engine = Engine({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    try:
        with pytest.raises(UnavailableError, match=f"no container engine answers at {tmp_path}"):
            await engine.version()
    finally:
        await engine.close()


async def test_an_engine_of_another_machine_is_refused() -> None:
    with pytest.raises(ExecutionError, match="must be on the agent's own machine"):
        await Engine({"DOCKER_HOST": "tcp://10.0.0.1:2375"}).version()


async def waiting(place: Place) -> Running:
    """Start a script that goes on once there is a file, and then exits with 4."""
    path = place.home / "script"
    path.write_text("#!/bin/sh\necho up; while [ ! -e go ]; do sleep 0.05; done; exit 4\n")
    path.chmod(0o755)
    env = {"PATH": "/bin"}
    container = place.container()
    task = Task(home=place.home, argv=(str(path),), cwd=place.work, env=env, container=container)
    running = await place.executor.start(task)
    async with asyncio.timeout(30):
        while "up" not in place.log:
            await asyncio.sleep(0.01)
    return running


async def test_an_engine_that_ends_its_containers_when_it_restarts_ends_the_build(
    tmp_path: Path,
) -> None:
    with engines.running("docker") as real:
        place = Place(tmp_path, real)
        running = await waiting(place)
        await asyncio.to_thread(real.stop)
        await asyncio.to_thread(real.start)
        async with asyncio.timeout(30):
            ended = await running.wait()
        assert ended.signal == 9 or not ended.known
        assert ended.note == "its container was killed from outside"
        await running.terminate(0)
        await place.executor.removed()
        assert real.containers("rota.data") == []
        await place.close()


async def test_a_build_goes_on_while_its_engine_is_away_and_is_lost_if_that_does_not_come_back(
    tmp_path: Path,
) -> None:
    with engines.running("docker", live_restore=True) as real:
        await an_engine_that_hangs(tmp_path / "hung", real)
        (tmp_path / "a").mkdir()
        place, hasty = Place(tmp_path, real), Place(tmp_path / "a", real)
        hasty.executor = ContainerExecutor(hasty.engine, tmp_path / "containers", away_s=0.2)
        patient, given_up = await waiting(place), await waiting(hasty)
        await asyncio.to_thread(real.stop)
        async with asyncio.timeout(30):
            lost = await given_up.wait()
        assert (lost.known, lost.code) == (False, None)
        assert lost.note.startswith("no container engine answers at ")
        await given_up.terminate(0)
        await asyncio.to_thread(real.start)
        (place.work / "go").touch()
        async with asyncio.timeout(30):
            ended = await patient.wait()
        assert (ended.code, ended.signal, ended.note) == (4, None, "")
        await patient.terminate(0)
        await place.executor.removed()
        await hasty.executor.removed()
        assert real.containers("rota.data") == []
        await hasty.close()
        await place.close()


async def an_engine_that_hangs(folder: Path, real: engines.Engine) -> None:
    """It is noticed, what ends meanwhile has ended, and what it has no word of is given up in time."""
    places = [Place(made(folder / name), real) for name in ("ending", "going on", "patient")]
    for place, away_s in zip(places, (60.0, 0.2, 60.0), strict=True):
        place.executor = ContainerExecutor(
            place.engine, place.home / "containers", away_s=away_s, look_s=0.1
        )
    ending, given_up, patient = [await waiting(place) for place in places]
    with real.hung():
        (places[0].work / "go").touch()
        async with asyncio.timeout(30):
            ended, lost = await ending.wait(), await given_up.wait()
    assert (ended.code, ended.known) == (4, True)
    assert (lost.code, lost.known) == (None, False)
    assert lost.note == "the container engine did not answer within 0.1 s for 0.2 s"
    (places[2].work / "go").touch()
    async with asyncio.timeout(30):
        assert (await patient.wait()).code == 4
    for place, running in zip(places, (ending, given_up, patient), strict=True):
        await running.terminate(0)
        await place.executor.removed()
        await place.close()


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_a_context_is_the_same_bytes_for_the_same_files(tmp_path: Path) -> None:
    from rota.adapters.docker.context import pack

    keys = []
    for name in ("a", "b"):
        work = tmp_path / name / "work"
        (work / "sub").mkdir(parents=True)
        (work / "Dockerfile").write_text("FROM x\n")
        (work / "sub" / "f").write_text("1")
        (work / "link").symlink_to("sub/f")
        (work / "keep.log").write_text("2")
        (work / "drop.log").write_text(name)
        (work / ".dockerignore").write_text("# none\n*.log\n!keep.log\n")
        packed = pack(work, Dockerfile())
        keys.append(packed.key)
        with tarfile.open(fileobj=io.BytesIO(packed.tar.read_bytes())) as tar:
            names = tar.getnames()
        assert names == [
            ".dockerignore",
            "Dockerfile",
            "keep.log",
            "link",
            "sub",
            "sub/f",
            ".rota-Dockerfile",
        ]
    assert keys[0] == keys[1]


async def test_a_container_cannot_change_what_the_agent_keeps_of_it(place: Place) -> None:
    run, own = place.home / "container", place.home / "container.own"
    script = (
        f"for f in {own}/record {place.home}/log; do rm -f $f 2>/dev/null; done; "
        f"touch {own}/x 2>/dev/null || echo closed; "
        f"ln -s /etc/passwd {place.home}/verdict; ln -sf /etc/passwd {run}/exit; ls {place.home}; exit 3"
    )
    ended = await place.run(script, place.container())
    assert "closed\n" in place.log
    assert not (place.home / "log").is_symlink()
    assert not (place.home / "verdict").is_symlink(), "the attempt's folder is not there"
    # the supervisor's own record was in the way: the engine's stands
    assert (ended.code, ended.note) == (3, "")
