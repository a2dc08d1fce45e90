"""Checkouts by the real git: mirrors, trees, what is refused, and what is damaged."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.repos import Repo, git_daemon, git_http, silent_server

from rota.adapters.git import GitCheckout
from rota.adapters.git.mirror import mirror_name
from rota.core.scm import Revision, Scm
from rota.errors import CheckoutError
from rota.ports.checkout import Found


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.commit("one", {"web/page": "p", "doc/text": "t", "deep/er/file": "f"})
    return made


@pytest.fixture
async def checkout(tmp_path: Path) -> AsyncIterator[GitCheckout]:
    made = GitCheckout(tmp_path / "mirrors", idle_s=20)
    yield made
    made.close()


class Place:
    """Lays out revisions in folders of their own, and keeps what was said."""

    def __init__(self, checkout: GitCheckout, folder: Path) -> None:
        self.checkout, self.folder = checkout, folder
        self.said: list[str] = []
        self.count = 0

    async def lay(self, scm: Scm, want: Revision | None = None) -> Path:
        full = f"refs/heads/{scm.branch}" if scm.branch else scm.ref
        want = want or Revision(url=scm.git, ref=full)
        found = await self.checkout.find(want, depth=scm.depth, say=self.said.append)
        return await self.write(scm, want, found)

    async def write(self, scm: Scm, want: Revision, found: Found) -> Path:
        self.count += 1
        work = self.folder / f"work{self.count}"
        work.mkdir()
        await self.checkout.write(want, found, scm, work, say=self.said.append)
        return work

    @property
    def fetches(self) -> int:
        return sum(line.startswith("fetching") for line in self.said)


@pytest.fixture
def place(checkout: GitCheckout, tmp_path: Path) -> Place:
    return Place(checkout, tmp_path)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


async def git(folder: Path, *args: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "git", *args, cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().strip()


async def test_a_branch_lies_in_the_workspace_as_a_clone_would(repo: Repo, place: Place) -> None:
    work = await place.lay(Scm(git=repo.url, branch="main"))
    assert names(work) == [".git", "deep", "doc", "one", "web"]
    assert await git(work, "status", "-sb") == "## main...origin/main"
    assert await git(work, "rev-parse", "HEAD") == repo.head
    assert await git(work, "remote", "get-url", "origin") == repo.url
    assert await git(work, "fsck") == ""
    repo.commit("two")
    await git(work, "pull", "-q")
    assert "two" in names(work)


async def test_the_default_branch_a_tag_and_a_commit(repo: Repo, place: Place) -> None:
    first = repo.head
    repo.git("tag", "-a", "v1", "-m", "version one")
    repo.commit("two")
    assert "two" in names(await place.lay(Scm(git=repo.url)))
    tagged = await place.lay(Scm(git=repo.url, ref="v1"))
    assert await git(tagged, "rev-parse", "HEAD") == first
    work = await place.lay(Scm(git=repo.url), Revision(url=repo.url, ref=first, commit=first))
    assert "two" not in names(work)
    assert await git(work, "status", "-sb") == "## HEAD (no branch)"
    with pytest.raises(CheckoutError, match="has neither a tag nor a branch 'v2'"):
        await place.lay(Scm(git=repo.url, ref="v2"))


async def test_a_commit_that_is_here_needs_nobody(repo: Repo, place: Place) -> None:
    await place.lay(Scm(git=repo.url, branch="main"))
    want = Revision(url=repo.url, ref="refs/heads/main", commit=repo.head)
    repo.folder.rename(repo.folder.with_name("gone"))
    work = await place.lay(Scm(git=repo.url), want)
    assert await git(work, "status", "-sb") == "## main...origin/main"
    assert place.fetches == 1


async def test_a_commit_is_found_though_its_branch_was_forced_or_is_gone(
    repo: Repo, place: Place
) -> None:
    repo.git("checkout", "-q", "-b", "side")
    lost = repo.commit("lost")
    repo.git("reset", "-q", "--hard", "HEAD^")
    repo.commit("new")
    want = Revision(url=repo.url, ref="refs/heads/side", commit=lost)
    assert "lost" in names(await place.lay(Scm(git=repo.url), want))
    gone = repo.commit("gone")
    repo.git("checkout", "-q", "main")
    repo.git("branch", "-q", "-D", "side")
    want = Revision(url=repo.url, ref="refs/heads/side", commit=gone)
    assert "gone" in names(await place.lay(Scm(git=repo.url), want))


async def test_a_branch_whose_name_was_a_folder(repo: Repo, place: Place) -> None:
    repo.git("branch", "a")
    await place.lay(Scm(git=repo.url, branch="a"))
    repo.git("branch", "-D", "a")
    repo.git("branch", "a/b")
    long = "x" * 200
    repo.git("branch", long)
    assert names(await place.lay(Scm(git=repo.url, branch="a/b")))
    assert names(await place.lay(Scm(git=repo.url, branch=long)))


async def test_shallow_sparse_and_below_a_path(repo: Repo, place: Place) -> None:
    repo.commit("two")
    scm = Scm(git=repo.url, branch="main", depth=1, sparse=("web", "deep/er"), path="src/code")
    root = await place.lay(scm) / "src" / "code"
    assert names(root) == [".git", "deep", "one", "two", "web"]
    assert await git(root, "rev-list", "--count", "HEAD") == "1"
    assert await git(root, "status", "--porcelain") == ""
    repo.commit("three")
    root = await place.lay(scm) / "src" / "code"
    assert "three" in names(root)


async def test_ten_at_once_share_the_fetches(repo: Repo, place: Place) -> None:
    works = await asyncio.gather(*(place.lay(Scm(git=repo.url, branch="main")) for _ in range(10)))
    heads = [await git(work, "rev-parse", "HEAD") for work in works]
    assert set(heads) == {repo.head}


async def test_one_that_wants_what_is_not_there_harms_no_other(repo: Repo, place: Place) -> None:
    found = await asyncio.gather(
        *(place.lay(Scm(git=repo.url, branch=name)) for name in ("main", "nope", "main", "no")),
        return_exceptions=True,
    )
    assert [isinstance(it, CheckoutError) for it in found] == [False, True, False, True]
    assert "couldn't find remote ref refs/heads/nope" in str(found[1])


async def test_the_workspace_lives_on_without_the_mirror(
    repo: Repo, place: Place, tmp_path: Path
) -> None:
    work = await place.lay(Scm(git=repo.url, branch="main"))
    shutil.rmtree(tmp_path / "mirrors")
    assert await git(work, "fsck") == ""


async def test_a_damaged_mirror_is_made_anew(repo: Repo, place: Place, tmp_path: Path) -> None:
    scm = Scm(git=repo.url, branch="main")
    await place.lay(scm)
    mirror = tmp_path / "mirrors" / f"{mirror_name(repo.url, shallow=False)}.git"
    for pack in (mirror / "objects" / "pack").glob("*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(b"PACK" + os.urandom(200))
    repo.commit("two")
    assert "two" in names(await place.lay(scm))
    for file in (mirror / "objects" / "pack").iterdir():
        file.unlink()
    want = Revision(url=repo.url, ref="refs/heads/main", commit=repo.head)
    assert "two" in names(await place.lay(scm, want))


async def test_what_a_killed_git_left_is_cleared_away(
    repo: Repo, place: Place, tmp_path: Path
) -> None:
    await place.lay(Scm(git=repo.url, branch="main"))
    place.checkout.close()
    mirror = tmp_path / "mirrors" / f"{mirror_name(repo.url, shallow=False)}.git"
    (mirror / "shallow.lock").touch()
    (mirror / "objects" / "pack" / "tmp_pack_x").touch()
    repo.commit("two")
    assert "two" in names(await place.lay(Scm(git=repo.url, branch="main")))
    assert not (mirror / "shallow.lock").exists()
    assert not (mirror / "objects" / "pack" / "tmp_pack_x").exists()


async def test_a_git_of_a_former_daemon_that_hangs_is_gone_round(
    repo: Repo, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.adapters.git.mirror.PATIENCE_S", 0.1)
    await place.lay(Scm(git=repo.url, branch="main"))
    other = GitCheckout(tmp_path / "mirrors")
    try:
        work = await Place(other, tmp_path / "mirrors").lay(Scm(git=repo.url, branch="main"))
        assert "one" in names(work)
    finally:
        other.close()


async def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    checkout = GitCheckout(tmp_path / "mirrors", idle_s=0.5)
    async with silent_server() as url:
        with pytest.raises(CheckoutError, match=r"was given up: nothing came for 0\.5 s"):
            await checkout.find(
                Revision(url=url, ref="refs/heads/main"), depth=0, say=lambda _: None
            )
    checkout.close()


async def test_over_git_daemon(repo: Repo, place: Place, tmp_path: Path) -> None:
    async with git_daemon(tmp_path) as base:
        assert "one" in names(await place.lay(Scm(git=f"{base}/repo", branch="main")))
        assert "one" in names(await place.lay(Scm(git=f"{base}/repo", branch="main", depth=1)))
        refs = await place.checkout.refs(f"{base}/repo")
        assert refs == {"HEAD": "refs/heads/main", "refs/heads/main": repo.head}
        with pytest.raises(CheckoutError, match="nothing"):
            await place.lay(Scm(git=f"{base}/nothing", branch="main"))


async def test_over_http(repo: Repo, place: Place, tmp_path: Path) -> None:
    async with git_http(tmp_path) as base:
        url = f"{base}/repo/.git"
        assert "one" in names(await place.lay(Scm(git=url, branch="main")))
        assert "one" in names(await place.lay(Scm(git=url, branch="main", depth=1)))


async def test_credentials_are_the_machine_s(
    repo: Repo, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    async with git_http(tmp_path, auth="s3cret") as base:
        scm = Scm(git=f"{base}/repo/.git", branch="main")
        with pytest.raises(
            CheckoutError, match=r"could not read Username .* prompts disabled"
        ) as said:
            await place.lay(scm)
        assert "credential helper" in str(said.value.hint)
        helper = "!f() { echo username=ann; echo password=s3cret; }; f"
        (home / ".gitconfig").write_text(f'[credential]\n\thelper = "{helper}"\n')
        work = await place.lay(scm)
        assert "one" in names(work)
        secret = [p for p in tmp_path.rglob("*") if p.is_file() and b"s3cret" in p.read_bytes()]
        assert secret == [home / ".gitconfig"], "it stands nowhere else"
        assert "s3cret" not in "\n".join(place.said)


async def test_a_url_that_is_none_never_reaches_git(place: Place, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for url in (f"--upload-pack=touch {trap}", f"ext::touch {trap}", f"-c{trap}"):
        with pytest.raises(CheckoutError, match=r"scm\.git"):
            await place.lay(Scm(git=url, branch="main"))
    assert not trap.exists()


async def test_hooks_and_settings_of_a_repository_do_nothing(repo: Repo, place: Place) -> None:
    trap = repo.folder.parent / "trap"
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        hook = repo.folder / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {trap}\n")
        hook.chmod(0o755)
    trap.unlink(missing_ok=True)
    await place.lay(Scm(git=repo.url, branch="main"))
    assert not trap.exists()


# -- submodules -----------------------------------------------------------------------------------


async def test_submodules_within_submodules(repo: Repo, place: Place, tmp_path: Path) -> None:
    leaf = Repo(tmp_path / "leaf")
    leaf.commit("leaf")
    lib = Repo(tmp_path / "lib")
    lib.git("submodule", "add", "-q", leaf.url, "in/leaf")
    lib.commit("lib")
    repo.git("submodule", "add", "-q", "../lib", "libs/lib")
    repo.commit("with")
    work = await place.lay(Scm(git=repo.url, branch="main", submodules=True))
    assert "leaf" in names(work / "libs" / "lib" / "in" / "leaf")
    assert await git(work, "status", "--porcelain") == ""
    plain = await place.lay(Scm(git=repo.url, branch="main"))
    assert names(plain / "libs" / "lib") == []


def _fake_module(repo: Repo, path: str, url: str) -> None:
    """Commit a submodule that stock git would not."""
    repo.commit("modules", {".gitmodules": f'[submodule "x"]\n\tpath = {path}\n\turl = {url}\n'})
    entry = f"160000,{repo.head},{path}"
    repo.git("update-index", "--add", "--cacheinfo", entry)
    repo.git("commit", "-q", "-m", "entry")


@pytest.mark.parametrize(
    ("path", "url", "said"),
    [
        ("lib", "--upload-pack=touch trap", "starts with a dash"),
        ("lib", "ext::sh -c id", "names a helper program"),
        ("lib", "https://ann:pw@h/x", "has a password"),
    ],
)
async def test_a_submodule_that_would_do_harm_is_refused(
    repo: Repo, place: Place, path: str, url: str, said: str
) -> None:
    _fake_module(repo, path, url)
    with pytest.raises(CheckoutError, match=said):
        await place.lay(Scm(git=repo.url, branch="main", submodules=True))


async def test_a_repository_elsewhere_cannot_ask_for_this_disk(
    repo: Repo, place: Place, tmp_path: Path
) -> None:
    _fake_module(repo, "lib", f"file://{tmp_path}/private")
    async with git_daemon(tmp_path) as base:
        with pytest.raises(CheckoutError, match="on this machine's own disk"):
            await place.lay(Scm(git=f"{base}/repo", branch="main", submodules=True))


async def test_a_submodule_behind_a_symbolic_link_is_refused(
    repo: Repo, place: Place, tmp_path: Path
) -> None:
    (repo.folder / "way").symlink_to(tmp_path)
    _fake_module(repo, "plain", repo.url)
    text = (repo.folder / ".gitmodules").read_text().replace("plain", "way")
    (repo.folder / ".gitmodules").write_text(text)
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", "a link")
    work = await place.lay(Scm(git=repo.url, branch="main", submodules=True))
    assert (work / "way").is_symlink(), "a link is no submodule"


# -- LFS ------------------------------------------------------------------------------------------


async def test_lfs_is_asked_for_only_by_a_tree_that_needs_it(
    repo: Repo, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    scm = Scm(git=repo.url, branch="main", lfs=True)
    assert "one" in names(await place.lay(scm))
    repo.commit("big", {"a/.gitattributes": "*.bin filter=lfs\n"})
    with pytest.raises(CheckoutError, match="git-lfs is not installed on this agent"):
        await place.lay(scm)


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
async def test_files_in_lfs_are_brought_and_kept_beside_the_mirror(
    repo: Repo, place: Place
) -> None:
    # With a work tree, git-lfs keeps what it has under .git, and serves it from there.
    repo.git("lfs", "install", "--local")
    repo.commit("big", {".gitattributes": "*.bin filter=lfs -text\n", "a.bin": "large" * 1000})
    assert "git-lfs" in repo.git("cat-file", "-p", "HEAD:a.bin")
    scm = Scm(git=repo.url, branch="main", lfs=True)
    work = await place.lay(scm)
    assert (work / "a.bin").read_text() == "large" * 1000
    assert "storage =" not in (work / ".git" / "config").read_text()
    (mirror,) = (place.folder / "mirrors").glob("*.git")
    assert any((mirror / "lfs" / "objects").rglob("*"))
    shutil.rmtree(repo.folder / ".git" / "lfs")
    assert (await place.lay(scm) / "a.bin").read_text() == "large" * 1000, "it is here already"


# -- pull requests --------------------------------------------------------------------------------


def _pull(repo: Repo, files: dict[str, str]) -> Revision:
    repo.git("checkout", "-q", "-b", "fix")
    head = repo.commit("fix", files, who="bob")
    repo.git("update-ref", "refs/pull/7/head", head)
    repo.git("checkout", "-q", "main")
    repo.git("branch", "-q", "-D", "fix")
    return Revision(url=repo.url, ref="refs/pull/7/head", commit=head, base="main", number=7)


async def test_a_pull_request_is_merged_the_same_everywhere(
    repo: Repo, place: Place, tmp_path: Path
) -> None:
    want = _pull(repo, {"web/page": "better"})
    repo.commit("meanwhile")
    scm = Scm(git=repo.url)
    work = await place.lay(scm, want)
    assert {"fix", "meanwhile"} <= set(names(work))
    assert (work / "web" / "page").read_text() == "better"
    other = GitCheckout(tmp_path / "elsewhere")
    there = await Place(other, tmp_path / "elsewhere").lay(scm, want)
    other.close()
    assert await git(work, "rev-parse", "HEAD") == await git(there, "rev-parse", "HEAD")
    parents = await git(work, "show", "-s", "--format=%P", "HEAD")
    assert parents.split() == [repo.head, want.commit]


async def test_a_conflict_is_named(repo: Repo, place: Place) -> None:
    want = _pull(repo, {"web/page": "mine"})
    repo.commit("meanwhile", {"web/page": "yours"})
    with pytest.raises(CheckoutError, match=r"does not merge into main .*: conflicts in web/page"):
        await place.lay(Scm(git=repo.url), want)


async def test_a_fork_has_what_the_repository_does_not(
    repo: Repo, place: Place, tmp_path: Path
) -> None:
    fork = Repo(tmp_path / "fork")
    fork.git("pull", "-q", repo.url, "main")
    head = fork.commit("forked", who="bob")
    want = Revision(
        url=repo.url, commit=head, base="main", number=8, head="main", head_url=fork.url
    )
    assert "forked" in names(await place.lay(Scm(git=repo.url), want))


# -- what happened --------------------------------------------------------------------------------


async def test_the_commits_since_the_build_before(repo: Repo, place: Place) -> None:
    before = repo.head
    await place.lay(Scm(git=repo.url, branch="main"))
    for number in range(5):
        repo.commit(f"change {number}", {"web/page": str(number)}, who="bob")
    await place.lay(Scm(git=repo.url, branch="main"))
    story = await place.checkout.story(repo.url, repo.head, before, depth=0, limit=3)
    assert [it.message for it in story.changes] == ["change 4", "change 3", "change 2"]
    assert story.more
    assert story.head.who == "Bob <bob@example.org>"
    assert story.changes[0].files == 2
    story = await place.checkout.story(repo.url, repo.head, "d" * 40, depth=0, limit=3)
    assert (story.changes, story.head.message) == ((), "change 4")


async def test_files_of_a_commit(repo: Repo, place: Place) -> None:
    repo.commit("jobs", {".rota/jobs/a": "A", ".rota/jobs/b/c": "C", ".rota/x": "X"})
    (repo.folder / ".rota" / "jobs" / "link").symlink_to("/etc/passwd")
    repo.commit("link")
    await place.lay(Scm(git=repo.url, branch="main"))
    want = Revision(url=repo.url, commit=repo.head)
    files = await place.checkout.files(want, ".rota/jobs", max_files=9, max_bytes=9)
    assert files == {"a": b"A", "b/c": b"C"}
    with pytest.raises(CheckoutError, match="has 2 files, the limit is 1"):
        await place.checkout.files(want, ".rota/jobs", max_files=1, max_bytes=9)
    assert await place.checkout.files(want, "none", max_files=1, max_bytes=9) == {}


async def test_mirrors_that_were_used_longest_ago_make_room(tmp_path: Path) -> None:
    checkout = GitCheckout(tmp_path / "mirrors", max_bytes=1)
    place = Place(checkout, tmp_path)
    housekeeping = asyncio.create_task(checkout.run_housekeeping())
    for name in ("a", "b"):
        made = Repo(tmp_path / name)
        made.commit("one")
        await place.lay(Scm(git=made.url, branch="main"))
    async with asyncio.timeout(10):
        while len(list((tmp_path / "mirrors").glob("*.git"))) > 1:
            await asyncio.sleep(0.01)
    housekeeping.cancel()
    assert "one" in names(await place.lay(Scm(git=f"file://{tmp_path}/a", branch="main")))
    checkout.close()


@pytest.mark.parametrize("depth", [0, 1])
async def test_tags_that_point_into_the_history_are_there(
    repo: Repo, place: Place, depth: int
) -> None:
    repo.git("tag", "-a", "v1", "-m", "version one")
    repo.git("switch", "-q", "-c", "other")
    repo.commit("elsewhere")
    repo.git("tag", "v9")
    repo.git("switch", "-q", "main")
    scm = Scm(git=f"file://{repo.folder}", branch="main", depth=depth)
    assert await git(await place.lay(scm), "describe") == "v1"
    repo.commit("two")
    repo.git("tag", "light")
    work = await place.lay(scm)
    assert await git(work, "describe", "--tags") == "light"
    assert (await git(work, "tag")).split() == ["light", "v1"]
    assert await git(work, "fsck") == ""


async def test_a_tag_that_comes_later_is_there_at_the_next_fetch(repo: Repo, place: Place) -> None:
    scm = Scm(git=repo.url, branch="main")
    assert await git(await place.lay(scm), "tag") == ""
    repo.git("tag", "v1")
    assert await git(await place.lay(scm), "describe", "--tags") == "v1"
    work = await place.lay(Scm(git=repo.url, ref=repo.head))
    assert await git(work, "describe", "--tags") == "v1"


async def test_a_tag_whose_name_becomes_a_folder_does_no_harm(repo: Repo, place: Place) -> None:
    scm = Scm(git=repo.url, branch="main")
    repo.git("tag", "v1")
    repo.git("tag", "stays")
    await place.lay(scm)
    repo.git("tag", "-d", "v1")
    repo.git("tag", "v1/one")
    work = await place.lay(scm)
    assert (await git(work, "tag")).split() == ["stays", "v1/one"]
