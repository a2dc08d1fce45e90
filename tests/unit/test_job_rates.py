"""How often builds of a job begin, by one number a job."""

from __future__ import annotations

from rota.core.job import Rate
from rota.core.rates import after, opens_at, room

RATE = Rate(3, 60.0)


def test_so_many_begin_at_once_and_then_one_in_each_step() -> None:
    used = 0.0
    for left in (3, 2, 1):
        assert room(used, RATE, 1000.0) == left
        used = after(used, RATE, 1000.0)
    assert room(used, RATE, 1000.0) == 0
    assert opens_at(used, RATE) == 1020.0
    assert [room(used, RATE, at) for at in (1019.9, 1020.0, 1039.9, 1040.0)] == [0, 1, 1, 2]
    assert room(used, RATE, 9999.0) == 3


def test_what_a_wrong_clock_put_off_ends_with_the_next_right_one() -> None:
    used = after(0.0, RATE, 10_000_000.0)
    assert after(used, RATE, 1000.0) == 1060.0
