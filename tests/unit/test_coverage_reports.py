"""Coverage in all its formats: the sums."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.coverage import format_of, parser_of
from rota.core.reports import Covered
from rota.core.xml_reading import ReportError

COBERTURA = b"""<?xml version="1.0" ?>
<!DOCTYPE coverage SYSTEM 'http://cobertura.sourceforge.net/xml/coverage-04.dtd'>
<coverage line-rate="0.75" branch-rate="0.5" lines-covered="75" lines-valid="100"
 branches-covered="5" branches-valid="10"><packages/></coverage>"""
COBERTURA_OF_LINES = b"""<coverage line-rate="0.66"><packages><package><classes><class>
<methods><method><lines><line number="1" hits="1"/></lines></method></methods>
<lines><line number="1" hits="1"/><line number="2" hits="0"/>
<line number="3" hits="4" branch="true" condition-coverage="50% (1/2)"/></lines>
</class></classes></package></packages></coverage>"""
JACOCO = b"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?><!DOCTYPE report PUBLIC "-//J//" "r.dtd">
<report name="x"><package name="p"><counter type="LINE" missed="9" covered="9"/></package>
<counter type="INSTRUCTION" missed="1" covered="1"/><counter type="BRANCH" missed="6" covered="2"/>
<counter type="LINE" missed="20" covered="80"/></report>"""
CLOVER = b"""<?xml version="1.0"?><coverage generated="1700000000" clover="3.2.0"><project timestamp="1">
<package><metrics statements="1" coveredstatements="1"/></package>
<metrics statements="200" coveredstatements="150" conditionals="10" coveredconditionals="4"/>
</project></coverage>"""
LCOV = b"""TN:
SF:a.c
DA:1,1
DA:2,0
BRDA:1,0,0,-
BRDA:1,0,1,3
LF:4
LH:3
BRF:2
BRH:1
end_of_record
SF:b.c
DA:1,5
DA:2,0
end_of_record
"""
GO = b"""mode: set
x/a.go:1.2,3.4 3 1
x/a.go:5.2,6.4 2 0
x/a.go:5.2,6.4 2 1
x/b.go:5.2,6.4 5 0
"""
COVERAGE_PY = (
    b'{"meta": {"version": "7"}, "files": {"a": {"x": [1, 2]}}, "totals": {"covered_lines": 7,'
    b' "num_statements": 8, "percent_covered": 87.5, "num_branches": 4, "covered_branches": 1}}'
)
ISTANBUL = b'{"total": {"lines": {"total": 10, "covered": 9, "pct": 90}, "branches": {"total": 2, "covered": 1}}}'


def summed(kind: str, data: bytes) -> Covered:
    parser = parser_of(kind)
    parser.feed(data)
    return parser.finish()


@pytest.mark.parametrize(
    ("data", "kind", "covered"),
    [
        (COBERTURA, "cobertura", Covered(75, 100, 5, 10)),
        (COBERTURA_OF_LINES, "cobertura", Covered(2, 3, 1, 2)),
        (JACOCO, "jacoco", Covered(80, 100, 2, 8)),
        (CLOVER, "clover", Covered(150, 200, 4, 10)),
        (LCOV, "lcov", Covered(4, 6, 1, 2)),
        (GO, "go", Covered(5, 10)),
        (COVERAGE_PY, "json", Covered(7, 8, 1, 4)),
        (ISTANBUL, "json", Covered(9, 10, 1, 2)),
    ],
)
def test_each_format_is_known_and_summed(data: bytes, kind: str, covered: Covered) -> None:
    assert format_of(data[:500]) == kind
    for step in (1, 7, len(data)):
        parser = parser_of(kind)
        for at in range(0, len(data), step):
            parser.feed(data[at : at + step])
        assert parser.finish() == covered


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("cobertura", b"<x/>", "is no Cobertura report: its first element is <x>"),
        ("jacoco", b"<x/>", "is no JaCoCo report: its first element is <x>"),
        ("clover", b"<x/>", "is no Clover report: its first element is <x>"),
        ("go", b"mode: set\nhello\n", "is no Go cover profile: 'hello'"),
        ("json", b"[1]", "is no coverage report in JSON: Expected `object`"),
        ("json", b'{"a": 1}', "is no coverage report in JSON: it has neither the totals of"),
        ("jacoco", b"<report><counter", "is broken in line 1"),
    ],
)
def test_what_is_none_is_told(kind: str, data: bytes, message: str) -> None:
    with pytest.raises(ReportError) as error:
        summed(kind, data)
    assert str(error.value).startswith(message)


def test_what_nobody_knows_has_no_format() -> None:
    assert format_of(b"hello") == ""
    assert format_of(b"<html>") == ""
    assert format_of(b"") == ""


def test_percents() -> None:
    assert Covered(1, 3).line_percent == 33.33
    assert Covered().line_percent is None
    assert Covered(1, 2, 1, 4).branch_percent == 25.0
    assert (Covered(1, 2, 3, 4) + Covered(1, 2, 3, 4)) == Covered(2, 4, 6, 8)


@given(
    st.sampled_from(["cobertura", "jacoco", "clover", "lcov", "go", "json"]),
    st.sampled_from([COBERTURA_OF_LINES, JACOCO, CLOVER, LCOV, GO, COVERAGE_PY]),
    st.integers(0, 400),
    st.binary(max_size=20),
)
def test_nothing_but_a_report_error_is_raised(kind: str, data: bytes, at: int, more: bytes) -> None:
    parser = parser_of(kind)
    try:
        parser.feed(data[:at] + more + data[at:])
        covered = parser.finish()
    except ReportError:
        return
    assert covered.line_percent is None or 0 <= covered.line_percent <= 100
