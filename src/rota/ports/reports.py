"""Reports that builds leave in their workspaces, read where they can do no harm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from rota.core.case_history import Read
from rota.core.cases import Case, Tally
from rota.core.reports import CaseReports, CoverageReports, Covered


class ReportsWanted(msgspec.Struct, frozen=True, kw_only=True):
    """What to read, and where.

    ``since`` is when the attempt began, in seconds since 1970: older files are stale. ``masks`` are the
    values that must not be shown, ``hides_all`` says that there are too many of them to be known.
    """

    workspace: str
    log: str
    since: float
    tests: CaseReports | None = None
    coverage: CoverageReports | None = None
    masks: tuple[bytes, ...] = ()
    hides_all: bool = False


class ReportsFound(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; ``remarks`` say what could not be, each a sentence that names the file.

    ``tally`` and ``coverage`` are ``None`` where no file was found or none could be read. ``missing`` are
    the keys of the header (``tests``, ``coverage``) whose files say nothing.
    """

    tally: Tally | None = None
    coverage: Covered | None = None
    remarks: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """Cases as they were read back: the worst first, then the others in the order of the reports.

    ``total`` counts those that match; ``slowest`` are those that took longest, of all.
    """

    cases: list[Case]
    total: int
    slowest: list[Case] = []


class Reports(Protocol):
    """Reads reports. Nothing in them can take more than bounded memory and time of the machine."""

    async def read(self, wanted: ReportsWanted, cases: Path) -> ReportsFound:
        """Read what is wanted, and write all cases to the file ``cases``, for :meth:`cases`.

        Raises:
            ExecutionError: they cannot be read at all; the text says why.
        """
        ...

    async def cases(
        self, packed: bytes, *, match: str = "", bad: bool = False, limit: int = 1000
    ) -> Reading:
        """Return what :meth:`read` wrote.

        Args:
            packed: The file's bytes.
            match: Only cases whose title contains this, whatever the letters' case.
            bad: Only those that failed or are flaky.
            limit: At most so many.

        Raises:
            UnavailableError: it is none of those files, or cannot be read.
        """
        ...

    async def runs(self, packed: Sequence[bytes]) -> Sequence[Read | None]:
        """Return how the tests ended of what :meth:`read` wrote; ``None`` for what is none of these.

        Cost: a process, and about 3 ms of its CPU for a thousand tests.

        Raises:
            UnavailableError: they cannot be read now.
        """
        ...
