"""What tests did from build to build: which fail, which are flaky, which are slow.

A *run* is all tests of one attempt. A job's tests are numbered once, in its *roster*, so that a run is a
few large numbers with a bit for each test: a thousand runs of a thousand tests are compared in a
moment, and take about a megabyte.

A test is *flaky* if it passed and failed where nothing else differed: in attempts of one build, or in
builds of the same commit with the same script and parameters; or if the report itself says so.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from rota.core.build import Build
from rota.core.cases import Outcome
from rota.core.instant import Instant

#: Durations are kept as a level of a byte, each 8 % above the one before.
_STEP = math.log(1.08)
_SHORTEST_S = 0.0005


class Read(msgspec.Struct, frozen=True):
    """The tests of one attempt as they were read: titles, a letter for each, a level for each.

    Letters are the first ones of outcomes; a capital ``F`` is a test that passed when tried again.
    """

    titles: list[str]
    letters: str
    levels: bytes


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The tests of one attempt: a bit for each of the roster's, ``levels`` for those that ran.

    ``revision`` is the same for builds of which nothing differs; empty if that is not known.
    """

    build: str
    number: int
    attempt: int
    at: Instant
    revision: str
    ran: int
    bad: int
    skipped: int
    flaky: int
    levels: bytes

    @property
    def passed(self) -> int:
        """Those that ran, and were neither skipped nor bad."""
        return self.ran & ~self.bad & ~self.skipped

    def outcome(self, test: int) -> Outcome | None:
        """Return how a test ended; ``None`` if it is not in this run. Failed is errored as well."""
        bit = 1 << test
        if not self.ran & bit:
            return None
        if self.bad & bit:
            return Outcome.FAILED
        return Outcome.SKIPPED if self.skipped & bit else Outcome.PASSED

    def duration_s(self, test: int) -> float:
        """Return how long a test that ran took, to 4 %."""
        place = (self.ran & ((1 << test) - 1)).bit_count()
        return span_of(self.levels[place]) if place < len(self.levels) else 0.0


def level_of(seconds: float) -> int:
    """Return a span as a level; 0 is too short to be measured."""
    if seconds < _SHORTEST_S:
        return 0
    return min(255, 1 + round(math.log(seconds / _SHORTEST_S) / _STEP))


def span_of(level: int) -> float:
    """Return the span that a level stands for, in seconds."""
    return _SHORTEST_S * math.exp((level - 1) * _STEP) if level else 0.0


def revision_of(build: Build) -> str:
    """Return what is the same for builds of which nothing differs; empty if nobody knows."""
    if build.source is None or not build.source.commit:
        return ""
    what = (build.source.commit, build.source.base, build.script, sorted(build.params.items()))
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def run_of(build: Build, attempt: int, read: Read, numbers: Sequence[int]) -> Run:
    """Return a run.

    Args:
        build: Whose it is.
        attempt: Which attempt of it.
        read: What its report said.
        numbers: The number of each of its titles in the job's roster; no two are the same.
    """
    ran = bad = skipped = flaky = 0
    for number, letter in zip(numbers, read.letters, strict=True):
        bit = 1 << number
        ran |= bit
        if letter in "fe":
            bad |= bit
        elif letter == "s":
            skipped |= bit
        elif letter == "F":
            flaky |= bit
    ordered = sorted(zip(numbers, read.levels, strict=True))
    return Run(
        build=build.id,
        number=build.number,
        attempt=attempt,
        at=build.finished_at or build.requested_at,
        revision=revision_of(build),
        ran=ran,
        bad=bad,
        skipped=skipped,
        flaky=flaky,
        levels=bytes(level for _, level in ordered),
    )


def flaky(runs: Sequence[Run]) -> dict[int, int]:
    """Return the flaky tests, each with how often: in so many revisions or builds.

    Cost: a few microseconds a run.
    """
    groups: dict[str, tuple[int, int, int]] = {}
    for run in runs:
        key = run.revision or run.build
        passed, bad, told = groups.get(key, (0, 0, 0))
        groups[key] = (passed | run.passed, bad | run.bad, told | run.flaky)
    counts: dict[int, int] = {}
    for passed, bad, told in groups.values():
        for test in bits((passed & bad) | told):
            counts[test] = counts.get(test, 0) + 1
    return counts


class Standing(msgspec.Struct, frozen=True):
    """How one test stands over some runs: in how many it ran, and in how many it was bad.

    ``since`` is the index of the run since which it is bad in each, if it is bad in the newest one that
    has it; ``last_bad`` that of the newest in which it was.
    """

    ran: int
    bad: int
    since: int | None = None
    last_bad: int | None = None


def standings(runs: Sequence[Run], tests: Iterable[int]) -> dict[int, Standing]:
    """Return how tests stand; ``runs`` are newest first. Cost: about 0.1 µs a run and test."""
    tried = [run.ran & ~run.skipped for run in runs]
    bad = [run.bad for run in runs]
    return {test: _standing(tried, bad, 1 << test) for test in tests}


def _standing(tried: Sequence[int], bad: Sequence[int], bit: int) -> Standing:
    ran = [index for index, bits_of_run in enumerate(tried) if bits_of_run & bit]
    failed = [index for index in ran if bad[index] & bit]
    # The newest ones that it failed in, without a pass between them.
    streak = 0
    while streak < len(failed) and failed[streak] == ran[streak]:
        streak += 1
    return Standing(
        ran=len(ran),
        bad=len(failed),
        since=failed[streak - 1] if streak else None,
        last_bad=failed[0] if failed else None,
    )


def slowest(runs: Sequence[Run], limit: int) -> dict[int, float]:
    """Return the tests that take longest, each with its mean over these runs in seconds.

    More than ``limit`` where some take as long as the last of them.
    """
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    tests: dict[int, list[int]] = {}  # mostly the same ones run each time
    for run in runs:
        its = tests.get(run.ran)
        if its is None:
            its = tests[run.ran] = list(bits(run.ran))
        for test, level in zip(its, run.levels, strict=False):
            # Most tests take no time to speak of: only these are worth adding up.
            if level > _FAST:
                sums[test] = sums.get(test, 0.0) + _SPANS[level]
                counts[test] = counts.get(test, 0) + 1
    means = {test: total / counts[test] for test, total in sums.items()}
    ordered = sorted(means, key=lambda test: -means[test])
    least = means[ordered[limit - 1]] if len(ordered) > limit else 0.0
    return {test: means[test] for test in ordered if means[test] >= least}


_FAST = level_of(0.01)
_SPANS = [span_of(level) for level in range(256)]


def bits(number: int) -> Iterator[int]:
    """Yield which bits are set, from the lowest."""
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low
