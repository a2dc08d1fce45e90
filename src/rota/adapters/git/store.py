"""The store over a bare git repository and the git executable."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from asyncio.subprocess import Process
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import datetime
from pathlib import Path, PurePosixPath
from types import MappingProxyType, TracebackType
from typing import Self

from rota.adapters.git import fetching, packs, refs, repository
from rota.adapters.git.cache import BlobCache
from rota.adapters.git.housekeeping import Housekeeping
from rota.adapters.git.process import TIMEOUT_S, Git, GitFailedError, converse, feed, words
from rota.adapters.git.stream import COMMAND, ROTA, commit_stream, decode_path
from rota.adapters.git.tasks import Tasks
from rota.core import records as record
from rota.core import schedules
from rota.core.definitions import blob_hash, folder_fault
from rota.errors import ConflictError, NotFoundError, StaleError, UnavailableError
from rota.ports.store import HISTORY, MAIN, Author, Logged, Prepared, Record, Source

log = logging.getLogger(__name__)

#: So many records are asked for at once while all are read: their names fit into a pipe.
BATCH = 500
#: A bundle is a copy of the packs, on a disk that may be slow.
BUNDLE_TIMEOUT_S = 3600.0
#: So many commits are remembered as made or pushed here: those that wait for the journal's word.
MAX_HERE = 64
NOT_WRITTEN = "rota doctor looks whether the disk is full, and whether the store is whole"
_EMPTY: Mapping[str, str] = MappingProxyType({})


class GitStore:
    """The store at ``path``, made on first use. Open while its ``async with`` block lasts."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.git = Git(self.path)
        self._locks = {MAIN: asyncio.Lock(), HISTORY: asyncio.Lock()}
        self._fetching = asyncio.Lock()
        self._here: dict[str, None] = {}
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
        return refs.read_ref(self.path, ref)

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

    async def prepare(
        self,
        changes: Mapping[str, bytes | None],
        *,
        base: str,
        author: Author,
        message: str,
        at: datetime,
    ) -> Prepared:
        """Write files (``None`` deletes) as a commit on ``base``; no branch moves.

        Raises:
            NotFoundError: there is no commit ``base``.
            ConflictError: a file would stand where a folder is, or the reverse.
            UnavailableError: git could not write; the message has git's words.

        Cost: one process; a second one where folders with hundreds of files are concerned, so that
        the pack has what differs and not all of them.
        """
        before = await self.tree(base)
        files = dict(before)
        _apply(files, changes)
        text = message if message.endswith("\n") else message + "\n"
        stream = commit_stream(None, base, changes, author=author, message=text, at=at)
        try:
            commit, pack = await packs.import_commit(self.path, self.git, stream)
        except (GitFailedError, OSError) as error:
            if self.git.is_idle:
                repository.remove_halves(self.path)
            raise UnavailableError(
                f"git could not write main: {error}", hint=NOT_WRITTEN
            ) from error
        self._tree = (commit, MappingProxyType(files))
        for data in changes.values():
            if data is not None:
                self._cache.add(blob_hash(data), data)
        self._note(commit)
        # fast-import leaves out what is here already, such as of a commit that lost a race: other
        # repositories do not have that.
        if packs.count(pack) < _added(before, files, changes):
            pack = b"".join([piece async for piece in self.pack(base, commit)])
        return Prepared(commit, pack)

    async def contains(self, commit: str, other: str) -> bool:
        """Return whether ``other`` is ``commit`` or came before it; not if either is unknown."""
        if not refs.is_hash(commit) or not refs.is_hash(other):
            return False
        try:
            await self.git.run("merge-base", "--is-ancestor", other, commit)
        except GitFailedError:
            return False
        return True

    async def subject(self, commit: str) -> str:
        """Return the first line of the commit's message.

        Raises:
            NotFoundError: there is no such commit.
        """
        if not refs.is_hash(commit):
            raise NotFoundError(f"no commit {commit!r}")
        try:
            line = await self.git.run("log", "-1", "--format=%s", commit, "--")
        except GitFailedError as error:
            raise NotFoundError(f"no commit {commit}: {error}") from error
        return line.decode("utf-8", "replace").rstrip("\n")

    async def pack(self, old: str, new: str) -> AsyncGenerator[bytes]:
        """Yield a pack of what ``new`` has and ``old`` lacks, for :meth:`apply`. Cost: a process.

        Raises:
            UnavailableError: git could not read one of them (at any step: the pack is cut off).
        """
        self._note(new)
        try:
            async with contextlib.aclosing(packs.make_pack(self.git, old, new)) as pieces:
                async for piece in pieces:
                    yield piece
        except GitFailedError as error:
            raise UnavailableError(f"git could not read {self.path}: {error}") from error

    async def apply(self, old: str, new: str, pack: AsyncIterable[bytes]) -> None:
        """Bring the objects of a pack in and move ``main`` from ``old`` to ``new``, on disk.

        Raises:
            StaleError: ``main`` is neither at ``old`` nor at ``new`` nor beyond it.
            UnavailableError: the pack is damaged, or git could not write.

        Cost: no process for a commit that was made or packed here, two for any other.
        """
        async with self._locks[MAIN]:
            head = await self.head()
            if head == new:
                return
            if head != old:
                if await self.contains(head, new):
                    return
                refs.expect(self.path, MAIN, old)
            if new not in self._here:
                await self._unpack(old, new, pack)
            await self._move(MAIN, old, new)
        self._housekeeping.wake()

    async def fetch(self, source: Source, *, force: bool = False, exact: bool = False) -> None:
        """Bring both branches to where another agent has them; one that is ahead here stays.

        With ``exact`` also that one goes where the other agent has it, for an agent that begins
        anew; where it was is kept beside it.

        Raises:
            StaleError: a branch has parted from the other agent's, and ``force`` is off.
            UnavailableError: the other agent does not answer, or git could not write.
        """
        async with self._fetching:
            await fetching.fetch(self.path, self.git, source)
            for branch in (HISTORY, MAIN):
                async with self._locks[branch]:
                    await self._follow(branch, force=force or exact, exact=exact)
        self._housekeeping.wake()

    async def bundle(self, heads: Mapping[str, str], path: Path) -> None:
        """Write a git bundle of branches, as they were at these commits, to a file."""
        mark = f"{refs.BUNDLED}{secrets.token_hex(6)}/"
        try:
            for branch, commit in heads.items():
                await self.git.run("update-ref", mark + branch, commit)
            names = [mark + branch for branch in heads]
            await self.git.run(
                "bundle", "create", "--quiet", str(path), *names, timeout_s=BUNDLE_TIMEOUT_S
            )
        except GitFailedError as error:
            raise UnavailableError(f"cannot write {path}: {error}", hint=NOT_WRITTEN) from error
        finally:
            for branch in heads:
                with contextlib.suppress(GitFailedError):
                    await self.git.run("update-ref", "-d", mark + branch)

    async def record(
        self, records: Sequence[Record], *, covers: int, at: datetime, told: Sequence[str] = ()
    ) -> str:
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
                message=record.message([r.data for r in records], covers, told),
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

    def records(self) -> AsyncGenerator[bytes]:
        """Yield the data of every record on ``history``, in no particular order."""
        return self._files(record.FOLDER)

    async def log(self, word: str = "") -> AsyncGenerator[Logged]:
        """Yield the commits of ``history`` with ``word`` in the message, the last one first."""
        head = await self.head(HISTORY)
        if not head:
            return
        which = ("--fixed-strings", f"--grep={word}") if word else ()
        async with self.git.start(
            "git", "log", "-z", "--format=%H%n%B", *which, head, "--", env=self.git.env
        ) as process:
            assert process.stdout is not None
            async for entry in split(process.stdout):
                commit, _, message = entry.partition("\n")
                yield Logged(commit, message)
            _, said = await converse(process)
            if process.returncode:
                raise UnavailableError(f"git could not read {self.path}: {words(said)}")

    def ledger(self) -> AsyncGenerator[bytes]:
        """Yield the data of every file of notes on ``history``, in no particular order."""
        return self._files(schedules.FOLDER)

    async def _files(self, folder: str) -> AsyncGenerator[bytes]:
        head = await self.head(HISTORY)
        if not head:
            return
        args = ("ls-tree", "-r", "-z", "--full-tree", head, f"{folder}/")
        try:
            async with self.git.talk(*args) as listing, self.git.talk("cat-file", "--batch") as cat:
                async for hashes in _batches(listing):
                    for data in await _ask(cat, hashes):
                        yield data
        except (GitFailedError, asyncio.IncompleteReadError) as error:
            raise UnavailableError(f"git could not read {self.path}: {error}") from error

    async def _unpack(self, old: str, new: str, pack: AsyncIterable[bytes]) -> None:
        """Bring a pack in, and see that it holds all of ``new`` that ``old`` does not have."""
        check = ("rev-list", "--objects", "--quiet", new, *([f"^{old}"] if old else []), "--")
        try:
            await packs.unpack(self.git, pack)
            await self.git.run(*check)
        except GitFailedError as error:
            if self.git.is_idle:
                repository.remove_halves(self.path)
            raise UnavailableError(f"git could not take over {new}: {error}") from error

    async def _move(self, branch: str, old: str, new: str) -> None:
        """Move a branch, what it names put on disk before.

        Raises:
            StaleError: it is not at ``old``.
            UnavailableError: the disk said no, or somebody holds the branch's lock.
        """
        try:
            await asyncio.to_thread(self._move_now, branch, old, new)
        except OSError as error:
            what = f"{error.strerror}: {error.filename or self.path}"
            raise UnavailableError(
                f"git could not write {branch}: {what}", hint=NOT_WRITTEN
            ) from error

    def _move_now(self, branch: str, old: str, new: str) -> None:
        repository.sync(self.path)
        try:
            refs.move_ref(self.path, branch, old, new)
        except FileExistsError:
            if not (self.git.is_idle and repository.remove_stale_locks(self.path)):
                raise
            refs.move_ref(self.path, branch, old, new)

    async def _follow(self, branch: str, *, force: bool, exact: bool) -> None:
        """Move a branch to where it was found at another agent."""
        head = await self.head(branch)
        found = refs.read_ref(self.path, branch, refs.FETCHED)
        if found in {"", head}:
            return
        is_ahead = bool(head) and await self.contains(head, found)
        if is_ahead and not exact:
            return
        if head and (is_ahead or not await self.contains(found, head)):
            if not force:
                raise StaleError(f"{branch} is at {head} here and at {found} there: they parted")
            log.warning("%s was at %s, which is kept as %s%s", branch, head, refs.WAS, head)
            with contextlib.suppress(StaleError):  # kept already
                await asyncio.to_thread(refs.move_ref, self.path, head, "", head, refs.WAS)
        await self._move(branch, head, found)

    def _note(self, commit: str) -> None:
        """Remember that a commit is here, whole."""
        self._here[commit] = None
        while len(self._here) > MAX_HERE:
            del self._here[next(iter(self._here))]

    async def _write(self, branch: str, base: str, stream: bytes) -> str:
        try:
            answer = await self._import(stream)
        except GitFailedError as error:
            if self.git.is_idle:
                repository.remove_halves(self.path)
            refs.expect(self.path, branch, base)
            raise UnavailableError(
                f"git could not write {branch}: {error}", hint=NOT_WRITTEN
            ) from error
        try:
            await asyncio.to_thread(repository.sync, self.path)
        except OSError as error:
            raise UnavailableError(
                f"cannot write {self.path}: {error.strerror}", hint=NOT_WRITTEN
            ) from error
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
        if not refs.is_hash(commit):
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
            if not refs.is_hash(blob):
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


def _added(
    before: Mapping[str, str], after: Mapping[str, str], changes: Mapping[str, bytes | None]
) -> int:
    """Return how many objects a commit adds if nothing of it was there: files, folders, itself."""
    blobs = {after[path] for path, data in changes.items() if data is not None}
    touched = {str(folder) for path in changes for folder in PurePosixPath(path).parents}
    there = {str(folder) for path in after for folder in PurePosixPath(path).parents}
    return 1 + len(blobs - set(before.values())) + len(touched & there)


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


async def split(stream: asyncio.StreamReader) -> AsyncGenerator[str]:
    """Yield the texts of a stream that ends each by a NUL."""
    rest = b""
    while piece := await stream.read(1 << 16):
        *whole, rest = (rest + piece).split(b"\0")
        for text in whole:
            yield text.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


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
