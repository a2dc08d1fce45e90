"""Checkouts from mirrors: a warm one speaks with nobody and copies no object.

A workspace becomes a repository of its own whose objects are the mirror's files, linked. So it goes
on when the mirror is repacked or removed, also inside a container; and one git lays out the tree.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from rota.adapters.git import modules
from rota.adapters.git.mirror import Mirror, mirror_name
from rota.adapters.git.process import GitFailedError
from rota.adapters.git.remote import call, inward, outward
from rota.core.scm import OWN, Commit, Revision, Scm, is_commit, is_local, shown, url_fault
from rota.errors import CheckoutError
from rota.ports.checkout import Found, Say, Story

log = logging.getLogger(__name__)

IDLE_S = 120.0
MAX_BYTES = 20 << 30
MAX_DEPTH = 10
MAX_STORIES = 500
#: More changed files than this are as good as all.
MAX_PATHS = 1000
_FORMAT = "%x1e%H%x1f%an%x1f%ae%x1f%cI%x1f%s"
#: A merge is the same commit wherever it is made.
_MERGER = {
    "GIT_AUTHOR_NAME": "rota",
    "GIT_AUTHOR_EMAIL": "rota@localhost",
    "GIT_COMMITTER_NAME": "rota",
    "GIT_COMMITTER_EMAIL": "rota@localhost",
}
_LISTED = ("HEAD", "refs/heads/*", "refs/tags/*", "refs/pull/*/head", "refs/merge-requests/*/head")


class GitCheckout:
    """Implements :class:`rota.ports.checkout.Checkout` over the git executable.

    ``idle_s`` is how long another machine may say nothing; ``max_bytes`` what all mirrors may take,
    before those go that were used longest ago.
    """

    def __init__(self, folder: Path, *, idle_s: float = IDLE_S, max_bytes: int = MAX_BYTES) -> None:
        self._folder, self._idle_s, self._max_bytes = folder, idle_s, max_bytes
        self._mirrors: dict[str, Mirror] = {}
        self._stories: dict[tuple[str, str, str, int], Story] = {}
        self._opening = asyncio.Lock()
        self._woken = asyncio.Event()

    def close(self) -> None:
        """Let go of all mirrors."""
        for mirror in self._mirrors.values():
            mirror.close()
        self._mirrors.clear()

    async def run_housekeeping(self) -> None:
        """Keep mirrors quick and their size bounded, for ever."""
        while True:
            await self._woken.wait()  # unbounded: nothing is to be done until somebody fetches
            self._woken.clear()
            for mirror in list(self._mirrors.values()):
                with mirror.used():
                    await mirror.keep_house()
            try:
                await self._make_room()
            except OSError as error:
                log.warning("cannot look at %s: %s", self._folder, error.strerror)

    # -- the port -------------------------------------------------------------------------------

    async def find(self, want: Revision, *, depth: int, say: Say) -> Found:
        """Bring a revision here."""
        if want.url == OWN:
            raise CheckoutError(
                "scm.git is '.', the script's own repository, and it does not stand in a watched one",
                hint="name the repository, or watch it: rota watch URL",
            )
        if (fault := url_fault(want.url)) is not None:
            raise CheckoutError(f"scm.git {fault}")
        mirror = await self._mirror(want, depth)
        with mirror.used():
            if want.base:
                return await self._find_pull(mirror, want, say)
            if want.commit and await mirror.has(want.commit):
                return Found(commit=want.commit, ref=want.ref)
            ref = want.ref
            if ref and not ref.startswith("refs/") and not is_commit(ref):
                ref = await self._named(want.url, ref)
            elif not ref and not want.commit:
                ref = await self._default(want.url)
            say(f"fetching {ref or want.commit} of {shown(want.url)}")
            commit = await self._fetched(mirror, ref, want.commit, depth)
            self._woken.set()
            return Found(commit=commit, ref="" if is_commit(ref) else ref)

    async def write(self, want: Revision, found: Found, scm: Scm, folder: Path, *, say: Say) -> str:
        """Lay a revision out below ``folder``."""
        root = folder / scm.path if scm.path else folder
        await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True)
        mirror = await self._mirror(want, scm.depth)
        with mirror.used():
            try:
                return await self._write(mirror, want, found, scm, root, say)
            except CheckoutError:
                if not await mirror.is_broken():
                    raise
                say("the mirror on this agent is damaged; it is made anew")
                await mirror.renew()
                await asyncio.to_thread(_empty, root)
                await self.find(want, depth=scm.depth, say=say)
                return await self._write(mirror, want, found, scm, root, say)

    async def story(self, url: str, commit: str, before: str, *, depth: int, limit: int) -> Story:
        """Tell of a commit, and of those since ``before``."""
        known = (url, commit, before, limit)
        if known in self._stories:
            return self._stories[known]
        mirror = await self._mirror(Revision(url=url), depth)
        with mirror.used():
            if before and before != commit:
                try:
                    found = await self._log(mirror, limit + 1, commit, f"^{before}")
                except GitFailedError:
                    found = []  # it was never here: another agent built it, and it was replaced
                if found:
                    story = Story(
                        head=found[0], changes=tuple(found[:limit]), more=len(found) > limit
                    )
                    return self._remember(known, story)
            try:
                story = Story(head=(await self._log(mirror, 1, commit))[0])
            except GitFailedError as error:
                raise CheckoutError(f"cannot read {commit}: {error}") from error
            return story if before and before != commit else self._remember(known, story)

    def _remember(self, known: tuple[str, str, str, int], story: Story) -> Story:
        """Keep what several jobs of one push ask for."""
        self._stories[known] = story
        while len(self._stories) > MAX_STORIES:
            del self._stories[next(iter(self._stories))]
        return story

    async def refs(self, url: str) -> Mapping[str, str]:
        """Return where refs are now; ``HEAD`` is the name of the default branch."""
        lines = await self._list(url, *_LISTED)
        found: dict[str, str] = {}
        for line in lines:
            what, _, name = line.partition("\t")
            if what.startswith("ref: "):
                found[name] = what.removeprefix("ref: ")
            elif name != "HEAD":
                found[name.removesuffix("^{}")] = what
        return found

    async def changed(self, want: Revision, before: str) -> tuple[str, ...] | None:
        """Return the paths that differ from a commit ``before``."""
        mirror = await self._mirror(want, 0)
        with mirror.used():
            try:
                out = await mirror.git.run(
                    "diff", "--name-only", "--no-renames", "-z", before, want.commit, "--"
                )
            except GitFailedError:
                return None  # it was replaced before it ever was here
        paths = [it.decode("utf-8", "replace") for it in out.split(b"\0") if it]
        return tuple(paths) if len(paths) <= MAX_PATHS else None

    async def files(
        self, want: Revision, folder: str, *, max_files: int, max_bytes: int
    ) -> Mapping[str, bytes]:
        """Return the regular files below a folder."""
        mirror = await self._mirror(want, 0)
        with mirror.used():
            try:
                out = await mirror.git.run(
                    "ls-tree", "-r", "-z", "-l", want.commit, "--", f"{folder}/"
                )
            except GitFailedError as error:
                raise CheckoutError(f"cannot read {want.commit}: {error}") from error
            blobs: dict[str, str] = {}
            for entry in filter(None, out.split(b"\0")):
                about, _, name = entry.partition(b"\t")
                mode, _, blob, size = about.decode().split()
                path = name.decode("utf-8", "replace").removeprefix(f"{folder}/")
                if not mode.startswith("100"):
                    continue
                if int(size) > max_bytes:
                    raise CheckoutError(f"{path} has {size} bytes, the limit is {max_bytes}")
                blobs[path] = blob
            if len(blobs) > max_files:
                raise CheckoutError(f"{folder} has {len(blobs)} files, the limit is {max_files}")
            return {
                path: await mirror.git.run("cat-file", "blob", it) for path, it in blobs.items()
            }

    # -- finding --------------------------------------------------------------------------------

    async def _find_pull(self, mirror: Mirror, want: Revision, say: Say) -> Found:
        """Bring both sides of a pull request; the head by whatever way it is reached."""
        base = f"refs/heads/{want.base}"
        say(f"fetching {want.ref or want.commit} and {want.base} of {shown(want.url)}")
        await mirror.fetch([base])
        if not await mirror.has(want.commit):
            await self._fetch_head(mirror, want)
        self._woken.set()
        return Found(commit=want.commit, ref=want.ref, base=await mirror.commit_of(base))

    async def _fetch_head(self, mirror: Mirror, want: Revision) -> None:
        fault: CheckoutError | None = None
        for ref in filter(None, (want.ref, want.commit)):
            try:
                await mirror.fetch([ref])
            except CheckoutError as error:
                fault = fault or error
            if await mirror.has(want.commit):
                return
        if want.head_url and not (is_local(want.head_url) and not is_local(want.url)):
            theirs = await self._mirror(Revision(url=want.head_url), 0)
            with theirs.used():
                for ref in filter(None, (want.head and f"refs/heads/{want.head}", want.commit)):
                    with contextlib.suppress(CheckoutError):
                        await theirs.fetch([ref])
                    if await theirs.has(want.commit):
                        await theirs.link(mirror.path)
                        return
        raise fault or CheckoutError(f"{shown(want.url)} no longer has {want.commit}")

    async def _fetched(self, mirror: Mirror, ref: str, commit: str, depth: int) -> str:
        """Fetch a ref, and the commit if that is not on it any more; return the commit."""
        try:
            await mirror.fetch([ref or commit], depth=depth)
        except CheckoutError:
            if not commit or not ref or is_commit(ref):
                raise
        else:
            if commit and await mirror.has(commit):
                return commit
            if not commit and (found := await mirror.commit_of(ref)):
                return found
        if not commit:
            raise CheckoutError(f"{ref} of {shown(mirror.url)} is no commit")
        await mirror.fetch([commit], depth=depth)  # the branch was forced elsewhere, or is gone
        if not await mirror.has(commit):
            raise CheckoutError(f"{shown(mirror.url)} has no commit {commit}")
        return commit

    async def _named(self, url: str, name: str) -> str:
        """Return the full ref of a tag or branch."""
        wanted = [f"refs/tags/{name}", f"refs/heads/{name}"]
        there = {line.partition("\t")[2] for line in await self._list(url, *wanted)}
        for ref in wanted:
            if ref in there:
                return ref
        raise CheckoutError(f"{shown(url)} has neither a tag nor a branch {name!r}")

    async def _default(self, url: str) -> str:
        for line in await self._list(url, "HEAD"):
            if line.startswith("ref: "):
                return line.removeprefix("ref: ").partition("\t")[0]
        raise CheckoutError(
            f"{shown(url)} has no default branch; it may be empty", hint="name one: scm.branch"
        )

    async def _list(self, url: str, *patterns: str) -> list[str]:
        mirror = await self._mirror(Revision(url=url), 0)
        with mirror.used():
            env = {**outward(self._idle_s), "GIT_DIR": str(mirror.path)}
            args = ("ls-remote", "--symref", "--", url, *patterns)
            try:
                out = await call(mirror.git, *args, env=env, idle_s=self._idle_s)
            except CheckoutError as error:
                raise CheckoutError(f"{shown(url)}: {error.message}", hint=error.hint) from error
        return out.decode("utf-8", "replace").splitlines()

    async def _log(self, mirror: Mirror, count: int, *what: str) -> list[Commit]:
        out = await mirror.git.run(
            "log", f"--max-count={count}", "--shortstat", f"--format={_FORMAT}", *what, "--"
        )
        return [_commit(text) for text in out.decode("utf-8", "replace").split("\x1e")[1:]]

    async def _mirror(self, want: Revision, depth: int) -> Mirror:
        """Return the mirror of a URL; merging takes the whole history."""
        name = mirror_name(want.url, shallow=bool(depth) and not want.base)
        if (known := self._mirrors.get(name)) is not None:
            return known
        async with self._opening:
            if name not in self._mirrors:
                self._mirrors[name] = await Mirror.open(want.url, self._folder, name, self._idle_s)
            return self._mirrors[name]

    # -- writing --------------------------------------------------------------------------------

    async def _write(
        self, mirror: Mirror, want: Revision, found: Found, scm: Scm, root: Path, say: Say
    ) -> str:
        branch = found.ref.removeprefix("refs/heads/") if _is_branch(found.ref) else ""
        tags = await mirror.tags()  # before: of all of them the objects come along
        await mirror.link(root / ".git")
        await asyncio.to_thread(
            _make_repository, root / ".git", want.url, found.commit, branch, tags
        )
        env = inward({"GIT_DIR": str(root / ".git"), "GIT_WORK_TREE": str(root)}, lfs=scm.lfs)
        commit = found.commit
        if found.base:
            commit = await self._merge(mirror, want, found, env, say)
        if scm.sparse:
            await self._git(
                mirror, env, "sparse-checkout", "set", "--cone", "--", *scm.sparse, at=root
            )
        await self._git(mirror, env, "reset", "--hard", "-q", commit, "--", at=root)
        if scm.lfs:
            await self._lfs(mirror, env, commit, root, say)
        if scm.submodules:
            await self._submodules(mirror, want.url, env, commit, scm, root, say, level=1)
        return commit

    async def _merge(
        self, mirror: Mirror, want: Revision, found: Found, env: Mapping[str, str], say: Say
    ) -> str:
        """Merge a pull request's head into its base; return the new commit."""
        args = (
            "merge-tree",
            "--write-tree",
            "--name-only",
            "--no-messages",
            found.base,
            found.commit,
        )
        out = await call(mirror.git, *args, env=env, idle_s=self._idle_s, good=(0, 1))
        tree, *conflicts = out.decode("utf-8", "replace").split()
        if conflicts:
            some = ", ".join(conflicts[:10]) + (" …" if len(conflicts) > 10 else "")
            raise CheckoutError(
                f"{found.commit[:12]} does not merge into {want.base} ({found.base[:12]}):"
                f" conflicts in {some}"
            )
        when = await self._git(mirror, env, "show", "-s", "--format=%ct", found.commit)
        date = f"@{when.decode().strip()} +0000"
        dated = {**env, **_MERGER, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        text = f"Merge {found.commit} into {want.base}"
        parents = ("-p", found.base, "-p", found.commit)
        made = await self._git(mirror, dated, "commit-tree", tree, *parents, "-m", text)
        say(f"merged {found.commit[:12]} into {want.base} ({found.base[:12]})")
        return made.decode().strip()

    async def _lfs(
        self, mirror: Mirror, env: Mapping[str, str], commit: str, root: Path, say: Say
    ) -> None:
        """Bring what the tree has in LFS; a tree that has nothing there needs no git-lfs."""
        args = ("grep", "-I", "-l", "-e", "filter=lfs", commit, "--", ":(glob)**/.gitattributes")
        if not await call(mirror.git, *args, env=env, idle_s=self._idle_s, good=(0, 1)):
            return
        if shutil.which("git-lfs") is None:
            raise CheckoutError(
                "the tree has files in git LFS, and git-lfs is not installed on this agent",
                hint="install git-lfs, or let the job ask for an agent that has it by its labels",
            )
        say("fetching files in git LFS")
        outer = outward(self._idle_s)
        # Told by the folder and its own settings: what stood in the environment, git-lfs would take
        # for a repository on this disk as well, and look for its files here. The setting goes
        # again, so that a script does not work on the mirror.
        await self._git(mirror, env, "config", "lfs.storage", str(mirror.path / "lfs"), at=root)
        try:
            await call(mirror.git, "lfs", "pull", env=outer, idle_s=self._idle_s, cwd=root)
        finally:
            await self._git(mirror, env, "config", "--unset", "lfs.storage", at=root)

    async def _submodules(
        self,
        mirror: Mirror,
        url: str,
        env: Mapping[str, str],
        commit: str,
        scm: Scm,
        root: Path,
        say: Say,
        *,
        level: int,
    ) -> None:
        if level > MAX_DEPTH:
            raise CheckoutError(f"submodules within submodules, more than {MAX_DEPTH} deep")
        for module in await modules.listed(mirror.git, env, commit, url, self._idle_s):
            place = modules.place(root, module.path)
            say(f"submodule {module.path} of {shown(module.url)} at {module.commit[:12]}")
            want = Revision(url=module.url, commit=module.commit)
            found = await self.find(want, depth=0, say=say)
            theirs = await self._mirror(want, 0)
            with theirs.used():
                await asyncio.to_thread(place.mkdir, parents=True, exist_ok=True)
                tags = await theirs.tags()
                await theirs.link(place / ".git")
                await asyncio.to_thread(
                    _make_repository, place / ".git", module.url, found.commit, "", tags
                )
                inner = inward({"GIT_DIR": str(place / ".git"), "GIT_WORK_TREE": str(place)})
                await self._git(
                    theirs, inner, "reset", "--hard", "-q", found.commit, "--", at=place
                )
                await self._submodules(
                    theirs, module.url, inner, found.commit, scm, place, say, level=level + 1
                )

    async def _git(
        self, mirror: Mirror, env: Mapping[str, str], *args: str, at: Path | None = None
    ) -> bytes:
        return await call(mirror.git, *args, env=env, idle_s=self._idle_s, cwd=at)

    # -- room -----------------------------------------------------------------------------------

    async def _make_room(self) -> None:
        """Remove the mirrors that were used longest ago, until the others fit."""
        sizes = await asyncio.to_thread(_sizes, self._folder)
        total = sum(sizes.values())
        for path in sorted(sizes, key=lambda it: it.stat().st_mtime):
            if total <= self._max_bytes or len(sizes) < 2:
                return
            known = next((n for n, m in self._mirrors.items() if m.path == path), None)
            if known is not None:
                if self._mirrors[known].users:
                    continue
                self._mirrors.pop(known).close()
            log.info("mirrors take more than %d bytes: removing %s", self._max_bytes, path.name)
            total -= sizes[path]
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)


def _is_branch(ref: str) -> bool:
    return ref.startswith("refs/heads/")


def _make_repository(
    git_dir: Path, url: str, commit: str, branch: str, tags: Mapping[str, str]
) -> None:
    """Write what ``git init``, ``git remote add`` and ``git tag`` would."""
    (git_dir / "refs" / "heads").mkdir(parents=True, exist_ok=True)
    (git_dir / "info").mkdir(exist_ok=True)
    quoted = url.replace("\\", "\\\\").replace('"', '\\"')
    (git_dir / "config").write_text(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n"
        f'[remote "origin"]\n\turl = "{quoted}"\n'
        "\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    )
    refs = dict(tags)
    if branch:
        refs |= dict.fromkeys((f"refs/heads/{branch}", f"refs/remotes/origin/{branch}"), commit)
        with (git_dir / "config").open("a") as config:
            config.write(f'[branch "{branch}"]\n\tremote = origin\n\tmerge = refs/heads/{branch}\n')
    if refs:
        text = "".join(f"{what} {name}\n" for name, what in refs.items())
        (git_dir / "packed-refs").write_bytes(text.encode("utf-8", "surrogateescape"))
    head = f"ref: refs/heads/{branch}" if branch else commit
    (git_dir / "HEAD").write_text(f"{head}\n")


def _commit(text: str) -> Commit:
    """Return a commit as ``git log`` prints it, a line of statistics after it."""
    head, _, stat = text.partition("\n")
    commit, author, email, at, message = (head.split("\x1f") + [""] * 5)[:5]
    count = stat.strip().partition(" ")[0]
    return Commit(
        commit=commit,
        author=author[:100],
        email=email[:100],
        at=at,
        message=message[:200],
        files=int(count) if count.isdigit() else 0,
    )


def _empty(root: Path) -> None:
    for entry in root.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _sizes(folder: Path) -> dict[Path, int]:
    if not folder.exists():
        return {}
    return {
        path: sum(it.lstat().st_size for it in path.rglob("*") if it.is_file())
        for path in folder.glob("*.git")
    }
