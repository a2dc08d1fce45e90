"""What a job says of the reports that its builds leave: which files, and what depends on them."""

from __future__ import annotations

from typing import Literal

import msgspec

CaseFormat = Literal["auto", "junit", "tap"]
CoverageFormat = Literal[
    "auto", "cobertura", "jacoco", "clover", "lcov", "go", "coverage.py", "istanbul"
]


class CaseReports(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which files of the workspace tell of tests, by globs.

    With ``required`` a build does not pass that left none; with ``fail`` none does in which a test
    failed, whatever its script said. ``stale`` takes files from before the attempt as well.
    """

    files: tuple[str, ...]
    format: CaseFormat = "auto"
    required: bool = False
    fail: bool = True
    stale: bool = False


class CoverageReports(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which files of the workspace tell how much of the code was run, by globs.

    ``minimum`` and ``drop`` are percents of lines: below the one, or by more than the other under
    the last build that passed, a build does not pass; where not ``fail``, it is only said.
    """

    files: tuple[str, ...]
    format: CoverageFormat = "auto"
    required: bool = False
    minimum: float | None = None
    drop: float | None = None
    fail: bool = True
    stale: bool = False


class Covered(msgspec.Struct, frozen=True):
    """What was run, of how much."""

    lines: int = 0
    of_lines: int = 0
    branches: int = 0
    of_branches: int = 0

    def __add__(self, other: Covered) -> Covered:
        return Covered(
            self.lines + other.lines,
            self.of_lines + other.of_lines,
            self.branches + other.branches,
            self.of_branches + other.of_branches,
        )

    @property
    def line_percent(self) -> float | None:
        """Percent of the lines; ``None`` if there are none."""
        return _percent(self.lines, self.of_lines)

    @property
    def branch_percent(self) -> float | None:
        """Percent of the branches; ``None`` if there are none."""
        return _percent(self.branches, self.of_branches)


def _percent(part: int, whole: int) -> float | None:
    return round(100 * min(part, whole) / whole, 2) if whole > 0 else None
