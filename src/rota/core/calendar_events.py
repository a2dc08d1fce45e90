"""iCalendar files: when their events are.

Repetition is the business of kept libraries, loaded when there is such a file. An event covers from
its start to its end, a day without an end the whole day; one that was cancelled covers nothing.
Whether it is marked as *free* makes no difference: calendars of holidays mark all that way.
"""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from rota.core.ranges import Ranges, joined
from rota.core.zones import find_zone, is_zone

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # of wall-clock times
_UTC_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Events(msgspec.Struct, frozen=True):
    """When the events of one year are: in wall-clock time of any zone, and as instants."""

    local: Ranges = ()
    instants: Ranges = ()


def events_of(ics: str, year: int) -> Events:
    """Return when the events are that touch ``year``.

    Cost: where many repeat, 4 ms for each of them the first time, and 0.2 ms for each year after.
    """
    local, instants = [], []
    # A day more at each side: a year's end is not everywhere at the same time.
    for event in _query(ics).between(date(year - 1, 12, 31), date(year + 1, 1, 2)):
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            continue
        start, end = event.start, event.end
        if isinstance(start, datetime) and start.tzinfo is not None:
            instants.append((_instant(start), _instant(end)))
        else:
            local.append((_local(start), _local(end)))
    return Events(joined(local), joined(instants))


@functools.lru_cache(64)
def _query(ics: str) -> Any:
    """Return what remembers how far it has counted."""
    import recurring_ical_events

    return recurring_ical_events.of(parsed(ics), components=["VEVENT"])


def parsed(ics: str) -> Any:
    """Return a file as the library has it."""
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
