"""What a header says of reports: `tests` and `coverage`."""

from __future__ import annotations

import pytest

from rota.core.header import parse_header
from rota.core.reports import CaseReports, CoverageReports


def script(line: str) -> str:
    return f"#!/bin/sh\n# /// script\n# [tool.rota]\n# {line}\n# ///\n"


def faults(line: str) -> list[str]:
    _, problems = parse_header(script(line), name="j", path="j")
    return [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("line", "tests", "coverage"),
    [
        ('tests = "a.xml"', CaseReports(files=("a.xml",)), None),
        ('tests = ["a.xml", "**/b.tap"]', CaseReports(files=("a.xml", "**/b.tap")), None),
        (
            'tests = { files = "a", format = "tap", required = true, fail = false, stale = true }',
            CaseReports(files=("a",), format="tap", required=True, fail=False, stale=True),
            None,
        ),
        ('coverage = ["c.xml"]', None, CoverageReports(files=("c.xml",))),
        (
            'coverage = { files = ["c"], format = "lcov", minimum = 80, drop = 1.5, fail = false }',
            None,
            CoverageReports(files=("c",), format="lcov", minimum=80.0, drop=1.5, fail=False),
        ),
    ],
)
def test_reports_are_named_in_a_header(
    line: str, tests: CaseReports | None, coverage: CoverageReports | None
) -> None:
    job, problems = parse_header(script(line), name="j", path="j")
    assert not problems
    assert job is not None
    assert (job.spec.tests, job.spec.coverage) == (tests, coverage)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("tests = []", "j:4:11: tests is empty, so that it says nothing (such as tests = "),
        (
            "tests = 3",
            "j:4:11: tests must be an array of files with reports of tests, or a table, not an integer",
        ),
        (
            'tests = ["/a.xml"]',
            "j:4:12: tests[1] must be relative, not '/a.xml' (paths are relative to the workspace,",
        ),
        ('tests = ["~/a.xml"]', "j:4:12: tests[1] must be relative, not '~/a.xml'"),
        ('tests = ["a/../../b"]', "j:4:12: tests[1] leaves the workspace: 'a/../../b'"),
        ('tests = [""]', "j:4:12: tests[1] is empty (paths are relative"),
        ('tests = ["a\\u0007"]', "j:4:12: tests[1] is no path: "),
        (
            "tests = [" + ", ".join(['"a"'] * 51) + "]",
            "j:4:11: tests has 51 patterns, the limit is 50",
        ),
        ("tests = {}", "j:4:11: tests needs files (such as files = "),
        (
            'tests = { files = "a", formt = "tap" }',
            "j:4:26: unknown key tests.formt (did you mean 'format'?)",
        ),
        (
            'tests = { files = "a", format = "nunit" }',
            "j:4:35: tests.format cannot be 'nunit'",
        ),
        (
            'tests = { files = "a", fail = "no" }',
            "j:4:33: tests.fail must be a boolean, not a string (such as fail = false)",
        ),
        (
            'coverage = { files = "c", minimum = 101 }',
            "j:4:39: coverage.minimum must be a number from 0 to 100 (percent of the lines)",
        ),
        (
            'coverage = { files = "c", drop = true }',
            "j:4:36: coverage.drop must be a number from 0 to 100",
        ),
        (
            'coverage = { files = "c", format = "gcov" }',
            "j:4:38: coverage.format cannot be 'gcov' (",
        ),
        ("coverage = { minimum = 3 }", "j:4:14: coverage needs files"),
    ],
)
def test_a_fault_is_told_with_its_place_and_a_hint(line: str, fault: str) -> None:
    found = faults(line)
    assert len(found) == 1
    assert found[0].startswith(fault), found
