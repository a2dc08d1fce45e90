"""Steps, as a log tells them: nested, unended, too many, masked, cut anywhere."""

from __future__ import annotations

import itertools
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.harness.facts import moment

from rota.core.steps import MAX_STEPS, Step
from rota.core.workflow import Scanner


def scanned(log: bytes, *cuts: int) -> Scanner:
    scanner = Scanner(lambda offset: moment() + timedelta(seconds=offset))
    places = [0, *sorted(cuts), len(log)]
    for start, stop in itertools.pairwise(places):
        scanner.feed(log[start:stop])
    scanner.finish()
    return scanner


def told(log: bytes) -> list[tuple[str, int, int | None, int | None, int]]:
    steps = scanned(log).shown_steps()
    return [(it.name, it.offset, it.end, it.status, it.depth) for it in steps]


def test_a_group_ends_with_its_end_the_next_one_or_the_log() -> None:
    log = b"::group::a\nx\n::endgroup::\n::group::b\n::group::c\ny"
    assert told(log) == [("a", 0, 13, None, 0), ("b", 26, 37, None, 0), ("c", 37, 49, None, 0)]


def test_a_step_around_a_command_has_its_status_and_what_is_in_it() -> None:
    log = b"::step id=1::make\n::group::cc\n::step::ld\n::endstep id=1,status=2::\n::step::end\n"
    assert told(log) == [
        ("make", 0, 41, 2, 0),
        ("cc", 18, 30, None, 1),
        ("ld", 30, 41, None, 1),
        ("end", 67, 79, None, 0),
    ]


def test_a_script_fails_in_the_innermost_step_that_is_open() -> None:
    assert scanned(b"::step::a\n::group::b\n").failed_step == "b"
    assert scanned(b"::step id=1::a\n::endstep id=1,status=3::\n").failed_step == "a"
    assert scanned(b"::step id=1::a\n::endstep id=1,status=0::\n").failed_step == ""
    assert scanned(b"::group::a\n::endgroup::\n").failed_step == ""


def test_a_masked_value_is_no_name_of_a_step() -> None:
    assert told(b"::add-mask::hush\n::step::say hush\n::step::x\n")[0][0] == "say ****"
    assert told(b"::step::say hush\n::add-mask::hush\n")[0][0] == "say ****"


def test_steps_are_limited_and_later_ones_still_end_those_before() -> None:
    log = b"".join(b"::step::%d\n" % number for number in range(MAX_STEPS + 50))
    found = scanned(log).shown_steps()
    assert len(found) == MAX_STEPS
    assert found[-1].end is not None
    assert found[-1].end < len(log)


def test_nonsense_is_text() -> None:
    log = b"::endstep id=9,status=x::\n::endgroup::\n::step::\n::steps::a\n::group name::b\n ::step::c\n"
    assert [it[0] for it in told(log)] == ["?", "b"]


LINES = st.sampled_from(
    [
        b"::group::g\n",
        b"::endgroup::\n",
        b"::step::s\n",
        b"::step id=1::c\n",
        b"::step id=2::d\n",
        b"::endstep id=1,status=0::\n",
        b"::endstep id=2,status=7::\n",
        b"text\n",
        b"::error::e\n",
    ]
)


@given(st.lists(LINES, max_size=40), st.data())
def test_steps_are_the_same_however_the_log_is_cut_and_each_has_an_end(
    lines: list[bytes], data: st.DataObject
) -> None:
    log = b"".join(lines)
    cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=8))
    scanner = scanned(log, *cuts)
    steps: tuple[Step, ...] = scanner.shown_steps()
    assert steps == scanned(log).shown_steps()
    for step in steps:
        assert step.end is not None
        assert step.offset <= step.end <= len(log)
        assert step.ended_at == moment() + timedelta(seconds=step.end)
    assert [step.offset for step in steps] == sorted(step.offset for step in steps)
