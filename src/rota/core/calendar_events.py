"""iCalendar files: when their events are, and what is wrong with them.

Repetition is the business of kept libraries, loaded when there is such a file. An event covers from
its start to its end, a day without an end the whole day; one that was cancelled covers nothing.
Whether it is marked as *free* makes no difference: calendars of holidays mark all that way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from rota.core.problem import Problem
from rota.core.ranges import Ranges, joined
from rota.core.zones import find_zone, is_zone, zone_hint

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # of wall-clock times
_UTC_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Events that repeat more often than hourly would be millions; nobody plans by them.
_TOO_OFTEN = re.compile(
    r"FREQ=(SECONDLY|MINUTELY)|BY(?:SECOND|MINUTE)=[^;]*,|INTERVAL=0*(?:;|$)", re.IGNORECASE
)
MAX_EVENTS = 10_000


class Events(msgspec.Struct, frozen=True):
    """When the events of one year are: in wall-clock time of any zone, and as instants."""

    local: Ranges = ()
    instants: Ranges = ()


def ics_problems(ics: str, path: str) -> tuple[Problem, ...]:
    """Return all that is wrong with a file, each with the line where it is."""
    lines = _unfolded(ics)
    return tuple(sorted(_line_problems(lines, path))) or tuple(_whole_problems(ics, lines, path))


def events_of(ics: str, year: int) -> Events:
    """Return when the events are that touch ``year``. Cost: some ms, by how much repeats."""
    import recurring_ical_events

    calendar = _parsed(ics)
    local, instants = [], []
    query = recurring_ical_events.of(calendar, components=["VEVENT"])
    # A day more at each side: a year's end is not everywhere at the same time.
    for event in query.between(date(year - 1, 12, 31), date(year + 1, 1, 2)):
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            continue
        start, end = event.start, event.end
        if isinstance(start, datetime) and start.tzinfo is not None:
            instants.append((_instant(start), _instant(end)))
        else:
            local.append((_local(start), _local(end)))
    return Events(joined(local), joined(instants))


def _parsed(ics: str) -> Any:
    import icalendar

    return icalendar.Calendar.from_ical(ics)


def _local(moment: date) -> int:
    if not isinstance(moment, datetime):
        return (moment.toordinal() - _EPOCH.toordinal()) * 86_400
    return int((moment.replace(tzinfo=None) - _EPOCH).total_seconds())


def _instant(moment: datetime) -> int:
    """Return the instant, by our rules for its zone rather than by those of this machine."""
    if isinstance(moment.tzinfo, ZoneInfo) and is_zone(moment.tzinfo.key):
        moment = moment.replace(tzinfo=find_zone(moment.tzinfo.key).info)
    return int((moment - _UTC_EPOCH).total_seconds())


def _unfolded(ics: str) -> list[tuple[int, str]]:
    """Return the logical lines, each with the number of its first line in the file."""
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(ics.splitlines(), start=1):
        if line[:1] in {" ", "\t"} and lines:
            lines[-1] = (lines[-1][0], lines[-1][1] + line[1:])
        elif line.strip():
            lines.append((number, line))
    return lines


_DATE = re.compile(r"(DTSTART|DTEND)[;:].*?:?([0-9]{4})[0-9]{4}(?:T[0-9]{6}Z?)?", re.IGNORECASE)


def _line_problems(lines: list[tuple[int, str]], path: str) -> Iterator[Problem]:
    if not lines or lines[0][1].strip().upper() != "BEGIN:VCALENDAR":
        number = lines[0][0] if lines else 1
        yield Problem(path, number, 1, "no iCalendar file", "it begins with BEGIN:VCALENDAR")
        return
    if lines[-1][1].strip().upper() != "END:VCALENDAR":
        yield Problem(
            path, lines[-1][0], 1, "the calendar is cut off", "it ends with END:VCALENDAR"
        )
    count = 0
    for number, line in lines:
        name = re.split("[;:]", line, maxsplit=1)[0].upper()
        if ":" not in line:
            yield Problem(path, number, 1, "no property of a calendar", "NAME:VALUE")
        elif name in {"RRULE", "EXRULE"} and (match := _TOO_OFTEN.search(line)):
            hint = "at most hourly, at one minute"
            yield Problem(path, number, match.start() + 1, "repeats too often", hint)
        elif name in {"DTSTART", "DTEND"} and (match := _DATE.fullmatch(line.strip())) is None:
            hint = "DTSTART;VALUE=DATE:20261224 or DTSTART:20261224T180000Z"
            yield Problem(path, number, 1, f"{name} is no date or time", hint)
        elif name == "DTSTART" and match and not 1900 <= int(match[2]) <= 2199:
            yield Problem(path, number, 1, f"DTSTART is in the year {match[2]}", "1900 to 2199")
        count += line.strip().upper() == "BEGIN:VEVENT"
    if count > MAX_EVENTS:
        yield Problem(path, 0, 0, f"{count} events, the limit is {MAX_EVENTS}")


def _whole_problems(ics: str, lines: list[tuple[int, str]], path: str) -> Iterator[Problem]:
    """Ask the libraries, which say what is wrong but not where."""
    try:
        calendar = _parsed(ics)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        yield Problem(path, 0, 0, f"no iCalendar file: {error}")
        return
    years = set()
    for event in calendar.walk("VEVENT"):
        for name, what in event.errors:
            yield Problem(path, _line_of(lines, name), 1, f"{name} of an event is bad: {what}")
        start = event.get("DTSTART")
        if event.errors:
            return
        if start is None:
            yield Problem(path, 0, 0, f"the event {event.get('UID', '')!s} has no DTSTART")
            return
        zone = start.params.get("TZID")
        if zone and start.dt.tzinfo is None:
            number = _line_of(lines, f"DTSTART;TZID={zone}")
            yield Problem(path, number, 1, f"no time zone is called {zone!r}", zone_hint(zone))
            return
        years.add(start.dt.year)
    for year in {min(years), max(years)} if years else ():
        yield from _tried(ics, year, path)


def _tried(ics: str, year: int, path: str) -> Iterator[Problem]:
    try:
        events_of(ics, year)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        yield Problem(path, 0, 0, f"its events of {year} cannot be told: {error}")


def _line_of(lines: list[tuple[int, str]], name: str) -> int:
    return next((n for n, line in lines if line.upper().startswith(name.upper())), 0)
