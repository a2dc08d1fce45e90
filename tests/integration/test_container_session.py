"""Shells in containers of a real engine: of an attempt that runs, and of one that has ended."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.harness import engines

from rota.adapters.docker.engine import Engine
from rota.adapters.docker.executor import ContainerExecutor
from rota.errors import ExecutionError
from rota.ports.executor import Container, Task
from rota.ports.session import STDERR, Session, Tty


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not of pytest: its folders are closed to the users of containers.
    with tempfile.TemporaryDirectory(prefix="rota-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


class Bench:
    def __init__(self, running: engines.Engine, folder: Path) -> None:
        self.running, self.folder = running, folder
        self.engine = Engine({"DOCKER_HOST": running.url})
        self.executor = ContainerExecutor(self.engine, folder / "carried")
        self.home = folder / "home"
        self.home.mkdir()

    def task(self, script: str, user: str = "", **env: str) -> Task:
        for name in ("work", "tmp"):
            (self.home / name).mkdir()
        file = self.home / "script"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return Task(
            home=self.home,
            argv=(str(file),),
            cwd=self.home / "work",
            env={"PATH": "/bin", **env},
            container=Container(
                image=self.running.busybox(),
                called="busybox",
                labels={"rota-session-test": "yes"},
                network="none",
                user=user,
            ),
        )

    @contextlib.asynccontextmanager
    async def session(
        self, task: Task, *argv: str, tty: Tty | None = None
    ) -> AsyncIterator[Session]:
        session = await self.executor.enter(task, argv, tty)
        try:
            async with asyncio.timeout(60):
                yield session
        finally:
            await session.end()

    async def until(self, containers: int) -> None:
        """Return once there are so many: some are removed in the background."""
        async with asyncio.timeout(60):
            while len(self.running.containers("rota-session-test")) != containers:
                await asyncio.sleep(0.01)


@pytest.fixture
async def bench(docker_engine: engines.Engine, folder: Path) -> AsyncIterator[Bench]:
    made = Bench(docker_engine, folder)
    yield made
    await made.executor.close()
    await made.engine.close()


async def heard(session: Session, until: bytes = b"") -> bytes:
    said = b""
    while (not until or until not in said) and (piece := await session.read()) is not None:
        said += piece[1]
    return said


async def printed(task: Task, text: bytes) -> None:
    async with asyncio.timeout(60):
        while not (task.home / "log").exists() or text not in (task.home / "log").read_bytes():
            await asyncio.sleep(0.01)


async def test_a_shell_is_in_the_container_of_the_attempt_without_its_secrets(bench: Bench) -> None:
    script = "echo made >/only-here; echo left >file; echo up; sleep 600"
    task = bench.task(script, TOKEN="s3cret", WORD="of the build")
    attempt = await bench.executor.start(task)
    await printed(task, b"up")
    asked = replace(task, env={k: v for k, v in task.env.items() if k != "TOKEN"})
    look = "cat /only-here file; pwd; echo $WORD; echo [$TOKEN]; tty; echo bad >&2; exit 7"
    async with bench.session(asked, "sh", "-c", look) as session:
        parts = {1: b"", STDERR: b""}
        while (piece := await session.read()) is not None:
            parts[piece[0]] += piece[1]
        expected = f"made\nleft\n{task.cwd}\nof the build\n[]\nnot a tty\n"
        assert parts == {1: expected.encode(), STDERR: b"bad\n"}
        assert session.code == 7
    async with bench.session(asked, "sh", tty=Tty(33, 99, "vt100")) as session:
        await session.write(
            b"while [ \"$(stty size)\" != '33 99' ]; do :; done; echo $TERM re''ady\n"
        )
        await heard(session, until=b"vt100 ready\r\n")
        session.resize(44, 88)
        await session.write(b"while [ \"$(stty size)\" != '44 88' ]; do :; done; echo re''sized\n")
        await heard(session, until=b"resized\r\n")
    await bench.until(1)
    # Who hangs up ends it, and not the attempt; the attempt's end ends it, too.
    async with bench.session(asked, "sh", "-c", "echo $$; sleep 601") as session:
        await heard(session, until=b"\n")
    assert session.code in (129, 137)
    async with bench.session(asked, "sh", "-c", "echo in; sleep 602") as session:
        await heard(session, until=b"in\n")
        await attempt.terminate(0)
        await heard(session)
    assert session.code == 137
    await bench.until(0)


async def test_a_shell_in_what_an_attempt_left_has_a_container_of_its_own(bench: Bench) -> None:
    task = bench.task("echo left >file; exit 3", user="1000")
    attempt = await bench.executor.start(task)
    assert (await attempt.wait()).code == 3
    await attempt.terminate(0)
    await bench.until(0)
    size = 5 << 20
    async with bench.session(task, "sh", "-c", "id -u; cat file; cat >new; wc -c <new") as session:
        await bench.until(1)
        for _ in range(size >> 16):
            await session.write(os.urandom(1 << 16))
        await session.close_input()
        assert await heard(session) == b"1000\nleft\n%d\n" % size
        assert session.code == 0
    await bench.until(0)
    assert (task.cwd / "new").stat().st_size == size
    gone = replace(task, container=Container(image="no-such:1", called="no-such"))
    with pytest.raises(ExecutionError, match="the image no-such is not there any more"):
        await bench.executor.enter(gone, ["true"], None)
