"""What the last builds of a job come to: how often they pass, how long they take, since when it fails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rota.core.build import Build
from rota.core.states import Result, State

#: Results that say something is wrong with what was built, or with where it ran.
BAD = (Result.FAILED, Result.TIMED_OUT, Result.ERRORED, Result.LOST)
#: So many passes are looked at to say how long the next one takes.
TYPICAL_OF = 10
#: Of the passes, so many must be alike for the others not to count.
ENOUGH_ALIKE = 3


def seconds(build: Build) -> float | None:
    """Return how long a build's last attempt ran; ``None`` if it did not, or does still."""
    if build.started_at is None or build.finished_at is None:
        return None
    return max(0.0, (build.finished_at - build.started_at).total_seconds())


def typical_s(builds: Iterable[Build]) -> float | None:
    """Return the median of how long builds ran that passed; ``None`` if none did.

    Those that failed say nothing of it: most of them end early.
    """
    took = [
        it
        for build in builds
        if build.result is Result.PASSED and (it := seconds(build)) is not None
    ]
    if not took:
        return None
    import statistics  # it brings fractions and decimals, which an idle daemon never needs

    return statistics.median(took)


def expected_s(build: Build, passed: Sequence[Build]) -> float | None:
    """Return how long a build is expected to run, by its job's last passes, newest first.

    Those with the same parameters say more than others: a deploy to one place is not one to another.
    """
    alike = [it for it in passed if it.params == build.params and it.cell == build.cell]
    return typical_s((alike if len(alike) >= ENOUGH_ALIKE else passed)[:TYPICAL_OF])


def first_of_streak(builds: Sequence[Build]) -> Build | None:
    """Return the build since which a job fails, of its builds newest first; ``None`` if it does not.

    What has not finished and what was cancelled says nothing either way.
    """
    first = None
    for build in builds:
        if build.state is not State.FINISHED or build.result is Result.CANCELLED:
            continue
        if build.result is Result.PASSED:
            break
        first = build
    return first
