"""What every store keeps, in memory or on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from tests.harness.stores import ADA, AT, commit, pieces

from rota.adapters.git import GitStore
from rota.adapters.memory_store import MemoryStore
from rota.errors import ConflictError, NotFoundError, StaleError, UnavailableError
from rota.ports.store import HISTORY, MAIN, Prepared, Record, Store


@pytest.fixture(params=["memory", "git"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        async with GitStore(tmp_path / "store.git") as store:
            yield store


@pytest.fixture(params=["memory", "git"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def write(store: Store, changes: Mapping[str, bytes | None], base: str = "") -> str:
    return await commit(store, changes, base=base or None, message="a change")


async def content(store: Store, path: str) -> bytes:
    blob = (await store.tree(await store.head()))[path]
    return (await store.blobs([blob]))[blob]


async def test_a_new_store_has_a_commit_on_main_and_no_history(store: Store) -> None:
    assert await store.head()
    assert await store.head(MAIN) == await store.head()
    assert await store.head(HISTORY) == ""
    assert "settings.toml" in await store.tree(await store.head())
    assert await store.covered() == 0
    assert [data async for data in store.records()] == []


async def test_the_tree_of_no_commit_is_empty(store: Store) -> None:
    assert dict(await store.tree("")) == {}


async def test_what_was_written_is_read_back_to_the_byte(store: Store) -> None:
    data = bytes(range(256)) * 3
    new = await write(store, {'jobs/a b/ü\n\t"\\': data, "jobs/empty": b""})
    assert await store.head() == new
    assert await content(store, 'jobs/a b/ü\n\t"\\') == data
    assert await content(store, "jobs/empty") == b""


async def test_a_path_that_is_not_utf8_survives(store: Store) -> None:
    path = b"docs/caf\xe9".decode("utf-8", "surrogateescape")
    await write(store, {path: b"x"})
    await write(store, {"other": b"y"})
    assert await content(store, path) == b"x"


async def test_the_hash_of_a_blob_is_gits(store: Store) -> None:
    await write(store, {"jobs/a": b"hello\n"})
    tree = await store.tree(await store.head())
    assert tree["jobs/a"] == "ce013625030ba8dba906f756967f9e9ca394464a"


async def test_none_deletes_and_what_is_not_named_stays(store: Store) -> None:
    await write(store, {"jobs/a": b"1", "jobs/b": b"2"})
    await write(store, {"jobs/a": None, "jobs/c": b"3", "jobs/never": None})
    tree = await store.tree(await store.head())
    assert sorted(path for path in tree if path.startswith("jobs/")) == ["jobs/b", "jobs/c"]


async def test_a_folder_is_not_replaced_by_a_file_nor_a_file_by_a_folder(store: Store) -> None:
    base = await write(store, {"jobs/web/test": b"1"})
    with pytest.raises(ConflictError, match="jobs/web is a folder, it cannot be a file too"):
        await write(store, {"jobs/web": b"2"})
    with pytest.raises(ConflictError, match="jobs/web/test is a file, it cannot be a folder too"):
        await write(store, {"jobs/web/test/fast": b"2"})
    assert await store.head() == base
    await write(store, {"jobs/web/test": None, "jobs/web": b"2"})
    assert await content(store, "jobs/web") == b"2"


async def test_a_commit_on_another_base_is_stale_and_changes_nothing(store: Store) -> None:
    base = await store.head()
    new = await write(store, {"jobs/a": b"1"})
    with pytest.raises(StaleError, match=f"main is at {new}, not at {base}"):
        await write(store, {"jobs/a": b"2"}, base)
    with pytest.raises(NotFoundError, match="no commit 0000"):
        await write(store, {"jobs/a": b"2"}, "0" * 40)
    assert await store.head() == new
    assert await content(store, "jobs/a") == b"1"


async def test_of_many_commits_on_one_base_one_wins(store: Store) -> None:
    base = await store.head()
    ends = await asyncio.gather(
        *(write(store, {f"jobs/{n}": b"x"}, base) for n in range(5)), return_exceptions=True
    )
    won = [end for end in ends if isinstance(end, str)]
    assert won == [await store.head()]
    assert sum(isinstance(end, StaleError) for end in ends) == 4


async def test_an_older_commit_can_still_be_read(store: Store) -> None:
    old = await write(store, {"jobs/a": b"1"})
    await write(store, {"jobs/a": b"2"})
    blob = (await store.tree(old))["jobs/a"]
    assert (await store.blobs([blob]))[blob] == b"1"


async def test_what_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no commit"):
        await store.tree("1" * 40)
    with pytest.raises(NotFoundError, match="no blob"):
        await store.blobs(["1" * 40])


async def test_many_blobs_are_read_at_once_and_none_is_fine(store: Store) -> None:
    await write(store, {f"jobs/{n}": b"%d" % n for n in range(300)})
    tree = await store.tree(await store.head())
    found = await store.blobs(tree.values())
    assert all(found[tree[f"jobs/{n}"]] == b"%d" % n for n in range(300))
    assert dict(await store.blobs([])) == {}


async def test_records_are_written_once_whatever_is_repeated(store: Store) -> None:
    one, two = Record("builds/a/1.json", b"1\n"), Record("builds/a/2.json", b"2\n")
    first = await store.record([one], covers=10, at=AT)
    assert (await store.head(HISTORY), await store.covered()) == (first, 10)
    for covers in (10, 3):
        assert await store.record([two], covers=covers, at=AT) == first
    second = await store.record([two], covers=11, at=AT)
    assert second != first
    assert await store.covered() == 11
    assert sorted([data async for data in store.records()]) == [b"1\n", b"2\n"]


async def test_a_record_is_replaced_by_the_next_word_on_the_same_build(store: Store) -> None:
    await store.record([Record("builds/a/1.json", b"failed\n")], covers=1, at=AT)
    await store.record([Record("builds/a/1.json", b"passed\n")], covers=2, at=AT)
    assert [data async for data in store.records()] == [b"passed\n"]


async def test_a_commit_without_records_still_covers(store: Store) -> None:
    commit = await store.record([], covers=7, at=AT)
    assert (await store.head(HISTORY), await store.covered()) == (commit, 7)


async def test_what_commits_of_the_history_say_is_read_from_the_last_one_on(store: Store) -> None:
    assert [it async for it in store.log()] == []
    first = await store.record([], covers=7, at=AT, told=['Deed: {"by":"ann"}'])
    second = await store.record([], covers=8, at=AT, told=['Deed: {"by":"bob"}', "Seal: 9"])
    found = [it async for it in store.log()]
    assert [it.commit for it in found] == [second, first]
    assert found[0].message == (
        'history: 0 builds\n\nDeed: {"by":"bob"}\nSeal: 9\nJournal-Seq: 8\n'
    )
    assert [it.commit async for it in store.log('"by":"ann"')] == [first]
    assert await store.covered() == 8


async def test_a_prepared_commit_is_on_no_branch_until_it_is_applied(store: Store) -> None:
    base = await store.head()
    made = await prepared(store, {"jobs/a": b"1"})
    assert await store.head() == base
    assert (await store.tree(made.commit)).keys() > (await store.tree(base)).keys()
    assert (await prepared(store, {"jobs/a": b"1"})).commit == made.commit
    for _ in range(2):
        await store.apply(base, made.commit, pieces(made.pack))
        assert await store.head() == made.commit


async def prepared(store: Store, changes: Mapping[str, bytes | None]) -> Prepared:
    return await store.prepare(
        changes, base=await store.head(), author=ADA, message="a change\n\nbecause", at=AT
    )


async def test_an_older_move_leaves_main_where_it_is(store: Store) -> None:
    base = await store.head()
    first = await write(store, {"jobs/a": b"1"})
    second = await write(store, {"jobs/a": b"2"})
    for old, new in ((base, first), (first, second)):
        await store.apply(old, new, pieces(b""))
        assert await store.head() == second


async def test_what_is_before_what_is_known(store: Store) -> None:
    base = await store.head()
    new = await write(store, {"jobs/a": b"1"})
    other = (await store.prepare({}, base=base, author=ADA, message="other", at=AT)).commit
    assert await store.contains(new, base)
    assert await store.contains(new, new)
    assert not await store.contains(base, new)
    assert not await store.contains(other, new)
    assert not await store.contains(new, "1" * 40)
    assert not await store.contains("", base)


async def test_the_subject_is_the_first_line_of_the_message(store: Store) -> None:
    assert await store.subject((await prepared(store, {"jobs/a": b"1"})).commit) == "a change"
    with pytest.raises(NotFoundError, match="no commit 1111"):
        await store.subject("1" * 40)


async def test_a_pack_brings_a_move_to_another_store(kind: str, tmp_path: Path) -> None:
    async with made(kind, tmp_path / "one") as one, made(kind, tmp_path / "two") as two:
        base = await one.head()
        first = await prepared(one, {"jobs/a": b"1", "jobs/b": b"2"})
        await one.apply(base, first.commit, pieces(first.pack))
        second = await prepared(one, {"jobs/a": None, "jobs/c": bytes(range(256)) * 999})
        await one.apply(first.commit, second.commit, pieces(second.pack))
        await two.apply(base, first.commit, pieces(first.pack, 7))
        assert await two.tree(first.commit) == await one.tree(first.commit)
        await two.apply(first.commit, second.commit, one.pack(first.commit, second.commit))
        assert await two.head() == await one.head()
        tree = await two.tree(second.commit)
        assert await two.blobs(tree.values()) == await one.blobs(tree.values())


async def test_a_pack_of_several_commits_is_one_move(kind: str, tmp_path: Path) -> None:
    async with made(kind, tmp_path / "one") as one, made(kind, tmp_path / "two") as two:
        base = await one.head()
        for number in range(3):
            await write(one, {f"jobs/{number}": b"x" * number})
        await two.apply(base, await one.head(), one.pack(base, await one.head()))
        assert await two.head() == await one.head()
        assert await two.contains(await two.head(), base)


async def test_a_pack_that_is_damaged_or_missing_moves_nothing(kind: str, tmp_path: Path) -> None:
    async with made(kind, tmp_path / "one") as one, made(kind, tmp_path / "two") as two:
        base = await one.head()
        new = await prepared(one, {"jobs/a": b"1"})
        for pack in (b"", b"PACK", new.pack[:-5], b"\0" + new.pack):
            with pytest.raises(UnavailableError):
                await two.apply(base, new.commit, pieces(pack))
            assert await two.head() == base
        await two.apply(base, new.commit, pieces(new.pack))


async def test_a_pack_that_breaks_off_moves_nothing(kind: str, tmp_path: Path) -> None:
    async with made(kind, tmp_path / "one") as one, made(kind, tmp_path / "two") as two:
        base = await one.head()
        new = await prepared(one, {"jobs/a": b"1"})

        async def broken() -> AsyncIterator[bytes]:
            yield new.pack[:20]
            raise NotFoundError("nothing is stored there")

        with pytest.raises(NotFoundError):
            await two.apply(base, new.commit, broken())
        assert await two.head() == base
        await two.apply(base, new.commit, pieces(new.pack))


async def test_main_and_history_leave_each_other_alone(store: Store) -> None:
    main = await store.head()
    history = await store.record([Record("builds/a/1.json", b"1\n")], covers=1, at=AT)
    assert await store.head() == main
    await write(store, {"jobs/a": b"1"})
    assert await store.head(HISTORY) == history


async def test_the_same_records_make_the_same_commits_anywhere(kind: str, tmp_path: Path) -> None:
    heads = []
    for name in ("one", "two"):
        async with made(kind, tmp_path / name) as store:
            heads.append(await histories(store))
    assert heads[0] == heads[1]
    assert len(set(heads[0])) == 3


async def histories(store: Store) -> list[str]:
    return [
        await store.head(),
        await store.record([Record("builds/a/1.json", b"1\n")], covers=4, at=AT),
        await store.record(
            [Record("builds/b/1.json", b"2\n"), Record("builds/a/2.json", b"3\n")],
            covers=9,
            at=(AT + timedelta(seconds=3)).astimezone(),
        ),
    ]


class made:  # noqa: N801  # reads as a phrase
    """A store of a kind, in ``async with``."""

    def __init__(self, kind: str, path: Path) -> None:
        self._git = GitStore(path) if kind == "git" else None

    async def __aenter__(self) -> Store:
        return MemoryStore() if self._git is None else await self._git.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        if self._git is not None:
            await self._git.__aexit__(None, None, None)
