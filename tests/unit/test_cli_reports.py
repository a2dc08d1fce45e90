"""Tests and metrics as a person sees them on a terminal, and as a program reads them in a pipe."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from typing import Any

import pytest

from rota.cli.commands import metrics
from rota.cli.commands.tests import build_lines, job_lines
from rota.cli.render import PLAIN, Look, builds_table, tally_text
from rota.errors import InputError

TERMINAL = Look(width=80, now=datetime(2026, 1, 1, 12, tzinfo=UTC))
TALLY: dict[str, Any] = {"passed": 310, "failed": 1, "errored": 1, "skipped": 3, "duration_s": 12.5}
FAILED: dict[str, Any] = {
    "test": "C.removes",
    "outcome": "failed",
    "duration_s": 0.5,
    "message": "expected 1\nbut was \x1b[31m2",
    "file": "C.java",
    "line": 7,
    "offset": 120,
}
VIEW: dict[str, Any] = {
    "build": "t#2",
    "attempt": 1,
    "tests": TALLY,
    "cases": [FAILED, {"test": "C.starts", "outcome": "errored", "duration_s": 0.0}],
    "total": 2,
    "slowest": [{"test": "C.slow", "outcome": "passed", "duration_s": 61.0}],
    "former": "t#1",
    "new": ["C.removes"],
    "fixed": ["C.adds"],
    "flaky": ["C.starts"],
    "gone": "",
    "cells": [],
}


def test_the_tests_of_a_build() -> None:
    assert list(build_lines(VIEW, TERMINAL, every=False)) == [
        "t#2: 315 tests, 2 failed, 3 skipped, in 12s",
        "✗ C.removes  0.5s  new",
        "    expected 1",
        "    but was \\x1b[31m2",
        "    C.java:7, in the log: --offset 120",
        "! C.starts  flaky",
        "",
        "fixed since t#1:",
        "  C.adds",
        "",
        "slowest:",
        "  1m01s  C.slow",
    ]


def test_of_many_that_failed_the_first_are_shown_until_all_are_wanted() -> None:
    many = {**VIEW, "cases": [FAILED] * 25, "fixed": [], "slowest": []}
    assert list(build_lines(many, TERMINAL, every=False))[-1] == "and 5 more: --all"
    assert len(list(build_lines(many, TERMINAL, every=True))) == 1 + 25 * 4


def test_tests_that_are_gone_are_told_by_the_record() -> None:
    tally = {**TALLY, "failures": [{"test": "C.x", "message": "m"}]}
    gone = {
        **VIEW,
        "tests": tally,
        "cases": [],
        "gone": "it was removed",
        "fixed": [],
        "slowest": [],
    }
    assert list(build_lines(gone, TERMINAL, every=False))[1:] == [
        "✗ C.x",
        "    m",
        "single tests cannot be listed: it was removed",
    ]


def test_the_cells_of_a_group() -> None:
    tally = {"passed": 1, "failed": 1, "failures": [{"test": "C.x"}, {"test": "C.y"}]}
    other = {"passed": 1, "failed": 1, "failures": [{"test": "C.x"}]}
    cells = [
        {"build": "t#2", "cell": {"os": "a"}, "result": "failed", "tests": tally},
        {"build": "t#3", "cell": {"os": "b"}, "result": "failed", "tests": other},
        {"build": "t#4", "cell": {"os": "c"}, "result": "cancelled", "tests": None},
    ]
    lines = list(build_lines({**VIEW, "cells": cells}, TERMINAL, every=False))
    assert lines[1:4] == [
        "t#2  os=a  failed     2 tests, 1 failed",
        "t#3  os=b  failed     2 tests, 1 failed",
        "t#4  os=c  cancelled  no tests",
    ]
    assert lines[5:] == ["✗ C.x  in os=a; os=b", "✗ C.y  in os=a"]
    both = list(build_lines({**VIEW, "cells": cells[:2]}, TERMINAL, every=False))
    assert both[-2] == "✗ C.x  in all cells"


HISTORY: dict[str, Any] = {
    "job": "t",
    "builds": 12,
    "missing": 0,
    "tests": 300,
    "passing": 0.9989,
    "failing": [
        {"test": "C.x", "ran": 12, "failed": 4, "flaky": 0, "since": "#9", "last_failed": "#12"}
    ],
    "flaky": [
        {"test": "C.y", "ran": 12, "failed": 2, "flaky": 1, "since": "", "last_failed": "#3"}
    ],
    "slowest": [
        {"test": "C.z", "ran": 12, "failed": 0, "duration_s": 2.0, "durations_s": [1, 2, 3]}
    ],
    "case": None,
    "runs": [],
}


def test_the_tests_of_a_job() -> None:
    assert list(job_lines(HISTORY, TERMINAL)) == [
        "t: 300 tests in 12 builds, 99.89% passed",
        "",
        "failing:",
        "  4 of 12  since #9  C.x",
        "",
        "flaky (passed and failed with nothing else different):",
        "  1 x  failed 2 of 12  last #3  C.y",
        "",
        "slowest:",
        "  2.0s  ▁▅█  C.z",
    ]
    assert list(job_lines(HISTORY, PLAIN)) == [
        "failing  4 of 12  #9  C.x",
        "flaky  1  2 of 12  last #3  C.y",
        "slowest  2  C.z",
    ]


@pytest.mark.parametrize(
    ("tally", "text"),
    [
        ({"passed": 1}, "1 test"),
        ({"failed": 1, "duration_s": 0.5}, "1 test, 1 failed, in 0.5s"),
        (
            {"passed": 5, "flaky": 2, "partial": True},
            "5 tests, 2 flaky, and more that could not be read",
        ),
    ],
)
def test_counts_in_words(tally: dict[str, Any], text: str) -> None:
    assert tally_text(tally, TERMINAL) == text


def test_a_list_of_builds_has_their_counts() -> None:
    build = {
        "job": "t", "number": 1, "state": "finished", "result": "failed", "attempt": 1, "tests": TALLY,
    }  # fmt: skip
    (line,) = builds_table([build], TERMINAL)
    assert line == "t#1  ✗ failed, 2 of 315 tests"
    (line,) = builds_table([{**build, "result": "passed", "tests": {"passed": 1}}], TERMINAL)
    assert line == "t#1  ✓ passed, 1 test"
    (line,) = builds_table([build], PLAIN)
    assert line == "t#1  failed  -  -  -"


def test_a_metric_is_a_line_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    screen: Any = None
    asked = Namespace(name="size.wheel", value="12.50", unit="%")
    assert metrics.metric(asked, screen) == 0
    assert capfd.readouterr().out == "::metric name=size.wheel,unit=%25::12.5\n"
    with pytest.raises(InputError, match="x is 'abc', which is no number"):
        metrics.metric(Namespace(name="x", value="abc", unit=None), screen)


@pytest.mark.parametrize(
    ("value", "unit", "terminal", "plain"),
    [
        (81.25, "%", "81.25 %", "81.25%"),
        (2048, "B", "2.0 KiB", "2048B"),
        (125.0, "s", "2m05s", "125s"),
        (1234567, "", "1,234,567", "1234567"),
        (-3.5, "ms", "-3.5 ms", "-3.5ms"),
    ],
)
def test_values_are_said_as_a_person_says_them(
    value: float, unit: str, terminal: str, plain: str
) -> None:
    assert metrics.value_text(value, unit, TERMINAL) == terminal
    assert metrics.value_text(value, unit, PLAIN) == plain
