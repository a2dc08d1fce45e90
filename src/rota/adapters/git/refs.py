"""Branches as files: read in microseconds, and moved by compare-and-set without a process.

git keeps a ref in a file of its own or, packed, in a line of another one. Who writes takes the lock
that git takes, so a git run by hand and we do not overwrite each other.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from rota.errors import StaleError, UnavailableError

HEADS = "refs/heads/"
#: Where branches of another repository are put until it is clear what becomes of ours.
FETCHED = "refs/rota/fetched/"
#: What a bundle is made of while it is written.
BUNDLED = "refs/rota/bundled/"
#: What a branch was at before it was set to something that does not contain it.
WAS = "refs/rota/was/"

_HASH = re.compile(r"[0-9a-f]{40}")


def is_hash(text: str) -> bool:
    """Whether ``text`` is the whole name of an object."""
    return _HASH.fullmatch(text) is not None


def read_ref(path: Path, branch: str, folder: str = HEADS) -> str:
    """Return the hash that a branch names; ``""`` if there is no such branch.

    Raises:
        UnavailableError: the ref's file does not hold a hash.
    """
    name = f"{folder}{branch}"
    for _ in range(2):  # packing moves a ref from the one place to the other, in this order
        with contextlib.suppress(FileNotFoundError):
            text = (path / name).read_text("utf-8", "replace").strip()
            if not is_hash(text):
                raise broken(path, name, f"holds {text[:50]!r}, not a hash")
            return text
        packed = _packed_ref(path, name)
        if packed:
            return packed
    return ""


def move_ref(path: Path, branch: str, old: str, new: str, folder: str = HEADS) -> None:
    """Let a branch that is at ``old`` name ``new``, on disk when this returns.

    Raises:
        StaleError: it is elsewhere; nothing was changed.
        FileExistsError: somebody else is about to move it.
        OSError: the disk said no; nothing was changed.
    """
    file = path / f"{folder}{branch}"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.with_name(file.name + ".lock")
    descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as writing:
            expect(path, branch, old, folder)
            writing.write(new + "\n")
            writing.flush()
            os.fsync(writing.fileno())
        lock.rename(file)
    except BaseException:
        lock.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def expect(path: Path, branch: str, old: str, folder: str = HEADS) -> None:
    """Do nothing if the branch is at ``old``.

    Raises:
        StaleError: it is elsewhere.
    """
    head = read_ref(path, branch, folder)
    if head != old:
        raise StaleError(f"{branch} is at {head or 'nothing'}, not at {old or 'nothing'}")


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk; git itself syncs only files.

    Raises:
        OSError: the disk said no.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def broken(path: Path, ref: str, what: str) -> UnavailableError:
    """Return the error for a repository that a person must look at."""
    return UnavailableError(f"the store is damaged: {path / ref} {what}", hint=fsck(path))


def fsck(path: Path) -> str:
    """Return what a person can do about a damaged repository."""
    return (
        f"`git --git-dir {path} fsck --full --lost-found` says what is there; "
        "`git update-ref` sets the branch; or move the folder away and let the agent make a new one"
    )


def _packed_ref(path: Path, name: str) -> str:
    try:
        text = (path / "packed-refs").read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""
    for line in text.splitlines():
        commit, _, ref = line.partition(" ")
        if ref == name and is_hash(commit):
            return commit
    return ""
