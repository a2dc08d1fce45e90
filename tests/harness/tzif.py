"""Transitions of time zones, read from their files without the help of the program or of Python.

The format is RFC 9636: a table of what was, and in the last line, in the manner of POSIX, the rule of
what will be.
"""

from __future__ import annotations

import importlib.resources
import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

YEAR_2000 = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())
YEAR_2037 = int(datetime(2037, 1, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True)
class Change:
    """At ``at`` the offset ``before`` became ``after``; all in seconds."""

    at: int
    before: int
    after: int


def zone_bytes(name: str) -> bytes:
    return importlib.resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()


def changes(data: bytes) -> list[Change]:
    """Return all changes of offset up to 2037 that a file knows of, in order."""
    counts = struct.unpack(">4sc15x6l", data[:44])
    assert counts[0] == b"TZif"
    assert counts[1] >= b"2"
    isutc, isstd, leaps, times, types, chars = counts[2:]
    start = 44 + times * 5 + types * 6 + chars + leaps * 8 + isstd + isutc  # the old half
    isutc, isstd, leaps, times, types, chars = struct.unpack(">20x6l", data[start : start + 44])
    at = start + 44
    instants = struct.unpack(f">{times}q", data[at : at + times * 8])
    indices = data[at + times * 8 : at + times * 9]
    first = at + times * 9
    offsets = [
        struct.unpack(">l", data[first + n * 6 : first + n * 6 + 4])[0] for n in range(types)
    ]
    end = first + types * 6 + chars + leaps * 12 + isstd + isutc
    rule = data[end:].decode().strip("\n")
    steps = [(instant, offsets[index]) for instant, index in zip(instants, indices, strict=True)]
    last = steps[-1][0] if steps else -(1 << 62)
    steps += [step for step in _by_rule(rule) if step[0] > last]
    found = []
    before = offsets[0]
    for instant, offset in steps:
        if offset != before:
            found.append(Change(instant, before, offset))
        before = offset
    return found


_NAME = r"(?:[A-Za-z]+|<[^>]+>)"
_OFFSET = r"([+-]?\d+(?::\d+){0,2})"
_RULE = re.compile(rf"{_NAME}{_OFFSET}(?:{_NAME}{_OFFSET}?,([^,]+),([^,]+))?")


def _by_rule(text: str) -> list[tuple[int, int]]:
    """Return (instant, offset) of the changes that a POSIX rule makes from 1970 to 2038."""
    match = _RULE.fullmatch(text)
    assert match, text
    standard = -_seconds(match[1])
    if not match[3]:
        return []
    summer = -_seconds(match[2]) if match[2] else standard + 3600
    steps = []
    for year in range(1970, 2039):
        steps.append((_moment(match[3], year) - standard, summer))
        steps.append((_moment(match[4], year) - summer, standard))
    return sorted(steps)


def _seconds(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    parts = [int(part) for part in text.lstrip("+-").split(":")]
    return sign * sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))


def _moment(rule: str, year: int) -> int:
    """Return the wall-clock time of ``M3.5.0/3``: the last Sunday of March at three."""
    day, _, time = rule.partition("/")
    first = datetime(year, 1, 1, tzinfo=UTC)
    if day.startswith("M"):
        month, week, weekday = (int(part) for part in day[1:].split("."))
        at = datetime(year, month, 1, tzinfo=UTC)
        at += timedelta(days=(weekday - at.isoweekday()) % 7 + 7 * (week - 1))
        if at.month != month:
            at -= timedelta(days=7)
    elif day.startswith("J"):
        at = first + timedelta(days=int(day[1:]) - 1)
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        at += timedelta(days=int(leap and int(day[1:]) >= 60))
    else:
        at = first + timedelta(days=int(day))
    return int(at.timestamp()) + (_seconds(time) if time else 7200)


def distinct_zones(names: frozenset[str]) -> dict[str, list[Change]]:
    """Return name -> changes for one zone of each set that have the same file."""
    by_file: dict[bytes, str] = {}
    for name in sorted(names):
        by_file.setdefault(zone_bytes(name), name)
    return {name: changes(data) for data, name in by_file.items()}
