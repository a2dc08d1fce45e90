"""Cron expressions: which wall-clock times they mean.

One dialect, that of Vixie's cron and what others added to it without contradiction:

=====================================  ===================================================
``minute hour day month weekday``      five fields
``second minute hour day month …``     six: seconds stand *first*, as Quartz and Spring have it
``second … weekday year``              seven
``*`` ``?`` ``1`` ``1-5`` ``*/2``      any; a value; a range; every second one of it
``10/20`` ``22-4`` ``MON,WED``         from 10 every 20; over the end; names of months and days
``L`` ``L-3`` ``LW`` ``15W``           the last day, three before it, the last working day, the
                                       working day nearest to the 15th, always in the month
``FRIL`` ``MON#2``                     the last Friday, the second Monday of the month
``H`` ``H(0-29)`` ``H/15``             a value of its own for each schedule, always the same
``@hourly`` … ``@yearly``              as in Vixie's cron, at the first minute
=====================================  ===================================================

0 and 7 are Sunday. Quartz counts from 1 for Sunday, so with six or seven fields days of the week are
written by name: a number would mean another day to half of its readers.

If both days are restricted, one that fits either will do; if one of them *begins* with a star
(``*/2`` too) it must fit both.

Here are naive times only, in seconds of a clock that showed 1970-01-01 00:00 at 0; what a time zone
makes of them is another module's.
"""

from __future__ import annotations

import bisect
import calendar
import functools
import re
import weakref
from collections.abc import Iterator
from datetime import date

import msgspec

from rota.core.cron_fields import FIELDS, MONTHS, FieldError, read_field, short, unhashed
from rota.core.problem import nearest

DAY_S = 86_400
_ORDINAL = date(1970, 1, 1).toordinal()
#: No expression that means anything waits longer: 29 February on a Friday comes after 40 years.
HORIZON_YEARS = 50
MAX_LENGTH = 1000


class CronError(ValueError):
    """An expression means nothing. ``offset`` is the character, from 1, at which it goes wrong."""

    def __init__(self, message: str, hint: str, offset: int = 0) -> None:
        super().__init__(message)
        self.message, self.hint, self.offset = message, hint, offset


_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Days(msgspec.Struct, frozen=True, weakref=True):
    """Which days an expression means."""

    dom: tuple[int, ...]  # days of the month
    last: tuple[int, ...]  # so many days before the last of the month
    working: tuple[int, ...]  # the working day nearest to that day of the month
    last_working: tuple[int, ...]  # the same, counted back from the last of the month
    weekdays: frozenset[int]  # 0 is Sunday
    nth: frozenset[tuple[int, int]]  # the second Monday is (1, 2); the last one (1, 0)
    both: bool  # a day must fit day of month and day of week, not one of them
    months: frozenset[int]
    years: tuple[int, ...]  # none: all
    known: dict[int, tuple[int, ...]] = {}  # month, from year 0 -> its days, as far as looked for

    def on_or_after(self, day: int) -> int | None:
        """Return the first day from ``day`` on; days are counted from 1970-01-01."""
        at = date.fromordinal(day + _ORDINAL)
        month = at.year * 12 + at.month - 1
        for index in range(month, month + HORIZON_YEARS * 12):
            days = self.known.get(index)
            if days is None:
                days = self._remembered(index)
            if days and days[-1] >= day:
                return days[bisect.bisect_left(days, day)]
        return None

    def _remembered(self, index: int) -> tuple[int, ...]:
        if len(self.known) >= 2 * HORIZON_YEARS * 12:
            self.known.clear()
        days = self.known[index] = tuple(self._of_month(*divmod(index, 12)))
        return days

    def _of_month(self, year: int, month: int) -> Iterator[int]:
        if month + 1 not in self.months or (self.years and year not in self.years):
            return
        if not 1 <= year <= 9999:
            return
        first = date(year, month + 1, 1)
        length = calendar.monthrange(year, month + 1)[1]
        sunday = (
            -(first.toordinal() % 7) % 7
        )  # days from the first of the month to its first Sunday
        dom = set(self._days_of_month(length, sunday))
        for day in range(1, length + 1):
            weekday = (day - 1 - sunday) % 7
            nth = (weekday, (day + 6) // 7)
            fits = weekday in self.weekdays or nth in self.nth
            fits |= day + 7 > length and (weekday, 0) in self.nth
            if (fits and day in dom) if self.both else (fits or day in dom):
                yield first.toordinal() + day - 1 - _ORDINAL

    def _days_of_month(self, length: int, sunday: int) -> Iterator[int]:
        yield from self.dom
        yield from (length - back for back in self.last)
        for day in (*self.working, *(length - back for back in self.last_working)):
            if 1 <= day <= length:
                yield _nearest_working(day, (day - 1 - sunday) % 7, length)


def _nearest_working(day: int, weekday: int, length: int) -> int:
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day


class Cron(msgspec.Struct, frozen=True, weakref=True):
    """A compiled expression; equal ones are one object. ``text`` is without aliases and ``H``."""

    text: str
    hours: tuple[int, ...]
    in_hour: tuple[int, ...]  # seconds of the hour
    days: Days
    #: The hour field says "every so many hours", not "at these": it has a star or an open step.
    is_rhythm: bool

    def next(self, after: int) -> int | None:
        """Return the first wall-clock time after ``after``; ``None`` if there is none.

        Cost: some 2 µs, where the month has been looked at before.
        """
        day, rest = divmod(after, DAY_S)
        found = self.days.on_or_after(day)
        if found is None:
            return None
        if found == day:
            hour, rest = divmod(rest, 3600)
            at = bisect.bisect_left(self.hours, hour)
            if at < len(self.hours):
                if self.hours[at] > hour:
                    return day * DAY_S + self.hours[at] * 3600 + self.in_hour[0]
                if rest < self.in_hour[-1]:
                    second = self.in_hour[bisect.bisect_right(self.in_hour, rest)]
                    return day * DAY_S + hour * 3600 + second
                if at + 1 < len(self.hours):
                    return day * DAY_S + self.hours[at + 1] * 3600 + self.in_hour[0]
            found = self.days.on_or_after(day + 1)
            if found is None:
                return None
        return found * DAY_S + self.hours[0] * 3600 + self.in_hour[0]

    @property
    def never(self) -> bool:
        """Whether no day fits, ever."""
        years = self.days.years
        first = date(min(years) if years else 2000, 1, 1).toordinal() - _ORDINAL
        return self.days.on_or_after(first) is None

    def matches(self, local: int) -> bool:
        """Whether the expression means that wall-clock time."""
        return self.next(local - 1) == local


def parse_cron(text: str, seed: str = "") -> Cron:
    """Return what an expression means to the schedule whose id is ``seed``.

    Raises:
        CronError: it is none, or no day will ever fit it.

    Cost: some 100 µs for the first of an expression, 5 µs for the next.
    """
    if len(text) > MAX_LENGTH:
        raise CronError(f"has {len(text)} characters", f"at most {MAX_LENGTH}")
    words = _words(text)
    has_seconds = len(words) > 5
    if not has_seconds:
        words = [("0", 0), *words]
    fields = []
    for index, (word, offset) in enumerate(words):
        try:
            fields.append(unhashed(FIELDS[index], word, seed))
            read_field(index, fields[-1])
        except FieldError as error:
            before = sum(len(item) + 1 for item in word.split(",")[: error.item])
            hint = _moved_seconds(words) or error.hint
            message = f"is no cron expression: {error.message}"
            raise CronError(message, hint, offset + before) from None
    if has_seconds and re.search(r"(^|[,(-])[0-9]", words[5][0]):
        raise CronError(
            f"has a number for the day of week: {short(words[5][0])}",
            "Quartz counts from SUN = 1, cron from SUN = 0: write SUN to SAT",
            words[5][1],
        )
    cron = _compiled(tuple(fields))
    if cron.never:
        raise CronError("never comes", _why_never(cron.days), words[3][1])
    return cron


def cron_fault(text: str) -> tuple[str, str, int] | None:
    """Return what is wrong with an expression: a message, a hint, and the character (from 1)."""
    try:
        parse_cron(text)
    except CronError as error:
        return error.message, error.hint, error.offset
    return None


def _words(text: str) -> list[tuple[str, int]]:
    """Return the fields of an expression, each with the place of its first character, from 1."""
    words = [(match[0], match.start() + 1) for match in re.finditer(r"[^ \t]+", text)]
    if words and words[0][0].startswith("@"):
        return _alias(text.strip())
    if 5 <= len(words) <= 7:
        return words
    what = "is empty" if not words else f"has {len(words)} field" + "s" * (len(words) > 1)
    hint = "minute hour day month weekday; or with seconds first: second minute hour …"
    raise CronError(what, hint, words[7][1] if len(words) > 7 else 0)


def _alias(text: str) -> list[tuple[str, int]]:
    if (meant := _ALIASES.get(text.lower())) is not None:
        return [(word, 1) for word in meant.split()]
    hints = {"@reboot": "no machine's start is a schedule", "@every": 'write every = "5m"'}
    hint = hints.get(text.lower().split()[0]) or nearest(text.lower(), _ALIASES)
    raise CronError(f"cannot be {short(text)}", hint or "known: " + ", ".join(_ALIASES), 1)


def _moved_seconds(words: list[tuple[str, int]]) -> str | None:
    """Return a hint if six fields make sense with their last, the seconds of other crons, first."""
    if len(words) != 6 or words[0][1] == 0:
        return None
    moved = [words[-1][0], *(word for word, _ in words[:-1])]
    try:
        for index, word in enumerate(moved):
            read_field(index, word)
    except FieldError:
        return None
    return f"seconds stand first: {' '.join(moved)}"


# -- the whole --------------------------------------------------------------------------------

_known: weakref.WeakValueDictionary[tuple[str, ...], Cron] = weakref.WeakValueDictionary()
_known_days: weakref.WeakValueDictionary[tuple[str, ...], Days] = weakref.WeakValueDictionary()


def _compiled(words: tuple[str, ...]) -> Cron:
    cron = _known.get(words)
    if cron is None:
        fields = [read_field(index, word) for index, word in enumerate(words)]
        cron = _known[words] = Cron(
            text=" ".join(words[1:] if words[0] == "0" and len(words) == 6 else words),
            hours=tuple(sorted(fields[2].values)),
            in_hour=_in_hour(fields[1].values, fields[0].values),
            days=_days(words[3:]),
            is_rhythm=fields[2].is_open,
        )
    return cron


@functools.lru_cache(4096)
def _in_hour(minutes: frozenset[int], seconds: frozenset[int]) -> tuple[int, ...]:
    return tuple(sorted(minute * 60 + second for minute in minutes for second in seconds))


def _days(words: tuple[str, ...]) -> Days:
    days = _known_days.get(words)
    if days is None:
        dom, months, dow, *years = (read_field(3 + at, word) for at, word in enumerate(words))
        has = {form: tuple(day for its, day, _ in dom.special if its == form) for form in _FORMS}
        days = _known_days[words] = Days(
            dom=tuple(sorted(dom.values)),
            last=has["last"],
            working=has["working"],
            last_working=has["working back"],
            weekdays=frozenset(day % 7 for day in dow.values),
            nth=frozenset((day, nth) for _, day, nth in dow.special),
            both=dom.has_star or dow.has_star,
            months=months.values,
            years=tuple(sorted(years[0].values)) if years and not years[0].has_star else (),
        )
    return days


_FORMS = ("last", "working", "working back")


def _why_never(days: Days) -> str:
    months = ", ".join(MONTHS[month - 1] for month in sorted(days.months))
    years = " of these years" if days.years else ""
    return f"no {months}{years} has such a day"
