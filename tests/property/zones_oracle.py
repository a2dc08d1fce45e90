"""When schedules fire around changes of clocks, by walking through every minute: an independent oracle.

``python -m tests.property.zones_oracle`` goes through all changes of all zones from 2000 to 2037
with all policies; the tests take some of them by chance. It shares no code with the program: zones are
read from their files by ``tests.harness.tzif``, and expressions are sets of numbers, made together
with their text.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import get_args

from tests.harness.tzif import YEAR_2000, YEAR_2037, Change, changes, distinct_zones, zone_bytes

from rota.core.timetable import Timetable
from rota.core.triggers import Dst, Schedule
from rota.core.zones import find_zone, zone_names

POLICIES: tuple[Dst, ...] = get_args(Dst)
ALL = frozenset(range(60))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Expression:
    """A cron expression and what it means."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    weekdays: frozenset[int] = ALL  # 0 is Sunday
    days: frozenset[int] = ALL
    is_rhythm: bool = False

    def fits(self, local: int) -> bool:
        """Whether a wall-clock time, in minutes, is meant."""
        at = EPOCH + timedelta(minutes=local)
        day = at.day in self.days and at.isoweekday() % 7 in self.weekdays
        return day and at.hour in self.hours and at.minute in self.minutes


def some_expression(rng: random.Random, near: int) -> Expression:
    """Return an expression that has to do with the wall-clock time ``near``, in minutes."""
    at = EPOCH + timedelta(minutes=near + rng.randrange(-90, 90))
    minute, hour, day = at.minute, at.hour, at.isoweekday() % 7
    step = rng.choice([1, 5, 7, 15, 20, 30])
    every = frozenset(range(0, 60, step))
    match rng.randrange(9):
        case 0:
            return Expression(f"{minute} {hour} * * *", frozenset({minute}), frozenset({hour}))
        case 1:
            return Expression(f"*/{step} {hour} * * *", every, frozenset({hour}))
        case 2:
            return Expression(f"*/{step} * * * *", every, ALL, is_rhythm=True)
        case 3:
            steps = rng.choice([2, 3, 6])
            hours = frozenset(range(0, 24, steps))
            text = f"{minute} */{steps} * * *"
            return Expression(text, frozenset({minute}), hours, is_rhythm=True)
        case 4:
            text = f"{minute} {hour} * * {day}"
            return Expression(text, frozenset({minute}), frozenset({hour}), frozenset({day}))
        case 5:
            text = f"{minute} {hour} {at.day} * *"
            days = frozenset({at.day})
            return Expression(text, frozenset({minute}), frozenset({hour}), days=days)
        case 6:
            last = min(hour + 4, 23)
            hours = frozenset(range(hour, last + 1))
            return Expression(f"{minute},0 {hour}-{last} * * *", frozenset({minute, 0}), hours)
        case 7:
            hours = frozenset({0, 12, hour})
            return Expression(f"0 0,12,{hour} * * *", frozenset({0}), hours)
        case _:
            return Expression("0 * * * *", frozenset({0}), ALL, is_rhythm=True)


def walk(change: Change, hours: int) -> list[tuple[int, int]]:
    """Return (instant, wall-clock time) of every minute around a change, all in minutes."""
    assert (change.at % 60, change.before % 60, change.after % 60) == (0, 0, 0)
    at = change.at // 60
    return [
        (minute, minute + (change.before if minute < at else change.after) // 60)
        for minute in range(at - hours * 60, at + hours * 60)
    ]


def fires(expression: Expression, policy: Dst, minutes: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Yield the minutes at which ``expression`` fires; some more than once, in no order."""
    seen: set[int] = set()
    before: tuple[int, int] | None = None
    for instant, local in minutes:
        if before is not None and local > before[1] + 1:
            for missing in range(before[1] + 1, local):
                if policy != "skip" and not expression.is_rhythm and expression.fits(missing):
                    yield instant if policy != "shift" else before[0] + missing - before[1]
        if expression.fits(local):
            twice = policy == "both" or (expression.is_rhythm and policy != "skip")
            if twice or local not in seen:
                yield instant
        seen.add(local)
        before = (instant, local)


def faults(name: str, change: Change, rng: random.Random, rounds: int) -> Iterator[str]:
    """Yield where the program and the oracle are of two minds about a change of a zone."""
    jump = abs(change.after - change.before) // 3600
    around = walk(change, jump + 14)
    first, last = around[0][0] + (jump + 4) * 60, around[-1][0] - (jump + 4) * 60
    for _ in range(rounds):
        expression = some_expression(rng, (change.at + change.before) // 60)
        for policy in POLICIES:
            expected = sorted(
                {it for it in fires(expression, policy, around) if first < it <= last}
            )
            rule = Schedule(cron=expression.text, tz=name, dst=policy)
            found = [
                int((it - EPOCH).total_seconds()) // 60
                for it in Timetable(rule, "x:x", {}).between(
                    EPOCH + timedelta(minutes=first), EPOCH + timedelta(minutes=last)
                )
            ]
            if found != expected:
                when = [
                    f"{EPOCH + timedelta(minutes=it):%F %R}"
                    for it in sorted({*found} ^ {*expected})
                ]
                yield f"{name} {change} {policy} {expression.text}: differ in {when}"


def span_faults(name: str) -> list[str]:
    """Return where the spans of a zone from 1970 to 2037 are not what its file says."""
    zone = find_zone(name)
    expected = {it.at: it for it in changes(zone_bytes(name)) if 0 <= it.at < YEAR_2037}
    found = {}
    instant = 0
    while instant < YEAR_2037:
        span = zone.span(instant)
        if span.gap and span.start >= 0:
            found[span.start] = (span.before, span.offset)
        instant = span.end
    return [
        f"{name}: {it}"
        for it in found.keys() ^ expected.keys()
        | {it for it in expected if found.get(it) != (expected[it].before, expected[it].after)}
    ]


def all_changes(limit: int = 0, rng: random.Random | None = None) -> list[tuple[str, Change]]:
    """Return the changes from 2000 to 2037 of all zones, or ``limit`` of them by chance."""
    names = zone_names()
    if limit and rng is not None:
        names = frozenset(rng.sample(sorted(names), min(limit, len(names))))
    found = [
        (name, change)
        for name, its in distinct_zones(names).items()
        for change in its
        if YEAR_2000 <= change.at < YEAR_2037
    ]
    return rng.sample(found, min(limit, len(found))) if limit and rng is not None else found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="expressions for each change")
    parser.add_argument("--limit", type=int, default=0, help="so many changes, by chance")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    cases = all_changes(args.limit, rng)
    bad = [text for name, change in cases for text in faults(name, change, rng, args.rounds)]
    bad += [text for name in {name for name, _ in cases} for text in span_faults(name)]
    for text in bad[:20]:
        print(text)
    checked = len(cases) * args.rounds * len(POLICIES)
    print(f"{len(cases)} changes, {checked} comparisons, seed {args.seed}: {len(bad)} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
