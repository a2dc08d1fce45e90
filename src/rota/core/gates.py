"""What a held build waits for, and what becomes of it once that is known: pure, on builds alone.

The fold asks :func:`judge` whenever something that a held build waits for has changed; ``rota why``
asks :func:`pending` for the same reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from rota.core.build import Build, Edge
from rota.core.job import Reason
from rota.core.states import Result, State

#: From the best to the worst: a group's result is the worst of its builds.
SEVERITY = (
    Result.PASSED,
    Result.CANCELLED,
    Result.FAILED,
    Result.TIMED_OUT,
    Result.LOST,
    Result.ERRORED,
)


class Release(msgspec.Struct, frozen=True):
    """Nothing holds it any more."""


class Settle(msgspec.Struct, frozen=True):
    """It is finished without having run."""

    reason: Reason
    result: Result
    message: str


Verdict = Release | Settle | None


def judge(build: Build, *, has_room: bool = True) -> Verdict:
    """Return what becomes of a held build now; ``None``: it waits on.

    ``has_room`` says whether its group lets one more of its cells run.
    """
    if build.group is not None:
        return _judge_group(build)
    unmet = next((edge for edge in build.needs if edge.is_unmet), None)
    if unmet is not None:
        return Settle(Reason.UNMET, Result.CANCELLED, f"it needs {name(unmet)}, {unmet.result}")
    if build.held or any(edge.is_open for edge in build.needs) or not has_room:
        return None
    return Release()


def _judge_group(build: Build) -> Verdict:
    assert build.group is not None
    results = [edge.result for edge in build.group.cells if edge.result is not None]
    if len(results) < len(build.group.cells):
        return None
    message = tally(results)
    if build.cancelled_by is None:
        return Settle(Reason.GROUP, worst(results), message)
    if build.approval is not None and not build.approval.approved:
        return Settle(Reason.REJECTED, Result.CANCELLED, build.approval.why or message)
    reason = Reason.SUPERSEDED if build.superseded_by else Reason.CANCELLED
    return Settle(reason, Result.CANCELLED, message)


def lacks_a_word(build: Build) -> bool:
    """Whether nothing but what ``held`` names keeps a held build back."""
    return bool(build.held) and not any(edge.is_open for edge in build.needs)


def pending(build: Build) -> tuple[Edge, ...]:
    """Return the builds that a held one still waits for."""
    return tuple(edge for edge in build.edges if edge.is_open)


def worst(results: Iterable[Result]) -> Result:
    """Return the worst of several results; passed, if there are none."""
    return max(results, key=SEVERITY.index, default=Result.PASSED)


def tally(results: Iterable[Result]) -> str:
    """Return how many ended how: ``1 failed, 5 passed``; the worst first."""
    counts = Counter(results)
    return ", ".join(f"{counts[it]} {it}" for it in reversed(SEVERITY) if it in counts)


def name(edge: Edge) -> str:
    """Return the name of the other build: ``web/build#3``, or its job's before it has a number."""
    return f"{edge.job}#{edge.number}" if edge.number else edge.job


def told(build: Build, other: Build) -> Build:
    """Return a build that knows how another one is that it waits for."""
    result = other.result if other.state is State.FINISHED else None

    def seen(edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
        return tuple(
            replace(edge, result=result, number=other.number) if edge.build == other.id else edge
            for edge in edges
        )

    group = build.group
    if group is not None:
        group = replace(group, cells=seen(group.cells))
    return replace(build, needs=seen(build.needs), group=group)
