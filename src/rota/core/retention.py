"""What is kept of what builds left, and what is dropped: logs and artifacts, by age and size.

The record of a build stays for ever; its logs and artifacts do not. How long is for its job to say
(``keep`` in the header), and where it says nothing for the cluster's settings. What a build that
runs has left so far is never dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from rota.core.build import Build
from rota.core.instant import Instant
from rota.core.job import Int, Job, Keep
from rota.core.settings import Settings

#: Rules of a job's own start with this.
OF_JOB = "keep."


class Remains(msgspec.Struct, frozen=True):
    """What a finished build left, as far as it has not been dropped.

    ``attempts`` is how many logs there may be: 0 once they were dropped.
    """

    build: str
    job: str
    finished_at: datetime
    attempts: int
    log_bytes: int
    files: int
    file_bytes: int


class Swept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was dropped of a build: its logs, its artifacts, or both, each by the rule it names.

    A rule is a key of the job's header (``keep.builds``) or of the settings (``logs.max_age``);
    an empty one says that these were not dropped.
    """

    build: str
    logs: str = ""
    artifacts: str = ""


class Removed(msgspec.Struct, frozen=True):
    """What is known of a build's dropped logs and artifacts: when, and by which rule."""

    logs: str = ""
    logs_at: Instant | None = None
    artifacts: str = ""
    artifacts_at: Instant | None = None


class Limits(msgspec.Struct, frozen=True):
    """How much is kept for one job; the rules are the names under which it is said."""

    logs_s: float
    logs_rule: str
    artifacts_s: float
    artifacts_rule: str
    builds: Int | None = None
    bytes: Int | None = None

    @property
    def is_of_age_alone(self) -> bool:
        """Whether nothing is dropped before its time has come."""
        return self.builds is None and self.bytes is None

    def oldest_kept(self, now: datetime) -> datetime:
        """Return the end of the youngest builds of which something is over its age."""
        return _before(now, min(self.logs_s, self.artifacts_s))


def limits_of(keep: Keep, settings: Settings) -> Limits:
    """Return the limits of a job: its own where it has any, else the cluster's."""
    own_logs, own_artifacts = keep.logs_s is not None, keep.artifacts_s is not None
    return Limits(
        logs_s=keep.logs_s if keep.logs_s is not None else settings.logs.max_age_s,
        logs_rule=OF_JOB + "logs" if own_logs else "logs.max_age",
        artifacts_s=(
            keep.artifacts_s if keep.artifacts_s is not None else settings.artifacts.max_age_s
        ),
        artifacts_rule=OF_JOB + "artifacts" if own_artifacts else "artifacts.max_age",
        builds=keep.builds,
        bytes=keep.bytes,
    )


def longest_logs_s(settings: Settings, jobs: Iterable[Job]) -> float:
    """Return the age up to which some log is kept: beyond it the engine may drop any."""
    own = (job.spec.keep.logs_s or 0.0 for job in jobs)
    return max(settings.logs.max_age_s, max(own, default=0.0))


class Sieve:
    """Says what goes of what the builds of one job left; to be asked newest first.

    Age is looked at first, then how many builds keep theirs, then how many bytes they take
    together; the newest build is never too large.
    """

    def __init__(self, limits: Limits, now: datetime) -> None:
        self._limits = limits
        self._no_logs_from = _before(now, limits.logs_s)
        self._no_artifacts_from = _before(now, limits.artifacts_s)
        self._builds = 0
        self._room = Room(limits.bytes)

    def judge(self, left: Remains) -> Swept | None:
        """Return what goes of a build, older than those before; ``None`` if all is kept."""
        logs = artifacts = ""
        if left.finished_at < self._no_logs_from:
            logs = self._limits.logs_rule
        if left.finished_at < self._no_artifacts_from:
            artifacts = self._limits.artifacts_rule
        if rule := self._beyond(left, with_logs=not logs, with_artifacts=not artifacts):
            logs, artifacts = logs or rule, artifacts or rule
        return _swept(left, logs, artifacts)

    def _beyond(self, left: Remains, *, with_logs: bool, with_artifacts: bool) -> str:
        self._builds += 1
        if self._limits.builds is not None and self._builds > self._limits.builds:
            return OF_JOB + "builds"
        size = left.log_bytes * with_logs + left.file_bytes * with_artifacts
        return "" if self._room.takes(size) else OF_JOB + "bytes"


class Room:
    """So many bytes, given to those that come first; the very first gets in whatever its size."""

    def __init__(self, size: int | None) -> None:
        self._left = size
        self._is_used = False

    def takes(self, size: int) -> bool:
        """Whether there is room for so many more; once there was none, there is none for any."""
        if self._left is None or not size:
            return True
        fits = size <= self._left or not self._is_used
        self._left = max(self._left - size, 0) if fits else 0
        self._is_used = True
        return fits


def judge_artifacts(room: Room, left: Remains) -> Swept | None:
    """Return that a build's artifacts go, if all newer ones of the cluster leave no room."""
    return None if room.takes(left.file_bytes) else _swept(left, "", "artifacts.max_bytes")


def remains_of(build: Build) -> Remains | None:
    """Return what a finished build left; ``None`` if that is nothing."""
    if build.finished_at is None or not (build.attempt or build.artifacts):
        return None
    return Remains(
        build=build.id,
        job=build.job,
        finished_at=build.finished_at,
        # A lost attempt's size is not known, but there may be a log all the same.
        attempts=build.attempt,
        log_bytes=build.log_bytes + sum(former.log_bytes for former in build.former),
        files=len(build.artifacts),
        file_bytes=sum(artifact.size for artifact in build.artifacts),
    )


def noted(before: Removed, swept: Swept, at: datetime) -> Removed:
    """Return what is known of a build's dropped parts once ``swept`` went at ``at``."""
    if swept.logs:
        before = replace(before, logs=swept.logs, logs_at=at)
    if swept.artifacts:
        before = replace(before, artifacts=swept.artifacts, artifacts_at=at)
    return before


def by_rule(rule: str) -> str:
    """Return a rule as words that end a sentence: "… by its job's `keep.builds`"."""
    return f"its job's `{rule}`" if rule.startswith(OF_JOB) else f"the cluster's `{rule}`"


def _swept(left: Remains, logs: str, artifacts: str) -> Swept | None:
    logs, artifacts = logs if left.attempts else "", artifacts if left.files else ""
    return Swept(left.build, logs, artifacts) if logs or artifacts else None


def _before(now: datetime, seconds: float) -> datetime:
    return now - timedelta(seconds=seconds)
