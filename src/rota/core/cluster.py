"""The state that events come to: a picture, and the indexes over it that decisions read.

What is here is what is live: builds that are held, queued or running, and finished ones until
``history.sealed`` moves them to the store's history. So memory does not grow with the past. Only
:mod:`rota.core.fold` changes it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from rota.core import chat as chats
from rota.core.agents import Agent
from rota.core.build import Build
from rota.core.cache_entry import SharedCache
from rota.core.chain import Anchor
from rota.core.deeds import Deed
from rota.core.events import (
    EPOCH,
)
from rota.core.instant import Instant
from rota.core.labels import satisfies
from rota.core.levels import FIRST, LEVEL
from rota.core.linking import Linking
from rota.core.links import Links
from rota.core.machines import CloudRecord, Machine
from rota.core.outbox import (
    Outbox,
)
from rota.core.people import Due, due
from rota.core.policy import Policy
from rota.core.queue import Queue
from rota.core.schedules import (
    SCHEDULE,
    Note,
    Scheduled,
)
from rota.core.shares import QueueItem, Shares, in_turn
from rota.core.sources import Seen
from rota.core.states import State
from rota.core.throttles import Throttles
from rota.core.tokens import AccessTokens
from rota.core.told import (
    Failure,
    Pull,
    Tip,
)
from rota.core.voter import Voter

#: So many label expressions are kept with who satisfies them.
MAX_EXPRESSIONS = 1000


class Picture(msgspec.Struct):
    """The cluster at one sequence of the journal. Serialisable; what can be derived is not here.

    ``at`` is the time of the event with that sequence, by which it is told from any other.
    """

    seq: int = 0
    at: Instant = EPOCH
    builds: dict[str, Build] = {}
    numbers: dict[str, int] = {}
    agents: dict[str, Agent] = {}
    leader: str = ""
    leader_seq: int = 0
    leader_since: Instant = EPOCH
    leader_why: str = ""
    voters: dict[str, Voter] = {}
    sealed_through: int = 0
    sealed_seq: int = 0
    sealed_at: Instant = EPOCH
    refs: dict[str, str] = {}
    ref_seqs: dict[str, int] = {}
    sources: dict[str, Seen] = {}  # what jobs were last built of, by branch
    tips: dict[str, Tip] = {}  # where refs of repositories were last said to be
    pulls: dict[str, Pull] = {}  # open pull requests
    failures: dict[str, Failure] = {}  # of rules, the last one, until the rule sets off a build
    statuses: dict[
        str, str
    ] = {}  # builds of which a forge is to be told, and what it was told last
    schedules: dict[str, Scheduled] = {}
    ledger: tuple[Note, ...] = ()  # what the history does not have yet
    chain: str = ""  # over all events up to this one; empty before the cluster is at that level
    anchor: Anchor = Anchor()  # of the last seal; without a chain, where it is to be taken up
    deeds: list[Deed] = []  # what the history does not have yet
    deeds_due: int = 0  # the sequence of the first of them that is worth a commit; 0: none is
    caches: dict[str, SharedCache] = {}  # those that all agents share, by scope and key
    policy: Policy = Policy()
    #: By project, how many of its builds have begun.
    begun: dict[str, int] = {}
    shares: Shares = msgspec.field(default_factory=Shares)
    #: By job, until when its rate is used up, in seconds since 1970.
    rates: dict[str, float] = {}
    machines: dict[str, Machine] = {}  # of clouds, by their agents' names
    clouds: dict[str, CloudRecord] = {}
    outbox: Outbox = msgspec.field(default_factory=Outbox)  # who is to be told of what
    linking: Linking = msgspec.field(default_factory=Linking)  # of chat identities to users
    tokens: AccessTokens = msgspec.field(default_factory=AccessTokens)  # that users show
    chat: chats.Chat = msgspec.field(default_factory=chats.Chat)
    #: What all members can. A journal is folded from :data:`~rota.core.levels.FIRST` on.
    level: int = LEVEL


class Cluster:
    """The folded state: a picture, and the indexes over it that decisions read.

    ``queue`` has who is queued, and which of them may begin; ``throttles`` what runs by labels;
    ``running`` the builds of each agent, and ``waiting`` those of them whose scripts wait for
    others; ``links`` who waits for whom; ``due`` is when time is over
    for what people are asked; ``unsealed`` has the finished builds that the history does not
    have yet, oldest first; ``requests`` the sequences of all builds' requests, sorted; ``scheduled`` the builds of
    each schedule that have not finished.
    """

    __slots__ = (
        "_fitting",
        "due",
        "links",
        "numbered",
        "picture",
        "queue",
        "requests",
        "running",
        "scheduled",
        "throttles",
        "unsealed",
        "waiting",
    )

    def __init__(self, picture: Picture | None = None) -> None:
        self.picture = picture or Picture()
        self.queue, self.throttles = _judges(self.picture)
        self.running: dict[str, dict[str, None]] = {}
        self.waiting: dict[str, dict[str, None]] = {}
        self.links = Links()
        self.scheduled: dict[str, dict[str, None]] = {}
        self.due: list[Due] = []
        self.unsealed: dict[str, None] = {}
        self.numbered: dict[tuple[str, int], str] = {}
        self._fitting: dict[str, list[str]] = {}
        self.requests = sorted(build.requested_seq for build in self.picture.builds.values())
        for build in sorted(self.picture.builds.values(), key=lambda b: b.seq):
            self.enter(build)

    def fitting(self, labels: str) -> Sequence[str]:
        """Return, by name, the agents that take builds and satisfy a label expression.

        Cost: a look at all agents, once for each expression; later an agent's event costs a look at
        that agent for each.
        """
        found = self._fitting.get(labels)
        if found is None:
            agents = self.picture.agents.values()
            fit = (agent.name for agent in agents if _takes(agent, labels))
            found = self._fitting[labels] = sorted(fit)
        return found

    def compete(self, labels: str, others: str) -> bool:
        """Whether some agent takes builds with either label expression."""
        known = self._fitting.get(others)
        if known is not None and len(known) < len(self.fitting(labels)):
            return any(_takes(self.picture.agents[name], labels) for name in known)
        agents = self.picture.agents
        return any(satisfies(others, agents[name].labels) for name in self.fitting(labels))

    def free_slots(self, agent: str) -> int:
        """Return how many more builds an agent can run now, as far as the journal knows."""
        known = self.picture.agents.get(agent)
        return known.slots - self.used_slots(agent) if known is not None else 0

    def used_slots(self, agent: str) -> int:
        """Return how many builds an agent runs, but for those that wait for others."""
        return len(self.running.get(agent, ())) - len(self.waiting.get(agent, ()))

    def agent_changed(self, name: str) -> None:
        """Note that an agent is other than before."""
        agent = self.picture.agents.get(name)
        if len(self._fitting) > MAX_EXPRESSIONS:
            self._fitting.clear()  # most of them are of builds that are long over
        for labels, names in self._fitting.items():
            at = bisect.bisect_left(names, name)
            is_in = at < len(names) and names[at] == name
            fits = agent is not None and _takes(agent, labels)
            if fits and not is_in:
                names.insert(at, name)
            elif is_in and not fits:
                del names[at]
        self.queue.agents_changed()

    def policy_changed(self) -> None:
        """Derive anew what rests on the policy. Cost: the builds that have not finished."""
        self.queue, self.throttles = _judges(self.picture)
        for build in self.picture.builds.values():
            if build.state is State.QUEUED:
                self.queue.enter(build)
            elif build.state is State.RUNNING:
                self._run(build)

    def look(self, now: datetime) -> datetime | None:
        """Bring in step who may begin now; return when time changes that next."""
        return self.queue.look(now, lambda labels: bool(self.fitting(labels)))

    def in_turn(
        self, queues: Mapping[str, Sequence[QueueItem]], had: Mapping[str, float]
    ) -> Iterator[QueueItem]:
        """Return several projects' queued builds in order, given what each has had."""
        shares, policy = self.picture.shares, self.picture.policy
        return in_turn(queues, had, lambda project: shares.grain / policy.weight(project))

    def had(self, fitting: Iterable[str]) -> Mapping[str, float]:
        """Return what each project has had of late of builds with any of these labels."""
        total: dict[str, float] = {}
        for labels in fitting:
            for project, much in self.picture.shares.of(labels).items():
                total[project] = total.get(project, 0.0) + much
        return total

    def may_begin(self, build: Build, agent: str, at: datetime) -> bool:
        """Whether an agent may begin a build at that time, by all limits."""
        has_room = self.throttles.room(build.spec.labels, agent) > 0
        return has_room and self.queue.may_begin(build, at)

    def enter(self, build: Build) -> None:
        """Bring the indexes in step with a build that is there now, as it is."""
        self.numbered[build.job, build.number] = build.id
        if build.trigger.kind == SCHEDULE and build.state is not State.FINISHED:
            self.scheduled.setdefault(build.trigger.source, {})[build.id] = None
        if build.parent or build.lane or build.needs or build.group is not None:
            self.links.enter(build)
        for item in due(build):
            bisect.insort(self.due, item)
        match build.state:
            case State.QUEUED:
                self.queue.enter(build)
            case State.RUNNING:
                self._run(build)
                self.running.setdefault(build.agent or "", {})[build.id] = None
                if build.is_waiting:
                    self.waiting.setdefault(build.agent or "", {})[build.id] = None
            case State.FINISHED:
                self.unsealed[build.id] = None
            case State.HELD:
                pass

    def leave(self, build: Build) -> None:
        """Bring the indexes in step with a build that is not so any more."""
        self.numbered.pop((build.job, build.number), None)
        if build.trigger.kind == SCHEDULE:
            _leave_schedule(self.scheduled, build)
        if build.parent or build.lane or build.needs or build.group is not None:
            self.links.leave(build)
        for item in due(build):
            del self.due[bisect.bisect_left(self.due, item)]
        match build.state:
            case State.QUEUED:
                self.queue.leave(build)
            case State.RUNNING:
                self.queue.free(build)
                if not build.is_waiting:
                    self.throttles.end(build.spec.labels, build.agent or "")
                for builds in (self.running, self.waiting):
                    mine = builds.get(build.agent or "", {})
                    mine.pop(build.id, None)
                    if not mine:
                        builds.pop(build.agent or "", None)
            case State.FINISHED:
                self.unsealed.pop(build.id, None)
            case State.HELD:
                pass

    def _run(self, build: Build) -> None:
        self.queue.hold(build)
        if not build.is_waiting:
            self.throttles.begin(build.spec.labels, build.agent or "")


def _takes(agent: Agent, labels: str) -> bool:
    return agent.is_up and not agent.draining and satisfies(labels, agent.labels)


def _judges(picture: Picture) -> tuple[Queue, Throttles]:
    policy = picture.policy
    return Queue(picture.builds, policy, picture.rates), Throttles(policy.throttles)


def encode_picture(cluster: Cluster) -> bytes:
    """Return the state as bytes, for :func:`decode_picture`. Cost: about 5 µs a live build."""
    picture = cluster.picture
    raw = msgspec.json.encode(picture)
    # An agent from before levels must not take this for the whole state: it would pass over what it
    # does not know. It reads an object, and this is none.
    return raw if picture.level == FIRST else b'["rota",%d,%b]' % (picture.level, raw)


def decode_picture(raw: bytes) -> Cluster | None:
    """Return the state that ``raw`` holds, or ``None`` if it cannot be read."""
    try:
        if raw.startswith(b"["):
            mark, level, kept = msgspec.json.decode(raw, type=tuple[str, int, msgspec.Raw])
            picture = msgspec.json.decode(kept, type=Picture)
            is_ours = mark == "rota" and level == picture.level
            return Cluster(picture) if is_ours else None
        picture = msgspec.json.decode(raw, type=Picture)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    picture.level = FIRST  # one from before there were levels does not say
    return Cluster(picture)


def _leave_schedule(scheduled: dict[str, dict[str, None]], build: Build) -> None:
    builds = scheduled.get(build.trigger.source, {})
    builds.pop(build.id, None)
    if not builds:
        scheduled.pop(build.trigger.source, None)
