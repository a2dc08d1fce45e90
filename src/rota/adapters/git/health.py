"""How a repository is: is all there that its branches need, and how is it packed."""

from __future__ import annotations

import re
from pathlib import Path

from rota.adapters.git import repository
from rota.adapters.git.process import Git, GitFailedError
from rota.ports.probes import StoreHealth
from rota.ports.store import HISTORY, MAIN

#: A million builds are looked at in less than that; the rest of the machine comes first.
FSCK_S = 30.0
_VERSION = re.compile(rb"(\d+)\.(\d+)(?:\.(\d+))?")
_LOOSE = re.compile(rb"^count: (\d+)$", re.MULTILINE)


async def examine(path: Path) -> StoreHealth:
    """Look at the repository at ``path``. Nothing is changed, and nobody waits for it.

    Raises:
        UnavailableError: there is no git, or it took longer than half a minute.
    """
    git = Git(path)
    version = await _version(git)
    faults: tuple[str, ...] = ()
    loose = 0
    refs = await _refs(git)
    try:
        await git.run(
            *("fsck", "--connectivity-only", "--no-dangling", "--no-progress", *refs),
            timeout_s=FSCK_S,
            is_nice=True,
        )
        counted = _LOOSE.search(await git.run("count-objects", "-v"))
        loose = int(counted[1]) if counted is not None else 0
    except GitFailedError as error:
        faults = await _missing(git, refs) or tuple(str(error).splitlines())
    return StoreHealth(
        version=version, faults=faults, packs=repository.pack_count(path), loose=loose
    )


async def _refs(git: Git) -> tuple[str, ...]:
    """Return the branches that are looked at: before level 2 there is no history without a build."""
    try:
        await git.run("rev-parse", "--verify", "--quiet", f"refs/heads/{HISTORY}")
    except GitFailedError:
        return (MAIN,)
    return MAIN, HISTORY


async def _missing(git: Git, refs: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the branches need and is not there; git's own complaint does not say it."""
    command = ("rev-list", "--objects", "--missing=print", "--quiet", *refs)
    try:
        found = await git.run(*command, timeout_s=FSCK_S, is_nice=True)
    except GitFailedError as error:
        return tuple(str(error).splitlines())
    return tuple(f"{it[1:]} is missing" for it in found.decode().splitlines() if it[:1] == "?")


async def _version(git: Git) -> tuple[int, ...]:
    try:
        found = _VERSION.search(await git.run("version"))
    except GitFailedError:
        found = None
    return tuple(int(part or 0) for part in found.groups()) if found is not None else ()
