"""When a schedule fires: its rule made into instants. Pure: the same on every agent, for ever.

How wall-clock times that a change of clocks leaves out or brings twice become instants, is said by
the rule's ``dst`` (the table in docs/schedules.md; ADR 23):

========  =====================================  =========================
policy    left out                               twice
========  =====================================  =========================
skip      does not fire                          fires at the first
once      fires at the moment of the change      fires at the first
both      fires at the moment of the change      fires at both
shift     fires as much later as was left out    fires at the first
========  =====================================  =========================

An expression whose *hour* says "every so often" (:attr:`Cron.is_rhythm`) means what clocks show, not
times of a day: nothing of it is left out, and what clocks show twice is two moments of it, unless the
policy is ``skip``. Times that come to the same instant fire once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from rota.core.cron import Cron, parse_cron
from rota.core.triggers import Dst, Schedule
from rota.core.zones import WIDEST, Span, Zone, find_zone

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_US = 1_000_000


class Timetable:
    """The instants of one schedule.

    ``id`` is the schedule's: ``H`` and jitter are made of it. All moments are aware; those that are
    returned are in UTC.

    Raises:
        CronError, UnknownZoneError: the rule was not checked when it was read.
    """

    __slots__ = ("_cron", "_zone", "id", "rule")

    def __init__(self, rule: Schedule, id: str, calendars: Mapping[str, object]) -> None:  # noqa: A002  # what it is
        self.rule, self.id = rule, id
        self._zone = find_zone(rule.tz)
        self._cron = parse_cron(rule.cron, id) if rule.cron else None

    def next(self, after: datetime) -> datetime | None:
        """Return the first instant strictly after ``after``; ``None`` if there is none.

        Cost: some 5 µs, more where calendars leave out most.
        """
        found = self._next(_us(after))
        return None if found is None else _moment(found)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the instants after ``after``, up to and with ``until``, in order."""
        at, end = _us(after), _us(until)
        while (found := self._next(at)) is not None and found <= end:
            yield _moment(found)
            at = found

    def due_at(self, instant: datetime) -> datetime:
        """Return when ``instant`` is to be fired: later by its share of the rule's jitter.

        Builds and records name the instant itself, whenever it was fired.
        """
        if not self.rule.jitter_s:
            return instant
        digest = hashlib.sha256(f"{self.id}\0{_us(instant)}".encode()).digest()
        share = int.from_bytes(digest[:8]) * round(self.rule.jitter_s * _US) >> 64
        return instant + share * _MICROSECOND

    def _next(self, after: int) -> int | None:
        rule = self.rule
        if rule.start is not None:
            after = max(after, _us(rule.start) - 1)
        found = self._nominal(after)
        if found is None or (rule.end is not None and found >= _us(rule.end)):
            return None
        return found

    def _nominal(self, after: int) -> int | None:
        """Return the next instant of cron, interval or list, whatever calendars say."""
        if self._cron is not None:
            found = next_instant(self._cron, self._zone, self.rule.dst, after // _US)
            return None if found is None else found * _US
        if self.rule.every_s:
            anchor = 0 if self.rule.start is None else _us(self.rule.start)
            every = round(self.rule.every_s * _US)
            return anchor + ((after - anchor) // every + 1) * every
        return min((at for it in self.rule.at if (at := _us(it)) > after), default=None)


def next_instant(cron: Cron, zone: Zone, dst: Dst, after: int) -> int | None:
    """Return the first instant after ``after`` at which ``cron`` fires in ``zone``."""
    skips_repeats = dst == "skip" or not (cron.is_rhythm or dst == "both")
    fills_gaps = dst != "skip" and not cron.is_rhythm
    at = after
    while True:
        span = zone.span(at + 1)
        local = cron.next(at + span.offset)
        if skips_repeats and span.gap < 0 and local is not None:
            shown_already = span.start + span.before
            if local < shown_already:
                local = cron.next(shown_already - 1)
        found = None if local is None else local - span.offset
        if fills_gaps and span.gap > 0 and at < span.start + span.gap:
            missed = _from_gap(cron, span, dst, at)
            if missed is not None and (found is None or missed < found):
                found = missed
        if found is not None and found < span.end:
            return found
        if found is None and span.end - at > 2 * WIDEST:
            return None  # what comes twice from the end of the span on is later than `at` shows
        at = span.end - 1 if found is None else max(span.end - 1, found - 2 * WIDEST)


def _from_gap(cron: Cron, span: Span, dst: Dst, after: int) -> int | None:
    """Return the next instant that stands for a time that was left out at the start of ``span``."""
    first, end = span.start + span.before, span.start + span.offset  # what no clock has shown
    if dst == "shift":
        missing = cron.next(after + span.before)
        return missing - span.before if missing is not None and missing < end else None
    missing = cron.next(first - 1) if after < span.start else None
    return span.start if missing is not None and missing < end else None


def _us(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return (moment - _EPOCH) // _MICROSECOND


def _moment(us: int) -> datetime:
    return _EPOCH + us * _MICROSECOND
