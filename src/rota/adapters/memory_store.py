"""The store and the index in memory: twins of the real ones for tests and simulations.

They keep the same promises except for lasting longer than the process.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec.structs import replace

from rota.core import records as record
from rota.core import schedules
from rota.core.build import Build
from rota.core.definitions import blob_hash, folder_fault
from rota.core.retention import Remains, Removed, Swept, noted, remains_of
from rota.errors import ConflictError, NotFoundError, StaleError, UnavailableError
from rota.ports.store import HISTORY, MAIN, Author, Logged, Prepared, Record, Source


class _Commit(msgspec.Struct, frozen=True):
    parent: str
    files: dict[str, str]
    message: str


class _Pack(msgspec.Struct, frozen=True):
    commits: dict[str, tuple[str, dict[bytes, str], str]]
    blobs: dict[str, bytes]


class MemoryStore:
    """The store; ``files`` are on ``main`` from the start.

    A commit's hash is not git's, but a function of the parent and the arguments all the same.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self._blobs: dict[str, bytes] = {}
        self._commits: dict[str, _Commit] = {}
        self._heads: dict[str, str] = {}
        self._covered = 0
        first = files or {"settings.toml": b""}
        self._heads[MAIN] = self._add("", first, "a new store\n", "")

    async def head(self, ref: str = MAIN) -> str:
        """Return the hash of the ref's commit; ``""`` while there is none."""
        return self._heads.get(ref, "")

    async def tree(self, commit: str) -> Mapping[str, str]:
        """Return path -> blob hash for all files of a commit. ``""`` has no files.

        Raises:
            NotFoundError: there is no such commit.
        """
        return dict(self._files(commit))

    async def blobs(self, hashes: Iterable[str]) -> Mapping[str, bytes]:
        """Return hash -> bytes.

        Raises:
            NotFoundError: there is no such blob.
        """
        try:
            return {blob: self._blobs[blob] for blob in hashes}
        except KeyError as error:
            raise NotFoundError(f"no blob {error}") from error

    async def prepare(
        self,
        changes: Mapping[str, bytes | None],
        *,
        base: str,
        author: Author,
        message: str,
        at: datetime,
    ) -> Prepared:
        """Write files as a commit on ``base``; no branch moves."""
        about = f"{author.name} <{author.email}> {int(at.timestamp())}"
        commit = self._add(base, changes, message, about)
        return Prepared(commit, b"".join([piece async for piece in self.pack(base, commit)]))

    async def contains(self, commit: str, other: str) -> bool:
        """Return whether ``other`` is ``commit`` or came before it."""
        return other in self._line(commit)

    async def subject(self, commit: str) -> str:
        """Return the first line of the commit's message."""
        self._files(commit)
        return self._commits[commit].message.partition("\n")[0]

    async def pack(self, old: str, new: str) -> AsyncGenerator[bytes]:
        """Yield a pack of what ``new`` has and ``old`` lacks, for :meth:`apply`."""
        known = {old, *self._line(old)}
        added = {name: self._commits[name] for name in self._line(new) if name not in known}
        if not added:
            raise UnavailableError(f"there is no {new} beyond {old or 'nothing'}")
        blobs = {blob: self._blobs[blob] for each in added.values() for blob in each.files.values()}
        commits = {
            name: (c.parent, {_raw(p): blob for p, blob in c.files.items()}, c.message)
            for name, c in added.items()
        }
        yield msgspec.msgpack.encode(_Pack(commits, blobs))

    async def apply(self, old: str, new: str, pack: AsyncIterable[bytes]) -> None:
        """Bring the objects of a pack in and move ``main`` from ``old`` to ``new``."""
        head = self._heads.get(MAIN, "")
        if new in self._line(head):
            return
        if head != old:
            raise StaleError(f"main is at {head or 'nothing'}, not at {old or 'nothing'}")
        if new not in self._commits:
            self._unpack(b"".join([piece async for piece in pack]))
        if new not in self._commits:
            raise UnavailableError(f"the pack does not hold {new}")
        self._heads[MAIN] = new

    async def fetch(self, source: Source, *, force: bool = False) -> None:
        """Refuse: nobody else's memory can be read."""
        raise UnavailableError(f"cannot fetch from {source.url}: this store is in memory")

    async def bundle(self, heads: Mapping[str, str], path: Path) -> None:
        """Write the names of the commits: nobody can read this memory."""
        path.write_bytes(msgspec.json.encode(dict(heads)))

    async def record(
        self, records: Sequence[Record], *, covers: int, at: datetime, told: Sequence[str] = ()
    ) -> str:
        """Write records to ``history`` in one commit that names ``covers``, and return its hash."""
        if covers <= self._covered:
            return self._heads.get(HISTORY, "")
        text = record.message([r.data for r in records], covers, told)
        files = {r.path: r.data for r in records}
        parent = self._heads.get(HISTORY, "")
        commit = self._add(parent, files, text, str(int(at.timestamp())))
        self._heads[HISTORY], self._covered = commit, covers
        return commit

    async def covered(self) -> int:
        """Return the journal sequence up to which ``history`` holds all records; 0 at first."""
        return self._covered

    async def records(self) -> AsyncGenerator[bytes]:
        """Yield the data of every record on ``history``."""
        async for data in self._under(record.FOLDER):
            yield data

    async def log(self, word: str = "") -> AsyncGenerator[Logged]:
        """Yield the commits of ``history`` with ``word`` in the message, the last one first."""
        for commit in self._line(self._heads.get(HISTORY, "")):
            if word in (message := self._commits[commit].message):
                yield Logged(commit, message)

    async def ledger(self) -> AsyncGenerator[bytes]:
        """Yield the data of every file of notes on ``history``."""
        async for data in self._under(schedules.FOLDER):
            yield data

    async def _under(self, folder: str) -> AsyncGenerator[bytes]:
        for path, blob in self._files(self._heads.get(HISTORY, "")).items():
            if path.startswith(f"{folder}/"):
                yield self._blobs[blob]

    def _files(self, commit: str) -> dict[str, str]:
        if not commit:
            return {}
        if commit not in self._commits:
            raise NotFoundError(f"no commit {commit}")
        return self._commits[commit].files

    def _line(self, commit: str) -> list[str]:
        """Return a commit and all before it."""
        line = []
        while commit in self._commits:
            line.append(commit)
            commit = self._commits[commit].parent
        return line

    def _unpack(self, pack: bytes) -> None:
        try:
            found = msgspec.msgpack.decode(pack, type=_Pack)
        except msgspec.MsgspecError as error:
            raise UnavailableError(f"the pack is damaged: {error}") from error
        self._blobs.update(found.blobs)
        for name, (parent, files, message) in found.commits.items():
            paths = {raw.decode("utf-8", "surrogateescape"): blob for raw, blob in files.items()}
            self._commits[name] = _Commit(parent, paths, message)

    def _add(
        self, parent: str, changes: Mapping[str, bytes | None], message: str, about: str
    ) -> str:
        gone = {path for path, data in changes.items() if data is None}
        files = {path: blob for path, blob in self._files(parent).items() if path not in gone}
        written = {path: data for path, data in changes.items() if data is not None}
        files.update({path: blob_hash(data) for path, data in written.items()})
        fault = folder_fault(written, files)
        if fault is not None:
            raise ConflictError(fault)
        text = "\n".join([parent, about, message, *(f"{h} {p}" for p, h in sorted(files.items()))])
        commit = hashlib.sha1(
            text.encode("utf-8", "surrogateescape"), usedforsecurity=False
        ).hexdigest()
        self._blobs.update({blob_hash(data): data for data in written.values()})
        self._commits[commit] = _Commit(parent, files, message)
        return commit


def _raw(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


class MemoryIndex:
    """The index; it is always new."""

    def __init__(self) -> None:
        self._builds: dict[str, Build] = {}
        self._snapshot: tuple[int, bytes] | None = None
        self._remains: dict[str, Remains] = {}
        self._removed: dict[str, Removed] = {}
        self.is_new = True

    def add(self, builds: Sequence[Build], *, snapshot: tuple[int, bytes] | None = None) -> None:
        """Add or replace builds and the state at a journal sequence."""
        self._builds.update({build.id: build for build in builds})
        left = filter(None, map(remains_of, builds))
        self._remains.update({each.build: each for each in left})
        self._snapshot = snapshot or self._snapshot

    def snapshot(self) -> tuple[int, bytes] | None:
        """Return the last snapshot given: (journal sequence, bytes)."""
        return self._snapshot

    def get(self, build: str) -> Build | None:
        """Return a build by its whole id."""
        return self._builds.get(build)

    def by_number(self, job: str, number: int) -> Build | None:
        """Return a build by job and number."""
        found = [b for b in self._newest() if (b.job, b.number) == (job, number)]
        return found[0] if found else None

    def by_prefix(self, prefix: str, limit: int = 2) -> Sequence[Build]:
        """Return builds whose id starts with ``prefix``, in the order of their ids."""
        return [b for key, b in sorted(self._builds.items()) if key.startswith(prefix)][:limit]

    def latest(
        self,
        *,
        job: str | None = None,
        result: str | None = None,
        before: int | None = None,
        limit: int = 20,
    ) -> Sequence[Build]:
        """Return builds, newest first (by the sequence of their request, below ``before``)."""
        return [
            build
            for build in self._newest()
            if (job is None or build.job == job)
            and (result is None or build.result == result)
            and (before is None or build.requested_seq < before)
        ][: max(limit, 0)]

    def pipeline(self, root: str) -> Sequence[Build]:
        """Return the builds of a tree, its root included."""
        return [build for build in self._builds.values() if build.root == root]

    def jobs_with_remains(self) -> Sequence[str]:
        """Return the jobs of which some build left something, sorted."""
        return sorted({each.job for each in self._remains.values()})

    def remains(
        self,
        *,
        job: str | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 500,
    ) -> Sequence[Remains]:
        """Return what builds left, newest end first; without a job, only what left artifacts."""
        newest = sorted(self._remains.values(), key=_end, reverse=True)
        return [
            each
            for each in newest
            if (each.files > 0 if job is None else each.job == job)
            and (before is None or _end(each) < before)
        ][:limit]

    def sweep(self, swept: Sequence[Swept], at: datetime | None) -> None:
        """Take note that logs and artifacts were dropped at ``at``."""
        for each in swept:
            left = self._remains.pop(each.build, None)
            if left is not None and each.logs:
                left = replace(left, attempts=0, log_bytes=0)
            if left is not None and each.artifacts:
                left = replace(left, files=0, file_bytes=0)
            if left is not None and (left.attempts or left.files):
                self._remains[each.build] = left
            if at is not None:
                self._removed[each.build] = noted(self.removed(each.build), each, at)

    def removed(self, build: str) -> Removed:
        """Return what is known of what was dropped of a build."""
        return self._removed.get(build, Removed())

    def clear(self) -> None:
        """Forget all, to be filled anew."""
        self._builds.clear()
        self._remains.clear()
        self._removed.clear()
        self._snapshot = None

    def close(self) -> None:
        """Do nothing."""

    def _newest(self) -> list[Build]:
        return sorted(self._builds.values(), key=lambda build: -build.requested_seq)


def _end(left: Remains) -> tuple[datetime, str]:
    return (left.finished_at, left.build)
