"""Test cases, and what all of a build's come to.

A *case* is one test and how it ended. The *tally* of a build counts them and names the first that
failed: it is part of the build's record. All cases lie beside it as a file (see ``CASES``).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from rota.core.job import Int

#: Below this, among a build's artifacts, is what rota itself keeps: a glob means it only by its name.
OWN = ".rota/"
#: Where the cases of its attempts lie.
CASES = OWN + "tests-{attempt}.jsonl.zst"
#: Characters that are kept. Parsers may pass on more, so that masks see whole values.
MAX_NAME = 300
MAX_MESSAGE = 1000
MAX_DETAILS = 8000
#: Characters of a text that a parser keeps. Longer than what is kept by more than any masked value.
MAX_RAW = 32 * 1024
#: Of a tally: with all else that an attempt leaves, it must fit into one event.
MAX_FAILURES = 20
MAX_TALLY_MESSAGE = 300

_ANSI = re.compile(r"[\x1b?\ufffd]\[[0-9;]*[A-Za-z]")


class Outcome(enum.StrEnum):
    """How a test ended."""

    PASSED = "passed"
    FAILED = "failed"
    ERRORED = "errored"  # it could not be tried, or broke where nothing was checked
    SKIPPED = "skipped"

    @property
    def is_bad(self) -> bool:
        """Whether somebody has to look at it."""
        return self in (Outcome.FAILED, Outcome.ERRORED)


class Case(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One test and how it ended; ``flaky`` if it passed only when it was tried again.

    ``file`` and ``line`` are where it failed, or where it stands; ``offset`` is where in the log it is
    named.
    """

    name: str
    suite: str = ""
    outcome: Outcome = Outcome.PASSED
    duration_s: float = 0.0
    message: str = ""
    details: str = ""
    file: str = ""
    line: Int = 0
    offset: Int | None = None
    flaky: bool = False

    @property
    def title(self) -> str:
        """What people call it, and what it is known by from build to build."""
        return title_of(self.suite, self.name)


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A test that failed, in short."""

    test: str
    message: str = ""
    file: str = ""
    line: Int = 0
    offset: Int | None = None


class Tally(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the tests of an attempt came to.

    ``failures`` are the first ones; ``files`` is how many reports were read. ``partial`` says that
    some could not be read to the end. ``cases`` is the artifact that has all of them; empty: none has.
    """

    passed: Int = 0
    failed: Int = 0
    errored: Int = 0
    skipped: Int = 0
    flaky: Int = 0
    duration_s: float = 0.0
    files: Int = 0
    failures: tuple[Failure, ...] = ()
    partial: bool = False
    cases: str = ""

    @property
    def total(self) -> int:
        """How many tests there were."""
        return self.passed + self.failed + self.errored + self.skipped

    @property
    def bad(self) -> int:
        """How many of them somebody has to look at."""
        return self.failed + self.errored

    @property
    def text(self) -> str:
        """The counts in words: ``312 tests, 2 failed``."""
        words = [f"{self.total} test{'' if self.total == 1 else 's'}"]
        if self.bad:
            words.append(f"{self.bad} failed")
        if self.skipped:
            words.append(f"{self.skipped} skipped")
        if self.flaky:
            words.append(f"{self.flaky} flaky")
        return ", ".join(words)


class Tallying:
    """Counts cases as they come, and keeps the first that failed."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(Outcome, 0)
        self._flaky = 0
        self._duration_s = 0.0
        self.first: list[Case] = []

    def take(self, case: Case) -> None:
        """Count one case."""
        self._counts[case.outcome] += 1
        self._flaky += case.flaky
        self._duration_s += case.duration_s
        if case.outcome.is_bad and len(self.first) < MAX_FAILURES:
            self.first.append(case)

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(self._counts.values())

    def tally(self, *, files: int, partial: bool) -> Tally:
        """Return what they came to."""
        return Tally(
            passed=self._counts[Outcome.PASSED],
            failed=self._counts[Outcome.FAILED],
            errored=self._counts[Outcome.ERRORED],
            skipped=self._counts[Outcome.SKIPPED],
            flaky=self._flaky,
            duration_s=round(self._duration_s, 3),
            files=files,
            partial=partial,
            failures=tuple(failure_of(case) for case in self.first),
        )


def title_of(suite: str, name: str) -> str:
    """Return what people call a test: its suite and its name, unless the name says it all."""
    if not suite:
        return name
    # `Cart adds` of `Cart` says it all; `test_adds` of `test` does not, nor `test_xf` of `test_x`.
    after = name[len(suite) : len(suite) + 1]
    if name.startswith(suite) and not after.isalnum() and after not in ("_", "-"):
        return name
    return f"{suite} > {name}" if " " in suite else f"{suite}.{name}"


def failure_of(case: Case) -> Failure:
    """Return a case in short."""
    return Failure(
        test=case.title[:MAX_NAME],
        message=case.message[:MAX_TALLY_MESSAGE],
        file=case.file,
        line=case.line,
        offset=case.offset,
    )


def polished(case: Case, masked: Callable[[str], str], root: str = "") -> Case:
    """Return a case as it may be kept: masked, then cut, with the place of its failure.

    Files below the folder ``root`` are named as seen from there.
    """
    is_bad = case.outcome.is_bad
    message = _ANSI.sub("", masked(case.message)).strip()
    details = _ANSI.sub("", masked(case.details)).strip() if is_bad else ""
    if not message and details:
        message = details.partition("\n")[0].strip()
    file, line = case.file, case.line
    if is_bad and not line:
        file, line = _place(case.suite, details) or (file, line)
    return replace(
        case,
        name=_one_line(masked(case.name)) or "?",
        suite=_one_line(masked(case.suite)),
        message=message[:MAX_MESSAGE],
        details="" if details == message else details[:MAX_DETAILS],
        file=_one_line(masked(_below(root, file.removeprefix("file://")))),
        line=line,
    )


#: `File "a.py", line 3`, `at t/a.t line 3`, `a/b_test.go:17`, `at f (file:///x/a.js:3:14)`, `at com.A.f(A.java:7)`.
_PLACES = (
    re.compile(r'File "([^"\n]{1,300})", line (\d{1,8})'),
    re.compile(r"\bat ([^\s()]{1,300}) line (\d{1,8})\b"),
    re.compile(r"\(([^()\s]{1,200}\.(?:java|kt|scala|groovy)):(\d{1,8})\)"),
    re.compile(r"(?:file://)?((?:[\w.@+-]|/){1,300}\.[A-Za-z]{1,5}):(\d{1,8})\b"),
)


def _place(suite: str, details: str) -> tuple[str, int] | None:
    """Return where a failure happened, as far as its details tell: in the test, not below it."""
    own = suite.rpartition(".")[2].partition("$")[0]
    for pattern in _PLACES:
        found = [(match[1], int(match[2])) for match in pattern.finditer(details[:MAX_DETAILS])]
        if found:
            return next((it for it in found if own and own in it[0]), found[0])
    return None


def _below(root: str, file: str) -> str:
    return file.removeprefix(f"{root}/") if root else file


def _one_line(text: str) -> str:
    if "\n" in text or "\r" in text or "\t" in text:
        text = " ".join(text.split())
    return text[:MAX_NAME].strip()
