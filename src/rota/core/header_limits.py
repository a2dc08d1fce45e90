"""The part of a header that says how much may run at once: concurrency, limits, rate."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from rota.core import fields
from rota.core.demands import ALL
from rota.core.durations import format_duration, parse_duration
from rota.core.fields import Field, FieldError, Spot
from rota.core.job import Job, Rate, Take
from rota.core.problem import nearest

MAX_TAKE = 1_000_000
MAX_PERIOD_S = 366 * 86_400.0
_RATE = re.compile(r"\s*(\d{1,7})\s*/\s*(.+?)\s*")
_UNITS = {"second": "s", "minute": "m", "min": "m", "hour": "h", "day": "d", "week": "7d"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PART = re.compile(r"\{([^{}]*)\}|[{}]")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class Placed(NamedTuple):
    """What a job takes of a limit, and where it says so."""

    take: Take
    line: int
    column: int


def limit_name_fault(name: str) -> str | None:
    """Return what is wrong with a limit's name, or ``None``."""
    if _NAME.fullmatch(name):
        return None
    return "cannot be a limit's name: up to 64 letters, digits and . _ -, the first no sign"


def _take(value: Any, spot: Spot) -> Placed:
    if isinstance(value, dict):
        found = fields.read_table(value, spot, _TAKE)
        if "name" not in value:
            spot.fault(f"{spot.name} needs name", 'such as { name = "db", take = 2 }')
        if "name" not in found:
            raise FieldError
        take, here = Take(found["name"], found.get("take", 1)), spot.at("name")
    else:
        take, here = Take(_limit_name(value, spot)), spot
    place = here.document.source.problem(here.document.places.value(here.path, 0), "")
    return Placed(take, place.line, place.column)


def _limit_name(value: Any, spot: Spot) -> str:
    if not isinstance(value, str):
        hint = 'a name, or { name = "db", take = 2 }'
        raise FieldError(f"must be a string or a table, not {fields.type_name(value)}", hint)
    fault = limit_name_fault(value)
    if fault is not None:
        raise FieldError(fault)
    return value


def _amount(value: Any, spot: Spot) -> int:
    if value == "all":
        return ALL
    if not isinstance(value, int):
        raise FieldError(f'must be a number or "all", not {fields.printed_value(value)}')
    return fields.integer(1, MAX_TAKE)(value, spot)


def _takes(value: Any, spot: Spot) -> tuple[Placed, ...]:
    found = fields.list_of(_take)(value, spot)
    names = [it.take.name for it in found]
    for index, name in enumerate(names):
        if name in names[:index]:
            here = spot.at(index)
            here.fault(f"{here.name} names {name!r} again", "say how much once: take = 2")
    return found


def rate(value: Any, spot: Spot) -> Rate:
    """Return a number in a time, such as ``10/h`` or ``3/30m``."""
    text = fields.text(value, spot)
    match = _RATE.fullmatch(text)
    hint = "a number of builds and a time, such as 10/h or 3/30m"
    if match is None:
        raise FieldError(f"cannot be {fields.printed_value(text)}", hint)
    unit = _UNITS.get(match[2].removesuffix("s") if len(match[2]) > 1 else "", match[2])
    period = parse_duration(unit if unit[:1].isdigit() else f"1{unit}")
    if isinstance(period, str):
        raise FieldError(f"cannot be {fields.printed_value(text)}", hint)
    count = int(match[1])
    if not 1 <= count <= MAX_TAKE:
        raise FieldError(f"must be at least 1 and at most {MAX_TAKE} builds, not {count}", hint)
    if not 1 <= period <= MAX_PERIOD_S:
        longest = format_duration(MAX_PERIOD_S)
        raise FieldError(f"must be over at least 1s and at most {longest}", hint)
    return Rate(count, period)


def _key(value: Any, spot: Spot) -> str:
    text = fields.text(value, spot)
    for part in _PART.finditer(text):
        if part[1] is None or not _WORD.fullmatch(part[1]):
            hint = 'parameters in braces, such as "{env}"'
            raise FieldError(f"has {part[0]!r}, which names nothing", hint, offset=part.start() + 1)
    return text


def check_limits(job: Job, spot: Spot) -> Job:
    """Report what does not fit together in a job's limits."""
    key = job.spec.concurrency_key
    here = spot.at("concurrency_key")
    if key and not job.spec.concurrency:
        here.key_fault("concurrency_key says nothing without concurrency", "add concurrency = 1")
    if job.on or job.matrix is not None:
        return job  # a name may be of what a trigger brings, or of a cell
    for part in _PART.finditer(key):
        if part[1] not in job.params:
            known = ", ".join(job.params) or "there are none"
            hint = nearest(part[1], job.params) or f"parameters: {known}"
            here.fault(f"concurrency_key names {part[1]!r}, which is no parameter", hint)
    return job


_TAKE = {
    "name": Field("name", _limit_name, 'name = "db"'),
    "take": Field("take", _amount, 'take = 2, or "all"'),
}

LIMITS = {
    "concurrency": Field("concurrency", fields.integer(1, MAX_TAKE), "concurrency = 1"),
    "concurrency_key": Field("concurrency_key", _key, 'concurrency_key = "{env}"'),
    "limits": Field("limits", _takes, 'limits = ["licence", { name = "db", take = 2 }]'),
    "rate": Field("rate", rate, 'rate = "10/h"'),
}
