"""Sessions of the process executor: real terminals, pipes, and what they leave running."""

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rota.adapters.process import ProcessExecutor
from rota.errors import ExecutionError
from rota.ports.executor import Task
from rota.ports.session import STDERR, STDOUT, Session, Tty

SLEEPER = (
    b"""python3 -c 'import time; print("beg" "un", flush=True); time.sleep(600)' 2>/dev/null\n"""
)


class Bench:
    """Opens sessions, and ends what is left of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.executor = ProcessExecutor(sweep_interval_s=0.02)
        self.env = {"PATH": "/usr/bin:/bin", "WORD": "of the build"}

    @contextlib.asynccontextmanager
    async def session(self, *argv: str, tty: Tty | None = None) -> AsyncIterator[Session]:
        task = Task(home=self.root, argv=("x",), cwd=self.root, env=self.env, marker="ROTA_X=1")
        session = await self.executor.enter(task, argv, tty)
        try:
            async with asyncio.timeout(30):
                yield session
        finally:
            await session.end()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.executor.close()


async def heard(session: Session, until: bytes = b"") -> bytes:
    """Return what is printed up to ``until``, or to the end."""
    said = b""
    while not until or until not in said:
        piece = await session.read()
        if piece is None:
            break
        said += piece[1]
    return said


async def gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.01)


async def test_a_terminal_is_one_with_its_size_and_its_signals(bench: Bench) -> None:
    tty = Tty(33, 111, "vt100")
    async with bench.session("sh", tty=tty) as session:
        await session.write(b"stty size; echo $TERM $WORD; tty; pwd\n")
        said = await heard(session, until=str(bench.root).encode() + b"\r\n")
        assert b"33 111\r\nvt100 of the build\r\n/dev/pts/" in said
        await session.write(b"trap 'stty size; echo resized' WINCH; echo re''ady\n")
        await heard(session, until=b"ready\r\n")
        session.resize(44, 99)
        await session.write(b"\n")
        assert b"44 99\r\n" in await heard(session, until=b"resized\r\n")
        # Ctrl-C ends what runs in the foreground, and not the shell.
        # It says so itself, so that by then it is what the terminal interrupts.
        await session.write(SLEEPER)
        await heard(session, until=b"begun\r\n")
        await session.write(b"\x03")
        await session.write(b"echo co''de $?; exit 7\n")
        assert b"code 130" in await heard(session)
        assert session.code == 7


async def test_without_a_terminal_output_and_errors_are_apart_and_any_byte_passes(
    bench: Bench,
) -> None:
    hostile = bytes(range(256)) * 16
    async with bench.session("sh", "-c", "cat; echo bad >&2; tty") as session:
        await session.write(hostile)
        await session.close_input()
        parts = {STDOUT: b"", STDERR: b""}
        while (piece := await session.read()) is not None:
            parts[piece[0]] += piece[1]
        assert parts[STDOUT] == hostile + b"not a tty\n"
        assert parts[STDERR] == b"bad\n"
        assert session.code == 1


async def test_much_passes_both_ways_and_nobody_holds_more_than_pipes_do(bench: Bench) -> None:
    size, piece = 32 << 20, os.urandom(1 << 16)
    sent, received = hashlib.sha256(), hashlib.sha256()
    async with bench.session("cat") as session:

        async def feed() -> None:
            for _ in range(size // len(piece)):
                await session.write(piece)
                sent.update(piece)
            await session.close_input()

        feeding = asyncio.create_task(feed())
        while (got := await session.read()) is not None:
            received.update(got[1])
        await feeding
    assert sent.hexdigest() == received.hexdigest()


async def test_the_end_takes_all_along_that_was_left_running(bench: Bench) -> None:
    script = "setsid sleep 601 & nohup sleep 602 >/dev/null 2>&1 & echo $! ; sleep 603"
    async with bench.session("sh", "-c", script) as session:
        pid = int(await heard(session, until=b"\n"))
    await gone(pid)
    assert session.code == 128 + signal.SIGHUP
    left = [
        path.name
        for path in Path("/proc").iterdir()
        if path.name.isdecimal()
        and b"ROTA_SHELL_ID=" in _read(path / "environ")
        and str(bench.root).encode() in os.fsencode(_link(path / "cwd"))
    ]
    assert left == []


async def test_a_program_that_ignores_the_hang_up_is_killed(bench: Bench) -> None:
    async with bench.session(
        "sh", "-c", "trap '' HUP TERM; echo up; while :; do sleep 600; done", tty=Tty()
    ) as session:
        await heard(session, until=b"up")
    assert session.code == 128 + signal.SIGKILL


async def test_a_session_is_over_when_its_program_is_whatever_holds_its_pipes(
    bench: Bench,
) -> None:
    async with bench.session("sh", "-c", "sleep 600 & echo said; exit 5") as session:
        assert await heard(session) == b"said\n"
        assert session.code == 5


async def test_what_is_written_to_a_program_that_has_ended_is_dropped(bench: Bench) -> None:
    async with bench.session("true") as session:
        assert await heard(session) == b""
        await session.write(b"x" * (1 << 20))
        await session.close_input()
    async with bench.session("true", tty=Tty()) as session:
        await heard(session)
        await session.write(b"x" * (1 << 20))
        await session.close_input()


async def test_a_program_that_is_not_there_says_so_as_a_shell_does(bench: Bench) -> None:
    async with bench.session("no-such-program") as session:
        assert b"no-such-program: not found" in await heard(session)
        assert session.code == 127


async def test_a_folder_that_is_gone_is_an_error(bench: Bench) -> None:
    task = Task(home=bench.root, argv=("x",), cwd=bench.root / "gone", env=bench.env)
    with pytest.raises(ExecutionError, match=r"the workspace .*gone is not a folder"):
        await bench.executor.enter(task, ["true"], None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
