"""Caches on disk: what is saved comes back as it was, what is damaged goes, and nothing is half there."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.facts import moment

from rota.adapters.cache_files import CacheFiles
from rota.adapters.clocks import SystemClock
from rota.core.cache_entry import Entry
from rota.errors import ExecutionError, NotFoundError, RotaError

BIG = 1 << 40


def wanted(key: str = "k", *paths: str) -> Entry:
    return Entry(
        scope="web",
        key=key,
        paths=paths or ("a",),
        parts=(),
        size=0,
        sha256="",
        saved_at=moment(),
        build="web/test#1",
    )


@pytest.fixture
def caches(tmp_path: Path) -> CacheFiles:
    return CacheFiles(tmp_path / "caches", SystemClock())


def again(tmp_path: Path) -> CacheFiles:
    """What a daemon finds that comes after."""
    return CacheFiles(tmp_path / "caches", SystemClock())


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


async def test_a_tree_comes_back_as_it_was(caches: CacheFiles, tmp_path: Path) -> None:
    tree = tmp_path / "from" / "a"
    tree.mkdir(parents=True)
    odd = ["-rf", "a\nb", "ü\u202e", "sp ace", os.fsdecode(b"\xff\xfe"), "x" * 200]
    for name in odd:
        (tree / name).write_text(name, errors="surrogateescape")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o750)
    (tree / "link").symlink_to("run")
    (tree / "away").symlink_to("/etc/passwd")
    os.link(tree / "run", tree / "same")
    with (tree / "holes").open("wb") as file:
        file.truncate(64 << 20)
    (tree / "empty").mkdir()
    single = tmp_path / "from" / "one file"
    single.write_text("alone")
    entry = await caches.save(
        wanted("k", "a", "none", "one file"),
        (tree, tmp_path / "none", single),
        limit=BIG,
    )
    assert entry.size < 100_000
    assert entry.parts[1] == 0
    to = tmp_path / "to"
    await again(tmp_path).restore(entry, (to / "a", to / "none", to / "one file"))
    assert names(to / "a") == names(tree)
    for name in odd:
        assert (to / "a" / name).read_text(errors="surrogateescape") == name
    assert stat.S_IMODE((to / "a/run").stat().st_mode) == 0o750
    assert os.readlink(to / "a/away") == "/etc/passwd"
    assert (to / "a/run").stat().st_ino == (to / "a/same").stat().st_ino
    assert (to / "a/holes").stat().st_size == 64 << 20
    assert (to / "a/holes").stat().st_blocks < 1000
    assert (to / "one file").read_text() == "alone"


async def test_who_comes_second_with_a_key_finds_the_first_ones(
    caches: CacheFiles, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / name / "a" / "who").write_text(name)
    both = await asyncio.gather(
        *(caches.save(wanted(), (tmp_path / name / "a",), limit=BIG) for name in ("a", "b"))
    )
    assert both[0] == both[1]
    await caches.restore(both[0], (tmp_path / "to" / "a",))
    assert (tmp_path / "to/a/who").read_text() in ("a", "b")
    assert len(names(tmp_path / "caches")) == 2


async def test_what_is_damaged_is_dropped_before_anything_is_unpacked(
    caches: CacheFiles, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_bytes(os.urandom(3 << 20))
    entry = await caches.save(wanted(), (tmp_path / "a",), limit=BIG)
    packed = next((tmp_path / "caches").glob("*.tar.zst"))
    whole = packed.read_bytes()
    packed.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    with pytest.raises(ExecutionError, match="the cache 'k' is damaged and was dropped"):
        await caches.restore(entry, (tmp_path / "to/a",))
    assert not (tmp_path / "to").exists()
    assert names(tmp_path / "caches") == []
    with pytest.raises(NotFoundError, match="the cache 'k' is not here any more"):
        await caches.restore(entry, (tmp_path / "to/a",))


async def test_what_was_left_half_done_is_gone_at_the_next_start(
    caches: CacheFiles, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_text("x")
    for key in ("whole", "short", "untold", "garbled"):
        await caches.save(wanted(key), (tmp_path / "a",), limit=BIG)
    folder = tmp_path / "caches"
    by_key = {}
    for path in folder.glob("*.json"):
        by_key[path.read_text().split('"key":"')[1].split('"')[0]] = path.stem
    (folder / f"{by_key['short']}.tar.zst").write_bytes(b"x")
    (folder / f"{by_key['untold']}.json").unlink()
    (folder / f"{by_key['garbled']}.json").write_bytes(b"{")
    (folder / "abc.part").write_bytes(b"x")
    left = await again(tmp_path).all()
    assert [it.entry.key for it in left] == ["whole"]
    assert names(folder) == [f"{by_key['whole']}.json", f"{by_key['whole']}.tar.zst"]


async def test_those_go_that_were_used_longest_ago(caches: CacheFiles, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_bytes(os.urandom(100_000))
    saved = [
        await caches.save(wanted(key), (tmp_path / "a",), limit=BIG) for key in ("1", "2", "3")
    ]
    await caches.restore(saved[0], (tmp_path / "to/a",))
    reopened = again(tmp_path)
    assert [it.key for it in await reopened.bound(250_000)] == ["2"]
    assert {it.entry.key for it in await reopened.all()} == {"1", "3"}


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        ("nothing", "there is no a"),
        ("empty", "there is no a"),
        ("link", "a is a symbolic link, and a cache keeps what is there"),
        ("large", "it takes more than the 1.0 MiB that caches may have"),
    ],
)
async def test_what_cannot_be_saved_is_told(
    caches: CacheFiles, tmp_path: Path, make: str, fault: str
) -> None:
    tree = tmp_path / "a"
    if make == "link":
        tree.symlink_to("/etc")
    elif make != "nothing":
        tree.mkdir()
    if make == "large":
        (tree / "x").write_bytes(os.urandom(3 << 20))
    with pytest.raises(RotaError) as caught:
        await caches.save(wanted(), (tree,), limit=1 << 20)
    assert caught.value.message == fault
    assert names(tmp_path / "caches") == []


async def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_text("x")
    (tmp_path / "caches").write_text("a file where a folder should be")
    with pytest.raises(ExecutionError, match=r"cannot write .*/caches: File exists"):
        await CacheFiles(tmp_path / "caches", SystemClock()).save(
            wanted(), (tmp_path / "a",), limit=BIG
        )


async def test_a_place_that_cannot_be_written_is_told(caches: CacheFiles, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_text("x")
    entry = await caches.save(wanted(), (tmp_path / "a",), limit=BIG)
    (tmp_path / "to").write_text("no folder")
    with pytest.raises(ExecutionError, match=r"cannot unpack into .*/to: .*File exists"):
        await caches.restore(entry, (tmp_path / "to/a",))


async def test_what_another_agent_packed_is_kept_if_it_is_whole(
    caches: CacheFiles, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_bytes(os.urandom(3 << 20))
    entry = await caches.save(wanted(), (tmp_path / "a",), limit=BIG)
    data = b"".join([piece async for piece in caches.read(entry)])
    other = CacheFiles(tmp_path / "other", SystemClock())

    async def stream(cut: int) -> AsyncIterator[bytes]:
        for at in range(0, len(data) - cut, 100_000):
            yield data[at : min(at + 100_000, len(data) - cut)]

    with pytest.raises(ExecutionError, match="the cache 'k' came damaged"):
        await other.add(entry, stream(1))
    assert await other.all() == ()
    assert names(tmp_path / "other") == []
    await other.add(entry, stream(0))
    await other.restore(entry, (tmp_path / "to/a",))
    assert (tmp_path / "to/a/x").read_bytes() == (tmp_path / "a/x").read_bytes()


async def test_who_is_cancelled_leaves_nothing(caches: CacheFiles, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_bytes(os.urandom(64 << 20))
    saving = asyncio.get_running_loop().create_task(
        caches.save(wanted(), (tmp_path / "a",), limit=BIG)
    )
    while not any((tmp_path / "caches").glob("*.part")):
        await asyncio.sleep(0)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert names(tmp_path / "caches") == []
