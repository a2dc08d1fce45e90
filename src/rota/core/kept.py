"""Workspaces that stay after their attempt: which ones, and which have to go.

A failed attempt's workspace stays without anybody asking, as one of the last few. One that was asked
for stays until its time is over, whatever fails meanwhile; only too many of them, or too many bytes,
end it sooner.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from datetime import datetime, timedelta

import msgspec

from rota.core.instant import Instant
from rota.core.states import Result
from rota.core.workspace import Workspace


class Limits(msgspec.Struct, frozen=True):
    """How much an agent keeps: ``[workspaces]``, and of ``[builds]`` how many nobody asked for."""

    count: int = 20  # max_count: how many workspaces each agent keeps in all
    bytes: int = 20 * 1024**3  # max_bytes: how much they may take on its disk together
    age_s: float = 7 * 86_400.0  # max_age: for how long, where a job says nothing else
    unasked: int = 5  # keep_failed_workspaces


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A workspace that stays: of which attempt, since when, until when.

    ``is_asked`` says that a header or a request wanted it. ``bytes`` is what it takes on the disk,
    ``None`` until that was counted.
    """

    build: str
    attempt: int
    job: str = ""
    number: int = 0
    result: Result | None = None
    kept_at: Instant
    until: Instant
    is_asked: bool = False
    bytes: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Which attempt it is of."""
        return self.build, self.attempt

    @property
    def ref(self) -> str:
        """The build by the name people use; its id where that is all that is known."""
        return f"{self.job}#{self.number}" if self.job else self.build


def is_wanted(workspace: Workspace, result: Result) -> bool | None:
    """Say whether a workspace is to be kept; ``None`` if nobody said, so that it may be."""
    passed = result is Result.PASSED
    match workspace.keep:
        case "always":
            return True
        case "never":
            return False
        case "on-failure":
            return not passed
        case "":
            return False if passed else None


def until(workspace: Workspace, limits: Limits, now: datetime) -> datetime:
    """Return when a workspace that is kept now has to go."""
    seconds = limits.age_s if workspace.for_s is None else workspace.for_s
    return now + timedelta(seconds=seconds)


def surplus(
    kept: Iterable[Kept], limits: Limits, now: datetime, busy: Set[tuple[str, int]] = frozenset()
) -> list[Kept]:
    """Return which workspaces have to go, the first ones first.

    Those whose time is over; of those that nobody asked for all but the last; and of the rest, while
    they are too many or too large, first what nobody asked for, and the oldest first. One that is
    ``busy`` (somebody is in it) counts, and stays.
    """
    ordered = sorted(kept, key=lambda it: (it.is_asked, it.kept_at, it.build, it.attempt))
    idle = [it for it in ordered if it.key not in busy]
    going = {it.key: it for it in idle if it.until <= now}
    unasked = [it for it in ordered if not it.is_asked and it.key not in going]
    for it in unasked[: max(0, len(unasked) - limits.unasked)]:
        if it.key not in busy:
            going[it.key] = it
    left = [it for it in ordered if it.key not in going]
    count, size = len(left), sum(it.bytes or 0 for it in left)
    for it in left:
        if count <= limits.count and size <= limits.bytes:
            break
        if it.key not in busy:
            going[it.key] = it
            count, size = count - 1, size - (it.bytes or 0)
    return list(going.values())
