"""Metrics: how they are told, what is known for nothing, what they are compared with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.harness.facts import moment

from rota.cli.render import Look
from rota.cli.sparkline import BARS, PLAIN, sparkline
from rota.core.build import Annotation, Build, Metric, Usage
from rota.core.cases import CASES, MAX_FAILURES, MAX_NAME, MAX_TALLY_MESSAGE, Failure, Tally
from rota.core.codec import decode, encode
from rota.core.events import BuildFinished
from rota.core.job import Reason
from rota.core.metric_line import MetricError
from rota.core.metrics import branch_of, merged, metric_of, metrics_of, rival
from rota.core.scm import Source
from rota.core.states import State
from rota.core.steps import Step
from rota.core.workflow import Scanner
from rota.ports.journal import MAX_EVENT_BYTES

TERMINAL = Look(width=80)


def scanned(log: bytes, step: int = 1 << 16) -> Scanner:
    scanner = Scanner()
    for at in range(0, len(log), step):
        scanner.feed(log[at : at + step])
    scanner.finish()
    return scanner


@given(st.integers(1, 60))
def test_a_log_tells_metrics_wherever_it_is_cut(step: int) -> None:
    log = b"x\n::metric name=a.b,unit=s::1.5\n::METRIC name=size,unit=%25::-3e2\r\n::metric name=a.b::2"
    assert list(scanned(log, step).metrics.values()) == [
        Metric(name="a.b", value=2.0),
        Metric(name="size", value=-300.0, unit="%"),
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("::metric::3", "'' is no name of a metric: a letter first, then letters, digits and"),
        ("::metric name=1a::3", "'1a' is no name of a metric"),
        ("::metric name=a::", "a is '', which is no number"),
        ("::metric name=a::nan", "a is 'nan', which is no number"),
        ("::metric name=a::1e999", "a is '1e999', which is no number"),
        ("::metric name=a::1_0", "a is '1_0', which is no number"),
        ("::metric name=a::\u0663", "a is '\u0663', which is no number"),
        ("::metric name=a,unit=12345678901234::3", "a has the unit '12345678901234': at most 12"),
        ("::metric name=a,unit=%0A::3", ""),
    ],
)
def test_one_that_is_none_is_told(line: str, fault: str) -> None:
    scanner = scanned(line.encode() + b"\n")
    if not fault:  # blanks around a unit are none of it
        assert scanner.metrics["a"].unit == ""
        return
    assert scanner.metrics == {}
    (note,) = scanner.shown_annotations()
    assert (note.level, note.title) == ("warning", "metric")
    assert note.message.startswith(fault)


def test_so_many_and_no_more() -> None:
    log = b"".join(b"::metric name=m%d::%d\n" % (n, n) for n in range(150))
    scanner = scanned(log + b"::metric name=m0::7\n")
    assert len(scanner.metrics) == 100
    assert scanner.metrics["m0"].value == 7
    assert scanner.annotations[0].message == "m100 is one metric too many: 100 are kept"


def test_a_masked_value_is_in_no_metric() -> None:
    scanner = scanned(b"::add-mask::hunter2\n::metric name=hunter2::3\n")
    assert scanner.metrics == {}
    assert "hunter2" not in scanner.annotations[0].message


def test_percent_may_stand_behind_the_number() -> None:
    assert metric_of("a", "81.5 %") == Metric(name="a", value=81.5, unit="%")
    with pytest.raises(MetricError):
        metric_of("a" * 61, "1")


def a_build(number: int, **changes: object) -> Build:
    build = Build(
        id=f"b{number}",
        job="t",
        number=number,
        state=State.FINISHED,
        requested_at=moment(0),
        started_at=moment(0),
        finished_at=moment(90),
        log_bytes=7,
    )
    return replace(build, **changes)


def test_what_every_build_has_for_nothing() -> None:
    build = a_build(
        1,
        usage=Usage(user_s=1.5, system_s=0.5, max_rss_bytes=99),
        tests=Tally(passed=3, failed=1, errored=1, duration_s=2.5),
        metrics=(Metric(name="log", value=1.0),),
    )
    assert {it.name: (it.value, it.unit) for it in metrics_of(build)} == {
        "log": (1.0, ""),
        "duration": (90.0, "s"),
        "cpu": (2.0, "s"),
        "memory": (99.0, "B"),
        "tests": (5.0, ""),
        "tests.failed": (2.0, ""),
        "tests.duration": (2.5, "s"),
    }


def test_the_last_word_on_a_metric_counts() -> None:
    one, two = Metric(name="a", value=1.0), Metric(name="a", value=2.0)
    assert merged([one], [two]) == (two,)
    many = [Metric(name=f"m{n}", value=0.0) for n in range(150)]
    assert len(merged(many)) == 100


def covered(number: int, branch: str, **params: str) -> Build:
    source = Source(url="u", commit="c", branch=branch)
    told = (Metric(name="coverage", value=50.0, unit="%"),)
    return a_build(number, source=source, metrics=told, params=params)


def test_coverage_is_compared_with_the_same_branch_and_parameters() -> None:
    build = covered(9, "x")
    other, same, cell = covered(8, "main"), covered(7, "x"), covered(6, "x", os="a")
    assert rival(build, [build, cell, other, same]) == same
    assert rival(build, [cell, other]) == other
    assert rival(build, [cell, a_build(1)]) is None
    pull = a_build(3, source=Source(url="u", commit="c", branch="topic", base="main"))
    assert branch_of(pull) == "main"


@given(st.lists(st.floats(allow_infinity=False, allow_nan=False), max_size=60), st.integers(1, 40))
def test_a_sparkline_is_as_long_as_what_it_shows(values: list[float], width: int) -> None:
    line = sparkline(values, TERMINAL, width)
    assert len(line) == min(len(values), width)
    assert set(line) <= set(BARS)
    shown = values[-width:]
    if shown and max(shown) > min(shown):
        assert line[shown.index(max(shown))] == BARS[-1]
        assert line[shown.index(min(shown))] == BARS[0]


def test_a_sparkline_where_there_are_no_such_signs() -> None:
    plain = TERMINAL._replace(unicode=False)
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], plain) == PLAIN
    assert sparkline([float("nan"), 1], plain) == "="
    assert sparkline([], plain) == ""


def test_the_most_that_an_attempt_can_leave_fits_into_one_event() -> None:
    worst = "\x01"  # six bytes as JSON
    failure = Failure(
        test=worst * MAX_NAME,
        message=worst * MAX_TALLY_MESSAGE,
        file=worst * MAX_NAME,
        line=1,
        offset=1,
    )
    note = Annotation(
        level="warning", message=worst * 1000, title=worst * 200, file=worst * 200, line=1, offset=1
    )
    remark = Annotation(level="warning", title="reports", message=worst * 500)
    step = Step(
        name=worst * 100, offset=1, started_at=moment(), end=1, ended_at=moment(), status=1, depth=9
    )
    event = BuildFinished(
        at=moment(),
        build="b" * 16,
        attempt=1,
        reason=Reason.SCRIPT,
        message=worst * 500,
        annotations=(*[note] * 50, *[remark] * 25),
        steps=(step,) * 200,
        tests=Tally(failed=10**9, failures=(failure,) * MAX_FAILURES, cases=CASES),
        metrics=(Metric(name="a" * 60, value=1.1, unit="b" * 12),) * 100,
    )
    assert len(encode(event)) < MAX_EVENT_BYTES


def test_what_was_written_before_there_were_reports_is_read() -> None:
    old = b'{"kind":"build.finished","at":"2026-01-01T00:00:00Z","build":"b","attempt":1,"reason":"script"}'
    event = decode(old)
    assert isinstance(event, BuildFinished)
    assert (event.tests, event.metrics) == (None, ())
