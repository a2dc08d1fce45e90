"""Branches of other repositories: another agent's, over TLS with both sides known; or a clone's."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from rota.adapters.git import refs, repository
from rota.adapters.git.process import Git, GitFailedError
from rota.core import records as record
from rota.errors import ConflictError, InputError, UnavailableError
from rota.ports.store import HISTORY, MAIN, Source

#: A fetch ends when nothing comes for so long; a large store on a slow line takes what it takes.
SILENCE_S = 30
FETCH_TIMEOUT_S = 3600.0


async def fetch(path: Path, git: Git, source: Source) -> None:
    """Bring the branches of another agent's store under ``refs/rota/fetched``.

    Raises:
        UnavailableError: it does not answer, or git could not write.
    """
    try:
        await git.run(
            *_settings(source),
            *("fetch", "--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-auto-gc"),
            *("--", source.url, f"+{refs.HEADS}*:{refs.FETCHED}*"),
            timeout_s=FETCH_TIMEOUT_S,
        )
    except GitFailedError as error:
        if git.is_idle:
            repository.remove_halves(path)
        raise UnavailableError(f"cannot fetch from {source.url}: {error}") from error


def _settings(source: Source) -> list[str]:
    given = {
        "http.sslCert": source.cert,
        "http.sslKey": source.key,
        "http.sslCAInfo": source.ca,
        "http.lowSpeedLimit": "1",
        "http.lowSpeedTime": str(SILENCE_S),
        "http.proxy": "",
    }
    if source.pins:
        # The key is the agent's identity (ADR 14); curl compares it whatever else it verifies.
        keys = (base64.b64encode(bytes.fromhex(pin)).decode() for pin in source.pins)
        given |= {
            "http.pinnedPubkey": ";".join(f"sha256//{key}" for key in keys),
            "http.sslVerify": "false",
        }
    return [
        word
        for name, value in given.items()
        if value or name == "http.proxy"
        for word in ("-c", f"{name}={value}")
    ]


async def from_clone(clone: Path, path: Path) -> None:
    """Make the store at ``path`` out of a git clone of a store; both branches end where they are.

    A clone that somebody works in is fine: a branch is taken from where it is further, locally or
    as it was last fetched. The clone is only read.

    Raises:
        InputError: that is no clone of a store, or not a whole one; the message says what is missing.
        ConflictError: there is a store at ``path``.
        UnavailableError: git could not read the one or write the other.
    """
    if path.exists():
        raise ConflictError(
            f"there is a store in {path} already", hint="a new cluster wants a new folder: --data"
        )
    git = await _open(clone)
    try:
        taken = [await _find(clone, git, branch) for branch in (MAIN, HISTORY)]
        await _take(clone, git, path, taken)
    except GitFailedError as error:
        raise UnavailableError(f"cannot make a store from {clone}: {error}") from error
    except OSError as error:
        raise UnavailableError(f"cannot use {path}: {error.strerror}") from error


async def from_bundle(bundle: Path, path: Path, heads: Mapping[str, str]) -> None:
    """Make the store at ``path`` out of a bundle of one, as a back-up has it.

    Args:
        bundle: The file.
        path: Where the store is to be.
        heads: By branch, the commit at which it has to be.

    Raises:
        InputError: the bundle is damaged, or not of these commits.
        UnavailableError: git could not write.
    """
    try:
        git = await repository.make_empty(path)
    except (GitFailedError, OSError) as error:
        raise UnavailableError(f"cannot make {path}: {error}") from error
    try:
        lines = (await git.run("bundle", "list-heads", str(bundle))).decode("utf-8", "replace")
        pairs = (line.partition(" ") for line in lines.splitlines())
        found = {name.rpartition("/")[2]: (name, commit) for commit, _, name in pairs}
        specs = [f"+{found[branch][0]}:{refs.HEADS}{branch}" for branch in heads]
        await git.run(
            *("-c", "fetch.fsckObjects=true", "fetch", "--quiet", "--no-tags", "--no-auto-gc"),
            *("--no-write-fetch-head", "--", str(bundle), *specs),
            timeout_s=FETCH_TIMEOUT_S,
        )
    except (GitFailedError, KeyError, ValueError) as error:
        raise InputError(f"the store in the back-up cannot be read: {error}") from error
    if any(found[branch][1] != commit for branch, commit in heads.items()):
        raise InputError("the store in the back-up is not the one that its manifest names")
    repository.put_in_place(path)


async def _open(clone: Path) -> Git:
    if not clone.is_dir():
        raise InputError(f"there is no folder {clone}")
    inside = clone.absolute() / ".git"
    git = Git(inside if inside.exists() else clone.absolute())
    try:
        shallow = await git.run("rev-parse", "--is-shallow-repository")
    except GitFailedError as error:
        raise InputError(f"{clone} is no git clone: {error}") from error
    if shallow.strip() == b"true":
        raise InputError(
            f"{clone} is a shallow clone: a part of the history is missing",
            hint=f"git -C {clone} fetch --unshallow",
        )
    return git


async def _find(clone: Path, git: Git, branch: str) -> str:
    """Return the ref of the clone that has a branch, the one that is further where there are two."""
    patterns = (f"{refs.HEADS}{branch}", f"refs/remotes/*/{branch}")
    names = (await git.run("for-each-ref", "--format=%(refname)", *patterns)).decode().split()
    if not names:
        raise InputError(
            f"{clone} has no branch {branch}",
            hint=f"clone the store whole, or: git -C {clone} fetch origin {branch}:{branch}",
        )
    best = names[0]
    for name in names[1:]:
        if await _is_ancestor(git, best, name):
            best = name
        elif not await _is_ancestor(git, name, best):
            raise InputError(f"in {clone}, {best} and {name} have parted", hint="merge them first")
    return best


async def _is_ancestor(git: Git, old: str, new: str) -> bool:
    try:
        await git.run("merge-base", "--is-ancestor", old, new)
    except GitFailedError:
        return False
    return True


async def _take(clone: Path, git: Git, path: Path, taken: list[str]) -> None:
    trailers = ("log", "-1", "--format=%B", f"--grep=^{record.TRAILER}: ", taken[1], "--")
    if not record.covered((await git.run(*trailers)).decode("utf-8", "replace")):
        raise InputError(f"{clone} is no clone of a store: its history names no {record.TRAILER}")
    new = await repository.make_empty(path)
    source = (await git.run("rev-parse", "--absolute-git-dir")).decode().rstrip("\n")
    # Whose folder it is does not matter: it is only read.
    pick = "git -c safe.directory=* upload-pack"
    places = (f"{refs.HEADS}{branch}" for branch in (MAIN, HISTORY))
    specs = [f"+{name}:{place}" for name, place in zip(taken, places, strict=True)]
    await new.run(
        *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc"),
        *(f"--upload-pack={pick}", "--", source, *specs),
        timeout_s=FETCH_TIMEOUT_S,
    )
    repository.put_in_place(path)
