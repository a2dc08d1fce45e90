"""Jobs that rest: a file beside the job says who wanted it, when and why."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot
from rota.core.problem import Problem
from rota.core.schedules import Misses
from rota.core.toml_document import Source, read_document
from rota.core.toml_writing import toml_value

PAUSED = "paused/"


class Paused(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who paused a job, when and why, as far as it was written down."""

    by: str = ""
    at: datetime | None = None
    reason: str = ""
    misses: Misses = "skip"  # what becomes of its schedules' instants when it is resumed


def encode_paused(paused: Paused) -> bytes:
    """Return the file that marks a job as paused."""
    lines = [f"by = {toml_value(paused.by)}"]
    if paused.at is not None:
        lines.append(f"at = {paused.at.isoformat()}")
    if paused.reason:
        lines.append(f"reason = {toml_value(paused.reason)}")
    if paused.misses != "skip":
        lines.append(f"misses = {toml_value(paused.misses)}")
    return ("\n".join(lines) + "\n").encode()


def parse_paused(text: str, path: str) -> tuple[Paused, tuple[Problem, ...]]:
    """Return what a file says, as far as it can be read, and its problems."""
    document, faults = read_document(Source(path, tuple(text.splitlines())))
    problems = list(faults)
    values = fields.read_table(document.table, Spot(document, problems), _PAUSED)
    return Paused(**values), tuple(problems)


def _instant(value: Any, _: Spot) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise FieldError("must be a date and time with its zone")
    return value


_PAUSED = {
    "by": Field("by", fields.text, 'by = "ada"'),
    "at": Field("at", _instant, "at = 2026-01-31T12:00:00Z"),
    "reason": Field("reason", fields.text, 'reason = "the database moves"'),
    "misses": Field("misses", fields.one_of(("skip", "run")), 'misses = "run"'),
}
