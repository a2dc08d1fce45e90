"""JUnit's XML, as Surefire, Gradle, pytest, Jest, Mocha, go-junit-report, gtest and others write it.

There is no standard, so what differs is taken as it comes: suites in suites or without, ``time`` with
commas, ``skipped`` with and without a text, a suite's own error.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rota.core.cases import MAX_RAW, Case, Outcome
from rota.core.xml_reading import ReportError, XmlReader, local

_OUTCOMES = {
    "failure": Outcome.FAILED,
    "error": Outcome.ERRORED,
    "skipped": Outcome.SKIPPED,
    "disabled": Outcome.SKIPPED,
}
_AGAIN = ("flakyFailure", "flakyError")
#: Class names that say nothing; Node writes `test` for all.
_NO_CLASSES = ("", "test")
_ROOTS = ("testsuites", "testsuite")
_NUMBER = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{0,15})?(?:[eE][+-]?[0-9]{1,2})?)")
#: Deeper nested suites have the name of the last one.
_MAX_DEPTH = 100


class JunitParser:
    """Reads one report; each case goes to ``emit`` as soon as it is whole."""

    def __init__(self, emit: Callable[[Case], None]) -> None:
        self._emit = emit
        self._reader = XmlReader(self._start, self._end)
        self._is_begun = False
        self._suites: list[str] = []
        self._depth = 0
        self._case: dict[str, str] | None = None
        self._outcome = Outcome.PASSED
        self._flaky = False
        self._message = ""
        self._type = ""
        self._text: list[str] | None = None
        self._room = 0
        self.details = ""

    def feed(self, data: bytes) -> None:
        """Take the next bytes; raises ReportError."""
        self._reader.feed(data)

    def finish(self) -> None:
        """Take note that these were all bytes; raises ReportError."""
        self._reader.finish()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._is_begun:
            self._is_begun = True
            if local(name) not in _ROOTS:
                raise ReportError(f"is no JUnit report: its first element is <{name[:50]}>")
        if name == "testcase" or local(name) == "testcase":
            self._case = attributes
            self._outcome, self._flaky = Outcome.PASSED, False
            self._message = self.details = ""
            if attributes.get("status") == "notrun" or attributes.get("result") == "suppressed":
                self._outcome = Outcome.SKIPPED
        elif local(name) == "testsuite":
            self._depth += 1
            if self._depth <= _MAX_DEPTH:
                self._suites.append(attributes.get("name", ""))
        elif (outcome := _OUTCOMES.get(local(name))) is not None:
            self._begin_fault(outcome, attributes)
        elif local(name) in _AGAIN:
            self._flaky = True

    def _begin_fault(self, outcome: Outcome, attributes: dict[str, str]) -> None:
        if self._case is None:  # of a suite as a whole
            if outcome is Outcome.SKIPPED:
                return
            self._outcome = outcome
            self._message = self.details = ""
        elif self._outcome.is_bad:
            return  # the first one says why
        else:
            self._outcome = outcome
        message = attributes.get("message", "")[:MAX_RAW]
        self._message = "" if message == "true" else message
        self._type = attributes.get("type", "")
        self._text, self._room = [], MAX_RAW
        self._reader.listen(self._take_text)

    def _take_text(self, text: str) -> None:
        if self._text is not None and self._room > 0:
            self._text.append(text[: self._room])
            self._room -= len(text)
            if self._room <= 0:
                self._reader.listen(None)

    def _end(self, name: str) -> None:
        tag = local(name)
        if tag == "testcase":
            if self._case is not None:
                self._emit(self._made(self._case))
            self._case = None
        elif tag in _OUTCOMES and self._text is not None:
            self._end_fault()
        elif tag == "testsuite":
            self._depth -= 1
            if self._depth < _MAX_DEPTH and self._suites:
                self._suites.pop()

    def _end_fault(self) -> None:
        self.details = "".join(self._text or ())
        self._text = None
        self._reader.listen(None)
        if not self._message and not self.details.strip() and self._outcome.is_bad:
            self._message = self._type
        if self._case is None:
            self._flaky = False
            self._emit(self._made({"name": "(the suite)"}))

    def _made(self, raw: dict[str, str]) -> Case:
        suite = raw.get("classname", "")
        if suite in _NO_CLASSES and self._suites:
            suite = self._suites[-1] or suite
        if self._outcome is Outcome.PASSED and not self._flaky:
            # Most are such: what is not needed costs.
            return Case(
                name=raw.get("name", "")[:MAX_RAW],
                suite=suite[:MAX_RAW],
                duration_s=seconds(raw.get("time", "")),
            )
        line = raw.get("line", "")
        return Case(
            name=raw.get("name", "")[:MAX_RAW],
            suite=suite[:MAX_RAW],
            outcome=self._outcome,
            duration_s=seconds(raw.get("time", "")),
            message=self._message,
            details=self.details,
            file=raw.get("file", "")[:MAX_RAW],
            line=int(line) if line.isascii() and line.isdigit() and len(line) < 10 else 0,
            flaky=self._flaky and self._outcome is Outcome.PASSED,
        )


def seconds(text: str) -> float:
    """Return a span as reports have it; 0 for what is none. ``1,234.5`` is over a thousand."""
    if "," in text:
        # Of some locales: a comma before the last three digits of thousands, or of the fraction.
        whole, _, rest = text.rpartition(",")
        text = f"{whole.replace(',', '')}{rest}" if "." in rest else f"{whole}.{rest}"
    found = _NUMBER.match(text)
    return min(float(found[1]), 1e9) if found else 0.0
