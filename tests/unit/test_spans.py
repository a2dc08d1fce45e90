"""A build as spans: what is derived, and that all agents derive the same."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.collector import read, spans

from rota.core.build import Artifact, Attempt, Build, Trigger
from rota.core.job import Reason
from rota.core.scm import Source
from rota.core.settings import parse_settings
from rota.core.spans import (
    Context,
    Seen,
    Span,
    build_spans,
    context_of,
    encode_spans,
    parse_traceparent,
    pipeline_span,
    trace_of,
)
from rota.core.states import Result, State
from rota.core.steps import Step

AT = datetime(2026, 1, 1, tzinfo=UTC)
GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def s(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def build(**more: object) -> Build:
    return Build(
        **{
            "id": "b1",
            "job": "web/test",
            "number": 7,
            "state": State.FINISHED,
            "result": Result.PASSED,
            "attempt": 1,
            "agent": "a",
            "requested_at": s(0),
            "started_at": s(3),
            "finished_at": s(10),
            **more,
        }  # type: ignore[arg-type]  # as they are given
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (GIVEN, Context("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True)),
        (GIVEN[:-1] + "0", Context("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", False)),
        (
            "cc" + GIVEN[2:] + "-more",
            Context("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True),
        ),
        ("ff" + GIVEN[2:], None),
        (GIVEN + "-more", None),
        ("00-" + "0" * 32 + GIVEN[35:], None),
        (GIVEN.upper(), None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_a_traceparent_is_read_as_the_standard_says(text: str, found: Context | None) -> None:
    assert parse_traceparent(text) == found


@given(st.text(max_size=80))
def test_any_text_is_a_traceparent_or_none(text: str) -> None:
    found = parse_traceparent(text)
    assert found is None or parse_traceparent(found.header) == found


def test_the_trace_is_the_trees_own_or_the_one_it_was_asked_in() -> None:
    own = trace_of("b1", "")
    assert own == trace_of("b1", "nonsense")
    assert own != trace_of("b2", "")
    assert (len(own.trace), len(own.span)) == (32, 16)
    joined = trace_of("b1", GIVEN)
    assert joined.trace == "0af7651916cd43dd8448eb211c80319c"
    root = build(trigger=Trigger(data={"traceparent": GIVEN}))
    assert pipeline_span(root, joined, s(10)).parent == "b7ad6b7169203331"
    assert parse_traceparent(context_of(root, 1, joined).header) is not None


def named(found: list[Span]) -> dict[str, Span]:
    return {it.name: it for it in found}


def test_a_build_is_told_with_all_that_happened_in_it() -> None:
    it = build(
        attempt=2,
        started_at=s(20),
        finished_at=s(30),
        former=(
            Attempt(
                attempt=1,
                agent="z",
                result=Result.LOST,
                reason=Reason.LOST,
                started_at=s(5),
                finished_at=s(9),
            ),
        ),
        steps=(
            Step(name="compile", offset=0, started_at=s(21), ended_at=s(25)),
            Step(name="link", offset=5, started_at=s(22), ended_at=s(24), status=2, depth=1),
            Step(name="test", offset=9, started_at=s(25)),
        ),
        artifacts=(Artifact(path="x", size=5, sha256="", kept_at=s(29)),),
        source=Source(url="u", commit="c0ffee"),
    )
    tree = trace_of("b1", "")
    found = list(build_spans(it, tree, Seen(s(2), ((2, s(20.5)),))))
    by = named(found)
    whole = by["web/test#7"]
    assert (whole.parent, whole.start, whole.end, whole.fault) == (tree.span, s(0), s(30), None)
    assert (by["held"].start, by["held"].end) == (s(0), s(2))
    queued = [it for it in found if it.name == "queued"]
    assert [(it.start, it.end) for it in queued] == [(s(2), s(5)), (s(9), s(20))]
    assert (by["attempt 1"].agent, by["attempt 1"].fault) == ("z", "lost")
    assert (by["attempt 2"].agent, by["attempt 2"].end) == ("a", s(30))
    assert by["attempt 2"].id == context_of(it, 2, tree).span
    assert (by["checkout"].parent, by["checkout"].end) == (by["attempt 2"].id, s(20.5))
    assert by["compile"].parent == by["attempt 2"].id
    assert (by["link"].parent, by["link"].fault) == (by["compile"].id, "exit status 2")
    assert (by["test"].parent, by["test"].end) == (by["attempt 2"].id, s(30))
    assert by["artifacts"].attributes == {"rota.files": 1, "rota.bytes": 5}
    ids = [it.id for it in found]
    assert len(ids) == len(set(ids))
    assert {it.trace for it in found} == {tree.trace}
    assert found == list(build_spans(it, tree, Seen(s(2), ((2, s(20.5)),))))


def test_a_build_that_never_began_only_waited() -> None:
    it = build(
        attempt=0, started_at=None, agent=None, result=Result.CANCELLED, reason=Reason.CANCELLED
    )
    found = named(list(build_spans(it, trace_of("b1", ""), Seen())))
    assert found.keys() == {"web/test#7", "queued"}
    assert found["web/test#7"].fault == "cancelled"


def test_what_a_script_asked_for_stands_below_what_it_was_doing() -> None:
    tree = trace_of("b0", "")
    inner = Context(tree.trace, "00000000000000aa").header
    other = GIVEN
    below = build(
        pipeline="b0", parent="b0", trigger=Trigger(kind="build", data={"traceparent": inner})
    )
    beside = build(
        pipeline="b0", parent="b0", trigger=Trigger(kind="build", data={"traceparent": other})
    )
    assert next(build_spans(below, tree, Seen())).parent == "00000000000000aa"
    parent = next(build_spans(build(id="b0"), tree, Seen())).id
    assert next(build_spans(beside, tree, Seen())).parent == parent


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(names, names, st.floats(-5, 5), st.booleans())
def test_what_is_sent_is_what_collectors_read(
    name: str, message: str, skew_s: float, is_bad: bool
) -> None:
    it = build(
        finished_at=s(10 + skew_s),
        message=message,
        result=Result.FAILED if is_bad else Result.PASSED,
        steps=(Step(name=name, offset=0, started_at=s(9), ended_at=s(9 + skew_s)),),
    )
    tree = trace_of("b1", "")
    given_ = [*build_spans(it, tree, Seen()), pipeline_span(it, tree, s(11))]
    got = spans(read(encode_spans(given_, version="1")))
    assert {one.id for one in got} == {one.id for one in given_}
    for one in got:
        assert one.resource["service.name"] == "rota"
        assert one.is_error == (is_bad and one.name != name and one.name != "queued")
    assert (
        next(one for one in got if one.name == "attempt 1").resource["service.instance.id"] == "a"
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            '[traces]\nendpoint = "otel:4318"',
            "2:12: traces.endpoint must be a URL, not 'otel:4318'",
        ),
        ('[traces]\nheaders = "x"', "1:1: traces needs endpoint"),
        ('[traces]\nendpoint = "http://o"\nheaders = "a b"', "3:11: traces.headers"),
        ('[traces]\nendpoint = "http://o"\nheader = "a"', "3:1: unknown key traces.header"),
    ],
)
def test_settings_that_cannot_be(text: str, fault: str) -> None:
    [problem, *_] = parse_settings(text)[1]
    assert fault in str(problem)


def test_an_endpoint_may_be_given_with_its_path() -> None:
    text = '[traces]\nendpoint = "http://otel:4318/v1/traces"\nheaders = "otel"'
    settings, faults = parse_settings(text)
    assert not faults
    assert (settings.traces.endpoint, settings.traces.headers) == ("http://otel:4318", "otel")
