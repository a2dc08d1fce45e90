"""Clocks that are apart are told, once that is sure; those that agree never."""

from __future__ import annotations

from rota.core.skew import FORGET_S, Skews


def heard(*ahead_s: float) -> Skews:
    skews = Skews()
    for n, it in enumerate(ahead_s):
        skews.note("b", it, float(n))
    return skews


def test_clocks_that_agree_are_no_trouble() -> None:
    assert heard(0.1, -0.2, 1.9).trouble("a", 3.0) is None


def test_a_clock_that_is_ahead_is_told_and_what_to_do() -> None:
    assert heard(300.0, 300.02, 299.99).trouble("a", 3.0) == (
        "clocks are apart: by that of a, b is 5m ahead; schedules fire by the leader's:"
        " set them by NTP"
    )


def test_a_clock_may_be_behind() -> None:
    assert "b is 5m behind" in (heard(-300.0, -300.0, -300.0).trouble("a", 3.0) or "")


def test_a_word_that_waited_says_nothing() -> None:
    assert heard(-40.0, 0.01, -30.0).trouble("a", 3.0) is None


def test_it_takes_some_words_to_be_sure() -> None:
    assert heard(300.0, 300.0).trouble("a", 3.0) is None


def test_who_is_silent_is_forgotten_and_a_clock_that_was_set_is_right() -> None:
    assert heard(300.0, 300.0, 300.0).trouble("a", 3.0 + FORGET_S) is None
    assert heard(300.0, 300.0, 300.0, 0.0).trouble("a", 4.0) is None
