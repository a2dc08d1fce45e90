"""The store: a git repository whose ``main`` holds definitions and whose ``history`` what ran."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
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


class Logged(msgspec.Struct, frozen=True):
    """A commit of ``history``, by what it says."""

    commit: str
    message: str


class Prepared(msgspec.Struct, frozen=True):
    """A commit that is on disk here and on no branch: its hash, and a pack of what it adds.

    Whoever has the commit's parent can make it with the pack.
    """

    commit: str
    pack: bytes


class Source(msgspec.Struct, frozen=True):
    """Where another agent's store is, and how both sides are known.

    ``cert`` and ``key`` are the files of the certificate that is shown. Who answers is known by the
    ``pins`` of its keys (SHA-256 in hex), whatever name it has; or, without any, by a certificate
    of the file ``ca`` for the URL's host. All are empty for a path on this disk.
    """

    url: str
    cert: str = ""
    key: str = ""
    pins: tuple[str, ...] = ()
    ca: str = ""


class Store(Protocol):
    """``main`` moves by :meth:`apply` only, ``history`` by :meth:`record`; one at a time each.

    Making a commit and moving the branch are two steps, because between them the journal says who
    wins. Objects of a commit that lost stay behind unreferenced. Reads may run at the same time.
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

        Files under ``jobs/`` are written executable. The same arguments make the same commit.

        Raises:
            NotFoundError: there is no commit ``base``.
            ConflictError: a file would stand where a folder is, or the reverse.
            UnavailableError: git could not write; the message has git's words.
        """
        ...

    async def contains(self, commit: str, other: str) -> bool:
        """Return whether ``other`` is ``commit`` or came before it; not if either is unknown."""
        ...

    async def subject(self, commit: str) -> str:
        """Return the first line of the commit's message.

        Raises:
            NotFoundError: there is no such commit.
        """
        ...

    def pack(self, old: str, new: str) -> AsyncGenerator[bytes]:
        """Yield a pack of what ``new`` has and ``old`` lacks, for :meth:`apply`.

        Raises:
            UnavailableError: git could not read one of them (at any step: the pack is cut off).
        """
        ...

    async def apply(self, old: str, new: str, pack: AsyncIterable[bytes]) -> None:
        """Bring the objects of a pack in and move ``main`` from ``old`` to ``new``, on disk.

        A ``main`` that is at ``new`` already, or beyond it, stays where it is: applying twice is
        applying once. The pack is not read where the objects are known to be here.

        Raises:
            StaleError: ``main`` is neither at ``old`` nor at ``new`` nor beyond it.
            UnavailableError: the pack is damaged, or git could not write.
        """
        ...

    async def fetch(self, source: Source, *, force: bool = False) -> None:
        """Bring both branches to where another agent has them; one that is ahead here stays.

        With ``force`` one that has parted goes there too; git keeps where it was beside it.

        Raises:
            StaleError: a branch has parted from the other agent's, and ``force`` is off.
            UnavailableError: the other agent does not answer, or git could not write.
        """
        ...

    async def bundle(self, heads: Mapping[str, str], path: Path) -> None:
        """Write a git bundle of branches, as they were at these commits, to a file.

        Raises:
            UnavailableError: git could not read, or write there.
        """
        ...

    async def record(
        self, records: Sequence[Record], *, covers: int, at: datetime, told: Sequence[str] = ()
    ) -> str:
        """Write records to ``history`` in one commit that names ``covers``, and return its hash.

        The lines ``told`` stand in its message, before the one that names ``covers``. The commit is a function of its parent and the arguments, to the byte. With ``covers`` not
        above :meth:`covered` nothing happens, so a repeat after a crash neither loses nor doubles.
        """
        ...

    async def covered(self) -> int:
        """Return the journal sequence up to which ``history`` holds all records; 0 at first."""
        ...

    def records(self) -> AsyncGenerator[bytes]:
        """Yield the data of every record on ``history``. Cost: one pass over it, for a rebuild."""
        ...

    def log(self, word: str = "") -> AsyncGenerator[Logged]:
        """Yield the commits of ``history``, the last one first; only those that have ``word`` in the message.

        Close it (``aclosing``) to end it early. Cost: a process, and 10 µs a commit.

        Raises:
            UnavailableError: git could not read one of them.
        """
        ...

    def ledger(self) -> AsyncGenerator[bytes]:
        """Yield the data of every file in which ``history`` has notes of schedules."""
        ...
