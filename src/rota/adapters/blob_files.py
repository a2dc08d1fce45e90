"""Blobs as files of a folder: this agent's own, or one that all agents share.

Each upload is a file of its own, and a small label beside it, moved into place once the upload is on
disk, says which one counts. So what broke off was never there, and who reads goes on reading what
was there when it began.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from rota.errors import NotFoundError, UnavailableError
from rota.ports.blobs import Blob

logger = logging.getLogger(__name__)

#: So much is read at once: larger pieces cost more than they save, in pages that are made for them.
PIECE = 512 << 10
#: So much is written at once, and in so many parts at most: what the kernel takes in one call.
BATCH, PARTS = 1 << 20, 512
#: So often the kernel is told to begin to write down what it was given: so the end waits for little.
WRITE_BACK = 16 << 20
_LABEL = ".label"


class _Label(msgspec.Struct):
    blob: Blob
    upload: str


class FileBlobs:
    """See :class:`rota.ports.blobs.Blobs`. The folder is made when something is stored."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, data: AsyncIterator[bytes]) -> Blob:
        """Store ``data``: hashed and written in a thread while the next bytes arrive."""
        label = self._label_path(name)
        stem = label.name.removesuffix(_LABEL)
        upload = label.with_name(f"{stem}.{secrets.token_hex(8)}")
        try:
            with self._translated():
                await asyncio.to_thread(label.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
                writer = await asyncio.to_thread(_Writer, upload)
            try:
                async for batch in _batches(data):
                    with self._translated():
                        await writer.take(batch)
                with self._translated():
                    await writer.done()
            finally:
                await writer.close()
            blob = Blob(name, writer.size, writer.digest.hexdigest())
            with self._translated():
                former = await asyncio.to_thread(_settle, label, _Label(blob, upload.name))
        except BaseException:
            with contextlib.suppress(OSError):
                upload.unlink(missing_ok=True)
            raise
        if former is not None:
            await asyncio.to_thread(label.with_name(former.upload).unlink, missing_ok=True)
        return blob

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(
                f"cannot write to {self._root}: {error.strerror}", hint=_hint(error)
            ) from error

    async def get(self, name: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the bytes; see the port."""
        label = await asyncio.to_thread(self._label, name)
        if label is None:
            raise NotFoundError(f"nothing is stored as {name!r}")
        path = self._label_path(name).with_name(label.upload)
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(offset)
                loop = asyncio.get_running_loop()
                reading = loop.run_in_executor(None, file.read, PIECE)
                try:
                    while piece := await reading:
                        reading = loop.run_in_executor(None, file.read, PIECE)
                        yield piece
                finally:
                    await asyncio.wait([reading])
        except OSError as error:
            raise UnavailableError(f"cannot read {path}: {error.strerror}") from error

    async def find(self, name: str) -> Blob | None:
        """Return what is stored under ``name``. Cost: that of opening a file."""
        label = self._label(name)
        return None if label is None else label.blob

    async def drop(self, name: str) -> None:
        """Forget it: first the label."""
        label = self._label(name)
        if label is not None:
            path = self._label_path(name)
            path.unlink(missing_ok=True)
            await asyncio.to_thread(path.with_name(label.upload).unlink, missing_ok=True)

    async def tidy(self, before: datetime) -> int:
        """Forget files that no label names; see the port."""
        return await asyncio.to_thread(_tidy, self._root, before.timestamp())

    async def names(self) -> list[str]:
        """Return the names of all that is stored. Cost: a file each."""
        return await asyncio.to_thread(lambda: [it.blob.name for it in _labels(self._root)])

    def _label_path(self, name: str) -> Path:
        stem = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:40]
        return self._root / stem[:2] / f"{stem}{_LABEL}"

    def _label(self, name: str) -> _Label | None:
        return _read(self._label_path(name))


class _Writer:
    """A new file, written and hashed by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.digest, self.size = hashlib.sha256(), 0
        self._told = 0
        self._writing: asyncio.Future[None] | None = None

    async def take(self, batch: list[bytes]) -> None:
        """Write a batch, once the one before is written; the caller fetches the next meanwhile."""
        await self._wait()
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, batch)

    async def done(self) -> None:
        """Return when all of it is on disk."""
        await self._wait()
        await asyncio.to_thread(os.fsync, self._fd)

    async def _wait(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)
            self._writing = None

    def _write(self, batch: list[bytes]) -> None:
        for part in batch:
            self.digest.update(part)
        size = sum(map(len, batch))
        # As they are, not joined: a copy of all would cost as much as hashing it.
        if os.writev(self._fd, batch) < size:
            self._write_rest(b"".join(batch))
        self.size += size
        if self.size - self._told >= WRITE_BACK:
            with contextlib.suppress(OSError):
                os.posix_fadvise(
                    self._fd, self._told, self.size - self._told, os.POSIX_FADV_DONTNEED
                )
            self._told = self.size

    def _write_rest(self, batch: bytes) -> None:
        """Write what is left of a batch that was taken in part."""
        view = memoryview(batch)[os.lseek(self._fd, 0, os.SEEK_CUR) - self.size :]
        while view:
            view = view[os.write(self._fd, view) :]

    async def close(self) -> None:
        """Close it once nothing is written any more; what goes wrong by then counts no more."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
            self._writing.exception()
        os.close(self._fd)


async def _batches(data: AsyncIterator[bytes]) -> AsyncGenerator[list[bytes], None]:
    """Yield the same bytes, in batches that are worth a thread."""
    held: list[bytes] = []
    size = 0
    async for part in data:
        held.append(part)
        size += len(part)
        if size >= BATCH or len(held) == PARTS:
            yield held
            held, size = [], 0
    if held:
        yield held


def _settle(path: Path, label: _Label) -> _Label | None:
    """Make a label count, on disk; return the one it replaces."""
    former = _read(path)
    aside = path.with_name(f"{label.upload}.new")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, msgspec.json.encode(label))
        os.fsync(fd)
    finally:
        os.close(fd)
    aside.rename(path)
    for folder in (path.parent, path.parent.parent):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    return former


def _read(path: Path) -> _Label | None:
    """Return a label.

    Raises:
        UnavailableError: it is there and cannot be read: nobody knows what it says.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Label)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise UnavailableError(f"cannot read {path}: {why}") from error


def _labels(root: Path) -> Iterator[_Label]:
    for path in root.glob(f"*/*{_LABEL}"):
        with contextlib.suppress(UnavailableError):
            label = _read(path)
            if label is not None:
                yield label


def _tidy(root: Path, before: float) -> int:
    count = 0
    for folder in root.iterdir() if root.is_dir() else ():
        uploads = [path for path in folder.iterdir() if not path.name.endswith(_LABEL)]
        for path in uploads:
            with contextlib.suppress(OSError, UnavailableError):
                if path.stat().st_mtime >= before:
                    continue
                label = _read(path.with_name(path.name.partition(".")[0] + _LABEL))
                if label is None or label.upload != path.name:
                    path.unlink()
                    count += 1
    return count


def _hint(error: OSError) -> str | None:
    full = error.errno == errno.ENOSPC
    return "make room, or lower [artifacts] max_bytes" if full else None
