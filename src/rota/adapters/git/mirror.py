"""A mirror: what this agent has of somebody's repository, as a bare repository of our own.

Whatever is fetched stays: nothing is pruned, so that a commit which was here is here, also after a
force push. Refs are kept under hashes of their names: two names of which one is a folder of the
other, or that only case tells apart, do no harm. A file beside the mirror is locked while a daemon
uses it, by its gits as well: what a former daemon left running is waited for, then gone round.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from rota.adapters.git.process import Git, GitFailedError
from rota.adapters.git.remote import call, outward
from rota.core.scm import shown
from rota.errors import CheckoutError, RotaError, UnavailableError

#: So long a git of a former daemon is waited for; it may hang on a network that is gone.
PATIENCE_S = 5.0
MAX_PACKS = 30
REPACK_S = 600.0
CHECK_S = 300.0
_TAGS = "refs/tags/"
_CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
"""
#: What git says when the fault is the other side's: the mirror need not be looked at.
_THEIRS = (
    "unable to access",
    "couldn't find remote ref",
    "not our ref",
    "could not read from remote",
    "could not resolve",
    "unable to connect",
    "authentication",
    "terminal prompts disabled",
    "nothing came for",
    "does not appear to be a git repository",
    "repository not exported",
    "not found",
)


def mirror_name(url: str, *, shallow: bool) -> str:
    """Return the name of the folder of a URL's mirror."""
    digest = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return f"{digest}-shallow" if shallow else digest


def kept_ref(ref: str) -> str:
    """Return under which name a mirror keeps a ref of the repository."""
    return f"refs/rota/{hashlib.sha256(ref.encode('utf-8', 'surrogateescape')).hexdigest()[:40]}"


class Mirror:
    """Of one URL. Only one fetch at a time; who waits meanwhile shares the next one."""

    def __init__(self, url: str, path: Path, guard: int, idle_s: float) -> None:
        self.url, self.path = url, path
        self.git = Git(path, guard)
        self._guard, self._idle_s = guard, idle_s
        self._lock = asyncio.Lock()
        self._count = itertools.count(1)
        self._wanted: Counter[str] = Counter()
        self._fetched: dict[str, int] = {}
        self._here: dict[str, None] = {}
        self.users = 0

    @classmethod
    async def open(cls, url: str, folder: Path, name: str, idle_s: float) -> Mirror:
        """Return the mirror of a URL, made if there is none."""
        for number in itertools.count():
            path = folder / (f"{name}.git" if number == 0 else f"{name}.{number}.git")
            guard = await _locked(path.with_suffix(".lock"), PATIENCE_S if number == 0 else 0.0)
            if guard is None:
                continue  # a git of a former daemon hangs
            try:
                await asyncio.to_thread(_prepare, path)
            except OSError as error:
                os.close(guard)
                raise UnavailableError(f"cannot make {path}: {error.strerror}") from error
            return cls(url, path, guard, idle_s)
        raise AssertionError

    def close(self) -> None:
        """Let go of it; gits that still run keep it locked."""
        os.close(self._guard)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Keep it from being removed while the block runs."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1
            with contextlib.suppress(OSError):
                os.utime(self.path)

    # -- what is here ---------------------------------------------------------------------------

    async def has(self, commit: str) -> bool:
        """Whether a commit is here, with what it needs."""
        if commit in self._here:
            return True
        try:
            await self.git.run("cat-file", "-e", f"{commit}^{{commit}}")
        except GitFailedError:
            return False
        self._note(commit)
        return True

    async def commit_of(self, ref: str) -> str:
        """Return the commit that a ref was at when it was fetched; empty if it was not, or is none."""
        try:
            out = await self.git.run("rev-parse", "--verify", "-q", f"{kept_ref(ref)}^{{commit}}")
        except GitFailedError:
            return ""
        self._note(commit := out.decode().strip())
        return commit

    def _note(self, commit: str) -> None:
        self._here[commit] = None
        while len(self._here) > 4096:
            del self._here[next(iter(self._here))]

    # -- fetching -------------------------------------------------------------------------------

    async def fetch(self, refs: Collection[str], *, depth: int = 0) -> None:
        """Bring refs, or commits by their hashes, to where they are at the other side now.

        Raises:
            CheckoutError: with git's words; one of them may be missing there.
        """
        asked = next(self._count)
        self._wanted.update(refs)
        try:
            async with self._lock:
                todo = {ref for ref in refs if self._fetched.get(ref, 0) < asked}
                if todo:
                    await self._fetch_now(todo, depth)
        finally:
            self._wanted.subtract(refs)
            self._wanted += Counter()

    async def _fetch_now(self, todo: set[str], depth: int) -> None:
        begun = next(self._count)
        together = todo | set(self._wanted)
        try:
            await self._mended(together, depth)
        except CheckoutError:
            if together == todo:
                raise
            together = todo  # what others want may be what is missing
            await self._mended(together, depth)
        self._fetched |= dict.fromkeys(together, begun)
        while len(self._fetched) > 4096:
            del self._fetched[next(iter(self._fetched))]

    async def _mended(self, refs: Collection[str], depth: int) -> None:
        """Fetch; where the mirror itself is broken, with a new one."""
        try:
            await self._run_fetch(refs, depth)
        except CheckoutError as error:
            if _TAGS in error.message:
                # A tag's name was a folder of others' before, or the other way round.
                await self._forget_tags()
                await self._run_fetch(refs, depth)
                return
            is_theirs = any(words in error.message.lower() for words in _THEIRS)
            if is_theirs or not await self.is_broken():
                raise
            await self.renew()
            await self._run_fetch(refs, depth)

    async def _run_fetch(self, refs: Collection[str], depth: int) -> None:
        # With a place to go to, what is fetched brings along the tags that point into it.
        specs = [f"+{ref}:{kept_ref(ref)}" for ref in sorted(refs)]
        args = ["fetch", "--progress", "--no-write-fetch-head", "--force"]
        args += ["--no-auto-maintenance", "--no-recurse-submodules"]
        args += [f"--depth={depth}"] if depth else []
        env = {**outward(self._idle_s), "GIT_DIR": str(self.path)}
        try:
            await call(self.git, *args, "--", self.url, *specs, env=env, idle_s=self._idle_s)
        except CheckoutError as error:
            raise CheckoutError(f"{shown(self.url)}: {error.message}", hint=error.hint) from error

    async def is_broken(self) -> bool:
        """Whether objects are missing or damaged. Cost: a look at every commit and tree."""
        try:
            await self.git.run(
                "fsck", "--connectivity-only", "--no-dangling", "--no-progress",
                timeout_s=CHECK_S, is_nice=True,
            )  # fmt: skip
        except GitFailedError:
            return True
        except UnavailableError:
            return False
        return False

    async def renew(self) -> None:
        """Begin anew, empty."""
        await asyncio.to_thread(_begin_anew, self.path)
        self._here.clear()
        self._fetched.clear()

    async def tags(self) -> dict[str, str]:
        """Return the tags that point into what is here, and to what; as they were when that came."""
        if not (self.path / _TAGS).is_dir() and not (self.path / "packed-refs").exists():
            return {}
        out = await self.git.run("for-each-ref", "--format=%(objectname) %(refname)", _TAGS)
        lines = out.decode("utf-8", "surrogateescape").splitlines()
        return {name: what for what, _, name in (line.partition(" ") for line in lines)}

    async def _forget_tags(self) -> None:
        names = await self.tags()
        text = "".join(f"delete {name}\n" for name in names)
        await self.git.run("update-ref", "--stdin", data=text.encode("utf-8", "surrogateescape"))

    # -- use ------------------------------------------------------------------------------------

    async def link(self, target: Path) -> None:
        """Give another repository all objects that are here: the same files, no bytes.

        It lives on when this mirror is repacked or removed.
        """
        async with self._lock:
            await asyncio.to_thread(_link, self.path, target)

    async def keep_house(self) -> None:
        """Repack where there are many packs. Nothing is ever dropped by it."""
        packs = self.path / "objects" / "pack"
        if len(list(packs.glob("*.pack"))) <= MAX_PACKS:
            return
        async with self._lock:
            with contextlib.suppress(RotaError):
                await self.git.run(
                    "repack", "--geometric=2", "-d", "-q", timeout_s=REPACK_S, is_nice=True
                )


async def _locked(path: Path, patience_s: float) -> int | None:
    """Return a descriptor that holds the lock; ``None`` if somebody else does for long."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    guard = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = asyncio.get_running_loop().time() + patience_s
    while True:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if asyncio.get_running_loop().time() >= end:
                os.close(guard)
                return None
            await asyncio.sleep(0.05)
        else:
            return guard


def _prepare(path: Path) -> None:
    """Make the repository if there is none; remove locks of gits that were killed."""
    if not (path / "HEAD").exists():
        _begin_anew(path)
    for lock in [*path.glob("*.lock"), *(path / "refs").rglob("*.lock")]:
        lock.unlink(missing_ok=True)
    for half in (path / "objects" / "pack").glob("tmp_*"):
        half.unlink(missing_ok=True)


def _begin_anew(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    for folder in ("objects/pack", "objects/info", "refs/heads", "refs/rota", "info"):
        (path / folder).mkdir(mode=0o700, parents=True)
    (path / "config").write_text(_CONFIG)
    # Last: what has a HEAD is whole.
    (path / "HEAD").write_text("ref: refs/heads/none\n")


def _link(source: Path, target: Path) -> None:
    packs = target / "objects" / "pack"
    packs.mkdir(parents=True, exist_ok=True)
    (target / "objects" / "info").mkdir(exist_ok=True)
    for entry in os.scandir(source / "objects" / "pack"):
        if entry.name.startswith("pack-") and not entry.name.endswith(".keep"):
            _link_one(entry.path, packs / entry.name)
    for entry in os.scandir(source / "objects"):
        if len(entry.name) == 2 and entry.is_dir():
            (target / "objects" / entry.name).mkdir(exist_ok=True)
            for loose in os.scandir(entry.path):
                if not loose.name.startswith("tmp_"):
                    _link_one(loose.path, target / "objects" / entry.name / loose.name)
    if (source / "shallow").exists():
        shutil.copyfile(source / "shallow", target / "shallow")


def _link_one(source: str, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        shutil.copyfile(source, target)
