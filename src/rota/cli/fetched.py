"""Artifacts as files here: whole or not there, and nowhere but where they were asked for."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from rota.cli.render import clean, size
from rota.cli.screen import Screen
from rota.client.client import Client
from rota.errors import InputError, NotFoundError

BLOCK = 1 << 20


class Fetching:
    """Fetches files of one build."""

    def __init__(self, client: Client, build: str, screen: Screen) -> None:
        self._client, self._build, self._screen = client, build, screen

    def fetch_all(self, files: Sequence[dict[str, Any]], folder: Path) -> None:
        """Write files below ``folder``, each at its own path.

        Raises:
            InputError: one would lie elsewhere, or cannot be written.
            NotFoundError: some are kept no longer; the others are there.
        """
        targets = [_inside(folder, it["path"]) for it in files]
        gone = [it for it in files if _is_gone(it)]
        for it, target in zip(files, targets, strict=True):
            if not _is_gone(it):
                with _writing(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                self.fetch(it, target)
        if gone:
            more = f", and {len(gone) - 1} more" if len(gone) > 1 else ""
            raise NotFoundError(f"{gone[0]['path']!r} was {gone[0]['removed']}{more}")

    def fetch(self, file: dict[str, Any], target: Path) -> None:
        """Write one file. What an earlier call had of it is gone on with.

        Raises:
            InputError: it cannot be written.
            ConflictError: what came is not what the build kept.
        """
        name = clean(str(target))
        if _is_same(target, file):
            self._screen.note(f"{name}: there already")
            return
        # Beside its place first: what has the right name is whole.
        with _writing(target), _draft(target, file["sha256"]) as (draft, path):
            self._fill(draft, file)
            path.replace(target)
        self._screen.note(f"{name}: {size(file['size'])}")

    def _fill(self, draft: FileIO, file: dict[str, Any]) -> None:
        digest, done = hashlib.sha256(), 0
        draft.seek(0)
        while piece := draft.read(BLOCK):
            digest.update(piece)
            done += len(piece)
        if done > file["size"] or (done == file["size"] and digest.hexdigest() != file["sha256"]):
            draft.seek(0)
            draft.truncate()
            digest, done = hashlib.sha256(), 0
        if done == file["size"] and done:
            return
        if done:
            self._screen.note(f"{clean(file['path'])}: goes on after {size(done)}")
        try:
            for piece in self._client.artifact(self._build, file["path"], start=done, begun=digest):
                left = memoryview(piece)
                while left:
                    left = left[draft.write(left) :]
        except BaseException as error:
            if type(error).__name__ == "ConflictError":
                draft.seek(0)
                draft.truncate()  # it would never become the right one
            raise


@contextlib.contextmanager
def _draft(target: Path, sha256: str) -> Iterator[tuple[FileIO, Path]]:
    """Give a file to write ``target`` into, under a name by which the next call finds it again.

    It is removed if nothing came, or nobody could go on with it.
    """
    path = target.with_name(f".{target.name[:80]}.{sha256[:12]}.part")
    file = _opened(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Somebody else fetches the same to the same place.
        file.close()
        path = target.with_name(f".{target.name[:80]}.{os.getpid()}.part")
        file = _opened(path)
    is_done = False
    try:
        with file:
            yield file, path
            is_done = True
    finally:
        if not is_done and (not path.exists() or not path.stat().st_size):
            path.unlink(missing_ok=True)


def _opened(path: Path) -> FileIO:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    return FileIO(descriptor, "r+b")  # with no buffer: what comes is as large as one would be


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error


def _inside(folder: Path, path: str) -> Path:
    """Return where a file goes below ``folder``.

    Raises:
        InputError: a link would lead elsewhere, or the name itself does.
    """
    target = folder / path
    root = folder.resolve()
    is_plain = not path.startswith("/") and ".." not in path.split("/") and "\0" not in path
    if not is_plain or not target.parent.resolve().is_relative_to(root) or target.is_dir():
        what = "is a folder there" if target.is_dir() and is_plain else f"leads out of {folder}"
        raise InputError(f"{path!r} {what}", hint="fetch into another folder: -o FOLDER")
    return target


def _is_same(target: Path, file: dict[str, Any]) -> bool:
    try:
        if target.is_symlink() or target.stat().st_size != file["size"]:
            return False
        with target.open("rb") as opened:
            return bool(hashlib.file_digest(opened, "sha256").hexdigest() == file["sha256"])
    except OSError:
        return False


def _is_gone(file: dict[str, Any]) -> bool:
    """Whether it is kept no longer; what is only elsewhere is asked for there."""
    return str(file.get("removed", "")).startswith("removed")
