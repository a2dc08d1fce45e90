"""The store and the index in memory: twins of the real ones for tests and simulations.

They keep the same promises except for lasting longer than the process.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from rota.core import records as record
from rota.core.build import Build
from rota.core.definitions import blob_hash, folder_fault
from rota.errors import ConflictError, NotFoundError, StaleError
from rota.ports.store import HISTORY, MAIN, Author, Record


class _Commit(msgspec.Struct, frozen=True):
    files: dict[str, str]
    message: str


class MemoryStore:
    """The store; ``files`` are on ``main`` from the start.

    A commit's hash is not git's, but a function of the parent and the arguments all the same.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self._blobs: dict[str, bytes] = {}
        self._commits: dict[str, _Commit] = {}
        self._heads: dict[str, str] = {}
        self._covered = 0
        self._add(MAIN, files or {"settings.toml": b""}, "a new store\n", "")

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

    async def commit(
        self,
        changes: Mapping[str, bytes | None],
        *,
        base: str,
        author: Author,
        message: str,
        at: datetime,
    ) -> str:
        """Write files, move ``main`` from ``base`` and return the new hash."""
        head = self._heads[MAIN]
        if head != base:
            raise StaleError(f"main is at {head}, not at {base or 'nothing'}")
        about = f"{author.name} <{author.email}> {int(at.timestamp())}"
        return self._add(MAIN, changes, message, about)

    async def record(self, records: Sequence[Record], *, covers: int, at: datetime) -> str:
        """Write records to ``history`` in one commit that names ``covers``, and return its hash."""
        if covers <= self._covered:
            return self._heads.get(HISTORY, "")
        text = record.message([r.data for r in records], covers)
        files = {r.path: r.data for r in records}
        commit = self._add(HISTORY, files, text, str(int(at.timestamp())))
        self._covered = covers
        return commit

    async def covered(self) -> int:
        """Return the journal sequence up to which ``history`` holds all records; 0 at first."""
        return self._covered

    async def records(self) -> AsyncGenerator[bytes]:
        """Yield the data of every record on ``history``."""
        for blob in self._files(self._heads.get(HISTORY, "")).values():
            yield self._blobs[blob]

    def _files(self, commit: str) -> dict[str, str]:
        if not commit:
            return {}
        if commit not in self._commits:
            raise NotFoundError(f"no commit {commit}")
        return self._commits[commit].files

    def _add(self, ref: str, changes: Mapping[str, bytes | None], message: str, about: str) -> str:
        parent = self._heads.get(ref, "")
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
        self._commits[commit] = _Commit(files, message)
        self._heads[ref] = commit
        return commit


class MemoryIndex:
    """The index; it is always new."""

    def __init__(self) -> None:
        self._builds: dict[str, Build] = {}
        self._snapshot: tuple[int, bytes] | None = None
        self.is_new = True

    def add(self, builds: Sequence[Build], *, snapshot: tuple[int, bytes] | None = None) -> None:
        """Add or replace builds and the state at a journal sequence."""
        self._builds.update({build.id: build for build in builds})
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

    def clear(self) -> None:
        """Forget all, to be filled anew."""
        self._builds.clear()
        self._snapshot = None

    def close(self) -> None:
        """Do nothing."""

    def _newest(self) -> list[Build]:
        return sorted(self._builds.values(), key=lambda build: -build.requested_seq)
