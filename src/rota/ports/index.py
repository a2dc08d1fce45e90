"""The index: answers questions about builds that are no longer in memory.

It is a copy: delete it and it is made again from the store's history.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from rota.core.build import Build
from rota.core.retention import Remains, Removed, Swept


class Index(Protocol):
    """Written by one task, read by any, all in one thread; each call is short (milliseconds)."""

    def add(self, builds: Sequence[Build], *, snapshot: tuple[int, bytes] | None = None) -> None:
        """Add or replace builds and, in the same transaction, the state at a journal sequence."""
        ...

    def snapshot(self) -> tuple[int, bytes] | None:
        """Return the last snapshot given: (journal sequence, bytes)."""
        ...

    def get(self, build: str) -> Build | None:
        """Return a build by its whole id."""
        ...

    def by_number(self, job: str, number: int) -> Build | None:
        """Return a build by job and number."""
        ...

    def by_prefix(self, prefix: str, limit: int = 2) -> Sequence[Build]:
        """Return builds whose id starts with ``prefix``."""
        ...

    def latest(
        self,
        *,
        job: str | None = None,
        result: str | None = None,
        before: int | None = None,
        limit: int = 20,
    ) -> Sequence[Build]:
        """Return builds, newest first (by the sequence of their request, below ``before``).

        Cost: flat in the size of the history.
        """
        ...

    def pipeline(self, root: str) -> Sequence[Build]:
        """Return the builds of a tree, its root included, as far as they are here."""
        ...

    def jobs_with_remains(self) -> Sequence[str]:
        """Return the jobs of which some build left something, sorted."""
        ...

    def remains(
        self,
        *,
        job: str | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 500,
    ) -> Sequence[Remains]:
        """Return what builds left, newest end first; without a job, only what left artifacts.

        ``before`` is the end and id of the last build of the page before. Cost: flat in the size of
        the history.
        """
        ...

    def sweep(self, swept: Sequence[Swept], at: datetime | None) -> None:
        """Take note that logs and artifacts were dropped at ``at``; safe to call twice.

        Without a time they only remain no longer: they were gone, and nobody knows since when.
        """
        ...

    def removed(self, build: str) -> Removed:
        """Return what is known of what was dropped of a build."""
        ...

    def clear(self) -> None:
        """Forget all, to be filled anew."""
        ...

    def close(self) -> None:
        """Write what is open and let go of the file. Safe to call twice."""
        ...
