"""Files on their way to become artifacts: one, all of a folder, or a folder packed into one."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rota.errors import InputError

#: As many as a build keeps.
MAX_FILES = 500


class Source(NamedTuple):
    """What is sent under a name; ``size`` is None where nobody knows before its end."""

    name: str
    size: int | None
    open: Callable[[], AbstractContextManager[Any]]


@contextlib.contextmanager
def sources(path: str, name: str, *, as_tar: bool) -> Iterator[Sequence[Source]]:
    """Give what a word on the command line means.

    Raises:
        InputError: there is no such thing, or it cannot be kept so.
    """
    file = Path(path)
    if path == "-":
        if not name:
            raise InputError("what comes from standard input has no name", hint="put - NAME")
        yield [Source(name, None, lambda: contextlib.nullcontext(sys.stdin.buffer))]
    elif as_tar:
        with _packed(file, name) as packed:
            yield [packed]
    elif file.is_dir():
        yield _tree(file, name)
    else:
        if not file.exists():
            raise InputError(f"cannot read {file}: no such file")
        if not file.is_file():
            raise InputError(f"cannot keep {file}: it is no regular file", hint="put - NAME <…")
        yield [_source(file, name or file.name)]


def _source(file: Path, name: str) -> Source:
    if not name.isprintable():
        raise InputError(
            f"cannot keep {name!r}: its name cannot be printed",
            hint="give it another: put FILE NAME; a folder's --tar keeps any name",
        )
    try:
        length = file.stat().st_size
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    return Source(name, length, lambda: _Exactly(file, length))


def _tree(folder: Path, name: str) -> list[Source]:
    """Return all files of a folder; below its own name, or another one."""
    base = name.rstrip("/") or Path(os.path.abspath(folder)).name  # noqa: PTH100 - links stay
    found: list[Source] = []
    root = folder.resolve()
    for here, folders, files in os.walk(folder):
        folders.sort()
        for each in sorted(files):
            file = Path(here) / each
            inside = file.resolve().is_relative_to(root)
            if not file.is_file() or not inside:
                what = "leads out of the folder" if not inside else "is no regular file"
                raise InputError(f"cannot keep {file}: it {what}", hint="--tar keeps links")
            found.append(_source(file, f"{base}/{file.relative_to(folder)}"))
    if not found:
        raise InputError(f"{folder} has no files in it")
    if len(found) > MAX_FILES:
        raise InputError(
            f"{folder} has {len(found)} files, a build keeps {MAX_FILES}",
            hint=f"as one file: rota artifacts put --tar {folder}",
        )
    return found


@contextlib.contextmanager
def _packed(folder: Path, name: str) -> Iterator[Source]:
    import tarfile

    if not folder.is_dir():
        raise InputError(f"cannot pack {folder}: no such folder")
    short = Path(os.path.abspath(folder)).name  # noqa: PTH100 - links stay
    with tempfile.NamedTemporaryFile(prefix="rota-", suffix=".tar.gz") as packed:
        try:
            with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as tar:
                tar.add(folder, arcname=short)
            packed.flush()
        except OSError as error:
            raise InputError(f"cannot pack {folder}: {error.strerror or error}") from error
        yield _source(Path(packed.name), name or f"{short}.tar.gz")


class _Exactly:
    """A file's first bytes, as many as were announced: it may grow or shrink meanwhile."""

    def __init__(self, path: Path, length: int) -> None:
        self._path, self._left, self._length = path, length, length
        self._file: BinaryIO | None = None

    def __enter__(self) -> _Exactly:
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {error.strerror}") from error
        self._left = self._length
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes.

        Raises:
            InputError: there are fewer than were announced, or they cannot be read.
        """
        assert self._file is not None
        wanted = self._left if count < 0 else min(count, self._left)
        try:
            data = self._file.read(wanted)
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {error.strerror}") from error
        if len(data) < wanted:
            raise InputError(f"{self._path} became shorter while it was read")
        self._left -= len(data)
        return data
