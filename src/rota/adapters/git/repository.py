"""The repository as files: made whole or not at all, repaired after a kill, its refs read.

Opening takes three steps. *Make*: a new repository is built beside its place and renamed into it.
*Repair*: what a killed git left (locks, half-written packs) is removed, but only while no git of a
former daemon still runs: each inherits a shared lock on the file ``rota/guard``, and whoever gets
it exclusively is alone. *Check*: what the branches name must be there.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rota.adapters.git import hooks, texts
from rota.adapters.git.process import Git, GitFailedError
from rota.adapters.git.refs import broken, fsck, read_ref, sync_folder
from rota.adapters.git.stream import COMMAND, ROTA, commit_stream
from rota.errors import UnavailableError
from rota.ports.store import HISTORY, MAIN

log = logging.getLogger(__name__)

#: A git that outlived its daemon ends within moments: its input is gone, or its client.
GUARD_WAIT_S = 3.0
STALE_S = 10.0
#: Same everywhere and for ever, so that all agents start from the same commit.
FOUNDED = datetime(2025, 1, 1, tzinfo=UTC)


async def open_guard(path: Path) -> int:
    """Make the repository if there is none, repair it, and return the guard's descriptor.

    The descriptor is for every git that is started on the repository, and to be closed at the end.

    Raises:
        UnavailableError: the folder cannot be written.
    """
    try:
        if not path.exists():
            await _make(path)
        private = path / "rota"
        private.mkdir(exist_ok=True)
        guard = os.open(private / "guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(f"cannot use {path}: {error.strerror}") from error
    try:
        if await _is_alone(guard):
            repair(path)
        else:
            log.warning("a git of a former daemon still runs in %s: no repair", path)
        fcntl.flock(guard, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        os.close(guard)
        raise UnavailableError(f"cannot use {path}: {error.strerror}") from error
    except BaseException:
        os.close(guard)
        raise
    return guard


def repair(path: Path) -> None:
    """Remove what killed gits left, and write the files that are ours as they should be.

    Only while no git runs in the repository.
    """
    for rest in _rests(path):
        log.warning("removing %s, which a killed git left", rest)
        shutil.rmtree(rest) if rest.is_dir() else rest.unlink(missing_ok=True)
    for name, text in (("HEAD", texts.HEAD), ("config", texts.CONFIG), ("description", "rota\n")):
        _write(path / name, text)
    for folder in ("refs/heads", "objects/pack", "objects/info"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    hooks.install(path)


async def check(path: Path, git: Git) -> None:
    """Look whether the branches lead to commits with trees.

    Raises:
        UnavailableError: they do not; the message names the ref, the hint what to do.
    """
    heads = {name: read_ref(path, name) for name in (MAIN, HISTORY)}
    if not heads[MAIN]:
        raise broken(path, f"refs/heads/{MAIN}", "is missing")
    asked = "".join(f"{commit}^{{tree}}\n" for commit in heads.values() if commit)
    try:
        answer = await git.run("cat-file", "--batch-check", data=asked.encode())
    except GitFailedError as error:
        raise UnavailableError(f"git cannot read {path}: {error}", hint=fsck(path)) from error
    found = answer.decode().splitlines()
    for (name, commit), line in zip(((n, c) for n, c in heads.items() if c), found, strict=True):
        if " tree " not in line:
            raise broken(path, f"refs/heads/{name}", f"names {commit}, which is not whole")


def sync(path: Path) -> None:
    """Put the folders' entries for what git wrote on disk; git itself syncs only files.

    Raises:
        OSError: the disk said no.
    """
    for folder in ("objects/pack", "refs/heads"):
        sync_folder(path / folder)


def pack_count(path: Path) -> int:
    """Return how many packs there are."""
    return sum(file.suffix == ".pack" for file in (path / "objects/pack").iterdir())


def remove_stale_locks(path: Path) -> bool:
    """Remove locks that no git can hold any more, and say whether there were any.

    A lock is held for milliseconds; one that is older than :data:`STALE_S` was left by a git that
    was killed while we live on. Only while no git of ours runs.
    """
    guard = path / "rota/guard"
    guard.touch()  # what time it is by the clock that stamps the locks
    limit = guard.stat().st_mtime - STALE_S
    locks = [lock for lock in _locks(path) if lock.stat().st_mtime < limit]
    for lock in locks:
        log.warning("removing %s, which a killed git left", lock)
        lock.unlink(missing_ok=True)
    return bool(locks)


def remove_halves(path: Path) -> None:
    """Remove what a fast-import that failed leaves: a full disk would stay full.

    Only while no git of ours runs. Its report is of no use, its words are in the error already.
    """
    for rest in (*path.glob("fast_import_crash_*"), *path.glob("objects/pack/tmp_pack_*")):
        rest.unlink(missing_ok=True)


async def make_empty(path: Path) -> Git:
    """Make a repository with our settings beside ``path``, without a commit; return a git on it.

    It is to be filled, and then to be put where it belongs by :func:`put_in_place`.

    Raises:
        GitFailedError: git could not.
    """
    new = path.with_name(path.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.parent.mkdir(parents=True, exist_ok=True)
    git = Git(new)
    await git.run("init", "--quiet", "--bare", f"--initial-branch={MAIN}", "--template=", str(new))
    repair(new)
    return git


def put_in_place(path: Path) -> None:
    """Let a repository that was made beside ``path`` be the one there: whole, or not at all."""
    new = path.with_name(path.name + ".new")
    sync(new)
    new.rename(path)
    sync_folder(path.parent)


async def _make(path: Path) -> None:
    try:
        git = await make_empty(path)
        first = {"README.md": texts.README.encode(), "settings.toml": texts.SETTINGS.encode()}
        stream = commit_stream(MAIN, "", first, author=ROTA, message="a new store\n", at=FOUNDED)
        await git.run(*COMMAND, data=stream)
    except GitFailedError as error:
        raise UnavailableError(f"git cannot make {path}: {error}") from error
    put_in_place(path)


async def _is_alone(guard: int) -> bool:
    deadline = asyncio.get_running_loop().time() + GUARD_WAIT_S
    while True:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(0.05)  # flock has no way to wait with a bound
        else:
            return True


def _locks(path: Path) -> Iterator[Path]:
    yield from path.glob("*.lock")
    yield from (path / "refs").rglob("*.lock")
    yield from path.glob("objects/info/*.lock")


def _rests(path: Path) -> Iterator[Path]:
    yield from _locks(path)
    yield from path.glob("fast_import_crash_*")
    yield from path.glob("rota/edges-*")
    objects = path / "objects"
    yield from objects.glob("pack/tmp_*")
    yield from objects.glob("pack/.tmp-*")
    yield from objects.glob("pack/*.keep")
    yield from objects.glob("tmp_objdir-*")
    yield from objects.glob("incoming-*")
    yield from objects.glob("[0-9a-f][0-9a-f]/tmp_obj_*")


def _write(path: Path, text: str) -> None:
    if path.is_file() and path.read_text("utf-8", "replace") == text:
        return
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)
