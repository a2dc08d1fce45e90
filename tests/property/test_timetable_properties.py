"""Timetables by chance: what must hold for every rule; and the oracle of all changes, in part."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.zones_oracle import all_changes, faults

from rota.core.calendar_file import parse_calendar
from rota.core.calendars import resolve
from rota.core.timetable import Timetable
from rota.core.triggers import Dst, Schedule
from rota.core.zones import find_zone

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Asia/Kathmandu",
)
CRONS = (
    "* * * * *",
    "*/7 * * * *",
    "30 2 * * *",
    "*/20 1-3 * * *",
    "0 0 * * *",
    "0 */6 * * *",
    "15 2 * * SUN",
    "59 23 L * *",
    "0 12 15W * *",
    "H H * * *",
    "0 0 1 1 *",
    "*/13 * 2 * * *",
)
TEXTS = {
    "office": 'hours = { mon-fri = "08:00-18:30", sat = "23:00-05:00" }\nexcept = "feasts"',
    "feasts": 'holidays = "DE"\nevery_year = "03-29"\ntz = "Asia/Tokyo"',
}
CALENDARS = resolve(
    {name: file for name, text in TEXTS.items() if (file := parse_calendar(text, name)[0])}
)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

moments = st.one_of(
    st.integers(-10 * 86_400 * 365, 10 * 86_400 * 365),
    # Near to changes of clocks.
    st.sampled_from([7_518_000, 25_668_000, 7_426_800, 26_179_200]).flatmap(
        lambda near: st.integers(near - 90_000, near + 90_000)
    ),
).map(lambda seconds: BEGIN + timedelta(seconds=seconds))
rules = st.builds(
    Schedule,
    cron=st.sampled_from(CRONS),
    tz=st.sampled_from(ZONES),
    dst=st.sampled_from(get_args(Dst)),
    calendars=st.sampled_from([(), (), ("office",)]),
    excepts=st.sampled_from([(), (), ("feasts",)]),
    jitter_s=st.sampled_from([0.0, 90.0]),
)


def some(table: Timetable, after: datetime, count: int) -> list[datetime]:
    found: list[datetime] = []
    while len(found) < count and (following := table.next(after)) is not None:
        found.append(following)
        after = following
    return found


@settings(max_examples=200, deadline=None)
@given(rules, moments)
def test_instants_rise_and_between_has_the_same(rule: Schedule, after: datetime) -> None:
    table = Timetable(rule, "web/test:x", CALENDARS)
    found = some(table, after, 12)
    assert all(a < b for a, b in itertools.pairwise([after, *found]))
    if found:
        assert list(table.between(after, found[-1])) == found
        assert all(table.why_not(it) == "" for it in found[:3])


@settings(max_examples=100, deadline=None)
@given(rules, moments, st.integers(0, 3 * 86_400))
def test_from_where_it_is_asked_makes_no_difference(
    rule: Schedule, after: datetime, seconds: int
) -> None:
    """Whoever takes over finds the instants that the one before would have found."""
    table = Timetable(rule, "web/test:x", CALENDARS)
    later = after + timedelta(seconds=seconds)
    until = later + timedelta(days=2)
    taken_over = [*table.between(after, later), *table.between(later, until)]
    assert taken_over == list(table.between(after, until))


@settings(max_examples=100, deadline=None)
@given(rules, moments)
def test_the_same_rule_is_the_same_everywhere(rule: Schedule, after: datetime) -> None:
    copy = msgspec.json.decode(msgspec.json.encode(rule), type=Schedule)
    one, other = (Timetable(it, "web/test:x", CALENDARS) for it in (rule, copy))
    found = some(one, after, 5)
    assert some(other, after, 5) == found
    assert [one.due_at(it) for it in found] == [other.due_at(it) for it in found]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(ZONES), st.integers(0, 1439), st.integers(2000, 2036))
def test_once_a_day_is_once_a_day_in_every_year(tz: str, minute: int, year: int) -> None:
    """Under ``once`` no day is lost and none doubled, whatever clocks do."""
    rule = Schedule(cron=f"{minute % 60} {minute // 60} * * *", tz=tz, dst="once")
    start = datetime(year, 1, 2, tzinfo=UTC)
    found = list(Timetable(rule, "x:x", {}).between(start, start + timedelta(days=363)))
    info = find_zone(tz).info
    days = Counter(it.astimezone(info).date() for it in found)
    gone = {"Pacific/Apia": {datetime(2011, 12, 30, tzinfo=UTC).date()}}.get(tz, set())
    first, last = found[0].astimezone(info).date(), found[-1].astimezone(info).date()
    every = {first + timedelta(days=n) for n in range((last - first).days + 1)}
    assert every - days.keys() <= gone
    # A day that never was is made up for on the next.
    doubled = {day for day, count in days.items() if count > 1}
    assert doubled <= {day + timedelta(days=1) for day in gone}


def test_the_oracle_of_all_changes_agrees_in_part() -> None:
    """``python -m tests.property.zones_oracle`` goes through all of them."""
    rng = random.Random(2037)
    bad = [
        text
        for name, change in all_changes(60, rng)
        for text in faults(name, change, rng, rounds=2)
    ]
    assert bad == []
