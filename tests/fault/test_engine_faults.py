"""What the engine's children and disks do to us, and that nothing acknowledged is lost by it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.harness.engine import PATIENCE_S, forget_stream, running, until

from rota.adapters.nats import Client, Engine, NatsBlobs, NatsJournal, NatsLogs, jetstream, launch
from rota.adapters.nats import engine as engine_module
from rota.adapters.nats.child import identify
from rota.adapters.nats.config import Own, State
from rota.core.events import EPOCH, BuildStarted, Emitted
from rota.errors import StaleError, UnavailableError
from rota.ports.logs import LogKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.nats, pytest.mark.fault]

ROOT = Path(__file__).parents[2]
KEY = LogKey("0123456789abcdef", 1)
#: Stands in for a daemon: it starts the engine, says so, and waits to be killed.
DAEMON = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.harness.engine import running
async def main():
    async with running(Path(sys.argv[1])) as engine:
        print(engine.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def started(build: str, attempt: int = 1) -> BuildStarted:
    return BuildStarted(at=EPOCH, build=build, attempt=attempt)


def saved(home: Path) -> Own:
    state = msgspec.json.decode((home / "engine.json").read_bytes(), type=State)
    assert state.own is not None
    return state.own


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after the child more often than a daemon does."""
    monkeypatch.setattr(engine_module, "TICK_S", 0.2)
    monkeypatch.setattr(launch, "ASK_S", 0.2)


@pytest.fixture
async def journal(client: Client) -> NatsJournal:
    await forget_stream(client, "JOURNAL")
    journal = NatsJournal(client)
    await journal.open()
    return journal


@pytest.fixture
async def logs(client: Client) -> NatsLogs:
    await forget_stream(client, "LOG")
    logs = NatsLogs(client)
    await logs.open()
    return logs


class Follower:
    """Reads a journal from its start on and keeps what it saw."""

    def __init__(self, journal: NatsJournal) -> None:
        self.journal = journal
        self.seen: list[tuple[int, str]] = []

    async def run(self) -> None:
        async for entry in self.journal.read(follow=True):
            assert isinstance(entry.event, BuildStarted)
            self.seen.append((entry.seq, entry.event.build))


async def test_acknowledged_events_outlive_kills_of_the_child_each_once(
    engine: Engine, journal: NatsJournal
) -> None:
    acknowledged: dict[str, int] = {}
    done = False

    async def write(writer: int) -> None:
        count = 0
        while not done:
            name, count = f"w{writer}n{count}", count + 1
            acknowledged[name] = await journal.append(started(name), expect=0)

    followers = [Follower(journal), Follower(journal)]
    async with asyncio.TaskGroup() as group:
        following = [group.create_task(each.run()) for each in followers]
        writing = [group.create_task(write(n)) for n in range(4)]
        for _ in range(3):
            goal = len(acknowledged) + 100
            await until(lambda goal=goal: len(acknowledged) >= goal)  # type: ignore[misc]
            os.kill(engine.pid, signal.SIGKILL)
        goal = len(acknowledged) + 100
        await until(lambda: len(acknowledged) >= goal)
        done = True
        await asyncio.wait(writing)
        last = max(acknowledged.values())
        await until(lambda: all(each.seen and each.seen[-1][0] >= last for each in followers))
        for task in following:
            task.cancel()
    there = {entry.event.build: entry.seq async for entry in journal.read()}  # type: ignore[union-attr]
    assert acknowledged.items() <= there.items()
    assert sorted(there.values()) == list(range(1, len(there) + 1))
    for follower in followers:
        assert follower.seen == sorted((seq, name) for name, seq in there.items())


async def test_a_log_is_whole_after_kills_of_the_child(engine: Engine, logs: NatsLogs) -> None:
    seen = bytearray()

    async def follow() -> None:
        async for piece in logs.follow(KEY):
            seen.extend(piece)

    whole = bytearray()
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(follow())
        for n in range(300):
            piece = os.urandom(700) if n % 2 else b"line of text\n" * 50
            if n in (100, 200):
                os.kill(engine.pid, signal.SIGKILL)
            end = await logs.append(KEY, len(whole), piece)
            whole += piece
            assert end == len(whole)
        await until(lambda: len(seen) >= len(whole))
        follower.cancel()
    assert seen == whole
    assert b"".join([piece async for piece in logs.read(KEY)]) == whole


async def test_a_claim_whose_answer_got_lost_is_known_to_be_ours(
    engine: Engine, journal: NatsJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seq = await journal.append(started("b"), expect=0)
    monkeypatch.setattr(jetstream, "TRY_S", 0.2)
    os.kill(engine.pid, signal.SIGSTOP)
    async with asyncio.TaskGroup() as group:
        claim = group.create_task(journal.append(started("b", 2), expect=seq))
        await asyncio.wait([claim], timeout=1.0)
        assert not claim.done()
        os.kill(engine.pid, signal.SIGCONT)
    assert claim.result() == seq + 1
    assert await journal.bounds() == (1, seq + 1)
    with pytest.raises(StaleError):
        await journal.append(started("b", 3), expect=seq)


async def test_a_claim_of_ours_is_known_though_another_wrote_behind_it(
    engine: Engine, journal: NatsJournal, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "TRY_S", 0.2)
    os.kill(engine.pid, signal.SIGSTOP)
    async with asyncio.TaskGroup() as group:
        claim = group.create_task(journal.append(started("b"), expect=0))
        other = group.create_task(NatsJournal(client).append(started("b", 2)))
        await asyncio.wait([claim], timeout=1.0)
        os.kill(engine.pid, signal.SIGCONT)
    assert sorted((claim.result(), other.result())) == [1, 2]


async def test_an_event_without_expectation_is_written_once_though_its_answer_got_lost(
    engine: Engine, journal: NatsJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "TRY_S", 0.2)
    os.kill(engine.pid, signal.SIGSTOP)
    async with asyncio.TaskGroup() as group:
        appends = [group.create_task(journal.append(started("b", n))) for n in range(5)]
        await asyncio.wait(appends, timeout=1.0)
        os.kill(engine.pid, signal.SIGCONT)
    assert [append.result() for append in appends] == [1, 2, 3, 4, 5]
    assert await journal.bounds() == (1, 5)


async def test_an_engine_that_does_not_confirm_is_named_in_words(
    engine: Engine, journal: NatsJournal, logs: NatsLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "TRY_S", 0.1)
    monkeypatch.setattr(jetstream, "LIMIT_S", 0.5)
    os.kill(engine.pid, signal.SIGSTOP)
    try:
        for write in (journal.append(started("b")), logs.append(KEY, 0, b"x")):
            with pytest.raises(UnavailableError) as caught:
                await write
            assert caught.value.message == "the engine did not confirm within 0.5 s"
        with pytest.raises(UnavailableError) as caught:
            await journal.bounds()
        assert "did not answer within" in caught.value.message
    finally:
        os.kill(engine.pid, signal.SIGCONT)


async def test_a_child_that_hangs_is_replaced(stopped_engine: Path, quick: None) -> None:
    async with running(stopped_engine) as engine, engine.connect() as client:
        journal = NatsJournal(client)
        await journal.open()
        await journal.append(started("b"))
        pid = engine.pid
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: engine.pid not in (0, pid))
        await until(lambda: engine.trouble is None)
        assert await journal.append(started("b")) == 2
        await engine.stop()


async def test_a_child_that_dies_again_and_again_is_started_again_and_again(
    stopped_engine: Path, quick: None
) -> None:
    async with running(stopped_engine) as engine:
        for _ in range(3):
            pid = engine.pid
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: engine.pid not in (0, pid))  # type: ignore[misc]
        await until(lambda: engine.trouble is None)
        await engine.stop()


async def run_daemon(home: Path) -> int:
    """Start an engine in a daemon that is then killed; return the child's process id."""
    argv = [sys.executable, "-c", DAEMON, str(home), str(ROOT)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        pid = int(await asyncio.to_thread(daemon.stdout.readline))
        daemon.kill()
    return pid


async def test_a_child_outlives_its_daemon_and_is_taken_over(stopped_engine: Path) -> None:
    pid = await run_daemon(stopped_engine)
    async with running(stopped_engine) as engine, engine.connect() as client:
        assert engine.pid == pid
        journal = NatsJournal(client)
        await journal.open()
        assert await journal.append(started("b")) == 1
        os.kill(pid, signal.SIGKILL)
        await until(lambda: engine.pid not in (0, pid))
        assert await journal.append(started("b")) == 2
        await engine.stop()
    assert identify(pid) is None


async def test_a_child_that_hangs_is_not_taken_over(stopped_engine: Path, quick: None) -> None:
    pid = await run_daemon(stopped_engine)
    os.kill(pid, signal.SIGSTOP)
    async with running(stopped_engine) as engine:
        assert engine.pid not in (0, pid)
        await engine.stop()
    assert identify(pid) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"name": 5}'])
async def test_a_damaged_memory_of_the_engine_is_mended(
    stopped_engine: Path, damage: bytes
) -> None:
    async with running(stopped_engine) as engine, engine.connect() as client:
        name, pid = engine.name, engine.pid
        journal = NatsJournal(client)
        await journal.open()
        await journal.append(started("b"))
    (stopped_engine / "engine.json").write_bytes(damage)
    async with running(stopped_engine) as engine, engine.connect() as client:
        assert engine.name == name
        assert engine.pid != pid
        assert await NatsJournal(client).bounds() == (1, 1)
        await engine.stop()
    assert identify(pid) is None


async def test_data_without_a_name_is_not_thrown_away(stopped_engine: Path) -> None:
    (stopped_engine / "engine.json").unlink()
    (stopped_engine / "nats.conf").unlink()
    with pytest.raises(UnavailableError) as caught:
        async with running(stopped_engine):
            pass
    assert caught.value.message == f"the engine's data in {stopped_engine}/js has lost its name"
    assert str(caught.value.hint).endswith(f"or move {stopped_engine} away to begin anew")
    assert (stopped_engine / "js").exists()


async def test_a_first_boot_that_broke_off_begins_again(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.stop()
    own = msgspec.structs.replace(saved(tmp_path), booted=False)
    (tmp_path / "engine.json").write_bytes(msgspec.json.encode(State(own=own)))
    async with running(tmp_path) as engine:
        assert engine.name != own.name
        await engine.stop()


async def test_a_port_that_somebody_took_is_given_up(stopped_engine: Path) -> None:
    old = saved(stopped_engine).ports
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", old.client))
        squatter.listen()
        async with running(stopped_engine) as engine, engine.connect() as client:
            await client.connected(PATIENCE_S)
            assert saved(stopped_engine).ports.client != old.client
            await engine.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 80 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes root's rights")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_a_full_disk_is_named_and_cured_by_room(
    small_disk: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "LIMIT_S", 2.0)
    async with running(small_disk / "engine") as engine, engine.connect() as client:
        journal = NatsJournal(client)
        await journal.open()
        written = [await journal.append(started("b", n)) for n in range(10)]
        fill(small_disk / "hog")
        await until(lambda: engine.trouble is not None)
        assert str(engine.trouble).startswith("the disk is full: 0 MiB are left where the engine")
        with pytest.raises(UnavailableError) as caught:
            await append_many(journal)
        assert caught.value.message == "the engine did not confirm within 2 s"
        assert caught.value.hint == engine.trouble
        (small_disk / "hog").unlink()
        await until(lambda: engine.trouble is None)
        after = await journal.append(started("b"))
        there = [entry.seq async for entry in journal.read()]
        assert {*written, after} <= set(there)
        await engine.stop()


async def test_a_stream_that_gave_up_writing_is_cured(
    small_disk: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "LIMIT_S", 2.0)
    monkeypatch.setattr(engine_module, "SCARCE_BYTES", 0)  # the shortage came and went unseen
    async with running(small_disk / "engine") as engine, engine.connect() as client:
        journal = NatsJournal(client)
        await journal.open()
        pid = engine.pid
        fill(small_disk / "hog")
        with pytest.raises(UnavailableError):
            await append_many(journal)
        (small_disk / "hog").unlink()
        await until(lambda: engine.pid not in (0, pid) and engine.trouble is None)
        assert await journal.append(started("b")) > 0
        await engine.stop()


async def test_a_start_that_takes_too_long_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "BOOT_PATIENCE_S", (0.01, PATIENCE_S))
    monkeypatch.setattr(launch, "PATIENCE_S", (0.01, 0.01, PATIENCE_S))
    for _ in range(2):
        async with running(tmp_path) as engine:
            assert engine.pid != 0
            await engine.stop()
    monkeypatch.setattr(launch, "PATIENCE_S", (0.01,))
    with pytest.raises(UnavailableError) as caught:
        async with running(tmp_path):
            pass
    assert caught.value.message == "the engine did not answer within 0.01 s"
    assert str(caught.value.hint).startswith(f"the last lines of {tmp_path}/engine.log:")


async def append_many(journal: NatsJournal) -> None:
    for _ in range(50):
        await journal.append(Emitted(at=EPOCH, type="big", data={"x": "y" * 20_000}))


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


async def test_a_put_that_the_engine_cut_short_leaves_nothing(
    engine: Engine, client: Client
) -> None:
    await forget_stream(client, "BLOB")
    blobs = NatsBlobs(client)
    await blobs.open()

    async def data() -> AsyncIterator[bytes]:
        yield b"x" * 600_000
        os.kill(engine.pid, signal.SIGKILL)
        raise OSError("the file went away")

    with pytest.raises(OSError, match="the file went away"):
        await blobs.put("name", data())
    await until(lambda: engine.trouble is None and engine.pid != 0)
    assert await blobs.pieces() == 0
