"""The facts that the journal holds: frozen, past tense, versioned.

An event's kind is its ``kind`` tag. A kind never changes its meaning; it grows by fields that have
a default, and what must mean something else gets a new kind. Kinds and versions that this program
does not know are kept as :class:`Unknown` and passed on untouched.

Every event says when (``at``, by the writer's clock), who (``by``, the principal) and where
(``agent``, the agent that wrote it). Order is the journal's alone; clocks decide nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from rota.core.build import Annotation, Artifact, Build, Edge, Group, Metric, Trigger, Usage
from rota.core.cache_entry import Entry
from rota.core.cases import Tally
from rota.core.instant import Instant
from rota.core.job import Int, ParamValue, Reason, Spec
from rota.core.outbox import Telling
from rota.core.policy import Policy
from rota.core.questions import Question
from rota.core.retention import Swept
from rota.core.schedules import Scheduled, Skip
from rota.core.scm import Source
from rota.core.steps import Step

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The key of elections: the sequence of its last event is what a leader's writes are fenced by.
LEADER = "leader"


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """What every event says of itself."""

    at: Instant
    by: str = ""
    agent: str = ""
    via: str = ""  # the chat command that it comes of: NETWORK:MESSAGE
    token: str = ""  # the id of the token that was shown, where one was; AgentStarted has another
    address: str = ""  # from where it was asked for, over TCP: an IP address
    v: Int = 1


class BuildFact(Fact, frozen=True, kw_only=True):
    """What every event says that happens to one build, and is written as its key."""

    build: str


class BuildRequested(BuildFact, frozen=True, kw_only=True, tag="build.requested"):
    """Somebody asked for a build. Written by the agent that took the trigger, before it answers.

    The number is not here: it is the count of requests of that job in the journal, so every agent
    gives the same one without asking. ``held`` names what must come first; empty means queued.
    """

    job: str
    spec: Spec
    params: dict[str, ParamValue] = {}
    trigger: Trigger = Trigger()
    commit: str = ""  # of `main`, from which the definition was read
    script: str = ""  # hash of the script's blob
    held: tuple[str, ...] = ()
    pipeline: str = ""
    parent: str = ""
    needs: tuple[Edge, ...] = ()
    group: Group | None = None
    cell: dict[str, ParamValue] = {}
    lane: str = ""


class Wanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One build of those that were asked for together; ``spec`` counts into their settings."""

    build: str
    job: str
    spec: Int = 0
    params: dict[str, ParamValue] = {}
    trigger: Trigger = Trigger()
    script: str = ""
    held: tuple[str, ...] = ()
    parent: str = ""
    needs: tuple[Edge, ...] = ()
    group: Group | None = None
    cell: dict[str, ParamValue] = {}
    lane: str = ""


class PipelineRequested(Fact, frozen=True, kw_only=True, tag="pipeline.requested"):
    """Somebody asked for builds that belong together: all of them, or none. Each is a request.

    Written by whoever took the trigger, as the key of the build that ``pipeline`` names, which is
    mostly one of them. What they need comes before them. ``seen`` is how far the writer had folded:
    where they are added to a pipeline that is there already, and a seal came after that, some of it
    may have left the memory, and the event changes nothing; its writer looks again.
    """

    pipeline: str
    builds: tuple[Wanted, ...]
    specs: tuple[Spec, ...]
    commit: str = ""
    seen: Int = 0


class SchedulesSet(Fact, frozen=True, kw_only=True, tag="schedules.set"):
    """Schedules are new, changed, paused, resumed or gone, as ``main`` says. Written by the leader.

    ``skips`` are instants that were not settled before, and are by this.
    """

    set: dict[str, Scheduled] = {}
    removed: tuple[str, ...] = ()
    skips: tuple[Skip, ...] = ()


class Fire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An instant of a schedule, and the builds that it asks for; ``build`` is the one it stands for.

    ``ends`` are builds that it replaces.
    """

    schedule: str
    at: Instant
    build: str
    builds: tuple[Wanted, ...]
    ends: tuple[str, ...] = ()


class SchedulesFired(Fact, frozen=True, kw_only=True, tag="schedules.fired"):
    """Instants of schedules are settled: some fire, some do not. Written by the leader.

    ``skips`` come before ``fires``. An instant that is not after its schedule's cursor is passed
    over; so is a fire that waits for builds which may have left the memory, as of ``seen``. All
    that fires together is one event: so one write to disk carries hundreds.
    """

    fires: tuple[Fire, ...] = ()
    skips: tuple[Skip, ...] = ()
    specs: tuple[Spec, ...] = ()
    commit: str = ""
    seen: Int = 0


class BuildReleased(BuildFact, frozen=True, kw_only=True, tag="build.queued"):
    """What held a build back is gone. Written by the leader."""


class BuildStarted(BuildFact, frozen=True, kw_only=True, tag="build.started"):
    """An agent's claim: it runs this attempt, nobody else does. Written by compare-and-set."""

    attempt: Int


class BuildFinished(BuildFact, frozen=True, kw_only=True, tag="build.finished"):
    """An attempt's outcome, written by its agent once the log is whole; or by the leader (lost)."""

    attempt: Int
    reason: Reason
    exit_code: Int | None = None
    signal: Int | None = None
    message: str = ""
    log_bytes: Int = 0
    log_sha256: str = ""  # of the log as it is shown, in hex; not before level 2
    usage: Usage = Usage()
    annotations: tuple[Annotation, ...] = ()
    steps: tuple[Step, ...] = ()
    step: str = ""  # in which the script failed
    tests: Tally | None = None
    metrics: tuple[Metric, ...] = ()


class BuildCancelled(BuildFact, frozen=True, kw_only=True, tag="build.cancelled"):
    """Somebody wants a build to end. A queued one is over; a running one is told to stop.

    With ``tree`` the same befalls all that was asked for by it or for it, unless a build that is
    none of these needs it.
    """

    why: str = ""
    tree: bool = False


class BuildRetried(BuildFact, frozen=True, kw_only=True, tag="build.retried"):
    """Somebody wants another attempt of a finished build, which is carried along whole.

    One that waits for others comes back held; what it needs is tried again by events of its own.
    """

    record: Build


class BuildCheckedOut(BuildFact, frozen=True, kw_only=True, tag="build.checked-out"):
    """An attempt has its source code. Written by its agent, before the script begins or soon after."""

    attempt: Int
    source: Source


class BuildWaiting(BuildFact, frozen=True, kw_only=True, tag="build.waiting"):
    """A running build's script waits for other builds: until it goes on its slot is free for them.

    Written by its agent; with ``over`` when the script goes on.
    """

    attempt: Int
    over: bool = False


class BuildApproved(BuildFact, frozen=True, kw_only=True, tag="build.approved"):
    """``by`` lets a held build begin. Whether they may was checked by the agent that wrote it."""

    why: str = ""


class BuildRejected(BuildFact, frozen=True, kw_only=True, tag="build.rejected"):
    """``by`` does not let a held build begin: it is over.

    With ``timed_out`` nobody said anything in time; written by the leader.
    """

    why: str = ""
    timed_out: bool = False


class BuildAsked(BuildFact, frozen=True, kw_only=True, tag="build.asked"):
    """A running script asks a person. Its number is the next of its build, whatever is here."""

    question: Question


class BuildAnswered(BuildFact, frozen=True, kw_only=True, tag="build.answered"):
    """``by`` answered a question of a build; the first answer counts.

    With ``timed_out`` nobody did in time, and ``answer`` is the default, if there is one; written by
    the leader.
    """

    question: Int
    answer: ParamValue | None = None
    timed_out: bool = False


class BuildEntered(Fact, frozen=True, kw_only=True, tag="build.entered"):
    """``by`` opens a shell in the workspace of an attempt. Written by its agent, before it begins.

    ``program`` is the first word of what they run, empty for a shell; the rest may hold anything.
    """

    build: str
    attempt: Int
    program: str = ""
    tty: bool = False


class ArtifactKept(BuildFact, frozen=True, kw_only=True, tag="build.artifact"):
    """A file of a build was stored, and its bytes are on disk."""

    artifact: Artifact


class BuildsSwept(Fact, frozen=True, kw_only=True, tag="build.swept"):
    """Logs and artifacts of builds were dropped, for their age or size. Written by the leader.

    They are gone by then: who dies between the two finds nothing left to drop, and writes nothing.
    """

    swept: tuple[Swept, ...]


class CacheSaved(Fact, frozen=True, kw_only=True, tag="cache.saved"):
    """A cache that all agents share is there, its bytes on disk. The first one of a key counts."""

    entry: Entry


class CacheUsed(Fact, frozen=True, kw_only=True, tag="cache.used"):
    """A cache that all agents share was used; told once a day at most. ``cache`` is scope and key."""

    cache: str


class CachesDropped(Fact, frozen=True, kw_only=True, tag="cache.dropped"):
    """Caches that all agents share are gone: for their age, the room they took, or as asked for."""

    caches: tuple[str, ...]
    why: str = ""


class AgentJoined(Fact, frozen=True, kw_only=True, tag="agent.joined"):
    """``name`` is a member of the cluster, known by its key. Written by the agent that admitted it.

    ``pin`` is the SHA-256 of its public key (SubjectPublicKeyInfo, DER) in hex: whoever connects
    with that key is this agent, and nobody else is.
    """

    name: str
    pin: str
    ephemeral: bool = False  # it never leads or votes, and is forgotten when it is gone
    level: Int = 0  # what it can; 0 where it did not say


class AgentStarted(Fact, frozen=True, kw_only=True, tag="agent.started"):
    """A daemon is up and takes builds.

    ``url`` is where people ask it, ``peer`` where other agents do; ``token`` is the SHA-256 in hex
    of the token that its callers show, so that every agent knows them: another thing than that of
    :class:`Fact`, whose place it takes here. Nobody starts a daemon by showing a token, so none is lost.
    """

    labels: dict[str, str] = {}
    slots: Int = 1
    url: str = ""
    peer: str = ""
    token: str = ""
    version: str = ""
    ephemeral: bool = False
    level: Int = 0  # what it can; 0 where it did not say, as before there were levels


class AgentStopped(Fact, frozen=True, kw_only=True, tag="agent.stopped"):
    """A daemon stops by plan; what it runs goes on under its supervisors."""


class AgentLost(Fact, frozen=True, kw_only=True, tag="agent.lost"):
    """Nobody has heard of ``name`` for ``silent_s`` seconds. Written by the leader."""

    name: str
    silent_s: float = 0.0


class AgentDrained(Fact, frozen=True, kw_only=True, tag="agent.drained"):
    """``name`` finishes what it runs and takes no more builds; or takes them again.

    With ``leaving`` it also hands over what it keeps as a voter, and then leaves.
    """

    name: str
    draining: bool = True
    leaving: bool = False


class AgentFound(Fact, frozen=True, kw_only=True, tag="agent.found"):
    """An agent that runs found other tools on its machine than before: what it carries now.

    In place of what ``agent.started`` said; what somebody changed by hand stays above it.
    """

    labels: dict[str, str] = {}


class AgentLabelled(Fact, frozen=True, kw_only=True, tag="agent.labelled"):
    """Somebody changed the labels of ``name`` while it runs; ``None`` takes one away.

    It holds over restarts, above what the agent was given and what it found.
    """

    name: str
    labels: dict[str, str | None] = {}


class AgentKeyMade(Fact, frozen=True, kw_only=True, tag="agent.key-made"):
    """The agent has made a new key, which everybody takes beside the present one from here on.

    ``pin`` is the new key's; empty: there is none after all. Written by the agent itself, at level 2.
    """

    pin: str


class AgentKeyTaken(Fact, frozen=True, kw_only=True, tag="agent.key-taken"):
    """The agent uses its new key, of that ``pin``: the former one opens nothing any more."""

    pin: str


class AgentLeft(Fact, frozen=True, kw_only=True, tag="agent.left"):
    """``name`` is no member any more; its key opens nothing. It left, or somebody removed it."""

    name: str
    why: str = ""


class ClusterRaised(Fact, frozen=True, kw_only=True, tag="cluster.raised"):
    """Every member can ``level``: what it brings holds from here on. Written by the leader.

    ``members`` are all whose announcements were looked at: where another one has joined meanwhile
    the event changes nothing. The first agent of a cluster writes it before anything else.
    """

    level: Int
    members: tuple[str, ...] = ()


class CloudFact(Fact, frozen=True, kw_only=True):
    """What every event says of one cloud."""

    cloud: str


class CloudWanted(CloudFact, frozen=True, kw_only=True, tag="cloud.wanted"):
    """A machine of ``cloud`` is to be launched: an intent, before the provider is called.

    Written by the leader. ``machine`` is what it will be called as an agent, the token by which the
    provider tells a repeated call, and a tag at the provider: whoever leads next finds it by that.
    ``labels`` and ``slots`` are what it is asked to carry; ``why`` is the build it is for, or words.
    """

    machine: str
    labels: dict[str, str] = {}
    slots: Int = 1
    why: str = ""


class CloudLaunched(CloudFact, frozen=True, kw_only=True, tag="cloud.launched"):
    """The provider has the machine: it calls it ``node``. Written by the leader."""

    machine: str
    node: str


class CloudJoined(CloudFact, frozen=True, kw_only=True, tag="cloud.joined"):
    """The machine's agent is up. Written by the leader."""

    machine: str


class CloudDraining(CloudFact, frozen=True, kw_only=True, tag="cloud.draining"):
    """The machine takes no more builds and leaves when it has finished what it runs.

    Written by the leader, or for a person. With ``now`` it is ended without waiting for that.
    """

    machine: str
    why: str = ""
    now: bool = False


class CloudGone(CloudFact, frozen=True, kw_only=True, tag="cloud.gone"):
    """The machine is ended, or has vanished; its agent is no member any more. Written by the leader.

    Without a ``machine`` of ours ``node`` was an orphan: tagged as ours, and nobody knew it.
    """

    machine: str = ""
    node: str = ""
    why: str = ""


class CloudFailed(CloudFact, frozen=True, kw_only=True, tag="cloud.failed"):
    """Something that was asked of a cloud failed; it is left alone for a while. By the leader.

    ``machine`` is what it was about, if anything. With ``over`` there is certainly no such machine,
    or no longer any use for it, and it is given up.
    """

    what: Literal["launch", "join", "list", "end"]
    error: str
    machine: str = ""
    over: bool = False


class CloudAnswered(CloudFact, frozen=True, kw_only=True, tag="cloud.answered"):
    """A cloud whose last word was a failure answers again. Written by the leader."""


class CloudPaused(CloudFact, frozen=True, kw_only=True, tag="cloud.paused"):
    """``by`` lets a cloud launch nothing more; or something again."""

    paused: bool = True


class LeaderElected(Fact, frozen=True, kw_only=True, tag="leader.elected"):
    """``agent`` leads from here on. The event's sequence is the lease's fencing token."""

    why: str = ""


class LeaderResigned(Fact, frozen=True, kw_only=True, tag="leader.resigned"):
    """``agent`` leads no more, by plan; any other may be elected at once."""

    why: str = ""


class VoterAppointed(Fact, frozen=True, kw_only=True, tag="voter.appointed"):
    """``name`` is to run an engine server, called ``server``. Written by the leader.

    A server's name is never used again: it is its identity in every Raft group.
    """

    name: str
    server: str


class VoterListening(Fact, frozen=True, kw_only=True, tag="voter.listening"):
    """``agent`` runs the engine's ``server``: clients and other servers reach it there."""

    server: str
    host: str
    client: Int
    route: Int


class VoterDismissed(Fact, frozen=True, kw_only=True, tag="voter.dismissed"):
    """``server`` is no part of the engine any more; ``name`` ends it. Written by the leader."""

    name: str
    server: str
    why: str = ""


class StoreMoved(Fact, frozen=True, kw_only=True, tag="store.moved"):
    """A ref of the store moved from ``old`` to ``new``; ``message`` is the commit's first line.

    The objects that this adds travel along: as a thin pack in ``pack``, or, where that is large, as
    the blob that ``blob`` names. Neither: every agent has them, or gets them from another.
    """

    ref: str
    old: str
    new: str
    message: str = ""
    pack: bytes = b""
    blob: str = ""


class HistorySealed(Fact, frozen=True, kw_only=True, tag="history.sealed"):
    """All builds finished up to ``through`` make the next commit of ``history``.

    ``chain`` is what the chain over the journal was with the seal ``after``, as the leader has it, and
    ``former`` a commit that ``history`` ended with there: who has another one has another journal, or
    other records.
    """

    through: Int
    after: Int = 0
    chain: str = ""
    former: str = ""


class LimitsSet(Fact, frozen=True, kw_only=True, tag="limits.set"):
    """From here on claims are judged by this: the settings say so. Written by the leader."""

    policy: Policy


class Emitted(Fact, frozen=True, kw_only=True, tag="custom"):
    """An event of the users' own: ``type`` is dotted, ``data`` any JSON object.

    ``build`` is the build from inside which it was written, if any.
    """

    type: str
    data: dict[str, object] = {}
    build: str = ""


class ChatHeard(Fact, frozen=True, kw_only=True, tag="chat.heard"):
    """Somebody gave the bot a command: it is carried out and answered, whichever agent leads then.

    Written by the leader before that. ``message`` is the network's id of the message, ``who`` wrote it
    as the network vouches, ``user`` and ``role`` are who that is here; empty is a stranger. ``build``
    is what the message's thread is about, ``position`` up to where the network was heard by it.
    """

    network: str
    message: str
    room: str
    thread: str = ""
    who: str = ""
    nick: str = ""
    text: str = ""
    user: str = ""
    role: str = ""
    is_direct: bool = False
    build: str = ""
    position: str = ""
    said_at: Instant | None = None  # by the network's clock


class ChatAnswered(Fact, frozen=True, kw_only=True, tag="chat.answered"):
    """A command was carried out and answered. Written by the leader.

    What it was about is ``build``: it is followed where the answer stands (``follow`` is ``end``, or
    ``log`` with its log from ``offset`` on), or not any more (``unfollow``). ``thread`` is that of the
    answer. With ``why`` it could not be answered, and is given up.
    """

    network: str
    message: str
    room: str = ""
    thread: str = ""
    build: str = ""
    follow: str = ""
    unfollow: bool = False
    offset: Int = 0
    why: str = ""


class ChatTold(Fact, frozen=True, kw_only=True, tag="chat.told"):
    """Something of a build was said where it is followed. Written by the leader.

    ``mark`` says what: its end, or a question. Without one its log was shown, up to ``offset`` of
    ``attempt``. With ``why`` it cannot be said there.
    """

    network: str
    room: str
    build: str
    thread: str = ""
    mark: str = ""
    attempt: Int = 0
    offset: Int = 0
    why: str = ""


class ChatStanding(Fact, frozen=True, kw_only=True, tag="chat.standing"):
    """A network is not connected, and why; or it is again. Written by the leader.

    With a ``position`` the network was heard up to there, and nothing of it was for the bot.
    """

    network: str
    trouble: str = ""
    position: str = ""


class ScmChanged(Fact, frozen=True, kw_only=True, tag="scm.changed"):
    """A repository changed: a branch or tag moved or went, or a pull request did something.

    Written by the agent that got the webhook, or by the leader that polls; ``id`` is a hash of the
    delivery, or of what was seen, so that it is written once. One that says nothing new, since the
    ref is known to be there already, is folded as nothing and sets nothing off.

    ``repo`` is the repository as :func:`rota.core.repository.repo_key` has it, ``also`` what its
    other URLs come to, ``url`` where to clone it. ``old`` and ``new`` are commits, empty where there
    is none. ``files`` are the changed paths; ``None`` where nobody knows, or they are too many.

    Of a pull request ``ref`` is the forge's own, such as ``refs/pull/7/head``; ``action`` is
    ``opened``, ``changed``, ``closed`` or ``merged``, ``base`` the branch that it is for and ``head``
    the one that it comes from, in the repository ``head_url`` if that is another (``fork``).

    ``forge`` is its kind, ``api`` the base of its REST interface and ``project`` what it calls the
    repository there; ``hook`` and ``delivery`` say which webhook told of it.
    """

    id: str
    what: Literal["push", "tag", "removed", "pull"]
    repo: str
    also: tuple[str, ...] = ()
    url: str = ""
    ref: str
    old: str = ""
    new: str = ""
    forced: bool = False
    files: tuple[str, ...] | None = None
    number: Int = 0
    action: str = ""
    base: str = ""
    head: str = ""
    head_url: str = ""
    fork: bool = False
    author: str = ""
    message: str = ""
    forge: str = ""
    api: str = ""
    project: str = ""
    hook: str = ""
    delivery: str = ""

    @property
    def branch(self) -> str:
        """The branch that moved, or that a pull request is for; empty for a tag."""
        return self.base if self.what == "pull" else _below("refs/heads/", self.ref)

    @property
    def tag(self) -> str:
        """The tag that moved; empty for anything else."""
        return _below("refs/tags/", self.ref)


def _below(folder: str, ref: str) -> str:
    return ref.removeprefix(folder) if ref.startswith(folder) else ""


class ScmSeen(Fact, frozen=True, kw_only=True, tag="scm.seen"):
    """Somebody looked at a repository for the first time, or for other refs than before.

    Where ``refs`` are is known from now on; it is no change, and starts nothing. ``what`` stands for
    the refs that were looked for. Written by the leader.
    """

    id: str
    repo: str
    what: str
    refs: dict[str, str] = {}


class HookCalled(Fact, frozen=True, kw_only=True, tag="hook.called"):
    """The webhook ``hook`` was called with something else than a change of a repository.

    ``forge`` and ``event`` are what the caller's headers say; both are empty for one of no forge.
    """

    id: str
    hook: str
    forge: str = ""
    event: str = ""
    delivery: str = ""
    data: dict[str, object] = {}


class TriggerFailed(Fact, frozen=True, kw_only=True, tag="trigger.failed"):
    """A rule should have set off ``build``, and could not. Written by the leader.

    In place of the request, so that for one cause there is either of them, once.
    """

    build: str
    job: str
    rule: str
    cause: Int
    why: str


class StatusPosted(Fact, frozen=True, kw_only=True, tag="status.posted"):
    """The forge was told how ``build`` is; or that was given up, and ``why``. Written by the leader.

    With ``final`` there is no more to say of this attempt.
    """

    build: str
    state: str
    final: bool = False
    why: str = ""


class UserCode(Fact, frozen=True, kw_only=True, tag="user.code"):
    """A user was given a code, which links whoever says it on a network. Written by any agent.

    ``digest`` is keyed by what only members know. ``network`` is the only one where it holds; empty
    is any.
    """

    user: str
    digest: str
    until: Instant
    network: str = ""


class UserLinked(Fact, frozen=True, kw_only=True, tag="user.linked"):
    """An identity on a network is a user's: it said a code of that user. Written by the leader.

    The code is used by it. An identity that outlasts a session is committed to the user's file next;
    one of a session counts from here.
    """

    user: str
    network: str
    who: str
    digest: str
    nick: str = ""


class UserUnlinked(Fact, frozen=True, kw_only=True, tag="user.unlinked"):
    """A session's user says that it is his no more, or an admin does. Written by any agent.

    Without ``who`` all of that user's on the network; without ``network`` the user is gone, and the
    codes as well.
    """

    user: str
    network: str = ""
    who: str = ""


class TokenMade(Fact, frozen=True, kw_only=True, tag="token.made"):
    """A token is a user's from now on. Written by the agent that made it; nobody else knows its text.

    ``digest`` is the SHA-256 of that text, in hex. It gives at most ``role``, if that is said, and on
    ``jobs`` alone, if there are any (globs). Without ``until`` it holds until it is revoked.
    """

    user: str
    digest: str
    role: str = ""
    jobs: tuple[str, ...] = ()
    until: Instant | None = None
    note: str = ""
    login: bool = False  # by logging in, not by asking for one
    groups: tuple[str, ...] = ()  # of the provider of identities, as of the login


class TokenRevoked(Fact, frozen=True, kw_only=True, tag="token.revoked"):
    """A token opens nothing any more; without ``id`` none of the user's does. Written by any agent."""

    user: str
    id: str = ""


class TokenUsed(Fact, frozen=True, kw_only=True, tag="token.used"):
    """These tokens were shown of late; told once an hour for each at most. ``tokens`` are ids."""

    tokens: tuple[str, ...]


class NoticesQueued(Fact, frozen=True, kw_only=True, tag="notices.queued"):
    """Ends, questions or approvals of builds were looked at, and somebody is to be told.

    Written by the leader; where nobody is to be told nothing is written. What is asked for by hand
    to try a target is of no build, and written by the agent that was asked. All that happened up to
    ``through`` was looked at.
    """

    tellings: tuple[Telling, ...]
    through: Int = 0


class NoticesSending(Fact, frozen=True, kw_only=True, tag="notices.sending"):
    """A target is about to be told these notices by one message. Written by the leader before it is.

    ``left_out`` older ones are only counted in it. Who leads next asks the network for the message
    before it says it again.
    """

    target: str
    message: str
    notices: tuple[str, ...]
    left_out: Int = 0


class NoticesSent(Fact, frozen=True, kw_only=True, tag="notices.sent"):
    """A target took these notices. Written by the leader.

    ``said`` is what the network calls the message, ``thread`` what stands below it stands in.
    """

    target: str
    message: str
    notices: tuple[str, ...]
    said: str = ""
    thread: str = ""


class NoticesDropped(Fact, frozen=True, kw_only=True, tag="notices.dropped"):
    """These notices will not be told any more, and ``why``. Written by the leader."""

    target: str
    notices: tuple[str, ...]
    why: str


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """Something this program cannot read: kept as it is, folded as nothing."""

    kind: str
    raw: bytes
    at: datetime = EPOCH
    by: str = ""
    agent: str = ""


Known = (
    BuildRequested
    | PipelineRequested
    | SchedulesSet
    | SchedulesFired
    | BuildReleased
    | BuildStarted
    | BuildFinished
    | BuildCancelled
    | BuildRetried
    | BuildCheckedOut
    | BuildWaiting
    | BuildApproved
    | BuildRejected
    | BuildAsked
    | BuildAnswered
    | BuildEntered
    | ArtifactKept
    | BuildsSwept
    | CacheSaved
    | CacheUsed
    | CachesDropped
    | AgentJoined
    | AgentStarted
    | AgentStopped
    | AgentLost
    | AgentDrained
    | AgentFound
    | AgentLabelled
    | AgentKeyMade
    | AgentKeyTaken
    | AgentLeft
    | ClusterRaised
    | CloudWanted
    | CloudLaunched
    | CloudJoined
    | CloudDraining
    | CloudGone
    | CloudFailed
    | CloudAnswered
    | CloudPaused
    | LeaderElected
    | LeaderResigned
    | VoterAppointed
    | VoterListening
    | VoterDismissed
    | StoreMoved
    | HistorySealed
    | LimitsSet
    | Emitted
    | ChatHeard
    | ChatAnswered
    | ChatTold
    | ChatStanding
    | ScmChanged
    | ScmSeen
    | HookCalled
    | TriggerFailed
    | StatusPosted
    | NoticesQueued
    | NoticesSending
    | NoticesSent
    | NoticesDropped
    | UserCode
    | UserLinked
    | UserUnlinked
    | TokenMade
    | TokenRevoked
    | TokenUsed
)
Event = Known | Unknown
BuildEvent = (
    BuildRequested
    | BuildReleased
    | BuildStarted
    | BuildFinished
    | BuildCancelled
    | BuildRetried
    | BuildCheckedOut
    | BuildWaiting
    | BuildApproved
    | BuildRejected
    | BuildAsked
    | BuildAnswered
    | ArtifactKept
)


def kind_of(event: Event) -> str:
    """Return the event's kind as it stands in the journal, such as ``build.started``."""
    if isinstance(event, Unknown):
        return event.kind
    return str(event.__struct_config__.tag)


def key_of(event: Event) -> str:
    """Return the key that compare-and-set works on: events of one build, one ref, … share it."""
    match event:
        case BuildFact():
            return f"build.{event.build}"
        case PipelineRequested():
            return f"build.{event.pipeline}"
        case SchedulesSet() | SchedulesFired():
            return "schedules"
        case AgentStarted() | AgentStopped() | AgentFound() | AgentKeyMade() | AgentKeyTaken():
            return f"agent.{event.agent}"
        case AgentJoined() | AgentLost() | AgentDrained() | AgentLabelled() | AgentLeft():
            return f"agent.{event.name}"
        case ClusterRaised():
            return "cluster"
        case CloudFact():
            return f"cloud.{event.cloud}"
        case LeaderElected() | LeaderResigned():
            return LEADER
        case VoterAppointed() | VoterListening() | VoterDismissed():
            return "voters"
        case StoreMoved():
            return f"store.{event.ref}"
        case HistorySealed():
            return "history"
        case BuildsSwept():
            return "swept"
        case CacheSaved() | CacheUsed() | CachesDropped():
            return "caches"
        case LimitsSet():
            return "limits"
        case Emitted():
            return "custom"
        case BuildEntered():
            return "entered"  # what happens to the build does not depend on it
        case ChatHeard() | ChatAnswered() | ChatTold() | ChatStanding():
            return "chat"
        case ScmSeen():
            return f"scm.{event.id}"
        case ScmChanged():
            return f"scm.{event.id}"
        case HookCalled():
            return f"hook.{event.id}"
        case TriggerFailed():
            return f"build.{event.build}"
        case StatusPosted():
            return f"status.{event.build}"
        case NoticesQueued() | NoticesSending() | NoticesSent() | NoticesDropped():
            return "notices"
        case UserCode() | UserLinked() | UserUnlinked():
            return "users"
        case TokenMade() | TokenRevoked() | TokenUsed():
            return "tokens"
        case Unknown():
            return "unknown"
