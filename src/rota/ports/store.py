"""The store: a git repository whose ``main`` holds definitions and whose ``history`` what ran."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

MAIN = "main"
HISTORY = "history"


class Author(msgspec.Struct, frozen=True):
    """Who a commit is by."""

    name: str
    email: str


class Record(msgspec.Struct, frozen=True):
    """One file to write on ``history``: the last word on one build."""

    path: str
    data: bytes


class Store(Protocol):
    """Reads may run at the same time; :meth:`commit` and :meth:`record` are one at a time each.

    Objects of a commit that lost a race stay behind unreferenced; git's own clean-up takes them.
    """

    async def head(self, ref: str = MAIN) -> str:
        """Return the hash of the ref's commit; ``""`` while there is none."""
        ...

    async def tree(self, commit: str) -> Mapping[str, str]:
        """Return path -> blob hash for all files of a commit on ``main``. ``""`` has no files."""
        ...

    async def blobs(self, hashes: Iterable[str]) -> Mapping[str, bytes]:
        """Return hash -> bytes.

        Raises:
            NotFoundError: the repository has no such blob.
        """
        ...

    async def commit(
        self,
        changes: Mapping[str, bytes | None],
        *,
        base: str,
        author: Author,
        message: str,
        at: datetime,
    ) -> str:
        """Write files (``None`` deletes), move ``main`` from ``base`` and return the new hash.

        Files under ``jobs/`` are written executable.

        Raises:
            StaleError: ``main`` is not at ``base``: nothing was changed.
            ConflictError: a file would stand where a folder is, or the reverse.
            UnavailableError: git could not write; the message has git's words.
        """
        ...

    async def record(self, records: Sequence[Record], *, covers: int, at: datetime) -> str:
        """Write records to ``history`` in one commit that names ``covers``, and return its hash.

        The commit is a function of its parent and the arguments, to the byte. With ``covers`` not
        above :meth:`covered` nothing happens, so a repeat after a crash neither loses nor doubles.
        """
        ...

    async def covered(self) -> int:
        """Return the journal sequence up to which ``history`` holds all records; 0 at first."""
        ...

    def records(self) -> AsyncGenerator[bytes]:
        """Yield the data of every record on ``history``. Cost: one pass over it, for a rebuild."""
        ...
