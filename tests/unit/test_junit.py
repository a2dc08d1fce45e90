"""JUnit's XML: what all those tools write, and what nobody should."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.cases import Case, Outcome, Tallying, polished
from rota.core.junit import JunitParser, seconds
from rota.core.xml_reading import ReportError


def parsed(data: bytes, step: int = 1 << 20) -> list[Case]:
    found: list[Case] = []
    parser = JunitParser(found.append)
    for at in range(0, len(data), step):
        parser.feed(data[at : at + step])
    parser.finish()
    return [polished(case, lambda text: text) for case in found]


def suite(inner: str, head: str = '<?xml version="1.0" encoding="UTF-8"?>') -> bytes:
    return f'{head}<testsuites><testsuite name="s">{inner}</testsuite></testsuites>'.encode()


def test_what_pytest_writes() -> None:
    (passed, failed, errored, skipped) = parsed(
        suite(
            '<testcase classname="tests.test_a" name="test_one" time="0.012"/>'
            '<testcase classname="tests.test_a" name="test_two[x-1]" time="0.5">'
            '<failure message="assert 1 == 2&#10;more">def test_two():\n&gt;  assert 1 == 2\n'
            "tests/test_a.py:12: AssertionError</failure></testcase>"
            '<testcase classname="tests.test_a" name="test_three" time="0">'
            '<error message="failed on setup with &quot;KeyError&quot;">x</error></testcase>'
            '<testcase classname="tests.test_a" name="test_four">'
            '<skipped type="pytest.skip" message="no net">/x/test_a.py:3: no net</skipped></testcase>'
        )
    )
    assert passed == Case(name="test_one", suite="tests.test_a", duration_s=0.012)
    assert passed.title == "tests.test_a.test_one"
    assert (failed.outcome, failed.message) == (Outcome.FAILED, "assert 1 == 2\nmore")
    assert (failed.file, failed.line) == ("tests/test_a.py", 12)
    assert (errored.outcome, errored.message) == (
        Outcome.ERRORED,
        'failed on setup with "KeyError"',
    )
    assert (skipped.outcome, skipped.message, skipped.details) == (Outcome.SKIPPED, "no net", "")


def test_a_java_trace_names_the_line_in_the_test_and_not_below_it() -> None:
    (case,) = parsed(
        suite(
            '<testcase classname="com.shop.CartTest" name="adds" time="1,234.5"><failure '
            'type="org.opentest4j.AssertionFailedError"><![CDATA[org.opentest4j.AssertionFailedError: '
            "expected: <1> but was: <2>\n\tat org.junit.jupiter.api.Assert.fail(Assert.java:55)\n"
            "\tat com.shop.CartTest.adds(CartTest.java:17)\n]]></failure></testcase>"
        )
    )
    assert (case.file, case.line, case.duration_s) == ("CartTest.java", 17, 1234.5)
    assert case.message == "org.opentest4j.AssertionFailedError: expected: <1> but was: <2>"


def test_what_surefire_reran_is_flaky_if_it_passed_in_the_end() -> None:
    flaky, failed = parsed(
        suite(
            '<testcase name="a" classname="C"><flakyFailure message="once"/></testcase>'
            '<testcase name="b" classname="C"><failure message="f"/><rerunFailure message="g"/></testcase>'
        )
    )
    assert (flaky.outcome, flaky.flaky) == (Outcome.PASSED, True)
    assert (failed.outcome, failed.flaky, failed.message) == (Outcome.FAILED, False, "f")


def test_suites_without_class_names_nested_suites_and_prefixes() -> None:
    cases = parsed(
        b'<testsuite name="outer"><testsuite name="inner"><testcase name="x"/></testsuite>'
        b'<testcase name="y"/></testsuite>'
    )
    assert [case.title for case in cases] == ["inner.x", "outer.y"]
    (prefixed,) = parsed(b'<n:testsuite xmlns:n="u" name="s"><n:testcase name="x"/></n:testsuite>')
    assert prefixed.title == "s.x"


def test_a_suite_that_broke_as_a_whole_is_a_case() -> None:
    (case,) = parsed(suite('<error message="cannot start">trace</error>'))
    assert (case.title, case.outcome, case.message) == (
        "s.(the suite)",
        Outcome.ERRORED,
        "cannot start",
    )


def test_what_gtest_did_not_run_is_skipped() -> None:
    (case,) = parsed(suite('<testcase name="x" status="notrun" time="0."/>'))
    assert case.outcome is Outcome.SKIPPED


def test_a_name_that_begins_with_its_suite_is_not_told_twice() -> None:
    (case,) = parsed(suite('<testcase classname="Cart" name="Cart adds items"/>'))
    assert case.title == "Cart adds items"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"   \n", "is empty"),
        (b"<html><body/></html>", "is no JUnit report: its first element is <html>"),
        (b"Hello", "is broken in line 1, column 1: syntax error"),
        (suite('<testcase name="a"/>')[:-5], "is broken in line 1, column"),
        (
            b'<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><testsuite/>',
            "declares entities of its own: it is not read",
        ),
        (
            b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><testsuite>&a;</testsuite>',
            "declares entities of its own",
        ),
    ],
)
def test_what_is_no_report_is_told(data: bytes, message: str) -> None:
    with pytest.raises(ReportError) as error:
        parsed(data)
    assert str(error.value).startswith(message)


def test_cases_before_a_break_are_taken() -> None:
    found: list[Case] = []
    parser = JunitParser(found.append)
    parser.feed(suite('<testcase name="a"/><testcase name="b"/>')[:-20])
    with pytest.raises(ReportError):
        parser.finish()
    assert [case.name for case in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ('<testsuite><testcase name="größe"/></testsuite>'.encode("utf-16"), "größe"),
        (
            '<?xml version="1.0" encoding="ISO-8859-1"?><testsuite><testcase name="größe"/>'
            "</testsuite>".encode("latin-1"),
            "größe",
        ),
        (
            '<?xml version="1.0" encoding="windows-1252"?><testsuite><testcase name="5 €"/>'
            "</testsuite>".encode("cp1252"),
            "5 €",
        ),
        (b'<testsuite><testcase name="gr\xf6sse"/></testsuite>', "gr\ufffdsse"),
        (b'<testsuite><testcase name="a\x00b\x08c"/></testsuite>', "a?b?c"),
        (b'<testsuite><testcase name="a&#27;b&#x0;&#65;"/></testsuite>', "a?b?A"),
        (b'<testsuite><testcase name="a\xef\xbf\xbfb"/></testsuite>', "a?b"),
        (
            b'<?xml version="1.0" encoding="no-such"?><testsuite><testcase name="x"/></testsuite>',
            "x",
        ),
        (
            b'<?xml version="1.0" encoding="base64"?><testsuite><testcase name="x"/></testsuite>',
            "x",
        ),
        (
            b'<?xml version="1.0" encoding="UTF-16"?><testsuite><testcase name="x"/></testsuite>',
            "x",
        ),
        (b'\xef\xbb\xbf<testsuite><testcase name="x"/></testsuite>', "x"),
    ],
)
def test_bytes_that_should_not_be_there_lose_no_report(data: bytes, name: str) -> None:
    assert [case.name for case in parsed(data)] == [name]


def test_what_would_take_for_ever_is_refused() -> None:
    with pytest.raises(ReportError, match="has elements in elements, more than 500 deep"):
        parsed(b"<testsuite>" + b"<a>" * 1000)
    with pytest.raises(ReportError, match="has a tag or a comment of more than 8 MiB"):
        parsed(b"<testsuite><testcase name='" + b"x" * (9 << 20))


def test_colours_are_left_out_of_messages() -> None:
    (case,) = parsed(
        suite('<testcase name="a"><failure>\x1b[31mred\x1b[0m and\nmore</failure></testcase>')
    )
    assert case.message == "red and"


def test_what_node_writes_in_suites_of_one_class_name() -> None:
    (case,) = parsed(
        b"<testsuites><testsuite name='cart'><testcase name='later' classname='test'>"
        b"<skipped type='skipped' message='true'/></testcase></testsuite></testsuites>"
    )
    assert (case.title, case.outcome, case.message) == ("cart.later", Outcome.SKIPPED, "")


@pytest.mark.parametrize(
    ("suite_name", "name", "title"),
    [
        ("Cart", "Cart adds", "Cart adds"),
        ("Cart", "Cart", "Cart"),
        ("test_x", "test_xf", "test_x.test_xf"),
        ("test", "test_adds", "test.test_adds"),
        ("a cart", "adds", "a cart > adds"),
        ("", "adds", "adds"),
    ],
)
def test_titles(suite_name: str, name: str, title: str) -> None:
    assert Case(name=name, suite=suite_name).title == title


@pytest.mark.parametrize(
    ("details", "place"),
    [
        ('  File "tests/a.py", line 3, in f', ("tests/a.py", 3)),
        ("tests/a.py:12: AssertionError", ("tests/a.py", 12)),
        ("  at t/a.t line 7.", ("t/a.t", 7)),
        ("Error\n    at f (file:///w/x/a.test.js:3:14)", ("x/a.test.js", 3)),
        ("    cart_test.go:17: got 1", ("cart_test.go", 17)),
        ("thread 'x' panicked at src/lib.rs:9:5:", ("src/lib.rs", 9)),
        ("nothing at 12:30", ("", 0)),
        ("see http://localhost:8080/x", ("", 0)),
    ],
)
def test_the_place_of_a_failure_is_read_from_its_details(
    details: str, place: tuple[str, int]
) -> None:
    case = Case(name="n", outcome=Outcome.FAILED, message="m", details=details)
    kept = polished(case, lambda text: text, "/w")
    assert (kept.file, kept.line) == place


def test_long_texts_are_cut() -> None:
    long = "x" * 100_000
    (case,) = parsed(
        suite(
            f'<testcase name="{long}" classname="{long}">'
            f'<failure message="{long}">y{long}</failure></testcase>'
        )
    )
    assert (len(case.name), len(case.suite), len(case.message), len(case.details)) == (
        300,
        300,
        1000,
        8000,
    )


def test_a_value_is_masked_before_its_text_is_cut() -> None:
    case = Case(name="n", outcome=Outcome.FAILED, message="x" * 995 + "hunter2", details="hunter2")
    kept = polished(case, lambda text: text.replace("hunter2", "*" * 7))
    assert kept.message == "x" * 995 + "*" * 5
    assert kept.details == "*" * 7


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.012", 0.012),
        ("1,234.5", 1234.5),
        ("0,012", 0.012),
        ("12s", 12.0),
        ("1e-3", 0.001),
        ("", 0.0),
        ("nan", 0.0),
        ("-1", 0.0),
        ("9" * 15, 1e9),
    ],
)
def test_times_as_they_are_written(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_nothing_but_a_report_error_is_raised(data: bytes, step: int) -> None:
    with contextlib.suppress(ReportError):
        parsed(b"<testsuite>" + data, step)


@given(st.integers(1, 40))
def test_where_a_report_is_cut_into_pieces_makes_no_difference(step: int) -> None:
    data = suite(
        '<testcase classname="größe" name="a&amp;b&#27;&#xe9;"><failure message="m">é\x01&#0;é'
        "</failure></testcase>"
    )
    assert parsed(data, step) == parsed(data)


def test_a_tally_counts_and_keeps_the_first_failures() -> None:
    counts = Tallying()
    for number in range(60):
        outcome = Outcome.FAILED if number % 2 else Outcome.PASSED
        counts.take(Case(name=f"t{number}", outcome=outcome, duration_s=0.5, message="m" * 900))
    counts.take(Case(name="s", outcome=Outcome.SKIPPED))
    tally = counts.tally(files=3, partial=False)
    assert (tally.total, tally.bad, tally.files, tally.duration_s) == (61, 30, 3, 30.0)
    assert [it.test for it in tally.failures] == [f"t{number}" for number in range(1, 40, 2)]
    assert {len(it.message) for it in tally.failures} == {300}
    assert tally.text == "61 tests, 30 failed, 1 skipped"
