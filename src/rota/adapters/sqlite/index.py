"""The index as one SQLite file.

It is a copy of what the journal and ``history`` say: whatever is wrong with the file (another
version's, cut off, not a database), it is dropped and the caller fills it anew.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from rota.adapters.sqlite.copy import Layout, opened, transaction
from rota.core.build import Build
from rota.core.retention import Remains, Removed, Swept, noted, remains_of
from rota.errors import UnavailableError

#: Counts up with the tables below and with any change to ``Build`` that old bytes do not fit.
VERSION = 3

_SCHEMA = """
CREATE TABLE builds (
    id TEXT PRIMARY KEY,
    job TEXT NOT NULL,
    number INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    result TEXT,
    data BLOB NOT NULL,
    pipeline TEXT
);
CREATE INDEX by_pipeline ON builds (pipeline) WHERE pipeline NOTNULL;
CREATE INDEX by_number ON builds (job, number);
CREATE INDEX by_seq ON builds (seq);
CREATE INDEX by_job ON builds (job, seq);
CREATE INDEX by_result ON builds (result, seq);
CREATE INDEX by_job_result ON builds (job, result, seq);
CREATE TABLE remains (
    build TEXT PRIMARY KEY,
    job TEXT NOT NULL,
    finished INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    log_bytes INTEGER NOT NULL,
    files INTEGER NOT NULL,
    file_bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX remains_by_job ON remains (job, finished, build);
CREATE INDEX remains_with_files ON remains (finished, build) WHERE files > 0;
CREATE TABLE removed (build TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE snapshot (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER, data BLOB);
"""

#: A kill loses nothing; a power cut may lose the last transactions, which come again from the
#: journal because the snapshot's sequence went with them. The 1 MiB cache holds the indexes' tops.
_SETTINGS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA cache_size = -1024;
PRAGMA wal_autocheckpoint = 500;
PRAGMA temp_store = MEMORY;
"""
_LAYOUT = Layout(
    VERSION, _SETTINGS, _SCHEMA, probe="SELECT seq FROM builds ORDER BY seq DESC LIMIT 1"
)

_ADD = """
INSERT OR REPLACE INTO builds (id, job, number, seq, result, data, pipeline) VALUES (?,?,?,?,?,?,?)
"""
_LEFT = """
INSERT OR REPLACE INTO remains (build, job, finished, attempts, log_bytes, files, file_bytes)
VALUES (?,?,?,?,?,?,?)
"""
#: One step down the index a job, however many builds each has.
_JOBS = """
WITH RECURSIVE each (job) AS (
    SELECT min(job) FROM remains
    UNION ALL SELECT (SELECT min(job) FROM remains WHERE job > each.job) FROM each WHERE job NOTNULL
)
SELECT job FROM each WHERE job NOTNULL
"""
_NO_LOGS = "UPDATE remains SET attempts = 0, log_bytes = 0 WHERE build = ?"
_NO_FILES = "UPDATE remains SET files = 0, file_bytes = 0 WHERE build = ?"
_NOTHING = "DELETE FROM remains WHERE build = ? AND attempts = 0 AND files = 0"
_REMOVED = "INSERT OR REPLACE INTO removed (build, data) VALUES (?,?)"
_SNAPSHOT = "INSERT OR REPLACE INTO snapshot (one, seq, data) VALUES (1, ?, ?)"

#: Of a tree with more builds, the rest is not told.
MAX_TREE = 100_000

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Build)
_removed = msgspec.msgpack.Decoder(Removed)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SqliteIndex:
    """The index in the file ``path``; ``is_new`` says that it is empty and has to be filled."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_new = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db, self.is_new = opened(path, _LAYOUT)
        except (OSError, sqlite3.Error) as error:
            raise UnavailableError(f"cannot use {path}: {error}") from error

    def add(self, builds: Sequence[Build], *, snapshot: tuple[int, bytes] | None = None) -> None:
        """Add or replace builds and, in the same transaction, the state at a journal sequence.

        Cost: about 35 µs of CPU a build.

        Raises:
            UnavailableError: the file cannot be written; nothing of it was.
        """
        with self._translated(), transaction(self._db):
            self._db.executemany(_ADD, map(_row, builds))
            left = filter(None, map(remains_of, builds))
            self._db.executemany(_LEFT, map(_remains_row, left))
            if snapshot is not None:
                self._db.execute(_SNAPSHOT, snapshot)

    def snapshot(self) -> tuple[int, bytes] | None:
        """Return the last snapshot given: (journal sequence, bytes)."""
        with self._translated():
            row = self._db.execute("SELECT seq, data FROM snapshot").fetchone()
        return None if row is None else (row[0], row[1])

    def get(self, build: str) -> Build | None:
        """Return a build by its whole id."""
        return _first(self._builds("id = ?", [build], 1))

    def by_number(self, job: str, number: int) -> Build | None:
        """Return a build by job and number."""
        if abs(number) >= 1 << 63:
            return None
        return _first(self._builds("job = ? AND number = ? ORDER BY seq DESC", [job, number], 1))

    def by_prefix(self, prefix: str, limit: int = 2) -> Sequence[Build]:
        """Return builds whose id starts with ``prefix``, in the order of their ids."""
        return self._builds("id >= ? AND id < ? ORDER BY id", [prefix, prefix + "\x7f"], limit)

    def latest(
        self,
        *,
        job: str | None = None,
        result: str | None = None,
        before: int | None = None,
        limit: int = 20,
    ) -> Sequence[Build]:
        """Return builds, newest first (by the sequence of their request, below ``before``).

        Cost: about 2 µs a build returned, whatever the size of the history: each combination of
        conditions has its index.
        """
        given = {"job = ?": job, "result = ?": result, "seq < ?": before}
        where = {text: value for text, value in given.items() if value is not None}
        conditions = " AND ".join(where) or "TRUE"
        return self._builds(f"{conditions} ORDER BY seq DESC", list(where.values()), limit)

    def pipeline(self, root: str) -> Sequence[Build]:
        """Return the builds of a tree, its root included. Cost: about 2 µs a build."""
        found = self._builds("id = ?", [root], 1)
        return found + self._builds("pipeline = ?", [root], MAX_TREE)

    def jobs_with_remains(self) -> Sequence[str]:
        """Return the jobs of which some build left something, sorted."""
        with self._translated():
            return [job for (job,) in self._db.execute(_JOBS)]

    def remains(
        self,
        *,
        job: str | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 500,
    ) -> Sequence[Remains]:
        """Return what builds left, newest end first; without a job, only what left artifacts.

        Cost: about 3 µs a build returned.
        """
        given: dict[str, tuple[object, ...]] = {
            "files > 0" if job is None else "job = ?": () if job is None else (job,)
        }
        if before is not None:
            given["(finished, build) < (?, ?)"] = (_stamp(before[0]), before[1])
        query = (
            "SELECT build, job, finished, attempts, log_bytes, files, file_bytes FROM remains"  # noqa: S608  # our own texts
            f" WHERE {' AND '.join(given)} ORDER BY finished DESC, build DESC LIMIT ?"
        )
        values = [value for values in given.values() for value in values]
        with self._translated():
            rows = self._db.execute(query, [*values, limit]).fetchall()
        return [
            Remains(build, job, _EPOCH + finished * _MICROSECOND, *counts)
            for build, job, finished, *counts in rows
        ]

    def sweep(self, swept: Sequence[Swept], at: datetime | None) -> None:
        """Take note that logs and artifacts were dropped at ``at``; safe to call twice.

        Raises:
            UnavailableError: the file cannot be written; nothing of it was.
        """
        with self._translated(), transaction(self._db):
            self._db.executemany(_NO_LOGS, [(each.build,) for each in swept if each.logs])
            self._db.executemany(_NO_FILES, [(each.build,) for each in swept if each.artifacts])
            self._db.executemany(_NOTHING, [(each.build,) for each in swept])
            if at is not None:
                rows = [(it.build, noted(self._removed(it.build), it, at)) for it in swept]
                encoded = [(build, _encoder.encode(data)) for build, data in rows]
                self._db.executemany(_REMOVED, encoded)

    def removed(self, build: str) -> Removed:
        """Return what is known of what was dropped of a build."""
        with self._translated():
            return self._removed(build)

    def _removed(self, build: str) -> Removed:
        query = "SELECT data FROM removed WHERE build = ?"
        row = self._db.execute(query, [build]).fetchone()
        return Removed() if row is None else _removed.decode(row[0])

    def clear(self) -> None:
        """Forget all, to be filled anew."""
        with self._translated(), transaction(self._db):
            self._db.execute("DELETE FROM builds")
            self._db.execute("DELETE FROM remains")
            self._db.execute("DELETE FROM removed")
            self._db.execute("DELETE FROM snapshot")
        self.is_new = True

    def close(self) -> None:
        """Write what is open and let go of the file. Safe to call twice."""
        self._db.close()

    def _builds(self, where: str, values: Sequence[object], limit: int) -> list[Build]:
        query = f"SELECT data FROM builds WHERE {where} LIMIT ?"  # noqa: S608  # our own texts
        with self._translated():
            rows = self._db.execute(query, [*values, max(limit, 0)]).fetchall()
            return [_decoder.decode(data) for (data,) in rows]

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise UnavailableError(
                f"the index {self._path} failed: {error}",
                hint="stop the agent and remove the file: it is made again from the history",
            ) from error


class RecordsAlone:
    """The builds of an index that an agent has open, to be read beside it.

    A file that cannot be read knows of none: the index is a copy, made again where it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._uri = f"{path.absolute().as_uri()}?mode=ro"

    def __enter__(self) -> Self:
        self._db = sqlite3.connect(self._uri, uri=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def get(self, build: str) -> Build | None:
        """Return a build by its whole id."""
        try:
            row = self._db.execute("SELECT data FROM builds WHERE id = ?", [build]).fetchone()
            return None if row is None else _decoder.decode(row[0])
        except (sqlite3.Error, msgspec.MsgspecError):
            return None


def _row(build: Build) -> tuple[object, ...]:
    data = _encoder.encode(build)
    return (
        build.id,
        build.job,
        build.number,
        build.requested_seq,
        build.result,
        data,
        build.pipeline or None,
    )


def _remains_row(left: Remains) -> tuple[object, ...]:
    return (
        left.build,
        left.job,
        _stamp(left.finished_at),
        left.attempts,
        left.log_bytes,
        left.files,
        left.file_bytes,
    )


def _stamp(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _first(builds: Sequence[Build]) -> Build | None:
    return builds[0] if builds else None
