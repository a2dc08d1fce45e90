"""Calendars: which moments are office hours, holidays, the days of a freeze.

A calendar *covers* a moment if one of its parts does (hours of the week, dates, days of every year,
national holidays, events of an iCalendar file, calendars that it includes), and none of those in
``except``. With nothing but ``except`` it covers all else. Times are half open: ``09:00-17:00`` ends
before 17:00:00.

Times of a calendar are wall-clock times in its zone, or where it names none in the zone of the
schedule that asks. What holds for how long is answered together, so that a search can go from
change to change instead of from minute to minute.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from datetime import date

import msgspec

from rota.core.calendar_events import Events, events_of
from rota.core.problem import nearest
from rota.core.ranges import Ranges, joined, within
from rota.core.zones import Zone, find_zone

DAY_S = 86_400
_ORDINAL = date(1970, 1, 1).toordinal()
#: Days looked at are kept, up to so many a calendar and zone.
_KEPT = 4096


class CalendarFile(msgspec.Struct, frozen=True):
    """What a calendar's file says. Days of the week are 0 to 6, from Monday; days count from 1970."""

    tz: str = ""
    hours: Mapping[int, Ranges] = {}  # seconds of the day; beyond 24 h they are of the next
    dates: Ranges = ()  # days, half open
    every_year: tuple[tuple[int, int], ...] = ()  # month and day
    holidays: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    excepts: tuple[str, ...] = ()
    ics: str = ""  # the whole of an iCalendar file

    @property
    def says_when(self) -> bool:
        """Whether it covers something by itself, and not all that it does not except."""
        parts = self.hours, self.dates, self.every_year, self.holidays, self.include, self.ics
        return any(map(bool, parts))


class Calendar:
    """A calendar with those that it refers to; see the module's text."""

    def __init__(
        self,
        name: str,
        file: CalendarFile,
        include: Iterable[Calendar],
        excepts: Iterable[Calendar],
    ) -> None:
        self.name, self.file = name, file
        self._include, self._excepts = tuple(include), tuple(excepts)
        self._days: dict[int, Ranges] = {}

    def covers(self, instant: int, zone: Zone) -> bool:
        """Whether the calendar covers ``instant``, asked from ``zone``."""
        return self.state(instant, zone)[0]

    def state(self, instant: int, zone: Zone) -> tuple[bool, int]:
        """Return whether ``instant`` is covered, and until when at least that stays so."""
        if self.file.tz:
            zone = find_zone(self.file.tz)
        covered, until = (True, 1 << 62) if not self.file.says_when else self._own(instant, zone)
        for other in self._include:
            state, end = other.state(instant, zone)
            covered, until = covered or state, min(until, end)
        for other in self._excepts:
            state, end = other.state(instant, zone)
            covered, until = covered and not state, min(until, end)
        return covered, until

    def _own(self, instant: int, zone: Zone) -> tuple[bool, int]:
        span = zone.span(instant)
        local = instant + span.offset
        day, second = divmod(local, DAY_S)
        covered, until = within(self._of_day(day), second, DAY_S)
        until += instant - second
        if self.file.ics:
            year = date.fromordinal(day + _ORDINAL).year
            events = _events(self.file.ics, year)
            for ranges, at in ((events.local, local), (events.instants, instant)):
                state, end = within(ranges, at, at + DAY_S)
                covered, until = covered or state, min(until, instant + end - at)
        return covered, min(until, span.end)

    def _of_day(self, day: int) -> Ranges:
        known = self._days.get(day)
        if known is None:
            if len(self._days) >= _KEPT:
                self._days.clear()
            known = self._days[day] = ((0, DAY_S),) if self._is_whole(day) else self._hours(day)
        return known

    def _is_whole(self, day: int) -> bool:
        at = date.fromordinal(day + _ORDINAL)
        return (
            within(self.file.dates, day, day)[0]
            or (at.month, at.day) in self.file.every_year
            or any(day in holidays_of(code, at.year) for code in self.file.holidays)
        )

    def _hours(self, day: int) -> Ranges:
        weekday = (day + 3) % 7  # 1970-01-01 was a Thursday
        today = self.file.hours.get(weekday, ())
        before = self.file.hours.get((weekday - 1) % 7, ())
        return joined(
            (max(0, start), min(end, DAY_S))
            for start, end in (*today, *((s - DAY_S, e - DAY_S) for s, e in before))
            if end > 0 and start < DAY_S
        )


@functools.lru_cache(2048)
def holidays_of(code: str, year: int) -> frozenset[int]:
    """Return the days that are public holidays by ``DE``, ``DE-BY`` or a market's code as ``XNYS``."""
    import holidays

    country, _, part = code.partition("-")
    if country in holidays.list_supported_countries():
        days = holidays.country_holidays(country, subdiv=part or None, years=year)
    else:
        days = holidays.financial_holidays(code, years=year)
    return frozenset(day.toordinal() - _ORDINAL for day in days)


def country_fault(code: str) -> tuple[str, str] | None:
    """Return what is wrong with a country's or a market's code: a message and a hint."""
    import holidays

    country, dash, part = code.partition("-")
    parts = holidays.list_supported_countries().get(country)
    if parts is None and not (code in holidays.list_supported_financial() and not dash):
        known = [*holidays.list_supported_countries(), *holidays.list_supported_financial()]
        hint = nearest(country.upper(), known) or "ISO codes such as DE, DE-BY or US-CA"
        return f"has no holidays of {code!r}", hint
    if dash and part not in (parts or ()):
        listed = ", ".join(parts or ()) or "none"
        return f"has no holidays of {code!r}", f"parts of {country}: {listed}"
    return None


@functools.lru_cache(256)
def _events(ics: str, year: int) -> Events:
    return events_of(ics, year)


#: Asking a calendar is asking all that it refers to.
MAX_REFERRED = 64


def tangle(name: str, refers: Mapping[str, Collection[str]]) -> str | None:
    """Return what is wrong with all that a calendar refers to, given what each one refers to."""
    todo, count = list(refers.get(name, ())), 0
    while todo:
        other = todo.pop()
        if other == name:
            return f"leads back to {name}"
        if (count := count + 1) > MAX_REFERRED:
            return f"leads to more than {MAX_REFERRED} calendars"
        todo += refers.get(other, ())
    return None


def resolve(files: Mapping[str, CalendarFile]) -> dict[str, Calendar]:
    """Return calendars by name, without those that are in a tangle, or refer to what is not there."""
    refers = {name: (*file.include, *file.excepts) for name, file in files.items()}
    found: dict[str, Calendar | None] = {}

    def make(name: str) -> Calendar | None:
        if name not in found:
            found[name] = _made(name) if name in files and not tangle(name, refers) else None
        return found[name]

    def _made(name: str) -> Calendar | None:
        file = files[name]
        include, excepts = ([make(it) for it in its] for its in (file.include, file.excepts))
        if None in include or None in excepts:
            return None
        return Calendar(name, file, filter(None, include), filter(None, excepts))

    return {name: it for name in sorted(files) if (it := make(name)) is not None}
