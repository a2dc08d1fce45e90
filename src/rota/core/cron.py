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
import hashlib
import re
import weakref
from collections.abc import Iterator
from datetime import date

import msgspec

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


class _Kind(msgspec.Struct, frozen=True):
    """One field: its name, its bounds, and the names that its values have."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    spread: int = 0  # to where `H` goes, if not to `high`

    def value(self, word: str) -> int:
        """Return the value that ``word`` stands for."""
        if word.upper() in self.names:
            return self.names.index(word.upper()) + self.low
        number = int(word) if _NUMBER.fullmatch(word) else -1
        if not self.low <= number <= self.high:
            raise _FieldError(
                f"{self.name} cannot be {_short(word)}",
                nearest(word.upper(), self.names) or self.hint,
            )
        return number

    @property
    def hint(self) -> str:
        names = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"{self.name} is {self.low} to {self.high}{names}"


_NUMBER = re.compile("[0-9]{1,4}")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_SECOND = _Kind("second", 0, 59)
_MINUTE = _Kind("minute", 0, 59)
_HOUR = _Kind("hour", 0, 23)
_DAY = _Kind("day of month", 1, 31, spread=28)
_MONTH = _Kind("month", 1, 12, _MONTHS)
_WEEKDAY = _Kind("day of week", 0, 7, _WEEKDAYS, spread=6)
_YEAR = _Kind("year", 1970, 2199)
_FIELDS = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY, _YEAR)

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
    numbers_stand_for_days = len(words) == 5
    if numbers_stand_for_days:
        words = [("0", 0), *words]
    fields = []
    for kind, (word, offset) in zip(_FIELDS, words, strict=False):
        try:
            fields.append(
                _unhashed(kind, word, seed) if word[0] in "Hh" or ",H" in word.upper() else word
            )
            field = _read_field(_FIELDS.index(kind), fields[-1])
        except _FieldError as error:
            before = sum(len(item) + 1 for item in word.split(",")[: error.item])
            hint = _moved_seconds(words) or error.hint
            message = f"is no cron expression: {error.message}"
            raise CronError(message, hint, offset + before) from None
        if kind is _WEEKDAY and not numbers_stand_for_days and field.has_numbers:
            raise CronError(
                f"has a number for the day of week: {_short(word)}",
                "Quartz counts from SUN = 1, cron from SUN = 0: write SUN to SAT",
                offset,
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
    raise CronError(f"cannot be {_short(text)}", hint or "known: " + ", ".join(_ALIASES), 1)


def _moved_seconds(words: list[tuple[str, int]]) -> str | None:
    """Return a hint if six fields make sense with their last, the seconds of other crons, first."""
    if len(words) != 6 or words[0][1] == 0:
        return None
    moved = [words[-1][0], *(word for word, _ in words[:-1])]
    try:
        for index, word in enumerate(moved):
            _read_field(index, word)
    except _FieldError:
        return None
    return f"seconds stand first: {' '.join(moved)}"


def _short(word: str) -> str:
    return repr(word if len(word) <= 40 else word[:39] + "…")


class _FieldError(Exception):
    """A field means nothing; ``item`` is the index of its bad item."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint, self.item = message, hint, 0


# -- H ----------------------------------------------------------------------------------------

_HASHED = re.compile(r"[Hh](?:\(([0-9]{1,4})-([0-9]{1,4})\))?(?:/([0-9]{1,4}))?")


def _unhashed(kind: _Kind, word: str, seed: str) -> str:
    """Return a field with values of its own for each ``seed`` in the place of ``H``."""
    items = word.split(",")
    for index, item in enumerate(items):
        if item[:1] in {"H", "h"}:
            try:
                items[index] = _own_values(kind, item, seed)
            except _FieldError as error:
                error.item = index
                raise
    return ",".join(items)


def _own_values(kind: _Kind, item: str, seed: str) -> str:
    match = _HASHED.fullmatch(item)
    if match is None:
        raise _FieldError(f"{kind.name} cannot be {_short(item)}", "H, H(0-29), H/15 or H(0-29)/10")
    low, high = kind.low, kind.spread or kind.high
    if kind is _YEAR:
        raise _FieldError("year cannot be spread by H", "name the years")
    if match[1]:
        low, high = kind.value(match[1]), kind.value(match[2])
        if high < low:
            raise _FieldError(f"{kind.name} {_short(item)} ends before it begins", kind.hint)
    step = int(match[3]) if match[3] else 0
    room = high - low + 1
    if step > room or (match[3] and not step):
        raise _FieldError(f"{kind.name} {_short(item)} has a step of {step}", f"1 to {room}")
    digest = hashlib.sha256(f"{seed}\0{kind.name}".encode()).digest()
    first = low + int.from_bytes(digest[:8]) % (step or room)
    if not step:
        return str(first)
    # Without a range it stays open, so that the hours of `H/6` are a rhythm as those of `*/6`.
    return f"{first}/{step}" if high == kind.high and not match[1] else f"{first}-{high}/{step}"


# -- fields -----------------------------------------------------------------------------------


class _Field(msgspec.Struct, frozen=True):
    """What one field says."""

    values: frozenset[int]
    special: tuple[tuple[str, int, int], ...] = ()
    has_star: bool = False  # it begins with one
    is_open: bool = False  # it says "every so many", not "these"
    has_numbers: bool = False


_PLAIN = re.compile(
    r"(?P<low>[*?]|[A-Za-z]+|[0-9]+)(?:-(?P<high>[A-Za-z]+|[0-9]+))?(?:/(?P<step>[0-9]+))?"
)
_DAY_FORM = re.compile(r"(?:L(?:-(?P<back>[0-9]{1,2}))?|(?P<day>[0-9]{1,2}))(?P<working>W)?")
_WEEKDAY_FORM = re.compile(r"(?P<day>[A-Z]{3}|[0-9]+)(?:L|#(?P<nth>[0-9]+))")


@functools.lru_cache(4096)
def _read_field(index: int, word: str) -> _Field:
    kind = _FIELDS[index]
    values: set[int] = set()
    special = []
    is_open = False
    for position, item in enumerate(word.split(",")):
        try:
            if (found := _special(kind, item.upper())) is not None:
                special.append(found)
            else:
                some, opened = _plain(kind, item)
                values.update(some)
                is_open |= opened
        except _FieldError as error:
            error.item = position
            raise
    return _Field(
        frozenset(values),
        tuple(special),
        has_star=word[0] in "*?",
        is_open=is_open or len(values) == kind.high - kind.low + 1,
        has_numbers=re.search(r"(^|[,-])[0-9]", word) is not None,
    )


def _special(kind: _Kind, item: str) -> tuple[str, int, int] | None:
    """Read what only days have: ``L``, ``L-3``, ``LW``, ``15W``; ``FRIL``, ``MON#2``."""
    if kind is _DAY and (match := _DAY_FORM.fullmatch(item)) and not item.isdigit():
        form = "working" if match["working"] else "last"
        if match["day"]:
            return form, kind.value(match["day"]), 0
        back = int(match["back"] or 0)
        if back > 30:
            raise _FieldError(f"day of month {item} goes back too far", "at most L-30")
        return f"{form} back" if match["working"] else form, back, 0
    if kind is _WEEKDAY and item == "L":
        raise _FieldError(
            "day of week L does not say which", "such as FRIL, the last Friday of a month"
        )
    if kind is _WEEKDAY and (match := _WEEKDAY_FORM.fullmatch(item)):
        nth = int(match["nth"] or 0)
        if match["nth"] and not 1 <= nth <= 5:
            raise _FieldError(
                f"day of week {item} has no such week", "#1 to #5, or FRIL for the last"
            )
        return "nth", kind.value(match["day"]) % 7, nth
    return None


def _plain(kind: _Kind, item: str) -> tuple[range | list[int], bool]:
    """Read ``*``, ``5``, ``5-10``, ``22-4`` or one of them with a step; and whether it is open."""
    match = _PLAIN.fullmatch(item)
    if match is None or (match["low"] == "?" and (kind not in {_DAY, _WEEKDAY} or item != "?")):
        raise _FieldError(f"{kind.name} cannot be {_short(item)}", kind.hint)
    if match["low"] in {"*", "?"} and match["high"]:
        raise _FieldError(f"{kind.name} cannot be {_short(item)}", "a star has no end")
    step = int(match["step"]) if match["step"] else 1
    size = kind.high - kind.low + 1
    if not 1 <= step <= size:
        hint = f'1 to {size}; for other intervals write every = "…"'
        raise _FieldError(f"{kind.name} {_short(item)} has a step of {match['step']}", hint)
    top = 6 if kind is _WEEKDAY else kind.high
    if match["low"] in {"*", "?"}:
        return range(kind.low, top + 1, step), True
    low = kind.value(match["low"])
    if not match["high"]:
        return range(low, max(low, top) + 1, step) if match["step"] else [low], bool(match["step"])
    high = kind.value(match["high"])
    if high >= low:
        return range(low, high + 1, step), False
    if kind is _YEAR:
        raise _FieldError(f"year {_short(item)} ends before it begins", "years do not wrap")
    return [*range(low, top + 1), *range(kind.low, high + 1)][::step], False


# -- the whole --------------------------------------------------------------------------------

_known: weakref.WeakValueDictionary[tuple[str, ...], Cron] = weakref.WeakValueDictionary()
_known_days: weakref.WeakValueDictionary[tuple[str, ...], Days] = weakref.WeakValueDictionary()


def _compiled(words: tuple[str, ...]) -> Cron:
    cron = _known.get(words)
    if cron is None:
        fields = [_read_field(index, word) for index, word in enumerate(words)]
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
        dom, months, dow, *years = (_read_field(3 + at, word) for at, word in enumerate(words))
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
    months = ", ".join(_MONTHS[month - 1] for month in sorted(days.months))
    years = " of these years" if days.years else ""
    return f"no {months}{years} has such a day"
