"""The fields of cron expressions: which values the text of one stands for."""

from __future__ import annotations

import functools
import hashlib
import re

import msgspec

from rota.core.problem import nearest


class FieldError(Exception):
    """A field means nothing; ``item`` is the index of its bad item."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint, self.item = message, hint, 0


class Kind(msgspec.Struct, frozen=True):
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
            raise FieldError(
                f"{self.name} cannot be {short(word)}",
                nearest(word.upper(), self.names) or self.hint,
            )
        return number

    @property
    def hint(self) -> str:
        """Which values there are."""
        names = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"{self.name} is {self.low} to {self.high}{names}"


_NUMBER = re.compile("[0-9]{1,4}")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_SECOND = Kind("second", 0, 59)
_MINUTE = Kind("minute", 0, 59)
_HOUR = Kind("hour", 0, 23)
_DAY = Kind("day of month", 1, 31, spread=28)
_MONTH = Kind("month", 1, 12, MONTHS)
_WEEKDAY = Kind("day of week", 0, 7, _WEEKDAYS, spread=6)
_YEAR = Kind("year", 1970, 2199)
FIELDS = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY, _YEAR)


def short(word: str) -> str:
    """Return a word as it may stand in a message."""
    return repr(word if len(word) <= 40 else word[:39] + "…")


# -- H ----------------------------------------------------------------------------------------

_HASHED = re.compile(r"[Hh](?:\(([0-9]{1,4})-([0-9]{1,4})\))?(?:/([0-9]{1,4}))?")


def unhashed(kind: Kind, word: str, seed: str) -> str:
    """Return a field with values of its own for each ``seed`` in the place of ``H``."""
    if "H" not in word.upper():
        return word
    items = word.split(",")
    for index, item in enumerate(items):
        if item[:1] in {"H", "h"}:
            try:
                items[index] = _own_values(kind, item, seed)
            except FieldError as error:
                error.item = index
                raise
    return ",".join(items)


def _own_values(kind: Kind, item: str, seed: str) -> str:
    match = _HASHED.fullmatch(item)
    if match is None:
        raise FieldError(f"{kind.name} cannot be {short(item)}", "H, H(0-29), H/15 or H(0-29)/10")
    low, high = kind.low, kind.spread or kind.high
    if kind is _YEAR:
        raise FieldError("year cannot be spread by H", "name the years")
    if match[1]:
        low, high = kind.value(match[1]), kind.value(match[2])
        if high < low:
            raise FieldError(f"{kind.name} {short(item)} ends before it begins", kind.hint)
    step = int(match[3]) if match[3] else 0
    room = high - low + 1
    if step > room or (match[3] and not step):
        raise FieldError(f"{kind.name} {short(item)} has a step of {step}", f"1 to {room}")
    digest = hashlib.sha256(f"{seed}\0{kind.name}".encode()).digest()
    first = low + int.from_bytes(digest[:8]) % (step or room)
    if not step:
        return str(first)
    # Without a range it stays open, so that the hours of `H/6` are a rhythm as those of `*/6`.
    return f"{first}/{step}" if high == kind.high and not match[1] else f"{first}-{high}/{step}"


# -- fields -----------------------------------------------------------------------------------


class Field(msgspec.Struct, frozen=True):
    """What one field says."""

    values: frozenset[int]
    special: tuple[tuple[str, int, int], ...] = ()
    has_star: bool = False  # it begins with one
    is_open: bool = False  # it says "every so many", not "these"


_PLAIN = re.compile(
    r"(?P<low>[*?]|[A-Za-z]+|[0-9]+)(?:-(?P<high>[A-Za-z]+|[0-9]+))?(?:/(?P<step>[0-9]+))?"
)
_DAY_FORM = re.compile(r"(?:L(?:-(?P<back>[0-9]{1,2}))?|(?P<day>[0-9]{1,2}))(?P<working>W)?")
_WEEKDAY_FORM = re.compile(r"(?P<day>[A-Z]{3}|[0-9]+)(?:L|#(?P<nth>[0-9]+))")


@functools.lru_cache(4096)
def read_field(index: int, word: str) -> Field:
    """Return what the text of one of `FIELDS` says.

    Raises:
        FieldError: it means nothing.
    """
    kind = FIELDS[index]
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
        except FieldError as error:
            error.item = position
            raise
    return Field(
        frozenset(values),
        tuple(special),
        has_star=word[0] in "*?",
        is_open=is_open or len(values) == kind.high - kind.low + 1,
    )


def _special(kind: Kind, item: str) -> tuple[str, int, int] | None:
    """Read what only days have: ``L``, ``L-3``, ``LW``, ``15W``; ``FRIL``, ``MON#2``."""
    if kind is _DAY and (match := _DAY_FORM.fullmatch(item)) and not item.isdigit():
        form = "working" if match["working"] else "last"
        if match["day"]:
            return form, kind.value(match["day"]), 0
        back = int(match["back"] or 0)
        if back > 30:
            raise FieldError(f"day of month {item} goes back too far", "at most L-30")
        return f"{form} back" if match["working"] else form, back, 0
    if kind is _WEEKDAY and item == "L":
        raise FieldError(
            "day of week L does not say which", "such as FRIL, the last Friday of a month"
        )
    if kind is _WEEKDAY and (match := _WEEKDAY_FORM.fullmatch(item)):
        nth = int(match["nth"] or 0)
        if match["nth"] and not 1 <= nth <= 5:
            raise FieldError(
                f"day of week {item} has no such week", "#1 to #5, or FRIL for the last"
            )
        return "nth", kind.value(match["day"]) % 7, nth
    return None


def _plain(kind: Kind, item: str) -> tuple[range | list[int], bool]:
    """Read ``*``, ``5``, ``5-10``, ``22-4`` or one of them with a step; and whether it is open."""
    match = _PLAIN.fullmatch(item)
    if match is None or (match["low"] == "?" and (kind not in {_DAY, _WEEKDAY} or item != "?")):
        raise FieldError(f"{kind.name} cannot be {short(item)}", kind.hint)
    if match["low"] in {"*", "?"} and match["high"]:
        raise FieldError(f"{kind.name} cannot be {short(item)}", "a star has no end")
    step = int(match["step"]) if match["step"] else 1
    size = kind.high - kind.low + 1
    if not 1 <= step <= size:
        hint = f'1 to {size}; for other intervals write every = "…"'
        raise FieldError(f"{kind.name} {short(item)} has a step of {match['step']}", hint)
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
        raise FieldError(f"year {short(item)} ends before it begins", "years do not wrap")
    return [*range(low, top + 1), *range(kind.low, high + 1)][::step], False
