"""Waits that end together."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from rota.service.ticks import tick, until_tick


async def waited(now: float, period: float) -> float:
    loop = asyncio.get_running_loop()
    loop.time = lambda: now  # type: ignore[method-assign]
    try:
        return until_tick(period)
    finally:
        del loop.time


@given(st.floats(0, 1e6), st.sampled_from([0.2, 0.5, 1.0, 2.0, 3.0, 5.0]))
def test_a_wait_ends_at_a_multiple_of_its_period(now: float, period: float) -> None:
    left = asyncio.run(waited(now, period))
    assert 0.1 * period <= left <= 1.1 * period + 1e-6
    beyond = (now + left) % period
    assert min(beyond, period - beyond) < 1e-6


def test_periods_that_are_multiples_meet() -> None:
    assert asyncio.run(waited(7.3, 1.0)) + 7.3 == 8.0
    assert asyncio.run(waited(6.2, 2.0)) + 6.2 == 8.0
    assert asyncio.run(waited(7.95, 1.0)) + 7.95 == 9.0  # not at once again


def test_no_period_is_no_wait() -> None:
    asyncio.run(tick(0))
