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
