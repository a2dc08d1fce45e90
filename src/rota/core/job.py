"""What a job asks for: the settings that stand in its header, as values."""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec

from rota.core.container import Image, Service
from rota.core.preferences import JobNotices
from rota.core.reports import CaseReports, CoverageReports
from rota.core.resources import Isolation, Network, Resources
from rota.core.scm import Scm
from rota.core.secret_use import SecretUse
from rota.core.triggers import On
from rota.core.workspace import Workspace

Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What fits into 64 bits: a larger number no index and hardly any other program could take."""
ParamValue = str | Int | float | bool


class Reason(enum.StrEnum):
    """Why an attempt ended. A retry policy selects on it."""

    SCRIPT = "script"  # the script ended by itself, with whatever exit code
    SIGNAL = "signal"  # a signal ended it that the agent did not send
    OOM_KILLED = "oom-killed"  # the kernel ended it for want of memory
    TIMEOUT = "timeout"  # it ran longer than `timeout`
    NO_OUTPUT = "no-output"  # it printed nothing for `idle_timeout`
    TOO_MUCH_OUTPUT = "too-much-output"  # its log grew larger than the settings let one be
    CANCELLED = "cancelled"  # somebody cancelled it
    LOST = "lost"  # its agent or its supervisor is gone, and the outcome with it
    CHECKOUT = "checkout"  # its source code could not be had, or not be merged; it never ran
    AGENT_ERROR = "agent-error"  # the agent could not run it at all
    UNMET = "unmet"  # what it needs did not end as it should have; it never ran
    SUPERSEDED = "superseded"  # a newer build took its place, by `supersede`
    GROUP = "group"  # it is a group, and the last of its builds has ended
    REJECTED = "rejected"  # who was asked to approve it said no; it never ran
    REPORTS = "reports"  # its script passed, and what its reports say did not: tests, coverage
    FINALLY = "finally"  # its script passed, and its finaliser, which is required, did not


class Retry(msgspec.Struct, frozen=True, omit_defaults=True):
    """When to try again: ``times`` further attempts for the reasons in ``on``, ``delay_s`` apart.

    The first retry waits ``delay_s`` seconds, each further one twice as long, up to
    ``max_delay_s``. ``jitter`` is the part of a wait that is left to chance, so that what failed
    together does not come back together. With ``exit_codes`` a script that ended by itself is tried
    again for these codes, and for no other.
    """

    times: Int = 0
    on: tuple[Reason, ...] = (Reason.LOST, Reason.AGENT_ERROR, Reason.CHECKOUT)
    delay_s: float = 0.0
    max_delay_s: float = 3600.0
    jitter: float = 0.0
    exit_codes: tuple[Int, ...] = ()


class Approve(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who must say yes before a build begins.

    ``who`` are names, and groups of the settings as ``@name``; empty is everybody who may run it.
    In ``text`` ``{name}`` stands for a parameter. Without ``self_approval`` who asked for the build
    is none of them.
    """

    who: tuple[str, ...] = ()
    text: str = ""
    timeout_s: float | None = None
    self_approval: bool = True


class Finaliser(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is run by ``/bin/sh`` after the script, however it ended.

    Where it is ``required``, a build does not pass without it.
    """

    run: str
    timeout_s: float = 300.0
    required: bool = False


class Param(msgspec.Struct, frozen=True, omit_defaults=True):
    """A declared input of a job. Without a default it must be given at the trigger."""

    type: Literal["string", "int", "float", "bool"] = "string"
    default: ParamValue | None = None
    choices: tuple[ParamValue, ...] = ()
    description: str = ""


class Keep(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much is kept of what a job's builds leave; ``None`` leaves it to the settings.

    ``logs_s`` and ``artifacts_s`` are ages in seconds, counted from a build's end; ``builds`` is how many
    of the last finished builds keep theirs; ``bytes`` is what all of them may take together.
    """

    logs_s: float | None = None
    artifacts_s: float | None = None
    builds: Int | None = None
    bytes: Int | None = None


class Cache(msgspec.Struct, frozen=True, omit_defaults=True):
    """Folders that are brought before a script and saved after it, under a key.

    ``paths`` are relative to the workspace, or to the home folder (``~/…``). Where nothing is saved
    under ``key``, the newest is taken whose key begins with the first of ``restore`` that any does.
    ``shared`` ones go through the cluster's artifacts to all agents, others stay on their agent.
    What parts of a key stand for says :mod:`rota.core.caches`.
    """

    key: str
    paths: tuple[str, ...]
    restore: tuple[str, ...] = ()
    shared: bool = False
    save: Literal["passed", "always", "never"] = "passed"


class Need(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job of which a build must end, with one of ``results``, before one of this job begins.

    ``params`` are texts in which ``{name}`` stands for a parameter of the build that needs it.
    What the needed build left and matches ``artifacts`` lies in the workspace before the script
    starts. ``optional`` leaves the need out where there is no such job, or it is paused. ``line``
    and ``column`` are where it stands in the script.
    """

    job: str
    results: tuple[str, ...] = ("passed",)
    params: dict[str, str] = {}
    optional: bool = False
    artifacts: tuple[str, ...] = ()
    line: Int = 0
    column: Int = 0


class Matrix(msgspec.Struct, frozen=True, omit_defaults=True):
    """The cells of a matrix: for each a build, with these parameters.

    With ``fail_fast`` the first one that does not pass cancels the others; ``max_parallel`` of them
    are queued or running at once, 0 is no limit.
    """

    cells: tuple[dict[str, ParamValue], ...]
    fail_fast: bool = False
    max_parallel: Int = 0


class Take(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much of a named limit a build takes while it runs; 0 is all of it."""

    name: str
    take: Int = 1


class Rate(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most ``count`` builds begin at once, and in the long run that many in ``per_s`` seconds."""

    count: Int
    per_s: float

    @property
    def is_sound(self) -> bool:
        """Whether it can be carried out."""
        return 0 < self.count <= 10**6 and 0.001 <= self.per_s <= 10**9

    @property
    def step_s(self) -> float:
        """Seconds for which one build uses it up."""
        return self.per_s / self.count


class Spec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What running a job takes. It travels with each build, so that a later edit changes no queue.

    Times are in seconds; ``None`` means no limit. ``exclusive`` says that two attempts at the same
    time would do harm: an agent that is cut off ends its own before another agent may begin. Such a
    build survives its daemon only for 1.1 of ``agents.lost_after``, unless the agent is alone.
    ``supersede`` says which older builds a newer one of the same lane ends: those that have not
    begun, or running ones as well.
    At most ``concurrency`` builds of the job run at once, 0 is no limit; with ``concurrency_key``, in
    which parameters stand as ``{name}``, that many for each text it comes to. ``limits`` are what
    it takes of the settings' limits. ``user`` is a user of the machine, with a group after a colon;
    empty is the agent's, or the settings'.
    """

    labels: str = ""
    priority: Int = 0
    timeout_s: float | None = None
    idle_timeout_s: float | None = None
    grace_s: float = 10.0
    retry: Retry = Retry()
    env: dict[str, str] = {}
    stdin: bool = False
    artifacts: tuple[str, ...] = ()
    keep: Keep = Keep()
    exclusive: bool = False
    supersede: Literal["", "queued", "running"] = ""
    concurrency: Int = 0
    concurrency_key: str = ""
    limits: tuple[Take, ...] = ()
    rate: Rate | None = None
    scm: Scm | None = None
    approve: Approve | None = None
    finaliser: Finaliser | None = None
    caches: tuple[Cache, ...] = ()
    secrets: tuple[SecretUse, ...] = ()
    resources: Resources = Resources()
    tests: CaseReports | None = None
    coverage: CoverageReports | None = None
    user: str = ""
    network: Network = ""
    isolation: Isolation = Isolation()
    container: Image | None = None
    services: tuple[Service, ...] = ()
    workspace: Workspace = Workspace()
    notify: JobNotices = JobNotices()


class Job(msgspec.Struct, frozen=True, omit_defaults=True):
    """A definition: what the header of one script says."""

    name: str
    description: str = ""
    params: dict[str, Param] = {}
    spec: Spec = Spec()
    on: tuple[On, ...] = ()
    needs: tuple[Need, ...] = ()
    matrix: Matrix | None = None
    #: Where in the script its limits stand, line and column of each.
    limit_places: tuple[tuple[Int, Int], ...] = ()
    supersede_key: str = (
        ""  # with {parameters} and {fields} of the trigger: which lane a build is in
    )
