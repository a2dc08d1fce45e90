"""Calendars: what their files say, which moments they cover, and what bad ones are told."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.calendar_file import parse_calendar
from rota.core.calendars import Calendar, CalendarFile, resolve
from rota.core.definitions import blob_hash, check, check_changes, check_file, check_tree
from rota.core.zones import find_zone


def calendar(text: str, **others: str) -> Calendar:
    files = {"it": read(text)} | {name: read(other) for name, other in others.items()}
    return resolve(files)["it"]


def read(text: str) -> CalendarFile:
    if text.startswith("BEGIN"):
        return CalendarFile(ics=text)
    file, _, problems = parse_calendar(text, "calendars/it.toml")
    assert file is not None, [str(problem) for problem in problems]
    return file


def covers(it: Calendar, moment: str, tz: str = "Europe/Berlin") -> bool:
    """Ask about a wall-clock time in ``tz``, or an instant if it says its offset."""
    at = datetime.fromisoformat(moment)
    at = at if at.tzinfo else at.replace(tzinfo=find_zone(tz).info)
    return it.covers(int(at.timestamp()), find_zone(tz))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (
            'hours = { mon-fri = "09:00-17:00" }',
            ["2026-11-27 09:00", "2026-11-27 16:59:59"],
            ["2026-11-27 08:59:59", "2026-11-27 17:00", "2026-11-28 10:00"],
        ),
        (
            'hours = { mon = "09:00-12:00, 13:00-17:30", TUE = ["00:00-24:00"] }',
            ["2026-11-30 11:59", "2026-11-30 13:00", "2026-12-01 00:00", "2026-12-01 23:59:59"],
            ["2026-11-30 12:00", "2026-11-30 17:30", "2026-12-02 00:00"],
        ),
        (
            'hours = { fri = "22:00-06:00", sat-sun = "12:00-13:00" }',
            ["2026-11-27 22:00", "2026-11-28 05:59", "2026-11-28 12:30", "2026-11-29 12:00"],
            ["2026-11-27 05:00", "2026-11-28 06:00", "2026-11-28 22:00"],
        ),
        (
            'hours = { sat-mon = "10:00-11:00" }',
            ["2026-11-28 10:00", "2026-11-29 10:00", "2026-11-30 10:00"],
            ["2026-11-27 10:00", "2026-12-01 10:00"],
        ),
        (
            'dates = [2026-12-24, "2026-12-27..2026-12-31"]',
            ["2026-12-24 00:00", "2026-12-24 23:59", "2026-12-27 12:00", "2026-12-31 23:59"],
            ["2026-12-23 23:59", "2026-12-25 00:00", "2027-01-01 00:00", "2027-12-24 12:00"],
        ),
        (
            'every_year = ["12-24", "12-31..01-02", "02-29"]',
            ["2026-12-24 12:00", "2030-12-31 12:00", "2031-01-02 12:00", "2028-02-29 12:00"],
            ["2026-12-25 12:00", "2031-01-03 12:00", "2027-03-01 12:00"],
        ),
        (
            'holidays = "DE-BY"',
            ["2026-12-25 12:00", "2026-01-06 12:00", "2026-04-06 12:00"],
            ["2026-12-24 12:00", "2026-10-31 12:00"],
        ),
        (
            'holidays = ["DE-BB", "XNYS"]',
            ["2026-10-31 12:00", "2026-07-03 12:00"],
            ["2026-01-06 12:00", "2026-07-02 12:00"],
        ),
    ],
)
def test_each_part_covers_what_it_says(text: str, inside: list[str], outside: list[str]) -> None:
    it = calendar(text)
    assert [moment for moment in inside if not covers(it, moment)] == []
    assert [moment for moment in outside if covers(it, moment)] == []


def test_parts_add_up_and_what_is_excepted_goes() -> None:
    it = calendar(
        'hours = { mon-fri = "09:00-17:00" }\ninclude = "weekend"\nexcept = ["feasts", "lunch"]\n',
        weekend='dates = ["2026-12-26"]\n',
        feasts='holidays = "DE"\n',
        lunch='hours = { mon-sun = "12:00-13:00" }\n',
    )
    assert covers(it, "2026-12-23 10:00")
    assert not covers(it, "2026-12-23 12:30")
    assert not covers(it, "2026-12-25 10:00")
    assert not covers(it, "2026-12-26 10:00")  # included, but a holiday


def test_with_nothing_but_exceptions_all_else_is_covered() -> None:
    it = calendar('except = "feasts"\n', feasts='every_year = "12-25"\n')
    assert covers(it, "2026-12-24 03:00")
    assert not covers(it, "2026-12-25 03:00")


def test_a_calendar_has_the_zone_it_names_or_that_of_who_asks() -> None:
    text = 'hours = { mon-fri = "09:00-17:00" }'
    tokyo = calendar(f'{text}\ntz = "Asia/Tokyo"')
    assert covers(tokyo, "2026-11-27T09:00+09:00")
    assert not covers(tokyo, "2026-11-27T09:00+01:00")
    assert covers(calendar(text), "2026-11-27 09:00", "America/New_York")
    assert not covers(calendar(text), "2026-11-27T09:00+09:00", "America/New_York")


def ics(*lines: str) -> str:
    head = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN"]
    return "\r\n".join([*head, *lines, "END:VCALENDAR", ""])


def event(*lines: str) -> list[str]:
    return [
        "BEGIN:VEVENT",
        f"UID:{abs(hash(lines))}",
        "DTSTAMP:20260101T000000Z",
        *lines,
        "END:VEVENT",
    ]


def test_events_of_an_icalendar_file_cover_their_time() -> None:
    it = calendar(
        ics(
            *event("DTSTART;VALUE=DATE:20261224", "RRULE:FREQ=YEARLY", "TRANSP:TRANSPARENT"),
            *event("DTSTART;VALUE=DATE:20261227", "DTEND;VALUE=DATE:20261229"),
            *event(
                "DTSTART;TZID=Europe/Berlin:20260105T090000",
                "DTEND;TZID=Europe/Berlin:20260105T120000",
                "RRULE:FREQ=WEEKLY;BYDAY=MO;UNTIL=20271231T000000Z",
                "EXDATE;TZID=Europe/Berlin:20260112T090000",
            ),
            *event("DTSTART:20260601T100000Z", "DURATION:PT90M"),
            *event("DTSTART:20260701T100000", "DTEND:20260701T110000"),
            *event("DTSTART;VALUE=DATE:20260909", "STATUS:CANCELLED"),
        )
    )
    for inside in (
        "2026-12-24 00:00", "2031-12-24 23:59", "2026-12-28 12:00", "2026-01-19T09:00+01:00",
        "2026-07-06T11:59+02:00", "2026-06-01T11:29Z", "2026-07-01 10:30",
    ):  # fmt: skip
        assert covers(it, inside), inside
        assert covers(it, inside, "Europe/Berlin"), inside
    for outside in (
        "2025-12-24 12:00", "2026-12-29 00:00", "2026-01-12T09:00+01:00", "2026-07-06T12:00+02:00",
        "2028-01-10T09:00+01:00", "2026-06-01T11:30Z", "2026-07-01T10:30Z", "2026-09-09 12:00",
    ):  # fmt: skip
        assert not covers(it, outside), outside
    assert covers(it, "2026-07-01 10:30", "Asia/Tokyo")  # a time without a zone is anybody's
    assert covers(it, "2026-01-19T17:00+09:00", "Asia/Tokyo")


def test_new_years_eve_lasts_over_the_end_of_the_year() -> None:
    it = calendar(ics(*event("DTSTART:20261231T220000", "DTEND:20270101T020000")))
    assert covers(it, "2027-01-01 01:59")
    assert not covers(it, "2027-01-01 02:00")


@pytest.mark.parametrize(
    "text",
    [
        'hours = { mon-fri = "09:00-17:00", sat = "22:00-03:30" }\nexcept = "off"',
        'dates = ["2026-03-28..2026-03-30"]\ntz = "Asia/Tokyo"',
        ics(*event("DTSTART:20260329T003000Z", "DTEND:20260329T013000Z")),
    ],
)
def test_what_a_calendar_says_holds_as_long_as_it_says(text: str) -> None:
    """Walked through in quarters of an hour, over a change of clocks."""
    it = calendar(text, off='every_year = "03-30"')
    zone = find_zone("Europe/Berlin")
    start = int(datetime.fromisoformat("2026-03-27T00:00Z").timestamp())
    at = start
    while at < start + 4 * 86_400:
        covered, until = it.state(at, zone)
        assert until > at
        for moment in range(at, min(until, start + 4 * 86_400), 900):
            assert it.covers(moment, zone) is covered
        at = until


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1:1: is empty, so that it says nothing (such as hours = { mon-fri = \"09:00-17:00\" })"),
        ("hour = 3", "1:1: unknown key hour (did you mean 'hours'?)"),
        ("hours = { mon-fru = '09:00-17:00' }", "1:11: hours.mon-fru is no day of the week: did you mean 'fri'?"),
        ("hours = { mon = '9-5' }", "1:17: hours.mon has no such hours: '9-5' (09:00-17:00)"),
        ("hours = { mon = '09:00-25:00' }", "1:17: hours.mon has no such hours: '09:00-25:00' (09:00-17:00)"),
        ("hours = { mon = '09:00-24:30' }", "1:17: hours.mon goes beyond the day: '09:00-24:30' (00:00-24:00)"),
        ("hours = { mon = ['08:00-09:00', '09:00-09:00'] }", "1:33: hours.mon[2] is no time at all: '09:00-09:00' (00:00-24:00 is all day)"),
        ("tz = 'Berlin'", "1:6: tz is no time zone: 'Berlin' (did you mean 'Europe/Berlin'?)"),
        ("dates = ['2026-02-30']", "1:10: dates[1] has no such date: '2026-02-30' (2026-12-24, or \"2026-12-27..2026-12-31\")"),
        ("dates = ['2026-03-02..2026-03-01']", "1:10: dates[1] ends before it begins: '2026-03-02..2026-03-01' (first..last)"),
        ("dates = [3]", "1:10: dates[1] must be a date, not an integer (2026-12-24, or \"2026-12-27..2026-12-31\")"),
        ("every_year = ['02-30']", "1:15: every_year[1] has no such day: '02-30' (month-day, such as \"12-24\", or \"12-24..01-01\")"),
        ("holidays = 'Germany'", "1:12: holidays has no holidays of 'Germany' (ISO codes such as DE, DE-BY or US-CA)"),
        ("holidays = 'CH-XX'", "1:12: holidays has no holidays of 'CH-XX' (parts of CH: AG, AI,"),
        ("include = 'a/b'", "1:11: include cannot be 'a/b' (the name of a file in calendars/, without .toml or .ics)"),
    ],
)  # fmt: skip
def test_a_bad_calendar_is_told_where(text: str, problem: str) -> None:
    found = [str(it) for it in check_file("calendars/x.toml", text.encode())]
    assert len(found) == 1
    assert found[0].startswith(f"calendars/x.toml:{problem}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hello", ":1:1: no iCalendar file (it begins with BEGIN:VCALENDAR)"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\n", ":2:1: the calendar is cut off (it ends with END:VCALENDAR)"),
        (ics(*event("DTSTART:99")), ":7:1: DTSTART is no date or time (DTSTART;VALUE=DATE:20261224 or DTSTART:20261224T180000Z)"),
        (ics(*event("DTSTART:00010101T000000Z", "RRULE:FREQ=DAILY")), ":7:1: DTSTART is in the year 0001 (1900 to 2199)"),
        (ics(*event("DTSTART:20260101T000000Z", "RRULE:FREQ=SECONDLY")), ":8:7: repeats too often (at most hourly, at one minute)"),
        (ics(*event("DTSTART:20260101T000000Z", "RRULE:FREQ=DAILY;BYMINUTE=1,2")), ":8:18: repeats too often (at most hourly, at one minute)"),
        (ics(*event("DTSTART:20260101T000000Z", "RRULE:FREQ=DAILY;INTERVAL=0")), ":8:18: repeats too often (at most hourly, at one minute)"),
        (ics(*event("DTSTART:20200101T000000Z", "RRULE:FREQ=HOURLY")), ":8:1: with this event they are too many that repeat (at most 300 that repeat, 50000 times until 2040 in all)"),
        (ics("a line"), ":4:1: no property of a calendar (NAME:VALUE)"),
        (ics(*event("SUMMARY:x")), ": the event "),
        (ics(*event("DTSTART;TZID=Berlin:20260101T000000")), ":7:1: no time zone is called 'Berlin' (did you mean 'Europe/Berlin'?)"),
        (ics(*event("DTSTART:20260101T000000Z", "RRULE:FREQ=WEEKLY;BYDAY=XX")), ":8:1: RRULE of an event is bad: "),
    ],
)  # fmt: skip
def test_a_bad_icalendar_file_is_told_where(text: str, problem: str) -> None:
    found = [str(it) for it in check_file("calendars/x.ics", text.encode())]
    assert len(found) == 1
    assert found[0].startswith(f"calendars/x.ics{problem}")


def test_events_that_are_too_many_are_told() -> None:
    some = [
        line
        for n in range(301)
        for line in event(
            f"DTSTART:2026{n % 12 + 1:02}01T000000Z", "RRULE:FREQ=YEARLY", f"SEQUENCE:{n}"
        )
    ]
    found = [str(it) for it in check_file("calendars/x.ics", ics(*some).encode())]
    assert found == [
        (
            "calendars/x.ics:2108:1: with this event they are too many that repeat "
            "(at most 300 that repeat, 50000 times until 2040 in all)"
        )
    ]
    some = [line for _ in range(2001) for line in event("DTSTART:20260101T000000Z")]
    found = [str(it) for it in check_file("calendars/x.ics", ics(*some).encode())]
    assert found == ["calendars/x.ics: 2001 events, the limit is 2000"]


def test_a_zone_as_outlook_describes_it_is_taken() -> None:
    zone = [
        "BEGIN:VTIMEZONE", "TZID:Somewhere", "BEGIN:STANDARD", "DTSTART:16010101T000000",
        "TZOFFSETFROM:+0500", "TZOFFSETTO:+0500", "END:STANDARD", "END:VTIMEZONE",
    ]  # fmt: skip
    text = ics(
        *zone,
        *event("DTSTART;TZID=Somewhere:20260105T090000", "DTEND;TZID=Somewhere:20260105T100000"),
    )
    assert check_file("calendars/x.ics", text.encode()) == ()
    it = calendar(text)
    assert covers(it, "2026-01-05T09:30+05:00")
    assert not covers(it, "2026-01-05T09:30+00:00")


LINES = st.sampled_from(
    [
        "BEGIN:VEVENT", "END:VEVENT", "BEGIN:VTIMEZONE", "END:VTIMEZONE", "UID:1", "STATUS:CANCELLED",
        "DTSTART:20260101T000000Z", "DTSTART;VALUE=DATE:20260101", "DTSTART;TZID=X:20260101T000000",
        "DTSTART;TZID=Europe/Berlin:20260332T000000", "DTEND:20250101T000000Z", "DURATION:-P1D",
        "DURATION:x", "RRULE:FREQ=DAILY", "RRULE:FREQ=YEARLY;COUNT=0", "RRULE:FREQ=WEEKLY;UNTIL=x",
        "RRULE:", "RRULE:FREQ=MONTHLY;BYMONTHDAY=31;BYSETPOS=-1", "EXDATE:20260101T000000Z", "RDATE:x",
        "RECURRENCE-ID:20260101T000000Z", "SUMMARY:x", " folded", "X", "BEGIN:", "END:VCALENDAR",
        "TZOFFSETTO:+9999", "EXDATE;VALUE=DATE:20260101", "DTSTART:20260101", "\x00", "é:ü",
    ]
)  # fmt: skip


@given(st.lists(LINES, max_size=12))
def test_no_file_is_more_than_bad(lines: list[str]) -> None:
    text = ics("BEGIN:VEVENT", "DTSTART:20260101T000000Z", *lines, "END:VEVENT")
    if not check_file("calendars/x.ics", text.encode()):
        calendar(text).covers(1_770_000_000, find_zone("Europe/Berlin"))


@given(st.text(max_size=80))
def test_no_text_is_more_than_a_bad_calendar(text: str) -> None:
    check_file("calendars/x.toml", f"hours = {{ mon = {text!r} }}\ndates = {text}".encode())


def test_other_names_are_no_calendars() -> None:
    for path in ("calendars/a b.toml", "calendars/a", "calendars/x/y.toml", "calendars/.toml"):
        assert [str(it) for it in check_file(path, b"tz = 'UTC'\n")] == [
            f"{path}: no calendar's name (calendars/NAME.toml, or NAME.ics)"
        ]


# -- in a tree --------------------------------------------------------------------------------

JOB = b"""#!/bin/sh
# /// script
# [tool.rota]
# on = [
#   { cron = "0 9 * * *", calendar = "office" },
#   { cron = "0 9 * * *", name = "x", except = ["feasts", "office"] },
# ]
# ///
"""
TREE = {
    "jobs/web": JOB,
    "calendars/office.toml": b'hours = { mon-fri = "09:00-17:00" }\nexcept = "feasts"\n',
    "calendars/feasts.toml": b'holidays = "DE"\n',
}


def test_a_tree_defines_its_calendars() -> None:
    found, problems = check_tree(TREE)
    assert problems == ()
    assert covers(found.calendars["office"], "2026-11-27 09:00")
    assert not covers(found.calendars["office"], "2026-12-25 09:00")


def test_calendars_are_kept_while_none_changes() -> None:
    first, _ = check_tree(TREE)
    second, _ = check_tree(TREE | {"jobs/other": b"true\n"}, first)
    assert second.calendars is first.calendars
    third, _ = check_tree(TREE | {"calendars/feasts.toml": b'holidays = "FR"\n'}, second)
    assert third.calendars is not first.calendars


def test_a_calendar_that_is_not_there_is_told_with_its_place() -> None:
    tree = TREE | {"jobs/web": JOB.replace(b'"office" }', b'"ofice" }')}
    assert [str(it) for it in check_tree(tree)[1]] == [
        "jobs/web:5:38: no calendar is called 'ofice' (did you mean 'office'?)"
    ]
    assert [str(it) for it in check_changes({"jobs/web": JOB}, ["calendars/office.toml"])] == [
        "jobs/web:6:49: no calendar is called 'feasts' (add calendars/feasts.toml)"
    ]


def test_a_calendar_that_is_used_cannot_go() -> None:
    left = [path for path in TREE if path != "calendars/feasts.toml"]
    gone = {"calendars/feasts.toml": None}
    assert [str(it) for it in check_changes(gone, left, TREE)] == [
        "calendars/office.toml:2:10: no calendar is called 'feasts' (add calendars/feasts.toml)",
        "jobs/web:6:49: no calendar is called 'feasts' (add calendars/feasts.toml)",
    ]


def test_what_was_parsed_before_is_told_of_a_calendar_that_went() -> None:
    before, _ = check_tree(TREE)
    left = {path: blob_hash(data) for path, data in TREE.items() if "office" not in path}
    found, problems = check(left, {}, before)
    assert [str(it) for it in problems] == [
        "jobs/web:5:38: no calendar is called 'office' (add calendars/office.toml)",
        "jobs/web:6:59: no calendar is called 'office' (add calendars/office.toml)",
    ]
    assert list(found.calendars) == ["feasts"]


def test_calendars_in_a_circle_are_told_and_left_out() -> None:
    tree = TREE | {"calendars/feasts.toml": b'include = "office"\n'}
    found, problems = check_tree(tree)
    assert [str(it) for it in problems] == [
        "calendars/feasts.toml:1:11: the calendar office leads back to feasts (leave out one of them)",
        "calendars/office.toml:2:10: the calendar feasts leads back to office (leave out one of them)",
    ]
    assert found.calendars == {}


def test_calendars_that_refer_to_all_too_many_are_told() -> None:
    """Each asks the next twice: at the tenth that would be a thousand questions for one moment."""
    tree = {
        f"calendars/c{n}.toml": f'include = ["c{n + 1}", "d{n + 1}"]\n'.encode() for n in range(9)
    }
    tree |= {
        f"calendars/d{n}.toml": f'include = ["c{n + 1}", "d{n + 1}"]\n'.encode() for n in range(9)
    }
    tree |= {f"calendars/{name}9.toml": b'every_year = "01-01"\n' for name in "cd"}
    found, problems = check_tree(tree)
    assert str(problems[0]) == (
        "calendars/c0.toml:1:12: the calendar c1 leads to more than 64 calendars "
        "(leave out one of them)"
    )
    assert "c0" not in found.calendars
    assert "c5" in found.calendars


def test_two_files_of_one_name_are_told() -> None:
    tree = TREE | {"calendars/feasts.ics": ics(*event("DTSTART;VALUE=DATE:20261224")).encode()}
    assert [str(it) for it in check_tree(tree)[1]] == [
        "calendars/feasts.toml: there is also calendars/feasts.ics, which has the same name"
    ]
