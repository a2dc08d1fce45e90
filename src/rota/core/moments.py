"""Moments as people write them: a time, or so long ago."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

from rota.core.durations import parse_duration
from rota.errors import InputError


def parse_moment(text: str, now: datetime, name: str) -> datetime | None:
    """Return the moment that ``text`` says, ``None`` if it is empty; without a zone it is in that of ``now``.

    Args:
        text: A time as ISO 8601 has it, or a duration before ``now``.
        now: What time it is.
        name: What it is called in the error's text.

    Raises:
        InputError: it is neither.
    """
    if not text:
        return None
    seconds = parse_duration(text)
    with contextlib.suppress(ValueError, OverflowError):
        if isinstance(seconds, float):
            return now - timedelta(seconds=seconds)
        at = datetime.fromisoformat(text)
        return at if at.tzinfo is not None else at.replace(tzinfo=now.tzinfo)
    raise InputError(
        f"bad {name} {text!r}", hint="a time such as 2026-11-24T12:00:00Z, or so long ago: 2h"
    )
