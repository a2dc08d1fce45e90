"""Who does not take what is offered is left alone for longer each time."""

from __future__ import annotations

from rota.core.backoff import Backoff


def test_waits_double_up_to_a_limit() -> None:
    backoff = Backoff(1.0, 5.0)
    assert [backoff.failed() for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    backoff.went_well()
    assert backoff.failed() == 1.0


def test_whoever_asks_us_to_wait_is_left_alone_for_so_long_but_not_for_ever() -> None:
    backoff = Backoff()
    assert [backoff.failed(30.0), backoff.failed(0.5), backoff.failed(1e9)] == [30.0, 2.0, 600.0]
