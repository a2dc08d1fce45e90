"""What is begun beside us ends with all that it began, whatever happens in between."""

from __future__ import annotations

import asyncio
import os
import secrets
from asyncio.subprocess import PIPE
from collections.abc import Callable, Coroutine, Iterator

import psutil
import pytest
import uvloop

from rota import child

Run = Callable[[Coroutine[None, None, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """The daemon runs on the one; the bot's process, and most tests, on the other."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner.run


def of(mark: str) -> list[int]:
    """Return all processes, those of others included, that were begun with a mark."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(mark in word for word in process.info["cmdline"] or ())
    ]


async def none_is_left(mark: str) -> None:
    while of(mark):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("turns", range(6))
def test_nothing_is_left_of_what_is_cancelled_while_it_starts(run: Run, turns: int) -> None:
    async def tried() -> None:
        mark = f"600.{secrets.randbelow(10**9):09}"
        begun: asyncio.Future[object] = asyncio.ensure_future(
            child.begin("sh", "-c", f"sleep {mark} & wait", stdin=PIPE)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        begun.cancel()
        begun.cancel()  # as by whoever is in a hurry
        try:
            process = await begun
        except asyncio.CancelledError:
            pass
        else:
            assert isinstance(process, asyncio.subprocess.Process)
            await child.end(process)  # it was there before we asked
        await none_is_left(mark)

    run(tried())


def test_what_fills_its_pipe_ends_as_fast_as_anything(run: Run) -> None:
    async def tried() -> None:
        process = await child.begin("yes")
        assert process.stdout is not None
        await process.stdout.readline()
        await child.end(process)
        assert process.returncode == -9
        assert process.stdout.at_eof()

    run(tried())


def test_somebody_who_left_the_session_holds_nobody_up(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tried() -> None:
        monkeypatch.setattr(child, "END_S", 0.2)
        process = await child.begin("sh", "-c", "setsid sleep 600 & echo $!; wait")
        assert process.stdout is not None
        stranger = int(await process.stdout.readline())
        try:
            await child.end(process)
            assert process.returncode == -9
        finally:
            os.kill(stranger, 9)
            assert await child.is_gone(process, 60)  # its pipes are at an end now

    run(tried())


def test_it_has_a_session_of_its_own_and_no_input(run: Run) -> None:
    async def tried() -> None:
        process = await child.begin("sh", "-c", "cat; ps -o sid= -p $$; echo $$")
        assert process.stdout is not None
        sid, pid = (await process.stdout.read()).split()
        assert sid == pid
        assert await child.is_gone(process, 60)
        await child.end(process)  # once more is no error

    run(tried())


def test_what_cannot_be_started_says_so(run: Run) -> None:
    async def tried() -> None:
        with pytest.raises(FileNotFoundError):
            await child.begin("/nowhere/program")
        with pytest.raises(ValueError, match="null byte"):
            await child.begin("sh", "-c", "\0")

    run(tried())
