"""What goes in and out of the verbs that people look at: the overview, and a job's trend."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rota.service.messages import MAX_NUMBER, MAX_TEXT, AgentView, JobArg, Queued, Request

MAX_ROWS = 200
MAX_MARKS = 200


class OverviewRequest(Request, frozen=True, kw_only=True):
    """How much of everything, and since when it is known."""

    match: Annotated[
        str,
        Meta(description="only builds of jobs whose name matches this glob", max_length=MAX_TEXT),
    ] = "*"
    rows: Annotated[
        int, Meta(description="at most so many agents, builds and failures", ge=0, le=MAX_ROWS)
    ] = 20
    sort: Annotated[
        Literal["longest", "newest", "job", "agent"],
        Meta(description="which running builds come first: longest, newest, or by job or agent"),
    ] = "longest"
    after: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_NUMBER)] | None,
        Meta(description="with wait: answer once something happened after this sequence"),
    ] = None
    wait: Annotated[
        float, Meta(description="seconds to wait for that before answering", ge=0, le=60)
    ] = 0.0


class RunningView(msgspec.Struct, frozen=True, kw_only=True):
    """A build that runs.

    ``typical_s`` is how long its job's passes take, those with the same parameters if there are
    some; null if there was none.
    ``waits_for`` is ``answer`` if it asks somebody, ``builds`` if its script waits for others.
    """

    build: str
    id: str
    agent: str
    attempt: int
    started_at: datetime
    typical_s: float | None
    waits_for: str = ""


class FailureView(msgspec.Struct, frozen=True, kw_only=True):
    """A build that ended badly, lately."""

    build: str
    id: str
    result: str
    agent: str
    finished_at: datetime
    ran_s: float | None
    step: str
    message: str


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster at one look: numbers of everything, and the first rows of each.

    ``agents`` begins with those that something is wrong with, then those with most to do;
    ``runs`` is sorted as was asked for; ``waiting`` is in the order in which they begin.
    ``finished`` is how many builds finished in each of the last thirty minutes.
    """

    seq: int
    at: datetime
    agent: str  # that answers
    version: str
    leader: str
    leader_since: datetime | None
    voters: tuple[str, ...]
    stale_since: datetime | None
    trouble: tuple[str, ...]
    members: int
    up: int
    slots: int  # of those that are up
    used: int
    running: int
    queued: int
    held: int
    oldest_at: datetime | None  # when the build was asked for that has been queued for longest
    agents: tuple[AgentView, ...]
    runs: tuple[RunningView, ...]
    waiting: tuple[Queued, ...]
    failures: tuple[FailureView, ...]
    finished: tuple[int, ...]


class TrendRequest(Request, frozen=True, kw_only=True):
    """A job, and how far back to look."""

    job: JobArg
    limit: Annotated[int, Meta(description="its last so many builds", ge=1, le=MAX_MARKS)] = 30


class MarkView(msgspec.Struct, frozen=True, kw_only=True):
    """A build in a trend: how it ended, how long it waited and ran; oldest first."""

    number: int
    id: str
    state: str
    result: str | None
    waited_s: float | None
    ran_s: float | None


class TrendView(msgspec.Struct, frozen=True, kw_only=True):
    """What a job's last builds come to.

    ``passed`` of ``finished`` (without those that were cancelled); ``typical_s`` is the median of how
    long passes take. ``broken_since`` is the first build of those that fail without a pass between,
    ``broken`` how many these are; ``last_passed`` the pass before them.
    """

    job: str
    marks: tuple[MarkView, ...]
    passed: int
    finished: int
    typical_s: float | None
    broken: int
    broken_since: str | None
    broken_at: datetime | None
    last_passed: str | None
