"""The store over real git: what is particular to it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop
from tests.harness.stores import commit

from rota.adapters.git import GitStore, housekeeping, repository
from rota.adapters.git.cache import BlobCache
from rota.core import definitions
from rota.errors import NotFoundError, UnavailableError
from rota.ports.store import HISTORY, Author, Record

AT = datetime(2026, 1, 2, 3, 4, 5, 999999, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent/store.git"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[GitStore]:
    async with GitStore(path) as store:
        yield store


def git(path: Path, *args: str) -> str:
    """Run git by hand, as a person would, and return what it printed."""
    command = ["git", "--git-dir", str(path), *args]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


async def write(store: GitStore, changes: Mapping[str, bytes | None], message: str = "x") -> str:
    return await commit(store, changes, message=message, at=AT)


async def test_a_commit_says_who_when_and_what(store: GitStore, path: Path) -> None:
    await write(store, {"jobs/a": b"1", "users/ada": b"2"}, "add a\n\nbecause")
    assert git(path, "log", "-1", "--format=%an|%ae|%aI|%cn|%ce|%cI|%B", "main") == (
        "Ada|ada@example.org|2026-01-02T03:04:05+00:00"
        "|rota|rota@localhost|2026-01-02T03:04:05+00:00|add a\n\nbecause\n\n"
    )
    modes = {
        line.split()[3]: line.split()[0] for line in git(path, "ls-tree", "-r", "main").splitlines()
    }
    assert (modes["jobs/a"], modes["users/ada"]) == ("100755", "100644")


async def test_a_name_that_git_cannot_write_is_written_as_far_as_it_can_be(
    store: GitStore, path: Path
) -> None:
    author = Author(name="A <b>\n\ud800é", email="")
    await commit(store, {"x": b""}, author=author, message="", at=AT)
    assert git(path, "log", "-1", "--format=%an|%ae", "main") == "A bé|\n"
    git(path, "fsck", "--strict")


async def test_history_says_what_ran(store: GitStore, path: Path) -> None:
    await store.record([Record("builds/a/@000/00/1.json", b"{}\n")], covers=5, at=AT)
    assert git(path, "log", "-1", "--format=%an <%ae> %aI%n%B", HISTORY).splitlines() == [
        "rota <rota@localhost> 2026-01-02T03:04:05+00:00",
        "history: 1 build",
        "",
        "a record of another version",
        "",
        "Journal-Seq: 5",
        "",
    ]
    trailers = git(path, "log", "-1", "--format=%(trailers:key=Journal-Seq,valueonly)", HISTORY)
    assert trailers.strip() == "5"


async def test_all_records_are_read_in_batches(store: GitStore) -> None:
    records = [Record(f"builds/a/@000/{n // 100:02}/{n}.json", b"%d" % n) for n in range(2500)]
    await store.record(records, covers=1, at=AT)
    found = [data async for data in store.records()]
    assert sorted(map(int, found)) == list(range(2500))


async def test_reading_records_can_be_left_in_the_middle(store: GitStore) -> None:
    records = [Record(f"builds/a/{n}.json", b"%d" % n) for n in range(30)]
    await store.record(records, covers=1, at=AT)
    stream = store.records()
    await anext(stream)
    await stream.aclose()
    assert store.git.is_idle


async def test_packs_stay_few_without_anybody_waiting(store: GitStore, path: Path) -> None:
    for number in range(2 * housekeeping.MAX_PACKS):
        await store.record([Record(f"builds/a/{number}.json", b"x")], covers=number + 1, at=AT)
    async with asyncio.timeout(30):
        while repository.pack_count(path) > housekeeping.MAX_PACKS or not store.git.is_idle:
            await asyncio.sleep(0.01)
    assert "count: 0" in git(path, "count-objects", "-v")
    git(path, "fsck", "--strict")
    assert len([data async for data in store.records()]) == 2 * housekeeping.MAX_PACKS


async def test_what_was_read_last_needs_no_git(store: GitStore, path: Path) -> None:
    tree = await store.tree(await write(store, {"jobs/a": b"1", "large": b"x" * (2 << 20)}))
    hashes = [tree["jobs/a"], tree["large"]]
    await store.blobs(hashes)
    (path / "objects").rename(path / "away")
    assert await store.blobs([tree["jobs/a"]]) == {tree["jobs/a"]: b"1"}
    with pytest.raises((UnavailableError, NotFoundError)):
        await store.blobs([tree["large"]])
    (path / "away").rename(path / "objects")


def test_the_cache_forgets_the_least_recently_used() -> None:
    cache = BlobCache(max_bytes=40)
    for name in "abcd":
        cache.add(name, b"x" * 10)
    assert cache.get("a") is not None
    cache.add("e", b"x" * 10)
    cache.add("e", b"x" * 10)
    cache.add("big", b"x" * 11)
    assert cache.get("b") is None
    assert cache.get("big") is None
    assert (cache.get("a"), cache.size_bytes) == (b"x" * 10, 40)


async def test_variables_and_settings_of_whoever_starts_us_change_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text("[broken\n")
    for name, value in {
        "HOME": str(tmp_path),
        "GIT_DIR": "/nowhere",
        "GIT_AUTHOR_DATE": "1 +0200",
        "GIT_OBJECT_DIRECTORY": "/nowhere",
        "LC_ALL": "de_DE.UTF-8",
    }.items():
        monkeypatch.setenv(name, value)
    async with GitStore(path) as store:
        await write(store, {"jobs/a": b"1"})
        assert "jobs/a" in await store.tree(await store.head())


async def test_our_settings_are_written_again_and_local_ones_stay(path: Path) -> None:
    async with GitStore(path):
        pass
    (path / "config").write_text("[core]\n\tbare = false\n")
    (path / "HEAD").write_text("ref: refs/heads/other\n")
    (path / "hooks/pre-receive").unlink()
    (path / "config.local").write_text("[user]\n\tname = me\n")
    async with GitStore(path) as store:
        assert await store.head()
    assert git(path, "config", "core.bare") == "true\n"
    assert git(path, "config", "user.name") == "me\n"
    assert git(path, "symbolic-ref", "HEAD") == "refs/heads/main\n"
    assert (path / "hooks/pre-receive").stat().st_mode & 0o111


async def test_packed_refs_and_a_gc_by_hand_are_fine(path: Path) -> None:
    async with GitStore(path) as store:
        head = await write(store, {"jobs/a": b"1"})
        git(path, "pack-refs", "--all", "--prune")
        assert not (path / "refs/heads/main").exists()
        assert await store.head() == head
        git(path, "gc", "-q")
        await write(store, {"jobs/a": b"2"})
    async with GitStore(path) as store:
        assert len(await store.tree(await store.head())) == 3


async def test_a_commit_on_history_by_hand_does_not_hide_what_is_covered(
    store: GitStore, path: Path
) -> None:
    parent = await store.record([Record("builds/a/1.json", b"1")], covers=5, at=AT)
    identity = ("-c", "user.name=x", "-c", "user.email=x")
    by_hand = git(
        path, *identity, "commit-tree", "-m", "by hand", "-p", parent, f"{parent}^{{tree}}"
    )
    git(path, "update-ref", "refs/heads/history", by_hand.strip())
    assert await store.covered() == 5
    await store.record([Record("builds/a/2.json", b"2")], covers=6, at=AT + timedelta(seconds=1))
    assert await store.covered() == 6


async def test_definitions_are_taken_over_from_a_commit(store: GitStore) -> None:
    head = await write(store, {"jobs/web/test": b"#!/bin/sh\n", "paused/web/test": b"by = 'ada'\n"})
    tree = await store.tree(head)
    found, problems = definitions.check(tree, await store.blobs(definitions.wanted(tree)))
    assert problems == ()
    assert found.jobs["web/test"].blob == tree["jobs/web/test"]
    assert found.jobs["web/test"].paused is not None
    assert await store.blobs([found.jobs["web/test"].blob])


def test_the_settings_of_a_new_store_are_the_defaults_when_their_signs_are_removed() -> None:
    from rota.adapters.git import texts
    from rota.core.settings import Settings, parse_settings

    lines = [line.removeprefix("# ") for line in texts.SETTINGS.splitlines()[1:]]
    found, problems = parse_settings("\n".join(lines))
    assert problems == ()
    assert found == Settings(env={"LANG": "C.UTF-8"})


def test_it_works_on_uvloop_too(path: Path) -> None:
    async def scenario() -> tuple[int, int]:
        async with GitStore(path) as store:
            await write(store, {"jobs/a": b"x" * (1 << 20)})
            tree = await store.tree(await store.head())
            data = (await store.blobs([tree["jobs/a"]]))[tree["jobs/a"]]
            with pytest.raises(NotFoundError):
                await store.tree("1" * 40)
            records = [Record(f"builds/a/{n}.json", b"%d" % n) for n in range(1200)]
            await store.record(records, covers=1, at=AT)
            return len(data), len([data async for data in store.records()])

    assert uvloop.run(scenario()) == (1 << 20, 1200)


async def test_without_git_the_error_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnavailableError, match="no git on PATH") as caught:
        await GitStore(path).__aenter__()
    assert caught.value.hint == "install git 2.34+"
    assert not path.exists()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match=r"cannot use .*/file/store\.git: "):
        await GitStore(tmp_path / "file/store.git").__aenter__()


async def test_a_second_store_on_the_same_folder_repairs_nothing(
    store: GitStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "GUARD_WAIT_S", 0.05)
    (path / "refs/heads/main.lock").touch()
    async with GitStore(path) as second:
        assert await second.head() == await store.head()
        assert (path / "refs/heads/main.lock").exists()
    (path / "refs/heads/main.lock").unlink()
