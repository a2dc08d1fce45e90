"""What the last builds of a job come to, and how many finish a minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rota.core.build import Build
from rota.core.pulse import MINUTES, Pulse
from rota.core.states import Result, State
from rota.core.trend import BAD, expected_s, first_of_streak, typical_s

AT = datetime(2026, 1, 1, tzinfo=UTC)


def build(
    number: int, result: Result | None, *, ran_s: float = 1.0, at: datetime = AT, seq: int = 0
) -> Build:
    return Build(
        id=f"b{number}",
        job="a",
        number=number,
        state=State.FINISHED if result else State.RUNNING,
        result=result,
        requested_at=at,
        started_at=at - timedelta(seconds=ran_s),
        finished_at=at if result else None,
        requested_seq=number,
        seq=seq,
    )


def test_what_is_typical_is_the_median_of_what_passed() -> None:
    passes = [build(n, Result.PASSED, ran_s=ran) for n, ran in enumerate((1, 100, 3))]
    failed = build(9, Result.FAILED, ran_s=0.001)
    assert typical_s([*passes, failed, build(10, None)]) == 3
    assert typical_s([failed]) is None


def test_what_is_expected_goes_by_passes_with_the_same_parameters_if_there_are_enough() -> None:
    def passes(env: str, *took: float) -> list[Build]:
        return [
            replace(build(n, Result.PASSED, ran_s=ran), params={"env": env})
            for n, ran in enumerate(took)
        ]

    past = [*passes("prod", 100, 101, 102), *passes("test", 1, 2)]
    assert expected_s(passes("prod", 0)[0], past) == 101
    assert expected_s(passes("test", 0)[0], past) == 100
    assert expected_s(passes("new", 0)[0], []) is None


def test_the_streak_ends_at_the_last_pass_and_does_not_count_what_was_cancelled() -> None:
    p, f, c = Result.PASSED, Result.FAILED, Result.CANCELLED
    newest_first = [build(9 - n, result) for n, result in enumerate((None, f, c, f, c, p, f))]
    first = first_of_streak(newest_first)
    assert first is not None
    assert first.number == 6
    assert first_of_streak([build(2, p), build(1, f)]) is None
    assert first_of_streak([build(2, c), build(1, None)]) is None


@given(st.lists(st.sampled_from([*Result, None]), max_size=20))
def test_a_streak_begins_with_something_bad_and_has_no_pass_behind_it(
    results: list[Result | None],
) -> None:
    builds = [build(len(results) - n, result) for n, result in enumerate(results)]
    first = first_of_streak(builds)
    if first is None:
        firm = [it for it in results if it not in (None, Result.CANCELLED)]
        assert not firm or firm[0] not in BAD
    else:
        assert first.result in BAD
        assert all(it.result is not Result.PASSED for it in builds[: builds.index(first)])


def test_the_pulse_counts_each_finished_build_in_its_minute_once() -> None:
    pulse = Pulse()
    pulse.beat(1, AT, [build(1, Result.PASSED, at=AT, seq=1), build(2, None, seq=1)])
    later = AT + timedelta(minutes=1)
    # The first one changes again: it had finished before.
    pulse.beat(2, later, [build(1, Result.PASSED, at=AT, seq=2)])
    pulse.beat(3, later, [build(3, Result.FAILED, at=later, seq=3)])
    assert pulse.per_minute(later, 3) == (0, 1, 1)


def test_the_pulse_recalls_what_finished_before_it_began_and_nothing_else() -> None:
    pulse = Pulse()
    pulse.beat(7, AT, [build(7, Result.PASSED, at=AT, seq=7)])
    minute = timedelta(minutes=1)
    pulse.recall([build(7, Result.PASSED, at=AT), build(1, Result.PASSED, at=AT - minute)])
    assert pulse.per_minute(AT, 2) == (1, 1)


@given(st.lists(st.integers(0, 10_000), max_size=200))
def test_the_pulse_remembers_no_more_than_its_minutes(minutes: list[int]) -> None:
    pulse = Pulse()
    for seq, minute in enumerate(minutes):
        at = AT + timedelta(minutes=minute)
        pulse.beat(seq, at, [build(seq, Result.PASSED, at=at, seq=seq)])
    assert len(pulse._counts) <= MINUTES
    if minutes:
        last = AT + timedelta(minutes=max(minutes))
        assert pulse.per_minute(last, 1)[0] == minutes.count(max(minutes))
