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

from rota.core.calendars import Calendar
from rota.core.cron import Cron, parse_cron
from rota.core.durations import format_duration
from rota.core.triggers import Dst, Schedule
from rota.core.zones import WIDEST, Span, Zone, find_zone

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_US = 1_000_000


#: Calendars are asked for so many years ahead: enough for a 29 February around 2100.
HORIZON_US = 12 * 366 * 86_400 * 1_000_000


class Timetable:
    """The instants of one schedule.

    ``id`` is the schedule's: ``H`` and jitter are made of it. All moments are aware; those that are
    returned are in UTC. A rule that names a calendar which is not there never fires.

    Raises:
        CronError, UnknownZoneError: the rule was not checked when it was read.
    """

    __slots__ = ("_calendars", "_cron", "_excepts", "_missing", "_zone", "id", "rule")

    def __init__(self, rule: Schedule, id: str, calendars: Mapping[str, Calendar]) -> None:  # noqa: A002  # what it is
        self.rule, self.id = rule, id
        self._zone = find_zone(rule.tz)
        self._cron = parse_cron(rule.cron, id) if rule.cron else None
        self._calendars = tuple(calendars[it] for it in rule.calendars if it in calendars)
        self._excepts = tuple(calendars[it] for it in rule.excepts if it in calendars)
        self._missing = tuple(it for it in rule.calendars + rule.excepts if it not in calendars)

    def next(self, after: datetime) -> datetime | None:
        """Return the first instant strictly after ``after``; ``None`` if there is none.

        Cost: some 2 µs; with calendars some 5 µs, and 3 for each day that they leave out.
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

    def why_not(self, moment: datetime) -> str:
        """Return why ``moment`` is no instant of the schedule; empty if it is one."""
        at = _us(moment)
        rule = self.rule
        if self._missing:
            return f"it never fires: no calendar is called {self._missing[0]!r}"
        if self._next(at - 1) == at:
            return ""
        if rule.start is not None and moment < rule.start:
            return f"before its start, {self._words(_us(rule.start))}"
        if rule.end is not None and moment >= rule.end:
            return f"it ended at {self._words(_us(rule.end))}"
        if self._nominal(at - 1) == at:
            return self._why_barred(at)
        return self._why_clocks(at) or self._why_not_meant(at)

    def _next(self, after: int) -> int | None:
        rule = self.rule
        if self._missing:
            return None
        if rule.start is not None:
            after = max(after, _us(rule.start) - 1)
        end = None if rule.end is None else _us(rule.end)
        horizon = after + HORIZON_US
        while True:
            found = self._nominal(after)
            if found is None or (end is not None and found >= end):
                return None
            if not self._calendars and not self._excepts:
                return found
            free = self._barred_until(found // _US)
            if free is None:
                return found
            after = free * _US - 1
            if after > horizon:
                return None

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

    def _barred_until(self, instant: int) -> int | None:
        """Return when calendars that bar ``instant`` may be of another mind; ``None``: none does."""
        free = None
        for calendar in self._calendars:
            covered, until = calendar.state(instant, self._zone)
            if not covered:
                free = until if free is None else max(free, until)
        for calendar in self._excepts:
            covered, until = calendar.state(instant, self._zone)
            if covered:
                free = until if free is None else max(free, until)
        return free

    # -- words --------------------------------------------------------------------------------

    def _why_barred(self, at: int) -> str:
        instant = at // _US
        for calendar in self._excepts:
            if calendar.covers(instant, self._zone):
                return f"left out by the calendar {calendar.name!r}, which has {self._words(at)}"
        for calendar in self._calendars:
            if not calendar.covers(instant, self._zone):
                return f"the calendar {calendar.name!r} does not have {self._words(at)}"
        return ""

    def _why_clocks(self, at: int) -> str:
        """Return what a change of clocks has to do with it, if it has."""
        instant, rest = divmod(at, _US)
        span = self._zone.span(instant)
        if self._cron is None or rest or not span.gap:
            return ""
        dated = abs(span.gap) >= WIDEST
        first, last = (_clock(span.start + it, dated=dated) for it in (span.before, span.offset))
        change = f"clocks went from {first} to {last}"
        policy = f"dst = {self.rule.dst!r}"
        if self._cron.matches(instant + span.offset):
            earlier = self._words((instant + span.gap) * _US)
            return f"{change}, so that it was that time before, at {earlier}, where {policy} fires"
        if (
            span.gap > 0
            and instant < span.start + span.gap
            and self._cron.matches(instant + span.before)
        ):
            missing = _clock(instant + span.before, dated=dated)
            text = f"{change}, so that {missing} was left out"
            if self.rule.dst == "skip" or self._cron.is_rhythm:
                return f"{text}, and {policy} fires nothing instead"
            return f"{text}, and {policy} fires at {self._words(span.start * _US)} instead"
        return ""

    def _why_not_meant(self, at: int) -> str:
        if self._cron is not None:
            what = f"the cron expression {self.rule.cron!r}"
            if self._cron.text != self.rule.cron:
                what += f", here {self._cron.text!r},"
            what += " does not mean"
        elif self.rule.every_s:
            since = self.rule.start or _EPOCH
            what = (
                f"every {format_duration(self.rule.every_s)} from {since:%Y-%m-%dT%H:%M:%SZ} is not"
            )
        else:
            what = "its times do not have"
        before, after = self._before(at), self._next(at)
        beside = [
            f"{word} {self._words(it)}"
            for word, it in (("before it", before), ("after it", after))
            if it is not None
        ]
        tail = "; " + ", ".join(beside) if beside else ""
        return f"{what} {self._words(at)}{tail}"

    def _before(self, at: int) -> int | None:
        """Return the last instant before ``at``, if it is not longer ago than a leap year."""
        for days in (1 / 24, 1, 32, 367):
            found = None
            after: int | None = at - round(days * 86_400 * _US)
            while after is not None and (after := self._next(after)) is not None and after < at:
                found = after
            if found is not None:
                return found
        return None

    def _words(self, at: int) -> str:
        local = _moment(at).astimezone(self._zone.info)
        digits = "milliseconds" if at % _US else "seconds"
        return f"{local:%a} {local.replace(tzinfo=None).isoformat(' ', digits)} {local:%Z}"


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
        # What clocks show from the end of the span on may be earlier than what they show at `at`,
        # but not if that is days ago: then there is nothing before what was found.
        is_near = span.end - at <= 2 * WIDEST
        if found is None and not is_near:
            return None
        at = span.end - 1
        if found is not None and not is_near:
            at = max(at, found - 2 * WIDEST)


def _from_gap(cron: Cron, span: Span, dst: Dst, after: int) -> int | None:
    """Return the next instant that stands for a time that was left out at the start of ``span``."""
    first, end = span.start + span.before, span.start + span.offset  # what no clock has shown
    if dst == "shift":
        missing = cron.next(after + span.before)
        return missing - span.before if missing is not None and missing < end else None
    missing = cron.next(first - 1) if after < span.start else None
    return span.start if missing is not None and missing < end else None


def _clock(local: int, *, dated: bool) -> str:
    """Return a wall-clock time in words."""
    moment = _EPOCH + timedelta(seconds=local)
    text = f"{moment:%Y-%m-%d %H:%M:%S}" if dated else f"{moment:%H:%M:%S}"
    return text.removesuffix(":00")


def _us(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return (moment - _EPOCH) // _MICROSECOND


def _moment(us: int) -> datetime:
    return _EPOCH + us * _MICROSECOND
