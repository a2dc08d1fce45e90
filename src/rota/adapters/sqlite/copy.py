"""A file that is a copy: whatever is wrong with it, it is dropped and made anew."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)


class Layout(NamedTuple):
    """What such a file looks like.

    Attributes:
        version: Counts up with what follows.
        settings: Statements for each connection.
        tables: Statements that make them.
        probe: A query that a sound file can answer, whatever is in it.
    """

    version: int
    settings: str
    tables: str
    probe: str = "SELECT 1"


def opened(path: Path, layout: Layout) -> tuple[sqlite3.Connection, bool]:
    """Open a file, made anew if it is not of this layout; say also whether it is empty.

    Raises:
        OSError: it cannot be dropped.
        sqlite3.Error: it cannot be made.
    """
    try:
        return _open(path, layout)
    except sqlite3.DatabaseError as error:
        log.warning("the index %s is of no use (%s): it is made again", path, error)
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    return _open(path, layout)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Let all of what is done in the context be, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _open(path: Path, layout: Layout) -> tuple[sqlite3.Connection, bool]:
    db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
    try:
        return db, _prepare(db, layout)
    except BaseException:
        db.close()
        raise


def _prepare(db: sqlite3.Connection, layout: Layout) -> bool:
    """Set a connection up, make the tables if there are none, and say whether there were none.

    Raises:
        sqlite3.DatabaseError: it is not of this layout.
    """
    db.executescript(layout.settings)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not tables:
        made = f"{layout.tables} PRAGMA user_version = {layout.version};"
        db.executescript(f"BEGIN; {made} COMMIT;")
    elif version != layout.version:
        raise sqlite3.DatabaseError(f"version {version}, not {layout.version}")
    db.execute(layout.probe).fetchone()
    return not tables
