"""A build: one run of a job, as everybody sees it.

The same structure is what the fold keeps, what REST answers, what the index stores and what stands
on ``history``: there is one picture of a build.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from rota.core.cases import Tally
from rota.core.instant import Instant
from rota.core.job import Int, ParamValue, Reason, Spec
from rota.core.questions import Question
from rota.core.scm import Source
from rota.core.states import Move, Result, State, next_state
from rota.core.steps import Step


class Trigger(msgspec.Struct, frozen=True, omit_defaults=True):
    """What asked for a build.

    ``kind`` is ``manual``, ``build`` (from inside another one), ``need``, ``matrix``, or that of the
    header's rule: ``schedule``, ``after``, ``event``, ``push``, …; ``by`` is the principal;
    ``source`` names the build or the rule that spoke for it; ``key`` is the idempotency key, if one
    was given. ``at`` is a schedule's instant; ``cause`` the sequence of the event that was reacted
    to, and ``data`` what of it is worth knowing; ``depth`` is how many builds set one another off
    before this one.
    """

    kind: str = "manual"
    by: str = ""
    source: str = ""
    key: str = ""
    at: Instant | None = None
    cause: Int = 0
    data: dict[str, str] = {}
    depth: Int = 0


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an attempt used: CPU seconds, and its largest process's memory in bytes (0: unknown).

    The rest is known of one that was limited: the most memory that all of it held at once, how many of
    its processes the kernel ended for want of memory, how many forks it refused, and for how many
    seconds it was kept from a processor.
    """

    user_s: float = 0.0
    system_s: float = 0.0
    max_rss_bytes: Int = 0
    memory_bytes: Int = 0
    oom_kills: Int = 0
    refused_forks: Int = 0
    throttled_s: float = 0.0


class Annotation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A remark that the script made by a workflow command: ``error``, ``warning`` or ``notice``."""

    level: str
    message: str
    title: str = ""
    file: str = ""
    line: Int = 0
    offset: Int = 0  # where in the log it stands, in bytes


class Metric(msgspec.Struct, frozen=True, omit_defaults=True):
    """A number of a build that is worth following, such as ``coverage`` in ``%``."""

    name: str
    value: float
    unit: str = ""


class Artifact(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that a build left; ``kept_at`` is when, by the clock of the agent that kept it."""

    path: str
    size: Int
    sha256: str
    kept_at: Instant | None = None


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """A former try at a build: who ran it and how it ended."""

    attempt: Int
    agent: str
    result: Result
    reason: Reason
    exit_code: Int | None = None
    message: str = ""
    started_at: Instant | None = None
    finished_at: Instant | None = None
    log_bytes: Int = 0
    log_sha256: str = ""
    tests: Tally | None = None  # without its failures


class Edge(msgspec.Struct, frozen=True, omit_defaults=True):
    """A build that another one waits for: what it needs, or a cell of its group.

    ``results`` are those with which it may go on; empty is any. ``result`` is there once it ended.
    """

    build: str
    job: str
    results: tuple[Result, ...] = ()
    artifacts: tuple[str, ...] = ()
    result: Result | None = None
    number: Int = 0

    @property
    def is_open(self) -> bool:
        """Whether the other build has not ended."""
        return self.result is None

    @property
    def is_unmet(self) -> bool:
        """Whether the other build ended in a way that this one cannot go on with."""
        return self.result is not None and bool(self.results) and self.result not in self.results


class Approval(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was said to a build that had to be approved, by whom and when."""

    by: str
    at: Instant
    approved: bool = True
    why: str = ""


class Group(msgspec.Struct, frozen=True, omit_defaults=True):
    """What makes a build a group: it runs nowhere, and ends when its ``cells`` have."""

    cells: tuple[Edge, ...]
    fail_fast: bool = False
    max_parallel: Int = 0


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a job. Times are by the clock of the agent that wrote the event."""

    id: str
    job: str
    number: Int
    state: State
    result: Result | None = None
    reason: Reason | None = None
    exit_code: Int | None = None
    signal: Int | None = None
    message: str = ""
    attempt: Int = 0  # of the present try, from 1; 0 before the first
    agent: str | None = None
    requested_at: Instant
    started_at: Instant | None = None
    finished_at: Instant | None = None
    not_before: Instant | None = None  # a retry waits until then
    log_bytes: Int = 0
    log_sha256: str = (
        ""  # of its log as it is shown, in hex; empty while it runs, and before level 2
    )
    params: dict[str, ParamValue] = {}
    trigger: Trigger = Trigger()
    spec: Spec = Spec()
    commit: str = ""
    script: str = ""
    held: tuple[str, ...] = ()
    pipeline: str = ""  # the root build's id of the tree that it belongs to; empty: it is the root
    parent: str = ""  # the build that asked for it: from inside, by its needs, or by its matrix
    cancelled_by: str | None = None  # set as soon as somebody asked, also while it still runs
    usage: Usage = Usage()
    annotations: tuple[Annotation, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    former: tuple[Attempt, ...] = ()
    requested_seq: Int = 0  # journal sequence of the request
    last_seq: Int = 0  # and of its last event, also of one that changed nothing: claims rest on it
    seq: Int = 0  # and of the last event that changed it, which may be another build's
    needs: tuple[Edge, ...] = ()
    group: Group | None = None
    cell: dict[str, ParamValue] = {}  # of a cell: what tells it from the others of its group
    lane: str = ""  # newer builds of the same job and lane end older ones, by `supersede`
    superseded_by: str = ""  # the newer build
    fence: Int = 0  # the sequence of its last claim: later holders of anything have larger ones
    stamp: Int = 0  # how many builds of its project had begun when it was asked for
    is_waiting: bool = False  # its script waits for other builds: its slot is free for them
    approval: Approval | None = None  # what was said where it had to be approved
    asked_at: Instant | None = None  # since when nothing but an approval is missing
    questions: tuple[Question, ...] = ()
    steps: tuple[Step, ...] = ()  # of the present attempt, once it has ended
    step: str = ""  # the one in which its script failed

    source: Source | None = None  # what was checked out for it
    tests: Tally | None = None  # what its reports of tests came to
    metrics: tuple[Metric, ...] = ()
    told: tuple[str, ...] = ()  # the targets of the notices that it gave rise to

    @property
    def trusted(self) -> bool:
        """Whether what it runs is from somebody who may write to the repository."""
        return self.trigger.data.get("fork") != "true"

    @property
    def ref(self) -> str:
        """The name people use: ``job#number``."""
        return f"{self.job}#{self.number}"

    @property
    def root(self) -> str:
        """The id of the root of its tree."""
        return self.pipeline or self.id

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All builds that it waits for, or waited for."""
        return self.needs if self.group is None else (*self.needs, *self.group.cells)


def step(build: Build, move: Move, **changes: object) -> Build | None:
    """Return a build after a move; ``None`` where the transition table has no such move."""
    state = next_state(build.state, move)
    return None if state is None else replace(build, state=state, **changes)
