"""Quiet hours against a clock that is looked at every minute, in every zone, around changes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core.quiet import Quiet, is_quiet, quiet_until
from rota.core.zones import find_zone

#: Changes of an hour, of half an hour, of a day, twice a year, at midnight, in Ramadan, and none.
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Asia/Beirut",
)
MINUTE = timedelta(minutes=1)


def looked_at(quiet: Quiet, zone: ZoneInfo, at: datetime) -> bool:
    wall = at.astimezone(zone)
    minute = wall.hour * 60 + wall.minute
    by_hours = (
        quiet.start <= minute < quiet.end
        if quiet.start <= quiet.end
        else minute >= quiet.start or minute < quiet.end
    )
    return by_hours or wall.weekday() in quiet.days


quiets = st.builds(
    Quiet,
    st.integers(0, 1439),
    st.integers(0, 1439),
    st.sets(st.integers(0, 6), max_size=6).map(lambda days: tuple(sorted(days))),
)
FIRST = datetime(2011, 12, 20, tzinfo=UTC)
moments = st.integers(0, 18 * 366 * 24 * 60).map(lambda minutes: FIRST + minutes * MINUTE)


@settings(max_examples=150, deadline=None)
@given(quiets, st.sampled_from(ZONES), moments)
def test_it_is_quiet_as_the_clock_on_the_wall_says(quiet: Quiet, zone: str, at: datetime) -> None:
    known = find_zone(zone)
    own = known.info
    assert is_quiet(quiet, known, at) == looked_at(quiet, own, at)
    until = quiet_until(quiet, known, at)
    assert until is not None
    assert not looked_at(quiet, own, until)
    # Nothing before it was not quiet: looked at every so often, and right before the end.
    step = max((until - at) // 200, MINUTE)
    before = at
    while before < until:
        assert looked_at(quiet, own, before)
        before += step
    if until > at:
        assert looked_at(quiet, own, until - MINUTE)
