"""The index of tests: what each did in the builds of its job.

It is a copy of what lies among the artifacts: delete it and it is made again from these, as far as
they are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rota.core.build import Build
from rota.core.case_history import Read, Run


class CaseIndex(Protocol):
    """Used in one thread; each call takes milliseconds."""

    def runs(self, job: str, builds: Sequence[str]) -> Sequence[Run]:
        """Return what is known of these builds' tests, attempts newest first within each build."""
        ...

    def add(self, job: str, reads: Sequence[tuple[Build, int, Read | None]]) -> None:
        """Take what was read of attempts; ``None`` stands for one of which nothing could be.

        Raises:
            UnavailableError: the file cannot be written; nothing of it was.
        """
        ...

    def titles(self, job: str, tests: Sequence[int]) -> Mapping[int, str]:
        """Return the titles of tests of a job's roster."""
        ...

    def find(self, job: str, text: str, limit: int) -> Mapping[int, str]:
        """Return the tests whose titles contain a text, whatever the letters' case.

        One whose title is the text comes alone; so does the only one whose title ends in it as a part.
        """
        ...
