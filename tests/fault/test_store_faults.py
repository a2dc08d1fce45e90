"""The store when git is killed, the disk is full and files are damaged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from tests.harness.stores import AT, commit, pieces

from rota.adapters.git import GitStore, repository
from rota.adapters.memory_store import MemoryStore
from rota.adapters.sqlite.index import VERSION, SqliteIndex
from rota.core.build import Build
from rota.core.states import State
from rota.errors import RotaError, StaleError, UnavailableError
from rota.ports.store import HISTORY, Record

pytestmark = pytest.mark.fault


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.git"


def fsck(path: Path) -> None:
    subprocess.run(
        ["git", "--git-dir", str(path), "fsck", "--strict"], check=True, capture_output=True
    )


async def write(store: GitStore, changes: Mapping[str, bytes | None]) -> str:
    return await commit(store, changes)


def batch(number: int) -> list[Record]:
    rng = random.Random(number)
    return [Record(f"builds/a/{number}-{n}.json", rng.randbytes(2000)) for n in range(100)]


async def kill_git_after(delay_s: float) -> None:
    """Wait for a git of ours, then so long, then kill it."""
    me = psutil.Process()
    async with asyncio.timeout(10):
        while not (children := me.children()):
            await asyncio.sleep(0)
    await asyncio.sleep(delay_s)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


async def killed(work: asyncio.Task[str], delay_s: float) -> None:
    await kill_git_after(delay_s)
    await asyncio.wait([work], timeout=30)


def age_locks(path: Path) -> None:
    """Make the locks that a killed git left look as old as they are when somebody comes back."""
    for lock in path.rglob("*.lock"):
        os.utime(lock, (0, 0))


async def test_a_git_killed_at_any_point_of_a_record_leaves_all_or_nothing(path: Path) -> None:
    async with GitStore(path) as store:
        covers = 0
        for delay_ms in (0, 1, 2, 3, 4, 6, 8, 10, 12, 15):
            covers += 1
            async with asyncio.TaskGroup() as group:
                work = group.create_task(swallow(store.record(batch(covers), covers=covers, at=AT)))
                await killed(work, delay_ms / 1000)
            age_locks(path)
            assert await store.covered() in {covers, covers - 1}
            assert await store.record(batch(covers), covers=covers, at=AT) == await store.head(
                HISTORY
            )
            assert await store.covered() == covers
        assert len([data async for data in store.records()]) == 100 * covers
    fsck(path)


async def swallow(work: object) -> str:
    """Return the error as text where ``work`` fails: what happened is asked of the store."""
    try:
        return str(await work)  # type: ignore[misc]
    except RotaError as error:
        return f"{type(error).__name__}: {error}"


async def test_a_git_killed_at_any_point_of_a_commit_leaves_all_or_nothing(path: Path) -> None:
    async with GitStore(path) as store:
        for number, delay_ms in enumerate((0, 1, 2, 3, 4, 5, 6, 8)):
            base = await store.head()
            async with asyncio.TaskGroup() as group:
                work = group.create_task(swallow(write(store, {f"jobs/{number}": b"x"})))
                await killed(work, delay_ms / 1000)
            age_locks(path)
            head = await store.head()
            assert (head == base) == (f"jobs/{number}" not in await store.tree(head))
            await write(store, {f"jobs/after-{number}": b"x"})
    fsck(path)


async def test_a_git_killed_at_any_point_of_an_unpack_leaves_all_or_nothing(tmp_path: Path) -> None:
    async with GitStore(tmp_path / "one") as one, GitStore(tmp_path / "two") as two:
        for number, delay_ms in enumerate((0, 1, 2, 3, 4, 5, 6, 8)):
            old = await one.head()
            await write(one, {f"docs/{number}": random.Random(number).randbytes(50_000)})
            new = await one.head()
            pack = b"".join([piece async for piece in one.pack(old, new)])

            async def apply(old: str = old, new: str = new, pack: bytes = pack) -> str:
                await two.apply(old, new, pieces(pack))
                return new

            async with asyncio.TaskGroup() as group:
                work = group.create_task(swallow(apply()))
                await killed(work, delay_ms / 1000)
            assert await two.head() in {old, new}
            await apply()
            assert await two.head() == new
            assert f"docs/{number}" in await two.tree(new)
    fsck(tmp_path / "two")


async def test_the_history_after_kills_is_the_same_as_without(tmp_path: Path) -> None:
    heads = []
    for name, delays in (("calm", ()), ("stormy", (0, 2, 5, 9))):
        async with GitStore(tmp_path / name) as store:
            for number in range(1, 5):
                if delays:
                    async with asyncio.TaskGroup() as group:
                        record = store.record(batch(number), covers=number, at=AT)
                        work = group.create_task(swallow(record))
                        await killed(work, delays[number - 1] / 1000)
                    age_locks(tmp_path / name)
                await store.record(batch(number), covers=number, at=AT)
            heads.append(await store.head(HISTORY))
    assert heads[0] == heads[1]


WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from rota.adapters.git import GitStore, repository
from rota.ports.store import Record
from tests.harness.stores import commit

async def main():
    async with GitStore(Path(sys.argv[1])) as store:
        number = await store.covered()
        while True:
            number += 1
            record = Record(f"builds/a/{number}.json", b"%d" % number)
            await store.record([record], covers=number, at=datetime.now(UTC))
            await commit(store, {f"jobs/{number}": b"x"}, at=datetime.now(UTC))
            print(number, flush=True)

asyncio.run(main())
"""


async def test_a_daemon_killed_at_any_moment_has_on_disk_what_it_acknowledged(path: Path) -> None:
    rng = random.Random(7)
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            acknowledged = 0
            for _ in range(rng.randint(1, 12)):
                acknowledged = int(writer.stdout.readline())
            await asyncio.sleep(rng.random() / 50)
            writer.send_signal(signal.SIGKILL)
            acknowledged = int([str(acknowledged), *writer.stdout.read().split()][-1])
        async with GitStore(path) as store:
            assert await store.covered() >= acknowledged
            assert f"jobs/{acknowledged}" in await store.tree(await store.head())
            assert len([data async for data in store.records()]) == await store.covered()
    fsck(path)


async def test_what_a_killed_git_left_is_removed_at_the_next_start(path: Path) -> None:
    async with GitStore(path):
        pass
    left = [
        "refs/heads/main.lock",
        "refs/heads/history.lock",
        "packed-refs.lock",
        "config.lock",
        "objects/pack/tmp_pack_abc",
        "objects/pack/.tmp-12-pack-abc.pack",
        "fast_import_crash_12",
        "rota/edges-abc",
    ]
    for name in left:
        (path / name).touch()
    (path / "objects/tmp_objdir-incoming-abc/pack").mkdir(parents=True)
    async with GitStore(path) as store:
        await write(store, {"jobs/a": b"1"})
        await store.record(batch(1), covers=1, at=AT)
    assert [name for name in left if (path / name).exists()] == []
    assert not (path / "objects/tmp_objdir-incoming-abc").exists()


async def test_a_store_that_was_half_made_is_made_again(path: Path) -> None:
    (path.with_name("store.git.new") / "objects").mkdir(parents=True)
    async with GitStore(path) as store:
        assert await store.head()
    assert not path.with_name("store.git.new").exists()


async def test_a_lock_that_somebody_holds_is_respected_and_named(path: Path) -> None:
    async with GitStore(path) as store:
        base = await store.head()
        (path / "refs/heads/main.lock").touch()
        with pytest.raises(UnavailableError, match=r"git could not write main: .*main\.lock"):
            await write(store, {"jobs/a": b"1"})
        assert await store.head() == base
        (path / "refs/heads/main.lock").unlink()
        await write(store, {"jobs/a": b"1"})
        assert not list(path.glob("fast_import_crash_*"))


async def test_two_stores_on_one_folder_do_not_lose_each_others_commits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "GUARD_WAIT_S", 0.05)
    async with GitStore(path) as one, GitStore(path) as two:
        for number in range(5):
            base = await one.head()
            ends = await asyncio.gather(
                *(
                    commit(store, {f"jobs/{number}-{name}": b"x"}, base=base)
                    for name, store in (("one", one), ("two", two))
                ),
                return_exceptions=True,
            )
            won = [end for end in ends if isinstance(end, str)]
            assert won == [await one.head()], ends
            assert any(isinstance(end, StaleError | UnavailableError) for end in ends)


async def test_a_ref_that_holds_no_hash_is_named_with_what_to_do(path: Path) -> None:
    async with GitStore(path):
        pass
    (path / "refs/heads/main").write_bytes(b"\0" * 41)
    with pytest.raises(UnavailableError, match="the store is damaged") as caught:
        await GitStore(path).__aenter__()
    assert f"{path}/refs/heads/main" in str(caught.value)
    assert f"git --git-dir {path} fsck --full --lost-found" in str(caught.value.hint)


async def test_a_ref_that_points_nowhere_is_named_with_what_to_do(path: Path) -> None:
    async with GitStore(path) as store:
        await store.record(batch(1), covers=1, at=AT)
    (path / "refs/heads/history").write_text("1" * 40 + "\n")
    with pytest.raises(
        UnavailableError, match=r"refs/heads/history names 1{40}, which is not whole"
    ):
        await GitStore(path).__aenter__()


async def test_a_main_that_is_gone_is_named(path: Path) -> None:
    async with GitStore(path):
        pass
    (path / "refs/heads/main").unlink()
    with pytest.raises(UnavailableError, match="refs/heads/main is missing"):
        await GitStore(path).__aenter__()


async def test_lost_objects_are_named_and_reading_them_is_an_error_not_a_crash(path: Path) -> None:
    async with GitStore(path) as store:
        tree = await store.tree(await store.head())
        for file in (path / "objects/pack").iterdir():
            file.write_bytes(b"")
        with pytest.raises(RotaError):
            await store.blobs([tree["README.md"]])
        with pytest.raises(RotaError):
            await write(store, {"jobs/b": b"1"})
    with pytest.raises(UnavailableError, match="which is not whole"):
        await GitStore(path).__aenter__()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root and the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_is_said_in_gits_words_and_changes_nothing(small_disk: Path) -> None:
    path = small_disk / "store.git"
    async with GitStore(path) as store:
        head = await write(store, {"jobs/a": b"1"})
        history = await store.record(batch(1)[:3], covers=1, at=AT)
        noise = random.Random(1).randbytes(4 << 20)
        with pytest.raises(
            UnavailableError, match=r"git could not write main: .*Out of diskspace"
        ) as told:
            await write(store, {"data": noise})
        assert "rota doctor looks whether the disk is full" in str(told.value.hint)
        (small_disk / "filler").write_bytes(noise[: free(small_disk)])
        with pytest.raises(
            UnavailableError,
            match=r"git could not write history: .*(No space left|Out of diskspace)",
        ):
            await store.record(batch(2), covers=2, at=AT)
        assert (await store.head(), await store.head(HISTORY)) == (head, history)
        assert await store.covered() == 1
        (small_disk / "filler").unlink()
        await write(store, {"jobs/b": b"1"})
        await store.record(batch(2), covers=2, at=AT)
    fsck(path)


async def test_a_move_that_does_not_fit_on_the_disk_is_taken_once_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    async with GitStore(tmp_path / "one") as one, GitStore(small_disk / "two") as two:
        old = await one.head()
        new = await write(one, {"data": random.Random(1).randbytes(1 << 20)})
        (small_disk / "filler").write_bytes(b"x" * (free(small_disk) - 5000))
        with pytest.raises(UnavailableError, match=f"git could not take over {new}: .*No space"):
            await two.apply(old, new, one.pack(old, new))
        assert await two.head() == old
        (small_disk / "filler").unlink()
        await two.apply(old, new, one.pack(old, new))
        assert await two.head() == new
    fsck(small_disk / "two")


def free(folder: Path) -> int:
    about = os.statvfs(folder)
    return about.f_bavail * about.f_bsize


def test_an_index_on_a_full_disk_keeps_what_it_has(small_disk: Path) -> None:
    index = SqliteIndex(small_disk / "index.db")
    index.add([make(1)], snapshot=(1, b"one"))
    with pytest.raises(UnavailableError, match="full"):
        index.add([make(2)], snapshot=(2, b"x" * (5 << 20)))
    assert index.snapshot() == (1, b"one")
    assert index.get("2") is None
    index.close()


def make(number: int) -> Build:
    return Build(id=str(number), job="a", number=number, state=State.QUEUED, requested_at=AT)


@pytest.mark.parametrize("data", [b"", b"no database", b"SQLite format 3\0" + b"\0" * 5000])
def test_a_file_that_is_no_index_is_dropped_and_made_anew(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "index.db").write_bytes(data)
    (tmp_path / "index.db-wal").write_bytes(data)
    index = SqliteIndex(tmp_path / "index.db")
    assert index.is_new
    index.add([make(1)])
    assert index.get("1") == make(1)
    index.close()


def test_an_index_of_another_version_is_dropped(tmp_path: Path) -> None:
    import sqlite3

    index = SqliteIndex(tmp_path / "index.db")
    index.add([make(1)])
    index.close()
    db = sqlite3.connect(tmp_path / "index.db")
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    again = SqliteIndex(tmp_path / "index.db")
    assert again.is_new
    assert again.get("1") is None
    again.close()


def test_an_index_that_breaks_while_in_use_says_what_to_do(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "index.db"
    index = SqliteIndex(path)
    index.add([make(1)])
    db = sqlite3.connect(path)
    db.execute("UPDATE builds SET data = x'00'")
    db.commit()
    db.close()
    with pytest.raises(UnavailableError, match=r"the index .*index\.db failed") as caught:
        index.get("1")
    assert "remove the file" in str(caught.value.hint)
    index.close()


def test_an_index_killed_in_the_middle_keeps_whole_batches(tmp_path: Path) -> None:
    program = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from rota.adapters.sqlite.index import SqliteIndex
from rota.core.build import Build
from rota.core.states import State
index = SqliteIndex(Path(sys.argv[1]))
at = datetime(2026, 1, 2, tzinfo=UTC)
seq = 0
while True:
    builds = [Build(id=f"{seq + n:08}", job="a", number=seq + n, state=State.QUEUED,
        requested_at=at, requested_seq=seq + n) for n in range(1, 101)]
    seq += 100
    index.add(builds, snapshot=(seq, b"s"))
    print(seq, flush=True)
"""
    path = tmp_path / "index.db"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for _ in range(10):
            writer.stdout.readline()
        writer.kill()
        acknowledged = int(["1000", *writer.stdout.read().split()][-1])
    index = SqliteIndex(path)
    snapshot = index.snapshot()
    assert snapshot is not None
    assert snapshot[0] >= acknowledged
    assert index.latest(limit=1)[0].requested_seq == snapshot[0]
    assert len(index.latest(limit=10**6)) == snapshot[0]
    index.close()


async def test_a_memory_store_lost_race_is_stale() -> None:
    store = MemoryStore()
    with pytest.raises(StaleError, match="main is at"):
        await commit(store, {"a": b""}, base="")
