"""What is wrong with an iCalendar file: with places where a line shows it, else by the libraries.

What it costs is bounded here as well. A calendar is looked up where schedules are, so that a file
whose events repeat a million times would stop an agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from rota.core.calendar_events import events_of, parsed
from rota.core.problem import Problem
from rota.core.zones import zone_hint

MAX_EVENTS = 2000
MAX_REPEATING = 300
#: How often events repeat until 2040, in all.
MAX_TIMES = 50_000
_LAST_YEAR = 2040


class Line(msgspec.Struct, frozen=True):
    """A logical line: its parts, and the number of its first line in the file."""

    number: int
    text: str
    name: str
    inside: tuple[str, ...] = ()  # the components that it is in, without the calendar itself


def ics_problems(ics: str, path: str) -> tuple[Problem, ...]:
    """Return all that is wrong with a file, each with the line where it is."""
    lines = list(_lines(ics))
    found = sorted(_form_problems(lines, path)) or sorted(_event_problems(lines, path))
    return tuple(found) or tuple(dict.fromkeys(_deep_problems(ics, lines, path)))


def _lines(ics: str) -> Iterator[Line]:
    """Yield the logical lines; a line that begins with a space goes on with the one before."""
    unfolded: list[tuple[int, str]] = []
    for number, text in enumerate(ics.splitlines(), start=1):
        if text[:1] in {" ", "\t"} and unfolded:
            unfolded[-1] = (unfolded[-1][0], unfolded[-1][1] + text[1:])
        elif text.strip():
            unfolded.append((number, text.rstrip()))
    inside: tuple[str, ...] = ()
    for number, text in unfolded:
        name = re.split("[;:]", text, maxsplit=1)[0].upper()
        component = text.partition(":")[2].strip().upper()
        yield Line(number, text, name, inside[1:])
        if name == "BEGIN":
            inside = (*inside, component)
        elif name == "END":
            inside = inside[:-1]


def _form_problems(lines: list[Line], path: str) -> Iterator[Problem]:
    first, last = (lines[0], lines[-1]) if lines else (Line(1, "", ""),) * 2
    if first.text.upper() != "BEGIN:VCALENDAR":
        yield Problem(path, first.number, 1, "no iCalendar file", "it begins with BEGIN:VCALENDAR")
        return
    if last.text.upper() != "END:VCALENDAR":
        yield Problem(path, last.number, 1, "the calendar is cut off", "it ends with END:VCALENDAR")
    for line in lines:
        if ":" not in line.text:
            yield Problem(path, line.number, 1, "no property of a calendar", "NAME:VALUE")
    count = sum(line.text.upper() == "BEGIN:VEVENT" for line in lines)
    if count > MAX_EVENTS:
        yield Problem(path, 0, 0, f"{count} events, the limit is {MAX_EVENTS}")


_TOO_OFTEN = re.compile(
    r"FREQ=(SECONDLY|MINUTELY)|BY(?:SECOND|MINUTE)=[^;]*,|INTERVAL=0*(?:;|$)", re.IGNORECASE
)
_DATE = re.compile(r"[^:]*:([0-9]{4})[0-9]{4}(?:T[0-9]{6}Z?)?")


def _event_problems(lines: list[Line], path: str) -> Iterator[Problem]:
    times = repeating = 0
    year = _LAST_YEAR
    for line in lines:
        if line.inside != ("VEVENT",):
            continue
        if line.name in {"DTSTART", "DTEND"}:
            match = _DATE.fullmatch(line.text)
            if match is None:
                hint = "DTSTART;VALUE=DATE:20261224 or DTSTART:20261224T180000Z"
                yield Problem(path, line.number, 1, f"{line.name} is no date or time", hint)
            elif line.name == "DTSTART" and not 1900 <= int(match[1]) <= 2199:
                text = f"DTSTART is in the year {match[1]}"
                yield Problem(path, line.number, 1, text, "1900 to 2199")
            elif line.name == "DTSTART":
                year = int(match[1])
        elif line.name in {"RRULE", "EXRULE"}:
            if match := _TOO_OFTEN.search(line.text):
                hint = "at most hourly, at one minute"
                yield Problem(path, line.number, match.start() + 1, "repeats too often", hint)
            repeating += 1
            times += _times(line.text.upper(), year)
            if times > MAX_TIMES or repeating > MAX_REPEATING:
                limit = f"{MAX_REPEATING} that repeat, {MAX_TIMES} times until {_LAST_YEAR} in all"
                text = "with this event they are too many that repeat"
                yield Problem(path, line.number, 1, text, f"at most {limit}")
                return


def _times(rule: str, year: int) -> int:
    """Return how often a rule comes from ``year`` on, or more."""
    if match := re.search(r"COUNT=([0-9]{1,9})", rule):
        return int(match[1])
    until = re.search(r"UNTIL=([0-9]{4})", rule)
    years = max(0, min(int(until[1]) if until else _LAST_YEAR, _LAST_YEAR) - year) + 1
    if "FREQ=HOURLY" in rule or "BYHOUR=" in rule:
        return years * 366 * 24
    if "FREQ=DAILY" in rule or "BY" in rule.replace("BYDAY", "", "FREQ=WEEKLY" in rule):
        return years * 366
    if "FREQ=WEEKLY" in rule:
        return years * 53 * (rule.count(",") + 1)
    return years * (12 if "FREQ=MONTHLY" in rule else 1)


def _deep_problems(ics: str, lines: list[Line], path: str) -> Iterator[Problem]:
    """Ask the libraries, which say what is wrong but not where."""
    try:
        calendar = parsed(ics)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        yield Problem(path, 0, 0, f"no iCalendar file: {error}")
        return
    years = set()
    for event in calendar.walk("VEVENT"):
        for name, what in event.errors:
            if name is None:  # it has none that can be read
                yield Problem(path, 0, 0, f"a line of an event is bad: {what}")
            else:
                yield Problem(path, _line_of(lines, name), 1, f"{name} of an event is bad: {what}")
        start = event.get("DTSTART")
        if event.errors:
            return
        if start is None or isinstance(start, list):
            many = "no DTSTART" if start is None else "more than one DTSTART"
            yield Problem(path, 0, 0, f"the event {event.get('UID', '')!s} has {many}")
            return
        zone = start.params.get("TZID")
        if zone and getattr(start.dt, "tzinfo", None) is None:
            number = _line_of(lines, f"DTSTART;TZID={zone}")
            yield Problem(path, number, 1, f"no time zone is called {zone!r}", zone_hint(zone))
            return
        years.add(start.dt.year)
    for year in sorted({min(years), max(years)}) if years else ():
        try:
            events_of(ics, year)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            yield Problem(path, 0, 0, f"its events of {year} cannot be told: {error}")


def _line_of(lines: list[Line], name: str) -> int:
    return next(
        (
            line.number
            for line in lines
            if line.inside == ("VEVENT",) and line.text.upper().startswith(name.upper())
        ),
        0,
    )
