"""The index of tests as one SQLite file, made when somebody first asks for the past of a test."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rota.adapters.sqlite.copy import Layout, opened, transaction
from rota.core.build import Build
from rota.core.case_history import Read, Run, run_of
from rota.errors import UnavailableError

#: Counts up with the tables below.
VERSION = 2
#: Of one job; further tests are not followed.
MAX_ROSTER = 50_000
#: Builds of a job of which tests are kept.
MAX_BUILDS = 2000

_SCHEMA = """
CREATE TABLE jobs (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE roster (
    job INTEGER NOT NULL, test INTEGER NOT NULL, title TEXT NOT NULL, PRIMARY KEY (job, test)
) WITHOUT ROWID;
CREATE TABLE runs (
    build TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    job INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    revision TEXT NOT NULL,
    ran BLOB, bad BLOB, skipped BLOB, flaky BLOB, levels BLOB,
    PRIMARY KEY (build, attempt)  -- not "without rowid": such rows would be cut at 1 KB
);
CREATE INDEX runs_by_job ON runs (job, at);
"""
_SETTINGS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -1024;
"""
_LAYOUT = Layout(VERSION, _SETTINGS, _SCHEMA)
_ADD = "INSERT OR REPLACE INTO runs VALUES (?,?,?,?,?,?,?,?,?,?,?)"
_TRIM = """
DELETE FROM runs WHERE job = ?1 AND at < (
    SELECT at FROM runs WHERE job = ?1 ORDER BY at DESC LIMIT 1 OFFSET ?2
)
"""
#: SQLite takes so many values in one question, at least.
_SOME = 500


class SqliteCases:
    """The index in the file ``path``, which is opened when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def runs(self, job: str, builds: Sequence[str]) -> Sequence[Run]:
        """Return what is known of these builds' tests. Cost: about 10 µs a run."""
        found: list[Run] = []
        with self._opened() as db:
            for at in range(0, len(builds), _SOME):
                some = builds[at : at + _SOME]
                marks = ",".join("?" * len(some))
                query = (
                    "SELECT build, number, attempt, at, revision, ran, bad, skipped, flaky, levels"  # noqa: S608 - marks alone
                    f" FROM runs WHERE build IN ({marks})"
                )
                found += map(_run, db.execute(query, some))
        order = {build: place for place, build in enumerate(builds)}
        return sorted(found, key=lambda run: (order[run.build], -run.attempt))

    def add(self, job: str, reads: Sequence[tuple[Build, int, Read | None]]) -> None:
        """Take what was read of attempts. Cost: about 1 ms for a thousand tests."""
        with self._opened() as db, transaction(db):
            db.execute("INSERT OR IGNORE INTO jobs (name) VALUES (?)", [job])
            (job_id,) = db.execute("SELECT id FROM jobs WHERE name = ?", [job]).fetchone()
            rows = db.execute("SELECT title, test FROM roster WHERE job = ?", [job_id])
            roster = dict(rows.fetchall())
            known = len(roster)
            for build, attempt, read in reads:
                kept = _followed(read or Read([], "", b""), roster)
                numbers = [roster[title] for title in kept.titles]
                db.execute(_ADD, _row(job_id, run_of(build, attempt, kept, numbers)))
            new = list(roster.items())[known:]
            db.executemany(
                "INSERT INTO roster VALUES (?,?,?)", [(job_id, test, title) for title, test in new]
            )
            db.execute(_TRIM, [job_id, MAX_BUILDS])

    def titles(self, job: str, tests: Sequence[int]) -> Mapping[int, str]:
        """Return the titles of tests of a job's roster."""
        found: dict[int, str] = {}
        with self._opened() as db:
            for at in range(0, len(tests), _SOME):
                some = tests[at : at + _SOME]
                query = (
                    "SELECT test, title FROM roster WHERE job = (SELECT id FROM jobs WHERE name = ?)"  # noqa: S608 - marks alone
                    f" AND test IN ({','.join('?' * len(some))})"
                )
                found |= dict(db.execute(query, [job, *some]).fetchall())
        return found

    def find(self, job: str, text: str, limit: int) -> Mapping[int, str]:
        """Return the tests whose titles contain a text. Cost: about 1 µs a test of the job."""
        query = "SELECT test, title FROM roster WHERE job = (SELECT id FROM jobs WHERE name = ?)"
        with self._opened() as db:
            exact = db.execute(f"{query} AND title = ?", [job, text]).fetchone()
            if exact is not None:
                return {exact[0]: exact[1]}
            needle = text.casefold()
            found = {
                test: title
                for test, title in db.execute(query, [job])
                if needle in title.casefold()
            }
        ends = [test for test, title in found.items() if _is_end(title.casefold(), needle)]
        chosen = ends if len(ends) == 1 else sorted(found, key=found.__getitem__)[:limit]
        return {test: found[test] for test in chosen}

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        if self._db is not None:
            self._db.close()
            self._db = None

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._db is None:
                self._db, _ = opened(self._path, _LAYOUT)
            yield self._db
        except (sqlite3.Error, OSError) as error:
            raise UnavailableError(
                f"the index of tests {self._path} failed: {error}",
                hint="stop the agent and remove the file: it is made again from the artifacts",
            ) from error


def _is_end(title: str, text: str) -> bool:
    """Whether a text is the last part of a title: ``adds`` of ``CartTest.adds``."""
    return title.endswith(text) and title[: -len(text)].rstrip(" ").endswith((".", ">", "::", "/"))


def _followed(read: Read, roster: dict[str, int]) -> Read:
    """Return the tests that the roster has, or has room for; these it gets."""
    keep: list[int] = []
    for place, title in enumerate(read.titles):
        if title not in roster:
            if len(roster) >= MAX_ROSTER:
                continue
            roster[title] = len(roster)
        keep.append(place)
    if len(keep) == len(read.titles):
        return read
    return Read(
        [read.titles[place] for place in keep],
        "".join(read.letters[place] for place in keep),
        bytes(read.levels[place] for place in keep),
    )


def _row(job: int, run: Run) -> tuple[object, ...]:
    numbers = (_packed(it) for it in (run.ran, run.bad, run.skipped, run.flaky))
    at = run.at.timestamp()
    head = (run.build, run.attempt, job, run.number, at, run.revision)
    return (*head, *numbers, run.levels)


def _run(row: tuple[object, ...]) -> Run:
    build, number, attempt, at, revision, ran, bad, skipped, flaky, levels = row
    return Run(
        build=str(build),
        number=int(str(number)),
        attempt=int(str(attempt)),
        at=datetime.fromtimestamp(float(str(at)), UTC),
        revision=str(revision),
        ran=_unpacked(ran),
        bad=_unpacked(bad),
        skipped=_unpacked(skipped),
        flaky=_unpacked(flaky),
        levels=levels if isinstance(levels, bytes) else b"",
    )


def _packed(number: int) -> bytes | None:
    return number.to_bytes((number.bit_length() + 7) // 8, "little") if number else None


def _unpacked(data: object) -> int:
    return int.from_bytes(data, "little") if isinstance(data, bytes) else 0
