"""Quiet hours: when nobody is to be told anything directly, by the clock on the wall of a zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot, printed_value
from rota.core.zones import Zone, to_instant

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_S = 86_400
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
#: Quiet for longer than this is quiet for ever: no settings that can be read are.
_MOST_STEPS = 200


class Quiet(msgspec.Struct, frozen=True):
    """From when to when, in minutes since midnight, and which whole weekdays (0 is Monday).

    ``start`` after ``end`` goes over midnight; both the same is no time of the day.
    """

    start: int = 0
    end: int = 0
    days: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The hours in words."""
        words = [f"{_clock(self.start)}-{_clock(self.end)}"] if self.start != self.end else []
        if self.days:
            words.append(", ".join(WEEKDAYS[day] for day in self.days))
        return " and on ".join(words) if words else "never"


def is_quiet(quiet: Quiet, zone: Zone, at: datetime) -> bool:
    """Whether ``at`` is a quiet moment."""
    return _covers(quiet, zone.local(to_instant(at)))


def quiet_until(quiet: Quiet, zone: Zone, at: datetime) -> datetime | None:
    """Return the first moment from ``at`` on that is not quiet; ``None`` if there is none.

    Wall-clock times that a change of clocks leaves out do not come; those that it brings twice are
    quiet both times.
    """
    instant = to_instant(at)
    if not _covers(quiet, zone.local(instant)):
        return at
    for _ in range(_MOST_STEPS):
        span = zone.span(instant)
        local = instant + span.offset
        instant = min(instant + _next_edge(quiet, local) - local, max(span.end, instant + 1))
        if not _covers(quiet, zone.local(instant)):
            return datetime.fromtimestamp(instant, UTC)
    return None


def _covers(quiet: Quiet, local: int) -> bool:
    # A clock that shows 0 shows the midnight before a Thursday.
    if (local // _DAY_S + 3) % 7 in quiet.days:
        return True
    second, start, end = local % _DAY_S, quiet.start * 60, quiet.end * 60
    if start <= end:
        return start <= second < end
    return second >= start or second < end


def _next_edge(quiet: Quiet, local: int) -> int:
    """Return the next time on the wall at which it may become other than it is."""
    midnight = local - local % _DAY_S
    edges = (midnight + quiet.start * 60, midnight + quiet.end * 60, midnight + _DAY_S)
    return min(edge for edge in edges if edge > local)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def read_quiet(value: Any, spot: Spot) -> Quiet:
    """Read ``[quiet]`` of a user's file."""
    quiet = fields.table(_QUIET, Quiet)(value, spot)
    if ("from" in value) != ("to" in value):
        missing = "to" if "from" in value else "from"
        raise FieldError(f"needs {missing} as well", 'such as from = "22:00", to = "07:00"')
    if "from" in value and quiet.start == quiet.end:
        raise FieldError("ends when it begins", "for whole days write days = [ … ]")
    if len(set(quiet.days)) == 7:
        raise FieldError("has all days of the week: no moment would be left to tell anything in")
    return quiet


def parse_clock(text: str) -> int | None:
    """Return a time of day such as ``22:00`` in minutes since midnight; ``None`` if it is none."""
    found = _TIME.fullmatch(text)
    return None if found is None else int(found[1]) * 60 + int(found[2])


def _time(value: Any, spot: Spot) -> int:
    text = fields.text(value, spot)
    minute = parse_clock(text)
    if minute is None:
        raise FieldError(f"is no time of day: {printed_value(text)}", 'such as "22:00"')
    return minute


def _days(value: Any, spot: Spot) -> tuple[int, ...]:
    names = fields.list_of(fields.one_of(WEEKDAYS))(value, spot)
    return tuple(sorted({WEEKDAYS.index(name) for name in names}))


_QUIET = {
    "from": Field("start", _time, 'from = "22:00"'),
    "to": Field("end", _time, 'to = "07:00"'),
    "days": Field("days", _days, 'days = ["sat", "sun"]'),
}
