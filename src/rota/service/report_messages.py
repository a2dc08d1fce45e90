"""What goes in and out of the verbs on tests and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from rota.core.cases import Outcome, Tally
from rota.core.instant import Instant
from rota.core.job import Int, ParamValue
from rota.service.messages import MAX_TEXT, BuildArg, JobArg, Request

MAX_CASES = 10_000
MAX_BUILDS = 1000


class CasesRequest(Request, frozen=True, kw_only=True):
    """Tests of one build."""

    build: BuildArg
    attempt: Annotated[
        Annotated[int, Meta(ge=1, le=10**6)] | None,
        Meta(description="of this attempt; of the last one by default"),
    ] = None
    match: Annotated[
        str, Meta(description="only tests whose name contains this", max_length=MAX_TEXT)
    ] = ""
    bad: Annotated[bool, Meta(description="only tests that failed or are flaky")] = False
    limit: Annotated[int, Meta(description="at most so many", ge=0, le=MAX_CASES)] = 1000


class CaseView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One test and how it ended; ``test`` is what it is called, made of its suite and its name.

    ``file`` and ``line`` are where it failed, or where it stands; ``offset`` is where in the log it is
    named. ``flaky`` if it passed only when it was tried again.
    """

    test: str
    suite: str
    name: str
    outcome: Outcome
    duration_s: float
    message: str = ""
    details: str = ""
    file: str = ""
    line: Int = 0
    offset: Int | None = None
    flaky: bool = False


class CellTests(msgspec.Struct, frozen=True, kw_only=True):
    """What the tests of one cell of a matrix came to."""

    build: str
    cell: dict[str, ParamValue]
    result: str
    tests: Tally | None


class CasesView(msgspec.Struct, frozen=True, kw_only=True):
    """Tests of one build, those that failed first.

    ``total`` counts all that match. ``former`` is the build they are compared with, by its name: ``new``
    fail now and did not there, ``fixed`` the other way round. ``flaky`` are those that are known for it.
    ``gone`` says why single tests cannot be listed. Of a group ``cells`` has the tests of each cell.
    """

    build: str
    attempt: int
    tests: Tally | None
    cases: list[CaseView]
    total: int
    slowest: list[CaseView]
    former: str
    new: Sequence[str]
    fixed: Sequence[str]
    flaky: Sequence[str]
    gone: str
    cells: list[CellTests]


class CaseHistoryRequest(Request, frozen=True, kw_only=True):
    """Tests of a job, over its builds."""

    job: JobArg
    case: Annotated[
        str,
        Meta(
            description="only this test: its name, or what only its name contains",
            max_length=MAX_TEXT,
        ),
    ] = ""
    builds: Annotated[
        int, Meta(description="look at so many of the last builds", ge=1, le=MAX_BUILDS)
    ] = 200
    limit: Annotated[int, Meta(description="at most so many tests of each kind", ge=1, le=1000)] = (
        50
    )


class StandingView(msgspec.Struct, frozen=True, kw_only=True):
    """How one test did over the builds that were looked at.

    ``flaky`` is how often it passed and failed with nothing else different; ``since`` the build since
    which it fails in each, ``last_failed`` the last one in which it failed, both by name; ``durations_s``
    are the newest last.
    """

    test: str
    ran: int
    failed: int
    flaky: int = 0
    since: str = ""
    last_failed: str = ""
    duration_s: float = 0.0
    durations_s: list[float] = []


class CaseRunView(msgspec.Struct, frozen=True, kw_only=True):
    """One test in one attempt of a build; ``flaky`` if it passed only when it was tried again."""

    build: str
    attempt: int
    at: Instant
    outcome: Outcome
    duration_s: float
    revision: str
    flaky: bool = False


class CaseHistoryView(msgspec.Struct, frozen=True, kw_only=True):
    """Tests of a job over its builds: of all of them what matters, or of one all.

    ``builds`` of them had tests, ``missing`` had some that are no longer kept. ``passing`` is the part of all
    tests that passed, from 0 to 1; ``None`` if none ran.
    """

    job: str
    builds: int
    missing: int
    tests: int
    passing: float | None
    failing: list[StandingView]
    flaky: list[StandingView]
    slowest: list[StandingView]
    case: StandingView | None = None
    runs: list[CaseRunView] = []


class MetricsRequest(Request, frozen=True, kw_only=True):
    """Numbers of a job's builds."""

    job: JobArg
    name: Annotated[
        str, Meta(description="only this one, or those that match this glob", max_length=MAX_TEXT)
    ] = "*"
    builds: Annotated[
        int, Meta(description="look at so many of the last builds", ge=1, le=MAX_BUILDS)
    ] = 50
    branch: Annotated[str, Meta(description="only builds of this branch", max_length=MAX_TEXT)] = ""


class PointView(msgspec.Struct, frozen=True, kw_only=True):
    """A metric in one build."""

    build: str
    at: Instant
    value: float
    result: str
    branch: str


class MetricView(msgspec.Struct, frozen=True, kw_only=True):
    """One metric over a job's builds, the newest last.

    ``change`` is against the build before, ``change_main`` that of another branch against the last build
    on ``main`` before it; ``None`` where there is none.
    """

    name: str
    unit: str
    last: float
    change: float | None
    change_main: float | None
    points: list[PointView]
