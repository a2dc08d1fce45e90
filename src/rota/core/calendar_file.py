"""``calendars/NAME.toml``: what a calendar's file may say, and how it is read."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

import msgspec

from rota.core import fields
from rota.core.calendars import CalendarFile, country_fault
from rota.core.fields import Field, FieldError, Spot
from rota.core.problem import Problem, nearest
from rota.core.ranges import Ranges, joined
from rota.core.toml_document import Document, Source, read_document
from rota.core.toml_places import Path
from rota.core.zones import is_zone, zone_hint

DAY_S = 86_400
_ORDINAL = date(1970, 1, 1).toordinal()
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
#: As for a header, and the settings.
MAX_CHARACTERS = 64 * 1024
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class Use(msgspec.Struct, frozen=True):
    """A calendar is named, at that place of a file."""

    name: str
    line: int
    column: int


def parse_calendar(
    text: str, path: str
) -> tuple[CalendarFile | None, tuple[Use, ...], tuple[Problem, ...]]:
    """Return what a calendar's file says and which others it names, or all that is wrong with it."""
    if len(text) > MAX_CHARACTERS:
        message = f"{len(text)} characters, the limit is {MAX_CHARACTERS}"
        return None, (), (Problem(path, 0, 0, message),)
    source = Source(path, tuple(line.removesuffix("\r") for line in text.split("\n")))
    document, faults = read_document(source)
    problems = list(faults)
    values = fields.read_table(document.table, Spot(document, problems), _CALENDAR)
    if not document.table and not problems:
        problems.append(Problem(path, 1, 1, "is empty, so that it says nothing", _EXAMPLE))
    if problems:
        return None, (), tuple(sorted(problems))
    values.pop("description", None)
    return CalendarFile(**values), calendar_uses(document, ()), ()


def calendar_uses(document: Document, path: Path) -> tuple[Use, ...]:
    """Return the calendars that a table at ``path`` of a document names, and where."""
    table: Any = document.table
    for part in path:
        table = table[part]
    found = []
    for key in ("calendar", "include", "except"):
        value = table.get(key, ())
        for index, name in enumerate(
            value if isinstance(value, list) else [value] if value else []
        ):
            here = (*path, key, index) if isinstance(value, list) else (*path, key)
            spot = document.source.problem(document.places.value(here), "")
            found.append(Use(name, spot.line, spot.column))
    return tuple(found)


def zone_name(value: object, spot: Spot) -> str:
    """Read the name of a time zone."""
    name = fields.text(value, spot)
    if not is_zone(name):
        raise FieldError(f"is no time zone: {fields.printed_value(name)}", zone_hint(name))
    return name


def calendar_names(value: object, spot: Spot) -> tuple[str, ...]:
    """Read the name of a calendar, or a list of them."""
    return fields.one_or_more(_name)(value, spot)


def _name(value: object, spot: Spot) -> str:
    name = fields.text(value, spot)
    if not NAME.fullmatch(name):
        hint = "the name of a file in calendars/, without .toml or .ics"
        raise FieldError(f"cannot be {fields.printed_value(name)}", hint)
    return name


def _hours(value: object, spot: Spot) -> dict[int, Ranges]:
    table = fields.table_of(_weekday_fault, _times)(value, spot)
    hours: dict[int, Ranges] = {}
    for key, ranges in table.items():
        for day in _weekdays(key):
            hours[day] = joined((*hours.get(day, ()), *ranges))
    return hours


def _weekdays(key: str) -> list[int]:
    first, _, last = key.lower().partition("-")
    low, high = _WEEKDAYS.index(first), _WEEKDAYS.index(last or first)
    return list(range(low, high + 1)) if low <= high else [*range(low, 7), *range(high + 1)]


def _weekday_fault(key: str) -> str | None:
    for word in key.lower().split("-", 1):
        if word not in _WEEKDAYS:
            hint = nearest(word, _WEEKDAYS) or "write mon, or mon-fri"
            return f"is no day of the week: {hint}"
    return None


_RANGE = re.compile(
    r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))? ?- ?([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?"
)


def _times(value: object, spot: Spot) -> Ranges:
    """Read ``"09:00-12:00, 13:00-17:00"``; a range that ends before it begins ends the day after."""
    if isinstance(value, str):
        return joined(_range(part.strip(), spot) for part in value.split(","))
    return joined(fields.list_of(_range)(value, spot))


def _range(value: object, spot: Spot) -> tuple[int, int]:
    text = fields.text(value, spot)
    match = _RANGE.fullmatch(text)
    numbers = [int(number or 0) for number in match.groups()] if match else []
    if not match or max(numbers[1:3] + numbers[4:]) > 59 or max(numbers[0], numbers[3]) > 24:
        raise FieldError(f"has no such hours: {fields.printed_value(text)}", "09:00-17:00")
    start, end = (
        hour * 3600 + minute * 60 + second for hour, minute, second in (numbers[:3], numbers[3:])
    )
    if start >= DAY_S or end > DAY_S:
        raise FieldError(f"goes beyond the day: {fields.printed_value(text)}", "00:00-24:00")
    if start == end:
        raise FieldError(
            f"is no time at all: {fields.printed_value(text)}", "00:00-24:00 is all day"
        )
    return start, end if end > start else end + DAY_S


def _dates(value: object, spot: Spot) -> Ranges:
    return joined(fields.one_or_more(_date_range)(value, spot))


def _date_range(value: object, _: Spot) -> tuple[int, int]:
    if isinstance(value, str):
        first, dots, last = value.partition("..")
        start, end = _day(first.strip()), _day(last.strip() if dots else first.strip())
        if end < start:
            raise FieldError(f"ends before it begins: {fields.printed_value(value)}", "first..last")
        return start, end + 1
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.toordinal() - _ORDINAL, value.toordinal() - _ORDINAL + 1
    raise FieldError(f"must be a date, not {fields.type_name(value)}", _DATE_EXAMPLE)


def _day(text: str) -> int:
    try:
        day = date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        day = None
    if day is None:
        raise FieldError(f"has no such date: {fields.printed_value(text)}", _DATE_EXAMPLE)
    return day.toordinal() - _ORDINAL


def _every_year(value: object, spot: Spot) -> tuple[tuple[int, int], ...]:
    ranges = fields.one_or_more(_year_days)(value, spot)
    return tuple(sorted({day for days in ranges for day in days}))


def _year_days(value: object, spot: Spot) -> list[tuple[int, int]]:
    text = fields.text(value, spot)
    first, dots, last = (part.strip() for part in text.partition(".."))
    start, end = _month_day(first), _month_day(last if dots else first)
    days = [(month + 1, day + 1) for month in range(12) for day in range(_LENGTHS[month])]
    low, high = days.index(start), days.index(end)
    return days[low : high + 1] if low <= high else days[low:] + days[: high + 1]


def _month_day(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{2})-([0-9]{2})", text)
    month, day = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= month <= 12 or not 1 <= day <= _LENGTHS[month - 1]:
        hint = 'month-day, such as "12-24", or "12-24..01-01"'
        raise FieldError(f"has no such day: {fields.printed_value(text)}", hint)
    return month, day


def _holidays(value: object, spot: Spot) -> tuple[str, ...]:
    return fields.one_or_more(_country)(value, spot)


def _country(value: object, spot: Spot) -> str:
    code = fields.text(value, spot)
    if (fault := country_fault(code)) is not None:
        raise FieldError(*fault)
    return code


_DATE_EXAMPLE = '2026-12-24, or "2026-12-27..2026-12-31"'
_EXAMPLE = 'such as hours = { mon-fri = "09:00-17:00" }'

_CALENDAR = {
    "description": Field("description", fields.text, 'description = "when people are there"'),
    "tz": Field("tz", zone_name, 'tz = "Europe/Berlin"'),
    "hours": Field("hours", _hours, 'hours = { mon-fri = "09:00-17:00" }'),
    "dates": Field("dates", _dates, f"dates = [{_DATE_EXAMPLE}]"),
    "every_year": Field("every_year", _every_year, 'every_year = ["12-24"]'),
    "holidays": Field("holidays", _holidays, 'holidays = "DE-BY"'),
    "include": Field("include", calendar_names, 'include = "freeze"'),
    "except": Field("excepts", calendar_names, 'except = ["holidays"]'),
}
