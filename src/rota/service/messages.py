"""What goes in and out of the verbs: requests and replies, as the wire has them.

A request's fields are the verb's arguments everywhere: path and query parameters or JSON body in
REST, positionals and options at the command line. Their texts are the help.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rota.core.build import Artifact
from rota.core.job import Matrix, Need, Param, ParamValue, Spec
from rota.core.workspace import Keeping

JobArg = Annotated[str, Meta(description="the job's name, its path under jobs/")]
BuildArg = Annotated[
    str, Meta(description="job#number, a job's name (its latest build), or an id's prefix")
]


#: What a program of any language reads from JSON without loss; sequences and offsets stay below.
MAX_NUMBER = 2**53 - 1
MAX_TEXT = 1000


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of a verb. Unknown ones are refused, not ignored."""


class Nothing(Request, frozen=True):
    """No arguments."""


class JobsRequest(Request, frozen=True, kw_only=True):
    """Which jobs to list."""

    match: Annotated[
        str, Meta(description="only jobs whose name matches this glob", max_length=MAX_TEXT)
    ] = "*"
    recent: Annotated[
        int, Meta(description="tell how so many of each job's last builds ended", ge=0, le=30)
    ] = 0


class JobRequest(Request, frozen=True, kw_only=True):
    """One job."""

    job: JobArg


class PutJobRequest(Request, frozen=True, kw_only=True):
    """A job's new text."""

    job: JobArg
    script: Annotated[str, Meta(description="the whole script, header included")]
    message: Annotated[str, Meta(description="the commit's message", max_length=10_000)] = ""
    if_match: Annotated[
        str,
        Meta(description="change only if the definition's ETag is among these; * if there is any"),
    ] = ""
    if_none_match: Annotated[str, Meta(description="* to change only if there is none")] = ""


class RemoveJobRequest(Request, frozen=True, kw_only=True):
    """A job to remove."""

    job: JobArg
    message: Annotated[str, Meta(description="the commit's message", max_length=10_000)] = ""
    if_match: Annotated[str, Meta(description="remove only if the ETag is among these")] = ""


class PauseRequest(Request, frozen=True, kw_only=True):
    """A job to pause."""

    job: JobArg
    reason: Annotated[str, Meta(description="why, for whoever meets it", max_length=MAX_TEXT)] = ""
    misses: Annotated[
        Literal["skip", "run"],
        Meta(
            description="what becomes of its schedules' instants when it is resumed: skip, or run as"
            " their misfire policies say"
        ),
    ] = "skip"


class SchedulesRequest(Request, frozen=True, kw_only=True):
    """Which schedules to look ahead of."""

    match: Annotated[
        str, Meta(description="only jobs whose name matches this glob", max_length=MAX_TEXT)
    ] = "*"
    start: Annotated[
        str, Meta(description="the first moment to look at; now by default", max_length=MAX_TEXT)
    ] = ""
    limit: Annotated[int, Meta(description="at most so many instants", ge=1, le=10_000)] = 20


class WhyNotRequest(Request, frozen=True, kw_only=True):
    """A moment of a job's schedules."""

    job: JobArg
    at: Annotated[
        str,
        Meta(
            description="the moment, such as 2026-12-24T18:00; the schedule's own clock, if it names"
            " no zone",
            max_length=MAX_TEXT,
        ),
    ]


class BackfillRequest(Request, frozen=True, kw_only=True):
    """A time whose instants are to be made up for."""

    job: JobArg
    start: Annotated[str, Meta(description="its first moment", max_length=MAX_TEXT)]
    end: Annotated[str, Meta(description="its last moment", max_length=MAX_TEXT)] = "now"
    dry_run: Annotated[bool, Meta(description="only say what it would come to")] = False


class CheckRequest(Request, frozen=True, kw_only=True):
    """A script to check; nothing is changed."""

    job: JobArg = "job"
    script: Annotated[str, Meta(description="the whole script, header included")]


class RunRequest(Request, frozen=True, kw_only=True):
    """A build to run."""

    job: JobArg
    params: Annotated[dict[str, ParamValue], Meta(description="the job's declared parameters")] = {}
    priority: Annotated[
        Annotated[int, Meta(ge=-100, le=100)] | None,
        Meta(description="-100 to 100, instead of the job's own"),
    ] = None
    key: Annotated[
        str,
        Meta(
            description="idempotency key: the same key gives the same build, and other parameters"
            " with it are refused; it is the caller's own, for this job",
            max_length=200,
        ),
    ] = ""
    traceparent: Annotated[
        str,
        Meta(
            description="the trace that it is part of, as W3C Trace Context says; what is none is passed over"
        ),
    ] = ""
    only: Annotated[bool, Meta(description="this build alone, without what it needs")] = False
    keep_workspace: Annotated[
        Keeping,
        Meta(
            description="when the workspace is kept to look into: on-failure, always or never,"
            " instead of what the header says"
        ),
    ] = ""


class BuildsRequest(Request, frozen=True, kw_only=True):
    """Which builds to list, newest first."""

    job: Annotated[str, Meta(description="only of this job")] = ""
    state: Annotated[
        str, Meta(description="only in this state: held, queued, running, finished, or live")
    ] = ""
    result: Annotated[str, Meta(description="only with this result, such as failed")] = ""
    limit: Annotated[int, Meta(description="at most so many", ge=1, le=1000)] = 20
    before: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_NUMBER)] | None,
        Meta(description="only builds requested before this journal sequence"),
    ] = None


class BuildRequest(Request, frozen=True, kw_only=True):
    """One build."""

    build: BuildArg
    wait: Annotated[
        float, Meta(description="seconds to wait for it to finish before answering", ge=0, le=300)
    ] = 0.0


class LogRequest(Request, frozen=True, kw_only=True):
    """Which part of a log."""

    build: BuildArg
    attempt: Annotated[
        int, Meta(description="which attempt; 0 is the last", ge=0, le=MAX_NUMBER)
    ] = 0
    offset: Annotated[int, Meta(description="start at this byte", ge=0, le=MAX_NUMBER)] = 0
    limit: Annotated[
        int,
        Meta(description="at most so many bytes of the log; 0 is all", ge=0, le=MAX_NUMBER),
    ] = 0
    tail: Annotated[
        int,
        Meta(
            description="start so many lines before the end; -1 is the start", ge=-1, le=MAX_NUMBER
        ),
    ] = -1
    line: Annotated[
        int,
        Meta(description="start at this line, from 1; 0 is the start", ge=0, le=MAX_NUMBER),
    ] = 0
    grep: Annotated[
        str,
        Meta(description="only lines that match this regular expression", max_length=MAX_TEXT),
    ] = ""
    follow: Annotated[bool, Meta(description="go on until the attempt is over")] = False


class GrepRequest(Request, frozen=True, kw_only=True):
    """What to look for, in the logs of which builds."""

    pattern: Annotated[
        str,
        Meta(description="the regular expression to look for", min_length=1, max_length=MAX_TEXT),
    ]
    job: Annotated[
        str, Meta(description="only of jobs whose name matches this glob", max_length=MAX_TEXT)
    ] = "*"
    result: Annotated[str, Meta(description="only with this result, such as failed")] = ""
    builds: Annotated[
        int, Meta(description="at most so many builds, the newest", ge=1, le=100_000)
    ] = 100
    max: Annotated[int, Meta(description="stop after so many matches", ge=1, le=1_000_000)] = 1000
    after: Annotated[
        str,
        Meta(
            description="only builds requested after this time (RFC 3339), or within so long: 2h",
            max_length=MAX_TEXT,
        ),
    ] = ""
    before: Annotated[
        str,
        Meta(
            description="only builds requested before this time (RFC 3339), or so long ago: 2h",
            max_length=MAX_TEXT,
        ),
    ] = ""


class CancelRequest(Request, frozen=True, kw_only=True):
    """A build to cancel."""

    build: BuildArg
    why: Annotated[str, Meta(description="why, for the record", max_length=MAX_TEXT)] = ""
    alone: Annotated[
        bool, Meta(description="this build alone, not what was asked for by it or for it")
    ] = False


class TreeRequest(Request, frozen=True, kw_only=True):
    """A build, and all that belongs to it."""

    build: BuildArg
    wait: Annotated[
        float, Meta(description="seconds to wait for more of them to finish", ge=0, le=300)
    ] = 0.0
    finished: Annotated[
        int, Meta(description="with wait: answer once more than so many have", ge=0, le=MAX_NUMBER)
    ] = 0


class RetryRequest(Request, frozen=True, kw_only=True):
    """A finished build to try again."""

    build: BuildArg


class SendRequest(Request, frozen=True, kw_only=True):
    """Text for a running script's standard input."""

    build: BuildArg
    text: Annotated[str, Meta(description="what to send, as it is")] = ""
    eof: Annotated[bool, Meta(description="close the standard input afterwards")] = False


class StepsRequest(Request, frozen=True, kw_only=True):
    """A build whose steps are wanted."""

    build: BuildArg


class WordRequest(Request, frozen=True, kw_only=True):
    """A word on a build that has to be approved."""

    build: BuildArg
    why: Annotated[str, Meta(description="why, for the record", max_length=MAX_TEXT)] = ""


class AskRequest(Request, frozen=True, kw_only=True):
    """A question of a running script to a person."""

    build: BuildArg
    text: Annotated[str, Meta(description="what to ask", min_length=1, max_length=MAX_TEXT)]
    type: Annotated[
        Literal["string", "int", "float", "bool"], Meta(description="what an answer must be")
    ] = "string"
    choices: Annotated[
        tuple[ParamValue, ...], Meta(description="only these may be answered", max_length=50)
    ] = ()
    default: Annotated[
        ParamValue | None, Meta(description="the answer if nobody gives one in time")
    ] = None
    who: Annotated[
        tuple[str, ...],
        Meta(description="who may answer: names, and groups as @name", max_length=50),
    ] = ()
    timeout_s: Annotated[
        Annotated[float, Meta(gt=0, le=30 * 86400)] | None,
        Meta(description="seconds after which it is over without an answer"),
    ] = None
    key: Annotated[
        str, Meta(description="the same key asks the same question once", max_length=200)
    ] = ""


class QuestionRequest(Request, frozen=True, kw_only=True):
    """One question of a build."""

    build: BuildArg
    question: Annotated[int, Meta(description="its number", ge=1, le=MAX_NUMBER)]
    wait: Annotated[
        float, Meta(description="seconds to wait for an answer before answering", ge=0, le=300)
    ] = 0.0


class AnswerRequest(Request, frozen=True, kw_only=True):
    """An answer to a question of a build."""

    build: BuildArg
    value: Annotated[ParamValue, Meta(description="the answer; a text is read as its type")]
    question: Annotated[
        int, Meta(description="its number; 0 is the only one that is open", ge=0, le=MAX_NUMBER)
    ] = 0


class AskView(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for a person: a question, or with number 0 an approval."""

    build: str
    id: str
    question: int
    text: str
    type: str
    choices: tuple[ParamValue, ...]
    default: ParamValue | None
    who: tuple[str, ...]  # as it was written; empty is everybody
    names: tuple[str, ...]  # what that comes to now
    asked_at: datetime | None  # null: others come first
    until: datetime | None


class ArtifactRequest(Request, frozen=True, kw_only=True):
    """One artifact of a build."""

    build: BuildArg
    path: Annotated[str, Meta(description="its path, as the build kept it")]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What lies on a disk of one kind; without an agent the engine keeps it for all."""

    agent: str = ""
    what: str
    bytes: int  # on each disk that has a copy
    is_least: bool = False  # there may be more: it was not counted to the end
    bound: int | None = None  # in bytes, where there is such a one
    rule: str  # the settings that bound it, or what does
    next: str = ""  # what would go first


class UsageView(msgspec.Struct, frozen=True, kw_only=True):
    """What lies on all disks. ``silent`` are agents that did not say, and why."""

    usages: tuple[Usage, ...]
    silent: tuple[str, ...] = ()


class BackupRequest(Request, frozen=True, kw_only=True):
    """What goes into a back-up beside the state, the store and the keys."""

    recipient: Annotated[
        str, Meta(description="encrypt the keys for this age recipient (age1…)", max_length=200)
    ] = ""
    logs: Annotated[bool, Meta(description="the logs that are kept")] = True
    artifacts: Annotated[bool, Meta(description="the artifacts that are kept")] = True


class EventsRequest(Request, frozen=True, kw_only=True):
    """Which events."""

    after: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_NUMBER)] | None,
        Meta(description="only after this journal sequence; 0 is from the start"),
    ] = None
    kind: Annotated[
        str,
        Meta(
            description="only kinds that match this glob, such as build.*; one of your own counts"
            " as custom.TYPE too",
            max_length=MAX_TEXT,
        ),
    ] = "*"
    limit: Annotated[int, Meta(description="at most so many", ge=1, le=10000)] = 100
    follow: Annotated[bool, Meta(description="go on with new events")] = False


class EmitRequest(Request, frozen=True, kw_only=True):
    """An event of your own."""

    type: Annotated[
        str,
        Meta(
            description="dotted, such as deploy.done",
            # Python's $ would let a line end pass.
            pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$(?!\n)",
            max_length=100,
        ),
    ]
    data: Annotated[dict[str, object], Meta(description="any JSON object")] = {}


HookArg = Annotated[str, Meta(description="the webhook's name", min_length=1, max_length=63)]


WatchArg = Annotated[str, Meta(description="the watch's name")]


class WatchRequest(Request, frozen=True, kw_only=True):
    """A repository to watch."""

    watch: WatchArg
    git: Annotated[str, Meta(description="the repository's URL", max_length=MAX_TEXT)]
    branches: Annotated[
        list[str], Meta(description="globs of the branches whose jobs are adopted", max_length=100)
    ] = []
    pull_requests: Annotated[
        bool,
        Meta(description="adopt the jobs of open pull requests as well; a webhook tells of them"),
    ] = False
    poll_s: Annotated[
        float, Meta(description="seconds between looks for pushes", ge=5, le=2_592_000)
    ] = 60.0


class UnwatchRequest(Request, frozen=True, kw_only=True):
    """A watch to end."""

    watch: WatchArg


class AdoptedView(msgspec.Struct, frozen=True, kw_only=True):
    """What was adopted of one branch or pull request, and what of its jobs is wrong."""

    folder: str
    ref: str
    commit: str
    jobs: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


class WatchView(msgspec.Struct, frozen=True, kw_only=True):
    """A watched repository. ``changed`` says whether a commit was made."""

    name: str
    git: str
    branches: tuple[str, ...]
    pull_requests: bool
    poll_s: float
    adopted: tuple[AdoptedView, ...] = ()
    trouble: str = ""
    changed: bool = False


class HookRequest(Request, frozen=True, kw_only=True):
    """One webhook."""

    hook: HookArg


class PutHookRequest(Request, frozen=True, kw_only=True):
    """What a webhook is to be; what is not given stays as it is."""

    hook: HookArg
    repo: Annotated[
        Annotated[str, Meta(max_length=MAX_TEXT)] | None,
        Meta(description="take changes of this repository alone; empty: of any"),
    ] = None
    rotate: Annotated[
        bool, Meta(description="make a new secret; the old one opens nothing any more")
    ] = False


class HookView(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook. ``secret`` is empty in a list, ``changed`` says whether a commit was made."""

    name: str
    url: str
    repo: str
    generation: int
    secret: str = ""
    changed: bool = False


SecretArg = Annotated[str, Meta(description="the secret's name", min_length=1, max_length=100)]
Globs = Annotated[list[Annotated[str, Meta(max_length=MAX_TEXT)]], Meta(max_length=50)]


class PutSecretRequest(Request, frozen=True, kw_only=True):
    """A secret's value and rules; what is left away stays as it is."""

    secret: SecretArg
    value: Annotated[
        bytes | None, Meta(description="its value, in base64; nobody is ever shown it")
    ] = None
    jobs: Annotated[
        Globs | None, Meta(description="globs of the jobs that get it; empty is all")
    ] = None
    branches: Annotated[
        Globs | None,
        Meta(description="globs of the branches whose builds get it; empty is all"),
    ] = None
    description: Annotated[
        Annotated[str, Meta(max_length=MAX_TEXT)] | None, Meta(description="what it is for")
    ] = None


class RemoveSecretRequest(Request, frozen=True, kw_only=True):
    """A secret to remove."""

    secret: SecretArg
    force: Annotated[bool, Meta(description="also if jobs ask for it")] = False


class RotateSecretsRequest(Request, frozen=True, kw_only=True):
    """A new key for all secrets."""

    drop_lost: Annotated[
        bool, Meta(description="remove secrets that no member can read any more")
    ] = False


class CheckSecretsRequest(Request, frozen=True, kw_only=True):
    """A job, to see which secrets it would be given."""

    job: JobArg
    branch: Annotated[str, Meta(description="for a build of this branch", max_length=MAX_TEXT)] = ""


class SecretView(msgspec.Struct, frozen=True, kw_only=True):
    """A secret without its value: whom it is given to, who set it when, and which jobs ask for it."""

    name: str
    description: str
    jobs: tuple[str, ...]
    branches: tuple[str, ...]
    by: str
    at: datetime | None
    used_by: tuple[str, ...]
    changed: bool = False


class Rotated(msgspec.Struct, frozen=True, kw_only=True):
    """Secrets after a change of the key.

    ``told`` are the other members that have it; ``untold`` those that did not answer, and will ask
    for it. ``lost`` were removed, since nobody could read them.
    """

    recipient: str
    secrets: tuple[SecretView, ...]
    lost: tuple[str, ...]
    told: tuple[str, ...]
    untold: tuple[str, ...]


class GivenView(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that a job asks for; ``why_not`` is empty if a build would be given it."""

    name: str
    env: str
    file: str
    optional: bool
    why_not: str


AgentArg = Annotated[str, Meta(description="the agent's name", min_length=1, max_length=100)]
CloudArg = Annotated[str, Meta(description="the cloud's name", min_length=1, max_length=100)]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong (``trouble``) or will be (``warning``), and what to do about it.

    ``agent`` is empty for the cluster as a whole.
    """

    check: str
    agent: str
    what: str
    hint: str
    severity: str = "trouble"


class CheckView(msgspec.Struct, frozen=True, kw_only=True):
    """What a doctor looks at."""

    name: str
    looks_at: str


class ClockView(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent's clock says."""

    now: datetime


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What was found wrong, the worst first; and which agents were examined, by which checks.

    With ``own`` also what the other agents compare: where ``main`` and ``history`` are, and up to
    which event the history goes (``covered``).
    """

    agents: tuple[str, ...]
    findings: tuple[Finding, ...]
    checks: tuple[CheckView, ...]
    now: datetime
    main: str = ""
    history: str = ""
    covered: int = 0


class DoctorRequest(Request, frozen=True, kw_only=True):
    """How far a doctor looks."""

    own: Annotated[bool, Meta(description="examine the agent that is asked alone")] = False


class RevokedAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent whose key opens nothing any more.

    ``given_up`` are the builds that ran there. ``secrets`` were encrypted for a new key, whose public
    half is ``recipient``; their values are known to whoever has the machine. ``todo`` says, in
    words, what is left to do.
    """

    agent: AgentView
    given_up: tuple[str, ...] = ()
    secrets: tuple[SecretView, ...] = ()
    recipient: str = ""
    todo: tuple[str, ...] = ()


class AgentRequest(Request, frozen=True, kw_only=True):
    """One agent."""

    agent: AgentArg


class DrainRequest(Request, frozen=True, kw_only=True):
    """An agent that is to take no more builds, or to take them again."""

    agent: AgentArg
    off: Annotated[bool, Meta(description="take builds again")] = False


class LabelRequest(Request, frozen=True, kw_only=True):
    """Labels to change on an agent; they hold over its restarts."""

    agent: AgentArg
    labels: Annotated[
        dict[str, str | None],
        Meta(description="label to its value, to an empty one, or to null to take it away"),
    ]


class InviteRequest(Request, frozen=True, kw_only=True):
    """What a new join token allows."""

    expires_s: Annotated[
        float, Meta(description="seconds for which it opens the door", gt=0, le=30 * 86400)
    ] = 3600.0
    uses: Annotated[
        int, Meta(description="how many machines may use it; 0 is any number", ge=0, le=10_000)
    ] = 0


class RevokeRequest(Request, frozen=True, kw_only=True):
    """A join token that shall open nothing any more."""

    id: Annotated[str, Meta(description="as the list names it", max_length=100)]


class JoinTokenView(msgspec.Struct, frozen=True, kw_only=True):
    """A join token. ``token`` is its text, told once: when it is made."""

    id: str
    expires_at: datetime
    uses: int  # that are left; 0 is any number
    token: str = ""


class AgentView(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as its cluster sees it."""

    name: str
    state: str  # joined, up, stopped or lost
    since: datetime
    labels: dict[str, str]
    slots: int
    running: int
    url: str
    peer: str
    version: str
    draining: bool
    leaving: bool
    is_leader: bool
    is_voter: bool
    ephemeral: bool = False  # it comes and goes with its machine
    level: int = 1  # what it can, as it said at its last start
    pin: str = ""  # the SHA-256 of its public key, in hex


class CloudRequest(Request, frozen=True, kw_only=True):
    """A cloud that is to launch nothing more, or something again."""

    cloud: CloudArg
    off: Annotated[bool, Meta(description="launch machines again")] = False


class MachineRequest(Request, frozen=True, kw_only=True):
    """A machine of a cloud that is to go."""

    machine: AgentArg
    now: Annotated[bool, Meta(description="end it without waiting for the builds that it runs")] = (
        False
    )


class MachineView(msgspec.Struct, frozen=True, kw_only=True):
    """A machine of a cloud: it costs money, or may.

    ``state`` is ``wanted``, ``launched``, ``joined`` or ``draining``, ``since`` when it came to it;
    ``why`` what it was launched for, or is ended for.
    """

    name: str
    cloud: str
    state: str
    since: datetime
    wanted_at: datetime
    launched_at: datetime | None
    joined_at: datetime | None
    node: str
    slots: int
    running: int
    why: str
    agent_state: str  # empty while it is no member
    age_s: float  # since it was wanted


class CloudView(msgspec.Struct, frozen=True, kw_only=True):
    """A cloud of the settings, and its machines.

    ``state`` is ``ready``, ``full``, ``paused``, ``failing`` (then ``error`` says why, and
    ``next_try_at`` when it is asked again), or ``unknown``: it has machines and is in no settings.
    ``machine_s`` is how long all its machines have been there, together.
    """

    name: str
    state: str
    provider: str
    size: str
    image: str
    region: str
    labels: dict[str, str]
    spot: bool
    slots: int
    min: int
    max: int
    machines: tuple[MachineView, ...]
    launched: int
    failed: int
    machine_s: float
    error: str
    failed_at: datetime | None
    next_try_at: datetime | None


class Ring(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster as a whole: its members, and what a caller needs to trust all of them.

    ``tolerates`` is how many of the voters may fail now and the rest still decides; -1 without a
    quorum, null where somebody else runs the engine.
    """

    leader: str
    leader_since: datetime | None
    leader_why: str
    agents: tuple[AgentView, ...]
    voters: tuple[str, ...]
    tolerates: int | None
    stale_since: datetime | None
    ca: str  # the certificate of the cluster's authority, PEM


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to go on without those who are gone, and what may be missing."""

    voters: tuple[str, ...]
    removed: tuple[str, ...]
    seq: int
    last_event_at: datetime | None
    may_miss: tuple[str, ...]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the agent that answers is, in a few numbers."""

    agent: str
    version: str
    pid: int
    url: str
    data: str
    leader: str
    leader_since: datetime | None
    leader_why: str
    members: int
    voters: tuple[str, ...]
    tolerates: int | None  # voters that may fail now; -1: no quorum; null: not ours to know
    stale_since: datetime | None  # what is said here is as of then: no quorum since
    draining: bool
    peer: str
    started_at: datetime
    seq: int
    slots: int
    labels: dict[str, str]
    running: int
    queued: int
    held: int
    jobs: int
    engine: str  # "ok", or what is wrong with it
    free_bytes: int
    durability: str
    level: int  # what all members can: what a newer rota brings beyond it waits
    certificate_until: datetime | None = None  # renewed by itself, long before
    trouble: tuple[str, ...] = ()


class LastBuild(msgspec.Struct, frozen=True, kw_only=True):
    """A job's latest build, in short."""

    number: int
    state: str
    result: str | None
    finished_at: datetime | None


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A job in a list."""

    name: str
    description: str
    paused: str | None  # why, "" without a reason, null if it is not
    last: LastBuild | None
    recent: tuple[str, ...] = ()  # results of its last builds, oldest first, if that was asked for


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """What starts a job; ``fault`` says why it last could not, if nothing came of it since."""

    id: str
    kind: str
    text: str
    fault: str = ""
    failed_at: datetime | None = None


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job, whole. ``etag`` is the script's git blob, for ``If-Match``."""

    name: str
    description: str
    params: dict[str, Param]
    spec: Spec
    paused: str | None
    etag: str
    commit: str
    script: str
    last: LastBuild | None
    on: tuple[RuleView, ...] = ()
    needs: tuple[Need, ...] = ()
    matrix: Matrix | None = None
    supersede_key: str = ""


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """A definition was changed by one commit on ``main``; equal texts make none (``commit`` stays)."""

    job: str
    commit: str
    etag: str | None
    changed: bool


class InstantView(msgspec.Struct, frozen=True, kw_only=True):
    """An instant of a schedule that is to come. ``due_at`` is when it fires: with its jitter."""

    at: datetime
    due_at: datetime
    schedule: str
    job: str
    rule: str


class IdleView(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule of which nothing is to come, and why."""

    schedule: str
    job: str
    rule: str
    why: str


class SchedulesView(msgspec.Struct, frozen=True, kw_only=True):
    """What schedules have before them."""

    next: tuple[InstantView, ...]
    idle: tuple[IdleView, ...]


class WhyNotAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a moment of one schedule; ``build`` is what it fired as, if it did."""

    schedule: str
    rule: str
    at: datetime
    text: str
    build: str | None


class WhyNotView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a moment, by each of a job's schedules."""

    job: str
    answers: tuple[WhyNotAnswer, ...]


class BackfilledView(msgspec.Struct, frozen=True, kw_only=True):
    """An instant and its build; none yet after a dry run. ``is_new`` if it had none before."""

    at: datetime
    schedule: str
    build: str | None
    is_new: bool


class BackfillView(msgspec.Struct, frozen=True, kw_only=True):
    """The instants of a time, and their builds."""

    job: str
    instants: tuple[BackfilledView, ...]


class ProblemView(msgspec.Struct, frozen=True, kw_only=True):
    """A fault in a definition."""

    path: str
    line: int
    column: int
    message: str
    hint: str | None


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found; without problems the script would be taken."""

    ok: bool
    problems: tuple[ProblemView, ...]


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why one agent does not take a build."""

    agent: str
    because: str


class Awaited(msgspec.Struct, frozen=True, kw_only=True):
    """A build that another one waits for."""

    build: str  # job#number; the job alone where there is none of that id yet
    id: str
    state: str
    agent: str | None


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A running build that has some of a limit, since when, and its fencing token."""

    build: str
    agent: str
    take: int  # 0 is all of it
    fence: int
    since: datetime | None


class LimitView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A limit: how much of it there is, who has it, who is in line for it.

    ``kind`` is ``limit``, for one of the settings, ``concurrency``, for a job's own (of a ``key`` if
    it has several), or ``throttle``, whose ``name`` is a label expression; with ``agent`` it is about
    what runs there.
    """

    kind: str
    name: str
    key: str = ""
    agent: str = ""
    capacity: int
    used: int = 0
    holders: tuple[Holder, ...] = ()  # the first hundred, oldest claims first
    waiting: int = 0
    line: tuple[str, ...] = ()  # the first ten of those
    kept_for: str = ""  # room is kept for this build, so that others do not starve it
    kept: int = 0


class Wanting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A limit that has no room for a build: what the build takes, and its place in line, from 1."""

    limit: LimitView
    take: int  # 0 is all of it
    place: int | None = None


class Busy(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that could run a build, and what it runs."""

    agent: str
    running: int
    slots: int


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """What a build waits for, or how it ended, in one sentence; and the details.

    ``waits_for`` is in one word what is first of all missing: ``build``, ``release``, ``approval``,
    ``answer``, ``time``, ``limit``, ``rate``, ``throttle``, ``agent``, ``slot``; empty if it does not wait.
    """

    build: str
    state: str
    text: str
    waits_for: str = ""
    place: int | None = None  # in the queue, or in the line of the limit that it waits for, from 1
    until: datetime | None = None  # not before: the delay of a retry, or the job's rate
    limits: tuple[Wanting, ...] = ()
    busy: tuple[Busy, ...] = ()
    refused: tuple[Refusal, ...] = ()
    awaited: tuple[Awaited, ...] = ()


class QueueRequest(Request, frozen=True, kw_only=True):
    """How much of the queue."""

    limit: Annotated[int, Meta(description="at most so many builds", ge=1, le=1000)] = 50


class Queued(msgspec.Struct, frozen=True, kw_only=True):
    """A build in the queue: its place in it, from 1, and in short what it waits for."""

    place: int
    build: str
    id: str
    project: str
    priority: int
    labels: str
    requested_at: datetime
    text: str


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """The first builds of the queue, in the order in which they would begin, and how many there are."""

    queued: int
    builds: tuple[Queued, ...]


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A build and all below it: what it needs, its cells, what its script asked for.

    Each is there once, after its parent in the tree; ``finished`` counts those that have.
    """

    builds: tuple[Branch, ...]
    finished: int


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A build as a part of a tree."""

    id: str
    job: str
    number: int
    depth: int  # 0 is the tree's root
    kind: str  # root, need, cell, or child of a script
    cell: dict[str, ParamValue]
    state: str
    result: str | None
    reason: str | None
    message: str
    started_at: datetime | None
    finished_at: datetime | None
    agent: str | None


class WorkspaceRequest(Request, frozen=True, kw_only=True):
    """A build whose workspace is meant."""

    build: BuildArg


class ShellRequest(Request, frozen=True, kw_only=True):
    """A build whose workspace is to be entered."""

    build: BuildArg
    attempt: Annotated[
        int, Meta(description="which attempt's; the last by default", ge=0, le=MAX_NUMBER)
    ] = 0


class WorkspaceView(msgspec.Struct, frozen=True, kw_only=True):
    """A workspace that an agent keeps. ``bytes`` is ``None`` until they were counted."""

    id: str
    build: str
    attempt: int
    agent: str
    result: str | None
    kept_at: datetime
    until: datetime
    bytes: int | None
    asked: bool  # whether the header or the request wanted it
    shells: int  # how many are open in it
    path: str  # on the agent's disk


class Silent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that could not be asked, and why."""

    agent: str
    why: str


class WorkspacesView(msgspec.Struct, frozen=True, kw_only=True):
    """The workspaces that are kept, and which agents could not say."""

    workspaces: tuple[WorkspaceView, ...] = ()
    silent: tuple[Silent, ...] = ()


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """How many bytes went to the script."""

    bytes: int


class Emission(msgspec.Struct, frozen=True, kw_only=True):
    """Where an event stands in the journal."""

    seq: int


class ReloadRequest(Request, frozen=True, kw_only=True):
    """What to change besides: how much is logged, until the agent is started or reloads again."""

    log_level: Annotated[
        str,
        Meta(
            description="log from this level on: debug, info, warning or error; empty: as the file says"
        ),
    ] = ""


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What `agent.toml` says anew: what holds now, what must wait, what the command line overrules."""

    agent: str
    path: str
    changed: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    overruled: tuple[str, ...] = ()
    log_level: str = ""


class Stopping(msgspec.Struct, frozen=True, kw_only=True):
    """The agent stops; builds go on under their supervisors."""

    agent: str
    running: int


class ArtifactView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that a build left. ``removed`` says when and why it is there no more, if so."""

    path: str
    size: int
    sha256: str
    kept_at: datetime | None = None
    promoted: str = ""  # the name under which it stays
    removed: str = ""


class RmCachesRequest(Request, frozen=True, kw_only=True):
    """Caches to forget."""

    key: Annotated[str, Meta(description="their key, or a glob of keys", max_length=MAX_TEXT)]
    scope: Annotated[str, Meta(description="only those of this project", max_length=MAX_TEXT)] = ""


class CacheView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A saved cache: of one agent, or ``shared`` by all. ``build`` saved it."""

    key: str
    scope: str
    paths: tuple[str, ...]
    size: int
    saved_at: datetime
    used_at: datetime
    build: str = ""
    shared: bool = False
    agent: str = ""


class PromotionRequest(Request, frozen=True, kw_only=True):
    """A promotion."""

    promotion: Annotated[str, Meta(description="the name that something was promoted to")]


class PromoteRequest(Request, frozen=True, kw_only=True):
    """What is promoted, and to what."""

    build: BuildArg
    to: Annotated[str, Meta(description="the name that its files are given", max_length=MAX_TEXT)]
    artifacts: Annotated[
        list[str],
        Meta(description="globs of the files; all of the build's by default", max_length=100),
    ] = []
    why: Annotated[str, Meta(description="why", max_length=MAX_TEXT)] = ""
    keep_s: Annotated[
        Annotated[float, Meta(gt=0, le=100 * 366 * 86_400)] | None,
        Meta(description="for how many seconds; null is for ever"),
    ] = None


class DemoteRequest(Request, frozen=True, kw_only=True):
    """A promotion to end."""

    promotion: Annotated[str, Meta(description="the name that something was promoted to")]
    why: Annotated[str, Meta(description="why", max_length=MAX_TEXT)] = ""


class PromotionView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Files that stay under a name. ``build`` is an id, ``ref`` its name; without ``until``, for ever."""

    name: str
    build: str
    ref: str
    at: datetime
    by: str
    artifacts: tuple[Artifact, ...]
    why: str = ""
    until: datetime | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a log that matches. What is no UTF-8 in it is replaced; beyond 64 KiB it is cut."""

    build: str
    id: str
    attempt: int
    is_last: bool  # whether it is of the build's last attempt
    line: int  # from 1
    offset: int  # of the line's first byte
    text: str


class Searched(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a search: how much was looked at, and whether it stopped at its limit."""

    done: Literal[True] = True
    builds: int
    bytes: int
    matches: int
    removed: int  # logs that are no longer kept
    more: bool  # it ended at `max`
