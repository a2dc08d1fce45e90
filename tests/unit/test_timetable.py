"""Timetables: the instants of a rule, over changes of clocks, between bounds, within calendars."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from rota.core.calendar_file import parse_calendar
from rota.core.calendars import Calendar, resolve
from rota.core.timetable import Timetable
from rota.core.triggers import Dst, Schedule
from rota.core.zones import find_zone


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def timetable(rule: Schedule, calendars: Mapping[str, Calendar] | None = None) -> Timetable:
    return Timetable(rule, "web/test:x", calendars or {})


def shown(rule: Schedule, after: str, until: str) -> list[str]:
    """Return the instants as clocks in the rule's zone show them: ``02:30+0100``, or with the day."""
    info = find_zone(rule.tz).info
    return [
        it.astimezone(info).strftime("%d %H:%M%z")
        for it in timetable(rule).between(at(after), at(until))
    ]


#: dst, expression, what fires on 29 March 2026 (02:00 to 03:00 left out) and on 25 October (twice).
BERLIN: list[tuple[Dst, str, list[str], list[str]]] = [
    ("skip", "30 2 * * *", [], ["25 02:30+0200"]),
    ("once", "30 2 * * *", ["29 03:00+0200"], ["25 02:30+0200"]),
    ("both", "30 2 * * *", ["29 03:00+0200"], ["25 02:30+0200", "25 02:30+0100"]),
    ("shift", "30 2 * * *", ["29 03:30+0200"], ["25 02:30+0200"]),
    # Several times that were left out come to one moment, and fire once.
    ("once", "*/30 2 * * *", ["29 03:00+0200"], ["25 02:00+0200", "25 02:30+0200"]),
    ("shift", "*/30 2 * * *", ["29 03:00+0200", "29 03:30+0200"], ["25 02:00+0200", "25 02:30+0200"]),
    ("once", "30 2,3 * * *", ["29 03:00+0200", "29 03:30+0200"], ["25 02:30+0200", "25 03:30+0100"]),
    ("shift", "30 2,3 * * *", ["29 03:30+0200"], ["25 02:30+0200", "25 03:30+0100"]),
    # At the edges of the gap.
    ("once", "0 2 * * *", ["29 03:00+0200"], ["25 02:00+0200"]),
    ("once", "0 3 * * *", ["29 03:00+0200"], ["25 03:00+0100"]),
    ("once", "59 1 * * *", ["29 01:59+0100"], ["25 01:59+0200"]),
    ("both", "59 1 * * *", ["29 01:59+0100"], ["25 01:59+0200"]),
    # Only on that day of the week, which comes again after seven days.
    ("once", "30 2 * * SUN", ["29 03:00+0200"], ["25 02:30+0200"]),
    ("both", "15 2 * * SUN", ["29 03:00+0200"], ["25 02:15+0200", "25 02:15+0100"]),
]  # fmt: skip


@pytest.mark.parametrize(("dst", "cron", "spring", "autumn"), BERLIN)
def test_a_time_of_day_over_a_change_of_clocks(
    dst: Dst, cron: str, spring: list[str], autumn: list[str]
) -> None:
    rule = Schedule(cron=cron, tz="Europe/Berlin", dst=dst)
    assert shown(rule, "2026-03-29T00:00+01:00", "2026-03-29T12:00+02:00") == spring
    assert shown(rule, "2026-10-25T00:00+02:00", "2026-10-25T12:00+01:00") == autumn


@pytest.mark.parametrize("dst", ["skip", "once", "both", "shift"])
def test_a_rhythm_goes_by_what_clocks_show(dst: Dst) -> None:
    rule = Schedule(cron="*/30 * * * *", tz="Europe/Berlin", dst=dst)
    assert shown(rule, "2026-03-29T01:00+01:00", "2026-03-29T03:30+02:00") == [
        "29 01:30+0100", "29 03:00+0200", "29 03:30+0200",
    ]  # fmt: skip
    again = [] if dst == "skip" else ["25 02:00+0100", "25 02:30+0100"]
    assert shown(rule, "2026-10-25T01:30+02:00", "2026-10-25T03:00+01:00") == [
        "25 02:00+0200", "25 02:30+0200", *again, "25 03:00+0100",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("dst", "expected"),
    [
        ("skip", ["29 12:00-1000", "31 12:00+1400"]),
        ("once", ["29 12:00-1000", "31 00:00+1400", "31 12:00+1400"]),
        ("both", ["29 12:00-1000", "31 00:00+1400", "31 12:00+1400"]),
        ("shift", ["29 12:00-1000", "31 12:00+1400"]),
    ],
)
def test_the_day_that_samoa_never_had(dst: Dst, expected: list[str]) -> None:
    rule = Schedule(cron="0 12 * * *", tz="Pacific/Apia", dst=dst)
    assert shown(rule, "2011-12-29T00:00-10:00", "2011-12-31T23:00+14:00") == expected
    # What was meant for that day alone is not lost for a year.
    yearly = Schedule(cron="0 12 30 12 *", tz="Pacific/Apia", dst=dst)
    found = shown(yearly, "2011-12-29T00:00-10:00", "2011-12-31T23:00+14:00")
    assert found == {"skip": [], "shift": ["31 12:00+1400"]}.get(dst, ["31 00:00+1400"])


@pytest.mark.parametrize(
    ("tz", "cron", "after", "until", "expected"),
    [
        # Half an hour is left out, or comes twice.
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-04T00:00+10:30", "2026-10-04T12:00+11:00", ["04 02:30+1100"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05T00:00+11:00", "2026-04-05T12:00+10:30", ["05 01:45+1100"]),
        # Two hours, at the station Troll.
        ("Antarctica/Troll", "30 2 * * *", "2026-03-29T00:00+00:00", "2026-03-29T12:00+02:00", ["29 03:00+0200"]),
        # Double summer time of 1945.
        ("Europe/London", "30 2 * * *", "1945-04-02T00:00+01:00", "1945-04-02T12:00+02:00", ["02 03:00+0200"]),
        # Another standard time, from half past eleven in the night.
        ("Asia/Pyongyang", "45 23 * * *", "2018-05-04T12:00+08:30", "2018-05-05T12:00+09:00", ["05 00:00+0900"]),
        ("Asia/Pyongyang", "45 23 * * *", "2015-08-14T12:00+09:00", "2015-08-15T12:00+08:30", ["14 23:45+0900"]),
        # Midnight does not exist.
        ("America/Havana", "0 0 * * *", "2026-03-07T12:00-05:00", "2026-03-08T12:00-04:00", ["08 01:00-0400"]),
        # Twice a day, before and after midnight, of two days.
        ("Asia/Amman", "0 0 * * *", "2020-10-29T12:00+03:00", "2020-10-30T12:00+02:00", ["30 00:00+0300"]),
        # Clocks were put on at the beginning of a month by a day, by 24 hours at New Year's Eve.
        ("Pacific/Kiritimati", "0 6 31 12 *", "1994-12-30T00:00-10:40", "1995-01-02T00:00+14:00", ["01 00:00+1400"]),
    ],
)  # fmt: skip
def test_changes_of_all_sizes(
    tz: str, cron: str, after: str, until: str, expected: list[str]
) -> None:
    assert shown(Schedule(cron=cron, tz=tz), after, until) == expected


# -- other rules ------------------------------------------------------------------------------


def test_an_interval_counts_from_its_start_or_from_1970() -> None:
    rule = Schedule(every_s=7 * 60)
    first = timetable(rule).next(at("2026-01-01T00:00Z"))
    assert first is not None
    assert first.timestamp() % 420 == 0
    rule = Schedule(every_s=90 * 60, start=at("2026-01-01T10:00Z"))
    assert shown(rule, "2025-12-01T00:00Z", "2026-01-01T13:00Z") == [
        "01 10:00+0000", "01 11:30+0000", "01 13:00+0000",
    ]  # fmt: skip


def test_an_interval_of_part_of_a_second_does_not_drift() -> None:
    table = timetable(Schedule(every_s=1.1))
    some = list(table.between(at("2026-01-01T00:00Z"), at("2026-01-01T01:00Z")))
    assert {b - a for a, b in itertools.pairwise(some)} == {timedelta(seconds=1.1)}


def test_an_interval_knows_no_change_of_clocks() -> None:
    rule = Schedule(every_s=1800, tz="Europe/Berlin")
    assert shown(rule, "2026-03-29T01:00+01:00", "2026-03-29T03:30+02:00") == [
        "29 01:30+0100", "29 03:00+0200", "29 03:30+0200",
    ]  # fmt: skip


def test_single_times_fire_in_order_whatever_theirs_is() -> None:
    rule = Schedule(at=(at("2026-02-01T00:00Z"), at("2026-01-01T00:00Z")))
    assert shown(rule, "2025-01-01T00:00Z", "2027-01-01T00:00Z") == [
        "01 00:00+0000", "01 00:00+0000",
    ]  # fmt: skip
    assert timetable(rule).next(at("2026-02-01T00:00Z")) is None


def test_start_is_of_it_and_end_is_not() -> None:
    rule = Schedule(cron="0 * * * *", start=at("2026-01-01T01:00Z"), end=at("2026-01-01T03:00Z"))
    assert shown(rule, "2025-01-01T00:00Z", "2027-01-01T00:00Z") == [
        "01 01:00+0000", "01 02:00+0000",
    ]  # fmt: skip


def test_the_next_instant_is_strictly_after_to_the_microsecond() -> None:
    table = timetable(Schedule(cron="0 12 * * *"))
    noon = at("2026-01-01T12:00Z")
    assert table.next(noon - timedelta(microseconds=1)) == noon
    assert table.next(noon) == noon + timedelta(days=1)
    assert table.next(noon + timedelta(microseconds=1)) == noon + timedelta(days=1)
    assert noon.tzinfo is UTC


def test_a_moment_of_any_zone_will_do_but_not_one_without() -> None:
    table = timetable(Schedule(cron="0 12 * * *"))
    assert table.next(datetime.fromisoformat("2026-01-01T13:30+02:00")) == at("2026-01-01T12:00Z")
    naive = datetime(2026, 1, 1)  # noqa: DTZ001  # that is the point
    for ask in (table.next, table.why_not, lambda it: list(table.between(it, it))):
        with pytest.raises(ValueError, match="2026-01-01T00:00:00 has no time zone"):
            ask(naive)


def test_what_never_comes_again_has_no_next() -> None:
    assert timetable(Schedule(cron="0 0 0 1 1 ? 2026")).next(at("2026-06-01T00:00Z")) is None
    berlin = Schedule(cron="0 0 3 25 10 ? 2026", tz="Europe/Berlin")
    assert timetable(berlin).next(at("2026-10-25T02:00Z")) is None


def test_the_second_of_two_last_times_is_found() -> None:
    rule = Schedule(cron="0 30 2 25 10 ? 2026", tz="Europe/Berlin", dst="both")
    assert shown(rule, "2026-10-25T02:30+02:00", "2027-01-01T00:00Z") == ["25 02:30+0100"]


def test_jitter_puts_off_the_fire_not_the_instant() -> None:
    table = timetable(Schedule(cron="0 * * * *", jitter_s=60))
    instants = list(table.between(at("2026-01-01T00:00Z"), at("2026-01-20T00:00Z")))
    assert all(it.minute == 0 for it in instants)
    late = [table.due_at(it) - it for it in instants]
    assert all(timedelta(0) <= it < timedelta(seconds=60) for it in late)
    assert max(late) - min(late) > timedelta(seconds=50)
    assert late == [table.due_at(it) - it for it in instants]
    other = Timetable(table.rule, "other:x", {})
    assert [other.due_at(it) - it for it in instants] != late
    assert timetable(Schedule(cron="0 * * * *")).due_at(instants[0]) == instants[0]


# -- calendars --------------------------------------------------------------------------------


def calendars(**texts: str) -> dict[str, Calendar]:
    files = {}
    for name, text in texts.items():
        file, _, problems = parse_calendar(text, name)
        assert file is not None, problems
        files[name] = file
    return resolve(files)


CALENDARS = calendars(
    office='hours = { mon-fri = "09:00-17:00" }',
    feasts='holidays = "DE"',
    gone='dates = ["2020-01-01"]',
    freeze='dates = ["2026-12-20..2027-01-02"]',
)


def test_calendars_are_required_and_excepted() -> None:
    rule = Schedule(
        cron="0 8,12,17 * * *",
        tz="Europe/Berlin",
        calendars=("office",),
        excepts=("feasts", "freeze"),
    )
    table = timetable(rule, CALENDARS)
    found = [
        f"{it.astimezone(find_zone(rule.tz).info):%m-%d %H}"
        for it in table.between(at("2026-12-16T00:00Z"), at("2027-01-06T00:00Z"))
    ]
    assert found == ["12-16 12", "12-17 12", "12-18 12", "01-04 12", "01-05 12"]


def test_intervals_and_single_times_heed_calendars_too() -> None:
    table = timetable(Schedule(every_s=3600, excepts=("freeze",)), CALENDARS)
    assert table.next(at("2026-12-19T23:00Z")) == at("2027-01-03T00:00Z")
    rule = Schedule(at=(at("2026-12-24T18:00Z"), at("2027-01-03T18:00Z")), excepts=("freeze",))
    assert timetable(rule, CALENDARS).next(at("2026-12-01T00:00Z")) == at("2027-01-03T18:00Z")


def test_calendars_that_leave_nothing_end_the_search() -> None:
    rule = Schedule(cron="* * * * *", calendars=("gone",))
    assert timetable(rule, CALENDARS).next(at("2026-01-01T00:00Z")) is None
    assert timetable(rule, CALENDARS).next(at("2019-01-01T00:00Z")) == at("2020-01-01T00:00Z")


def test_a_calendar_that_is_not_there_lets_nothing_fire() -> None:
    for rule in (
        Schedule(cron="* * * * *", calendars=("x",)),
        Schedule(every_s=60, excepts=("x",)),
    ):
        table = timetable(rule, CALENDARS)
        assert table.next(at("2026-01-01T00:00Z")) is None
        assert table.why_not(at("2026-01-01T00:00Z")) == "it never fires: no calendar is called 'x'"


# -- why not ----------------------------------------------------------------------------------

NIGHTLY = Schedule(cron="30 2 * * *", tz="Europe/Berlin")


@pytest.mark.parametrize(
    ("rule", "moment", "words"),
    [
        (NIGHTLY, "2026-01-01T02:30+01:00", ""),
        (
            NIGHTLY,
            "2026-01-01T02:31+01:00",
            (
                "the cron expression '30 2 * * *' does not mean Thu 2026-01-01 02:31:00 CET; before it "
                "Thu 2026-01-01 02:30:00 CET, after it Fri 2026-01-02 02:30:00 CET"
            ),
        ),
        (
            Schedule(cron="H 2 * * *"),
            "2026-01-01T02:00Z",
            (
                "the cron expression 'H 2 * * *', here '19 2 * * *', does not mean Thu 2026-01-01 02:00:00 "
                "UTC; before it Wed 2025-12-31 02:19:00 UTC, after it Thu 2026-01-01 02:19:00 UTC"
            ),
        ),
        (
            NIGHTLY,
            "2026-10-25T02:30+01:00",
            (
                "clocks went from 03:00 to 02:00, so that it was that time before, at "
                "Sun 2026-10-25 02:30:00 CEST, where dst = 'once' fires"
            ),
        ),
        (
            NIGHTLY,
            "2026-03-29T03:30+02:00",
            (
                "clocks went from 02:00 to 03:00, so that 02:30 was left out, and dst = 'once' fires at "
                "Sun 2026-03-29 03:00:00 CEST instead"
            ),
        ),
        (
            Schedule(cron="30 2 * * *", tz="Europe/Berlin", dst="skip"),
            "2026-03-29T03:30+02:00",
            (
                "clocks went from 02:00 to 03:00, so that 02:30 was left out, and dst = 'skip' fires "
                "nothing instead"
            ),
        ),
        (
            Schedule(every_s=900, start=at("2026-01-01T00:05Z")),
            "2026-01-01T01:00Z",
            (
                "every 15m from 2026-01-01T00:05:00Z is not Thu 2026-01-01 01:00:00 UTC; before it "
                "Thu 2026-01-01 00:50:00 UTC, after it Thu 2026-01-01 01:05:00 UTC"
            ),
        ),
        (
            Schedule(at=(at("2026-01-01T01:00Z"),)),
            "2026-01-01T01:00:00.5Z",
            (
                "its times do not have Thu 2026-01-01 01:00:00.500 UTC; before it "
                "Thu 2026-01-01 01:00:00 UTC"
            ),
        ),
        (
            Schedule(cron="0 * * * *", start=at("2026-01-01T00:00Z")),
            "2025-12-31T23:00Z",
            "before its start, Thu 2026-01-01 00:00:00 UTC",
        ),
        (
            Schedule(cron="0 * * * *", end=at("2026-01-01T00:00Z")),
            "2026-01-01T00:00Z",
            "it ended at Thu 2026-01-01 00:00:00 UTC",
        ),
        (
            Schedule(cron="0 * * * *", calendars=("office",), excepts=("feasts",)),
            "2026-01-02T17:00Z",
            "the calendar 'office' does not have Fri 2026-01-02 17:00:00 UTC",
        ),
        (
            Schedule(cron="0 * * * *", calendars=("office",), excepts=("feasts",)),
            "2026-12-25T10:00Z",
            "left out by the calendar 'feasts', which has Fri 2026-12-25 10:00:00 UTC",
        ),
    ],
)
def test_why_a_moment_is_no_instant(rule: Schedule, moment: str, words: str) -> None:
    assert timetable(rule, CALENDARS).why_not(at(moment)) == words


# -- cost -------------------------------------------------------------------------------------


def test_a_hundred_thousand_fit() -> None:
    """A timetable of its own is small; what was compiled is shared."""
    rule = Schedule(cron="H H * * *", tz="Europe/Berlin")
    some = [Timetable(rule, f"job{n}:x", {}) for n in range(3000)]
    assert sys.getsizeof(some[0]) < 200
    compiled = {id(it._cron) for it in some}
    assert len(compiled) <= 60 * 24
