"""What `rota audit verify` finds in a store: one changed byte anywhere, and histories that were made anew."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.harness import audited
from tests.harness.audited import build, flaws, flip, git, line

from rota.core.audit import Head
from rota.core.records import encode, record_path
from rota.errors import InputError

RECORD = record_path(build(4))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Head]:
    path = tmp_path_factory.mktemp("audited") / "store.git"
    return path, asyncio.run(audited.make(path))


@pytest.fixture(scope="module")
def packed(original: tuple[Path, Head], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "store.git"
    shutil.copytree(original[0], path)
    git(path, "repack", "-a", "-d", "-q")
    return path


@pytest.fixture
def store(original: tuple[Path, Head], tmp_path: Path) -> Path:
    """A store that a test may change."""
    shutil.copytree(original[0], tmp_path / "store.git")
    return tmp_path / "store.git"


def test_nothing_is_wrong_with_a_store_as_agents_make_it(
    original: tuple[Path, Head], packed: Path
) -> None:
    path, head = original
    assert flaws(path, head) == flaws(packed, head) == []
    found = audited.summary(path)
    seen = (found.commits, found.records, found.deeds, found.moves, found.head)
    assert seen == (4, 8, 4, 4, head)


def test_a_clone_is_read_as_well(original: tuple[Path, Head], tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "-b", "main", original[0], clone], check=True)
    assert flaws(clone, original[1]) == []


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**40), is_packed=st.booleans())
def test_one_changed_bit_of_any_object_is_found(
    original: tuple[Path, Head], packed: Path, seed: int, is_packed: bool
) -> None:
    path = packed if is_packed else original[0]
    file, at, bit = audited.some_byte(path, seed)
    before = flip(file, at, bit)
    try:
        assert flaws(path), (file, at, bit)
    finally:
        file.write_bytes(before)


def test_a_record_whose_bytes_do_not_fit_is_named(store: Path) -> None:
    blob = git(store, "rev-parse", f"history:{RECORD}")
    _unpack(store)
    flip(store / "objects" / blob[:2] / blob[2:], 40)
    (found,) = flaws(store)
    assert found.what == "object"
    assert found.where.startswith(f"{RECORD} of commit {line(store)[1]}")
    assert blob in found.text


def test_a_definition_whose_bytes_do_not_fit_is_named(store: Path) -> None:
    blob = git(store, "rev-parse", "main:jobs/j2")
    _unpack(store)
    flip(store / "objects" / blob[:2] / blob[2:], 20)
    (found,) = flaws(store)
    assert (found.what, found.where.split()[0]) == ("object", "jobs/j2")
    assert "of main" in found.where


def test_a_commit_that_cannot_be_read_is_named(store: Path) -> None:
    commits = line(store)
    _unpack(store)
    flip(store / "objects" / commits[2][:2] / commits[2][2:], 30)
    found = flaws(store)
    assert any(commits[2] in f"{it.where} {it.text}" for it in found)


def test_a_record_that_was_written_anew_with_all_hashes_right_is_named_by_its_field(
    store: Path,
) -> None:
    changed = replace(build(4), log_sha256="0" * 64)
    commits = line(store)
    audited.rebuilt(store, commits, {commits[1]: {RECORD: encode(changed)}})
    found = flaws(store)
    assert [it.what for it in found] == ["commit", "record"]  # and not again for each after it
    assert f"names {commits[1]} as the commit before it" in found[0].text
    assert found[1].where == RECORD
    expected = f'log_sha256 is "{"0" * 64}" here and "{build(4).log_sha256}" there'
    assert found[1].text == f"it was written anew: {expected}"


def test_the_last_record_written_anew_is_found_by_a_head_that_was_kept(
    store: Path, original: tuple[Path, Head]
) -> None:
    last = record_path(build(8))
    commits = line(store)
    audited.rebuilt(store, commits, {commits[-1]: {last: encode(replace(build(8), exit_code=1))}})
    assert flaws(store) == []  # nothing after it names it; what is not there cannot tell
    (found,) = flaws(store, original[1])
    assert (found.what, found.where) == ("head", original[1].line())


def test_it_is_found_by_the_index_as_well_and_the_field_is_named(store: Path) -> None:
    last = record_path(build(8))
    commits = line(store)
    audited.rebuilt(store, commits, {commits[-1]: {last: encode(replace(build(8), exit_code=1))}})
    builds = {
        it.id: it for n in range(2, 10) for it in (build(n, "web/test" if n % 2 == 0 else "app/x"),)
    }
    (found,) = flaws(store, known=builds.get)
    assert (found.what, found.where) == ("record", last)
    assert found.text == "this agent's index has another one: exit_code is 1 here and null there"


@pytest.mark.parametrize(
    "order",
    [(0, 2, 3), (1, 2, 3), (0, 2, 1, 3), (0, 1, 1, 2, 3)],
    ids=["one dropped", "the first one dropped", "two in each other's place", "one twice"],
)
def test_commits_that_were_dropped_or_moved_are_found(store: Path, order: tuple[int, ...]) -> None:
    commits = line(store)
    audited.rebuilt(store, [commits[n] for n in order])
    assert flaws(store)


def test_a_history_that_was_cut_off_is_found_by_where_main_is_and_by_a_kept_head(
    store: Path, original: tuple[Path, Head]
) -> None:
    commits = line(store)
    git(store, "update-ref", "refs/heads/history", commits[2])
    (found,) = flaws(store)
    assert found.what == "main"
    assert "history does not say yet that the journal moved it there" in found.text
    assert [it.what for it in flaws(store, original[1])] == ["head", "main"]


def test_a_commit_that_no_seal_made_is_found(store: Path) -> None:
    tree = git(store, "rev-parse", "history^{tree}")
    forged = git(
        store, "commit-tree", tree, "-p", "history", "-m", "history: 0 builds\n\nJournal-Seq: 99"
    )
    git(store, "update-ref", "refs/heads/history", forged)
    (found,) = flaws(store)
    assert (found.what, found.where) == ("commit", f"commit {forged}")
    assert found.text == "it says nothing of the journal, and commits before it do"


def test_a_record_that_was_dropped_is_named(store: Path) -> None:
    names = git(store, "ls-tree", "-r", "history").split("\n")
    tree = _tree_of(store, [it for it in names if not it.endswith(RECORD)])
    forged = git(store, "commit-tree", tree, "-p", "history", "-m", "history: 0 builds")
    git(store, "update-ref", "refs/heads/history", forged)
    assert ("record", RECORD) in [(it.what, it.where) for it in flaws(store)]


def test_main_with_a_commit_that_the_journal_never_had_is_found(store: Path) -> None:
    tree = git(store, "rev-parse", "main^{tree}")
    forged = git(store, "commit-tree", tree, "-p", "main", "-m", "let me in")
    git(store, "update-ref", "refs/heads/main", forged)
    (found,) = flaws(store)
    assert (found.what, found.where) == ("main", f"commit {forged}")


def test_main_that_was_written_anew_is_found(store: Path) -> None:
    commits = line(store, "main")
    tree = git(store, "rev-parse", f"{commits[2]}^{{tree}}")
    forged = git(store, "commit-tree", tree, "-p", commits[0], "-m", "all of it")
    git(store, "update-ref", "refs/heads/main", forged)
    found = flaws(store)
    assert {it.where for it in found} == {f"commit {it}" for it in commits[1:]}
    assert all("main does not have it" in it.text for it in found)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        flaws(tmp_path / "none")
    git_dir = tmp_path / "empty.git"
    subprocess.run(["git", "init", "-q", "--bare", git_dir], check=True)
    with pytest.raises(InputError, match="no clone of a store: it has no main"):
        flaws(git_dir)


def _unpack(store: Path) -> None:
    """Let each object be a file of its own."""
    packs = sorted((store / "objects" / "pack").glob("*.pack"))
    data = [it.read_bytes() for it in packs]
    for it in packs:
        for each in it.parent.glob(f"{it.stem}.*"):
            each.unlink()
    for each_pack in data:
        subprocess.run(
            ["git", "--git-dir", store, "unpack-objects", "-q"], input=each_pack, check=True
        )


def _tree_of(store: Path, entries: list[str]) -> str:
    """Return a tree with these files, as `ls-tree -r` lists them."""
    import os

    os.environ["GIT_INDEX_FILE"] = str(store / "mallorys")
    try:
        git(store, "read-tree", "--empty")
        git(store, "update-index", "--index-info", data="\n".join([*entries, ""]).encode())
        return git(store, "write-tree")
    finally:
        del os.environ["GIT_INDEX_FILE"]
