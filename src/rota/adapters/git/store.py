"""The store over a bare git repository and the git executable."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from rota.adapters.git import repository
from rota.adapters.git.cache import BlobCache
from rota.adapters.git.housekeeping import Housekeeping
from rota.adapters.git.process import TIMEOUT_S, Git, GitFailedError, feed
from rota.adapters.git.stream import COMMAND, ROTA, commit_stream, decode_path
from rota.adapters.git.tasks import Tasks
from rota.core import records as record
from rota.core.definitions import blob_hash, folder_fault
from rota.errors import ConflictError, NotFoundError, StaleError, UnavailableError
from rota.ports.store import HISTORY, MAIN, Author, Record

log = logging.getLogger(__name__)

#: So many records are asked for at once while all are read: their names fit into a pipe.
BATCH = 500
_EMPTY: Mapping[str, str] = MappingProxyType({})


class GitStore:
    """The store at ``path``, made on first use. Open while its ``async with`` block lasts."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.git = Git(self.path)
        self._locks = {MAIN: asyncio.Lock(), HISTORY: asyncio.Lock()}
        self._cache = BlobCache()
        self._tree: tuple[str, Mapping[str, str]] = ("", _EMPTY)
        self._covered: tuple[str, int] = ("", 0)

    async def __aenter__(self) -> Self:
        guard = await repository.open_guard(self.path)
        async with contextlib.AsyncExitStack() as opened:
            opened.callback(os.close, guard)
            self.git = Git(self.path, guard)
            await repository.check(self.path, self.git)
            self._housekeeping = Housekeeping(self.path, self.git)
            tasks = await opened.enter_async_context(Tasks())
            tasks.start(self._housekeeping.run_housekeeping(), "store housekeeping")
            self._exit = opened.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._exit.__aexit__(kind, error, trace)

    async def head(self, ref: str = MAIN) -> str:
        """Return the hash of the ref's commit; ``""`` while there is none. Cost: reads a file."""
        return repository.read_ref(self.path, ref)

    async def tree(self, commit: str) -> Mapping[str, str]:
        """Return path -> blob hash for all regular files of a commit.

        Symbolic links and submodules are left out: nothing follows them. Paths that are not UTF-8
        have lone surrogates in them. Cost: one process (3 ms) for a commit other than the last.

        Raises:
            NotFoundError: the repository has no such commit.
        """
        if not commit:
            return _EMPTY
        known, files = self._tree
        if known != commit:
            files = MappingProxyType(await self._list(commit))
            self._tree = (commit, files)
        return files

    async def blobs(self, hashes: Iterable[str]) -> Mapping[str, bytes]:
        """Return hash -> bytes. Cost: nothing for what was read last, else one process (3 ms).

        Raises:
            NotFoundError: the repository has no such blob.
        """
        wanted = dict.fromkeys(hashes)
        found = {h: data for h in wanted if (data := self._cache.get(h)) is not None}
        missing = [h for h in wanted if h not in found]
        if missing:
            read = await self._read(missing)
            for blob, data in read.items():
                self._cache.add(blob, data)
            found.update(read)
        return found

    async def commit(
        self,
        changes: Mapping[str, bytes | None],
        *,
        base: str,
        author: Author,
        message: str,
        at: datetime,
    ) -> str:
        """Write files, move ``main`` from ``base`` and return the new hash, once it is on disk.

        Raises:
            ConflictError: a file would stand where a folder is, or the reverse.
            StaleError: ``main`` is not at ``base``. When git was killed in the very moment after
                it moved ``main``, this is said of what was written: read again, then decide.
            UnavailableError: git could not write; the message has git's words.

        Cost: one process.
        """
        async with self._locks[MAIN]:
            self._expect(MAIN, base)
            files = dict(await self.tree(base))
            _apply(files, changes)
            text = message if message.endswith("\n") else message + "\n"
            stream = commit_stream(MAIN, base, changes, author=author, message=text, at=at)
            new = await self._write(MAIN, base, stream)
            self._tree = (new, MappingProxyType(files))
        return new

    async def record(self, records: Sequence[Record], *, covers: int, at: datetime) -> str:
        """Write records to ``history`` in one commit that names ``covers``, and return its hash.

        Cost: one process; 11 to 19 ms of CPU for 100 records of 20 jobs, the more the fuller their
        folders are.
        """
        async with self._locks[HISTORY]:
            parent = await self.head(HISTORY)
            if covers <= await self.covered():
                return parent
            stream = commit_stream(
                HISTORY,
                parent,
                {r.path: r.data for r in records},
                author=ROTA,
                message=record.message([r.data for r in records], covers),
                at=at,
            )
            try:
                new = await self._write(HISTORY, parent, stream)
            except StaleError:
                if await self.covered() < covers:
                    raise
                return await self.head(HISTORY)  # git died after it had moved the branch
            self._covered = (new, covers)
        return new

    async def covered(self) -> int:
        """Return the journal sequence up to which ``history`` holds all records; 0 at first."""
        head = await self.head(HISTORY)
        if head != self._covered[0]:
            self._covered = (head, await self._read_covered(head))
        return self._covered[1]

    async def records(self) -> AsyncGenerator[bytes]:
        """Yield the data of every record on ``history``, in no particular order."""
        head = await self.head(HISTORY)
        if not head:
            return
        args = ("ls-tree", "-r", "-z", "--full-tree", head, f"{record.FOLDER}/")
        try:
            async with self.git.talk(*args) as listing, self.git.talk("cat-file", "--batch") as cat:
                async for hashes in _batches(listing):
                    for data in await _ask(cat, hashes):
                        yield data
        except (GitFailedError, asyncio.IncompleteReadError) as error:
            raise UnavailableError(f"git could not read {self.path}: {error}") from error

    def moved(self) -> None:
        """Note that a git other than this object's wrote to the repository: a push."""
        self._housekeeping.wake()

    async def sync(self, branch: str) -> None:
        """Return once what a branch names is on disk.

        Raises:
            UnavailableError: the disk said no.
        """
        try:
            await asyncio.to_thread(repository.sync, self.path, branch)
        except OSError as error:
            raise UnavailableError(f"cannot write {self.path}: {error.strerror}") from error

    def _expect(self, branch: str, base: str) -> None:
        head = repository.read_ref(self.path, branch)
        if head != base:
            raise StaleError(f"{branch} is at {head or 'nothing'}, not at {base or 'nothing'}")

    async def _write(self, branch: str, base: str, stream: bytes) -> str:
        try:
            answer = await self._import(stream)
        except GitFailedError as error:
            if self.git.is_idle:
                repository.remove_halves(self.path)
            self._expect(branch, base)
            raise UnavailableError(f"git could not write {branch}: {error}") from error
        await self.sync(branch)
        self._housekeeping.wake()
        return answer.decode().strip()

    async def _import(self, stream: bytes) -> bytes:
        try:
            return await self.git.run(*COMMAND, data=stream)
        except GitFailedError:
            if self.git.is_idle and repository.remove_stale_locks(self.path):
                return await self.git.run(*COMMAND, data=stream)
            raise

    async def _list(self, commit: str) -> dict[str, str]:
        if not repository.is_hash(commit):
            raise NotFoundError(f"no commit {commit!r}")
        try:
            out = await self.git.run("ls-tree", "-r", "-z", "--full-tree", commit)
        except GitFailedError as error:
            raise NotFoundError(f"no commit {commit}: {error}") from error
        entries = (entry.partition(b"\t") for entry in out.split(b"\0") if entry)
        return {
            decode_path(path): about[-40:].decode()
            for about, _, path in entries
            if about.startswith(b"100")
        }

    async def _read(self, hashes: Collection[str]) -> dict[str, bytes]:
        for blob in hashes:
            if not repository.is_hash(blob):
                raise NotFoundError(f"no blob {blob!r}")
        try:
            out = await self.git.run("cat-file", "--batch", data="\n".join([*hashes, ""]).encode())
        except GitFailedError as error:
            raise UnavailableError(f"git could not read {self.path}: {error}") from error
        return _parse_batch(out, hashes)

    async def _read_covered(self, head: str) -> int:
        if not head:
            return 0
        args = ("log", "-1", "--format=%B", f"--grep=^{record.TRAILER}: ", head, "--")
        try:
            return record.covered((await self.git.run(*args)).decode("utf-8", "replace"))
        except GitFailedError as error:
            raise UnavailableError(f"git could not read {self.path}: {error}") from error


def _apply(files: dict[str, str], changes: Mapping[str, bytes | None]) -> None:
    """Change ``files`` as git will."""
    for path, data in changes.items():
        if data is None:
            files.pop(path, None)
    added = [path for path, data in changes.items() if data is not None and path not in files]
    files.update({path: blob_hash(data) for path, data in changes.items() if data is not None})
    fault = folder_fault(added, files)
    if fault is not None:
        raise ConflictError(fault)


def _parse_batch(out: bytes, hashes: Iterable[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    at = 0
    for blob in hashes:
        end = out.index(b"\n", at)
        size = _size(out[at:end], blob)
        found[blob] = out[end + 1 : end + 1 + size]
        at = end + 2 + size
    return found


def _size(head: bytes, blob: str) -> int:
    """Return the size that cat-file's answer names."""
    kind, _, size = head.partition(b" ")[2].partition(b" ")
    if kind != b"blob":
        raise NotFoundError(f"no blob {blob}")
    return int(size)


async def _ask(cat: Process, hashes: Sequence[str]) -> list[bytes]:
    """Return the blobs, asked of a cat-file that runs; as many as a pipe holds the names of."""
    assert cat.stdout is not None
    answers = []
    async with asyncio.timeout(TIMEOUT_S):
        await feed(cat.stdin, "\n".join([*hashes, ""]).encode())
        for blob in hashes:
            size = _size((await cat.stdout.readuntil())[:-1], blob)
            answers.append((await cat.stdout.readexactly(size + 1))[:-1])
    return answers


async def _batches(listing: Process) -> AsyncIterator[list[str]]:
    """Yield the blobs' hashes of a tree's listing, so many at a time."""
    assert listing.stdout is not None
    batch: list[str] = []
    rest = b""
    while chunk := await listing.stdout.read(1 << 16):
        *entries, rest = (rest + chunk).split(b"\0")
        for entry in entries:
            about, _, _ = entry.partition(b"\t")
            if about.startswith(b"100"):
                batch.append(about[-40:].decode())
            if len(batch) >= BATCH:
                yield batch
                batch = []
    if batch:
        yield batch
