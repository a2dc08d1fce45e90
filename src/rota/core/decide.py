"""What an agent should do now, given the state: decisions as data, carried out by the shell.

Two sets of duties: every agent claims builds for its free slots; the leader also seals finished
builds into the history, trims the journal behind it, and says which agents and attempts are lost.
A claim carries the sequence it was decided at, a leader's effect the election it leads by; the
journal refuses those that came too late: deciding on a stale state is harmless.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import datetime, timedelta
from itertools import islice
from zlib import crc32

import msgspec

from rota.core.agents import Agent, AgentState
from rota.core.build import Build
from rota.core.cluster import Cluster
from rota.core.demands import project_of
from rota.core.labels import satisfies
from rota.core.shares import QueueItem
from rota.core.states import State
from rota.core.trial import Trial

#: Seals, and so commits of the history, are this many seconds apart, however many builds finish.
SEAL_EVERY_S = 1.0
#: After so many events there is a seal, also where no build has finished.
SEAL_EVENTS = 10_000
#: Where agents compete: so long after the last event of any build everybody may take any build.
QUIET_S = 0.1
#: An exclusive attempt is given up after so many times what any other is.
EXCLUSIVE_PATIENCE = 1.5
#: Events kept behind the history, so that followers can come back after a break.
KEEP_EVENTS = 20_000
#: Trimming is cheap but not free: do it in steps of this many events.
TRIM_STEP = 10_000


class Claim(msgspec.Struct, frozen=True):
    """Take a build: append ``build.started`` if nobody wrote on it after ``expect``."""

    build: str
    attempt: int
    expect: int


class Seal(msgspec.Struct, frozen=True):
    """Append ``history.sealed`` for all builds finished up to ``through``."""

    through: int
    fence: int


class Trim(msgspec.Struct, frozen=True):
    """Forget the journal's events below ``before``."""

    before: int


class Lose(msgspec.Struct, frozen=True):
    """Append ``agent.lost``: nobody has heard of it for too long."""

    agent: str
    silent_s: float
    fence: int


class LoseBuild(msgspec.Struct, frozen=True):
    """Append ``build.finished`` with reason ``lost``: who ran the attempt is gone."""

    build: str
    attempt: int
    why: str
    fence: int


class Expire(msgspec.Struct, frozen=True):
    """Say that time is over for an approval (question 0) or a question of a build."""

    build: str
    question: int
    fence: int


class Forget(msgspec.Struct, frozen=True):
    """Append ``agent.left`` for an ephemeral agent that does not come back."""

    agent: str
    why: str
    fence: int


Effect = Claim | Seal | Trim | Lose | LoseBuild | Expire | Forget


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent knows of itself when it decides."""

    name: str
    labels: Mapping[str, str]
    slots: int
    #: Builds it is about to claim or start: they use a slot, and are not claimed again.
    claiming: Set[str] = frozenset()
    takes_builds: bool = True
    #: It holds the lease, as far as it can know; what else it says here is only then of use.
    leads: bool = False
    #: Seconds since each agent was heard of, by a clock that never goes back; absent: just now.
    silent: Mapping[str, float] = {}
    #: Seconds since it leads.
    led_s: float = math.inf
    #: Agents and builds about to be recorded as lost, or forgotten.
    losing: Set[str] = frozenset()
    #: Builds, with questions of theirs, whose time is about to be recorded as over.
    expiring: Set[tuple[str, int]] = frozenset()
    #: Seconds since anything was folded about a build.
    quiet_s: float = QUIET_S
    lost_after_s: float = 8.0
    stopped_after_s: float = 60.0
    is_sealing: bool = False
    #: Seconds since it folded the last seal, by a clock that never goes back; ``None``: it has not.
    since_seal_s: float | None = None
    journal_first: int = 1
    history_covered: int = 0
    #: The sequence up to which all that events set off was asked for; ``None`` is all.
    settled: int | None = None


class Decision(msgspec.Struct, frozen=True):
    """Effects to carry out, and when to decide again though no event came (``None``: never)."""

    effects: tuple[Effect, ...] = ()
    wake_at: datetime | None = None


def decide(cluster: Cluster, view: View, now: datetime) -> Decision:
    """Return what this agent should do at ``now``.

    Cost: the agent's free slots, the label expressions and the projects that have builds queued;
    not how many these are.
    """
    effects: list[Effect] = []
    wakes: list[datetime] = []
    effects.extend(_claims(cluster, view, now, wakes))
    if view.leads and cluster.picture.leader == view.name:
        effects.extend(_leaders_duties(cluster, view, now, wakes))
    return Decision(effects=tuple(effects), wake_at=min(wakes, default=None))


def _claims(cluster: Cluster, view: View, now: datetime, wakes: list[datetime]) -> Iterator[Claim]:
    mine = cluster.running.get(view.name, {})
    # A script that waits for other builds leaves its slot to them.
    waiting = cluster.waiting.get(view.name, {})
    free = view.slots - len((mine.keys() | view.claiming) - waiting.keys())
    myself = cluster.picture.agents.get(view.name)
    # Who was given up says first that it is back: what it claimed before would be given up, too.
    is_out = myself is not None and (myself.draining or myself.state is AgentState.LOST)
    if free <= 0 or not view.takes_builds or is_out:
        return
    changes_at = cluster.look(now)
    if changes_at is not None:
        wakes.append(changes_at)
    fitting = [labels for labels in cluster.queue.ready if satisfies(labels, view.labels)]
    best: dict[str, list[QueueItem]] = {}
    builds = cluster.picture.builds
    for labels in fitting:
        projects = cluster.queue.ready[labels]
        only = next(iter(projects)) if len(projects) == 1 else None
        for item in _mine(cluster, view, labels, free, now, wakes):
            project = project_of(builds[item[2]].job) if only is None else only
            best.setdefault(project, []).append(item)
    for items in best.values():
        items.sort()
    for build in _first(cluster, view, best, free, now):
        yield Claim(build=build.id, attempt=build.attempt + 1, expect=build.last_seq)


def _mine(
    cluster: Cluster, view: View, labels: str, free: int, now: datetime, wakes: list[datetime]
) -> Iterator[QueueItem]:
    """Return, in order, the first builds with these labels that are this agent's to take."""
    queues = cluster.queue.ready[labels]
    items = cluster.in_turn(queues, cluster.picture.shares.of(labels))
    if view.claiming:
        items = (item for item in items if item[2] not in view.claiming)
    possible = _possible(cluster, view, items, now)
    start, number = _share(cluster, view, labels, now, wakes)
    return islice(possible, start, start + min(number, free))


def _first(
    cluster: Cluster,
    view: View,
    queues: Mapping[str, Sequence[QueueItem]],
    free: int,
    now: datetime,
) -> Iterator[Build]:
    """Return the first of several projects' builds, as many as are free."""
    had: Mapping[str, float] = {}
    if len(queues) > 1:
        # What it could have run itself, whether more of that is queued or not.
        known = cluster.picture.shares.had
        had = cluster.had(labels for labels in known if satisfies(labels, view.labels))
    possible = _possible(cluster, view, cluster.in_turn(queues, had), now)
    return (cluster.picture.builds[item[2]] for item in islice(possible, free))


def _possible(
    cluster: Cluster, view: View, items: Iterator[QueueItem], now: datetime
) -> Iterator[QueueItem]:
    """Yield those that may begin if all before them do."""
    if not cluster.queue.lines and not cluster.throttles.throttles:
        return items
    builds = cluster.picture.builds
    claimed = (builds[id_] for id_ in view.claiming if id_ in builds)
    queued = [build for build in claimed if build.state is State.QUEUED]
    trial = Trial(cluster.queue, cluster.throttles, view.name, now, queued)
    return (item for item in items if trial.begins(builds[item[2]]))


def _share(
    cluster: Cluster, view: View, labels: str, now: datetime, wakes: list[datetime]
) -> tuple[int, int]:
    """Return from where on, and how many, of the builds with these labels are this agent's.

    All builds that have a free slot somewhere start now anyway; which of them where is the same to
    everybody. The slots are counted through in an order that changes with each event, and the n-th
    takes the n-th build. Who is not counted on, or sees that others do not take theirs, takes any:
    it is the journal that decides, this only spares it the asking.
    """
    if view.quiet_s >= QUIET_S:
        return 0, view.slots
    rivals = [name for name in cluster.fitting(labels) if cluster.free_slots(name) > 0]
    if len(rivals) < 2 or view.name not in rivals:
        return 0, view.slots
    wakes.append(now + timedelta(seconds=QUIET_S - view.quiet_s))
    first = next(iter(cluster.queue.ready[labels].values()))[0][2]
    turn = crc32(f"{cluster.picture.seq} {first}".encode()) % len(rivals)
    start = 0
    for name in (*rivals[turn:], *rivals[:turn]):
        if name == view.name:
            break
        start += cluster.free_slots(name)
    return start, cluster.free_slots(view.name)


def _leaders_duties(
    cluster: Cluster, view: View, now: datetime, wakes: list[datetime]
) -> Iterator[Effect]:
    picture = cluster.picture
    fence = expected(picture.leader_seq, view.journal_first)
    yield from _lost_agents(cluster, view, fence)
    yield from _lost_builds(cluster, view, fence)
    yield from _gone_for_good(cluster, view, fence)
    yield from _expired(cluster, view, now, wakes, fence)
    through = picture.seq if view.settled is None else min(picture.seq, view.settled)
    if not view.is_sealing and _is_worth_a_seal(cluster, through):
        # Not by `sealed_at`: a clock that is set, or another agent's, would stop or hurry it.
        left_s = 0.0 if view.since_seal_s is None else SEAL_EVERY_S - view.since_seal_s
        if left_s <= 0:
            yield Seal(through=through, fence=fence)
        else:
            wakes.append(now + timedelta(seconds=left_s))
    before = trim_floor(cluster, view.history_covered) - KEEP_EVENTS
    if before - view.journal_first >= TRIM_STEP:
        yield Trim(before=before)


def _is_worth_a_seal(cluster: Cluster, through: int) -> bool:
    """Whether a build is ready to leave; or so much happened that who starts would look far back."""
    picture = cluster.picture
    oldest = next(iter(cluster.unsealed), None)
    is_ripe = oldest is not None and picture.builds[oldest].seq <= through
    is_noted = any(note.is_urgent and note.seq <= through for note in picture.ledger)
    is_done = 0 < picture.deeds_due <= through
    return is_ripe or is_noted or is_done or through - picture.sealed_through > SEAL_EVENTS


def _lost_agents(cluster: Cluster, view: View, fence: int) -> Iterator[Effect]:
    for agent in cluster.picture.agents.values():
        silent_s = view.silent.get(agent.name, 0.0)
        is_silent = agent.name != view.name and silent_s > view.lost_after_s
        if agent.is_up and is_silent and agent.name not in view.losing:
            yield Lose(agent=agent.name, silent_s=silent_s, fence=fence)


def _lost_builds(cluster: Cluster, view: View, fence: int) -> Iterator[Effect]:
    """Yield what runs on agents that are gone, or were told to end it and cannot hear."""
    for name, running in cluster.running.items():
        agent = cluster.picture.agents.get(name)
        if name == view.name or (agent is not None and agent.is_up):
            continue
        why = _gone(agent, view)
        for build_id in (build_id for build_id in running if build_id not in view.losing):
            build = cluster.picture.builds[build_id]
            if agent is not None and build.spec.exclusive and not _is_over(agent, view):
                continue
            if why or build.cancelled_by is not None:
                text = why or f"{name} is {agent.state if agent else 'gone'}"
                yield LoseBuild(build=build_id, attempt=build.attempt, why=text, fence=fence)


def _gone_for_good(cluster: Cluster, view: View, fence: int) -> Iterator[Effect]:
    """Yield the ephemeral agents that nobody hears any more; those of clouds go with their machines."""
    for agent in cluster.picture.agents.values():
        if not agent.ephemeral or agent.state not in (AgentState.LOST, AgentState.STOPPED):
            continue
        silent_s = view.silent.get(agent.name, 0.0)
        is_known = agent.name in view.losing or agent.name in cluster.picture.machines
        if silent_s > view.stopped_after_s and not is_known:
            why = f"it was ephemeral, and {agent.state}"
            yield Forget(agent=agent.name, why=why, fence=fence)


def _expired(
    cluster: Cluster, view: View, now: datetime, wakes: list[datetime], fence: int
) -> Iterator[Effect]:
    """Yield for what nobody said a word in time. Cost: how many those are."""
    for until, build_id, question in cluster.due:
        if until > now:
            wakes.append(until)
            return
        if (build_id, question) not in view.expiring:
            yield Expire(build=build_id, question=question, fence=fence)


def _is_over(agent: Agent, view: View) -> bool:
    """Whether an exclusive attempt there has ended for certain: its lease was shorter than this."""
    # A former leader may have confirmed it, until this one was elected.
    silent_s = min(view.silent.get(agent.name, 0.0), view.led_s)
    return silent_s > EXCLUSIVE_PATIENCE * view.lost_after_s


def _gone(agent: Agent | None, view: View) -> str:
    """Return why an agent that is not up will not bring its builds to an end; empty: it may yet."""
    if agent is None:
        return "its agent left the cluster"
    silent_s = view.silent.get(agent.name, 0.0)
    # Whoever was lost and is heard again keeps what it claimed meanwhile.
    if agent.state is AgentState.LOST and silent_s > view.lost_after_s:
        return f"{agent.name} was lost"
    if silent_s > view.stopped_after_s:
        return f"{agent.name} was stopped, and did not come back"
    return ""


def expected(seq: int, first: int) -> int:
    """Return what an append must expect of a key whose last event was ``seq``.

    Below ``first``, the journal's first event, it was trimmed: the key counts as having none.
    """
    return seq if seq >= first else 0


def trim_floor(cluster: Cluster, covered: int) -> int:
    """Return the sequence below which the journal says nothing that is not elsewhere.

    Everything below is folded, and of builds that ``history`` has on disk (up to ``covered``). The
    history may name a sequence that is still to come, where the journal was begun anew.
    """
    sealed = min(covered, cluster.picture.sealed_through)
    return min(cluster.requests[0], sealed) if cluster.requests else sealed
