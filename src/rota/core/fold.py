"""From events to state: the one place where anything about the cluster changes.

:func:`apply` is total (any event in any state is answered, never by an exception), deterministic
(the same events make the same state on every agent) and idempotent where events may repeat. It
changes the state in place and says what changed; whoever folds owns the state, and nobody else
writes to it.
"""

from __future__ import annotations

import bisect
import hashlib
from datetime import datetime, timedelta
from itertools import takewhile

import msgspec
from msgspec.structs import replace

from rota.core import chat as chats
from rota.core import rates
from rota.core.agents import change, subject
from rota.core.build import Attempt, Build, Usage, step
from rota.core.cache_entry import SharedCache, name_of
from rota.core.chain import AUDITED, START, Anchor, link
from rota.core.cluster import Cluster, Picture
from rota.core.codec import encode
from rota.core.deeds import Deed, deed_of
from rota.core.demands import project_of
from rota.core.events import (
    AgentDrained,
    AgentFound,
    AgentJoined,
    AgentKeyMade,
    AgentKeyTaken,
    AgentLabelled,
    AgentLeft,
    AgentLost,
    AgentStarted,
    AgentStopped,
    ArtifactKept,
    BuildAnswered,
    BuildApproved,
    BuildAsked,
    BuildCancelled,
    BuildCheckedOut,
    BuildEntered,
    BuildEvent,
    BuildFact,
    BuildFinished,
    BuildRejected,
    BuildReleased,
    BuildRequested,
    BuildRetried,
    BuildsSwept,
    BuildStarted,
    BuildWaiting,
    CacheSaved,
    CachesDropped,
    CacheUsed,
    ChatAnswered,
    ChatHeard,
    ChatStanding,
    ChatTold,
    CloudAnswered,
    CloudFact,
    CloudPaused,
    ClusterRaised,
    Emitted,
    Event,
    Fire,
    HistorySealed,
    HookCalled,
    LeaderElected,
    LeaderResigned,
    LimitsSet,
    NoticesDropped,
    NoticesQueued,
    NoticesSending,
    NoticesSent,
    PipelineRequested,
    SchedulesFired,
    SchedulesSet,
    ScmChanged,
    ScmSeen,
    StatusPosted,
    StoreMoved,
    TokenMade,
    TokenRevoked,
    TokenUsed,
    TriggerFailed,
    Unknown,
    UserCode,
    UserLinked,
    UserUnlinked,
    VoterAppointed,
    VoterDismissed,
    VoterListening,
    Wanted,
)
from rota.core.job import Reason
from rota.core.linking import fold_linking
from rota.core.machines import change_machines, learn
from rota.core.outbox import (
    Said,
    Sending,
    fold_done,
    fold_queued,
    fold_sending,
    forget_builds,
)
from rota.core.people import APPROVAL, answered, approved, asked, rejected
from rota.core.retries import retry_delay_s, wants_retry
from rota.core.ripple import Ripple, ended
from rota.core.schedules import (
    Fired,
    Note,
    fired,
    fold_note,
    may_fire,
    skipped,
)
from rota.core.sources import Seen, note_good, note_source
from rota.core.states import Move, Result, State, next_state, result_of
from rota.core.tokens import fold_tokens
from rota.core.told import (
    keep_failure,
    move_tip,
    note_posted,
    note_pull,
    note_seen,
    owe,
)
from rota.core.voter import Voter

_MAIN = "main"
#: More builds or attempts than this are a fault of whoever wrote the number.
MAX_COUNT = 2**53


class Change(msgspec.Struct, frozen=True):
    """What one event changed: the build that it is about, as it is now, and others with it.

    ``sealed`` are builds to be recorded in the history, ``ledger`` what schedules did, ``deeds`` what
    people did, and ``anchor`` what the commit says of the journal. ``is_news`` says that a repository is other than was known.
    """

    build: Build | None = None
    others: tuple[Build, ...] = ()
    sealed: tuple[Build, ...] = ()
    is_news: bool = False
    ledger: tuple[Note, ...] = ()
    deeds: tuple[Deed, ...] = ()
    anchor: Anchor | None = None

    @property
    def builds(self) -> tuple[Build, ...]:
        """All builds that changed and are in memory."""
        return self.others if self.build is None else (self.build, *self.others)


NOTHING = Change()


def apply(cluster: Cluster, seq: int, event: Event, digest: bytes = b"") -> Change:
    """Fold one event. An event at or below the state's sequence was folded before: nothing.

    ``digest`` is the SHA-256 of its bytes in the journal, for the chain; without one it is that of the
    bytes that it has by our codec.
    """
    picture = cluster.picture
    if seq <= picture.seq:
        return NOTHING
    picture.seq, picture.at = seq, event.at
    change = _apply(cluster, seq, event)
    if picture.level < AUDITED:
        return change
    _link(picture, seq, digest or hashlib.sha256(encode(event)).digest())
    deed = deed_of(seq, event, change.builds, picture.builds)
    if deed is not None:
        picture.deeds.append(deed)
        if deed.is_urgent and not picture.deeds_due:
            picture.deeds_due = seq
    if not isinstance(event, HistorySealed):
        return change
    told = bisect.bisect_right(picture.deeds, event.through, key=lambda deed: deed.seq)
    deeds, picture.deeds = tuple(picture.deeds[:told]), picture.deeds[told:]
    picture.deeds_due = next((deed.seq for deed in picture.deeds if deed.is_urgent), 0)
    if not picture.chain:
        return replace(change, deeds=deeds)
    main = picture.refs.get(_MAIN, "")
    picture.anchor = Anchor(seq=seq, chain=picture.chain, main=main, former=event.former)
    return replace(change, deeds=deeds, anchor=picture.anchor)


def _link(picture: Picture, seq: int, digest: bytes) -> None:
    """Let the chain go on; begin it; or take it up where the history says what it was."""
    anchor = picture.anchor
    if picture.chain:
        picture.chain = link(picture.chain, seq, digest)
    elif seq == anchor.seq:
        picture.chain = anchor.chain
    elif seq > anchor.seq:
        picture.chain = link(START, seq, digest)


def _apply(cluster: Cluster, seq: int, event: Event) -> Change:
    picture = cluster.picture
    if not isinstance(event, Unknown) and event.via:
        chats.acted(picture.chat, event)
    match event:
        case BuildFact():
            return _on_build(cluster, seq, event)
        case PipelineRequested():
            return _on_pipeline(cluster, seq, event)
        case SchedulesSet():
            note = Note(
                seq=seq,
                at=event.at,
                by=event.agent,
                set=event.set,
                removed=event.removed,
                skips=tuple(skip for skip in event.skips if skipped(picture.schedules, skip)),
            )
            fold_note(picture.schedules, replace(note, skips=()))
            picture.ledger = (*picture.ledger, note)
        case SchedulesFired():
            return _on_fires(cluster, seq, event)
        case HistorySealed():
            return _sealed(cluster, seq, event)
        case (
            AgentJoined()
            | AgentStarted()
            | AgentStopped()
            | AgentLost()
            | AgentDrained()
            | AgentFound()
            | AgentLabelled()
            | AgentKeyMade()
            | AgentKeyTaken()
            | AgentLeft()
        ):
            if isinstance(event, AgentJoined) and 0 < event.level < picture.level:
                return NOTHING  # it was let in as all others were raised above it
            change(picture.agents, event)
            cluster.agent_changed(subject(event))
            learn(picture.machines, picture.clouds, picture.agents.get(subject(event)))
        case ClusterRaised():
            if picture.agents.keys() <= set(event.members):
                picture.level = max(picture.level, event.level)
        case CloudFact():
            change_machines(picture.machines, picture.clouds, picture.agents, event)
            if not isinstance(event, CloudAnswered | CloudPaused):
                cluster.agent_changed(event.machine)
        case LeaderElected() | LeaderResigned():
            _led(picture, seq, event)
        case VoterAppointed() | VoterListening() | VoterDismissed():
            _voting(picture.voters, event)
        case StoreMoved():
            picture.refs[event.ref], picture.ref_seqs[event.ref] = event.new, seq
        case LimitsSet():
            picture.policy = event.policy
            cluster.policy_changed()
        case ScmSeen():
            note_seen(picture.tips, seq, event)
        case ScmChanged():
            note_pull(picture.pulls, seq, event)
            return Change(is_news=move_tip(picture.tips, seq, event))
        case TriggerFailed():
            keep_failure(picture.failures, seq, event)
        case StatusPosted():
            note_posted(picture.statuses, event)
        case NoticesQueued() | NoticesSending() | NoticesSent() | NoticesDropped():
            _told(picture, event)
        case CacheSaved():
            entry = event.entry
            shared = SharedCache(entry=entry, used_at=event.at)
            picture.caches.setdefault(name_of(entry.scope, entry.key), shared)
        case CacheUsed():
            if (known := picture.caches.get(event.cache)) is not None:
                picture.caches[event.cache] = replace(known, used_at=event.at)
        case CachesDropped():
            for name in event.caches:
                picture.caches.pop(name, None)
        case UserCode() | UserLinked() | UserUnlinked():
            fold_linking(picture.linking, seq, event)
        case TokenMade() | TokenRevoked() | TokenUsed():
            fold_tokens(picture.tokens, seq, event)
        case ChatHeard():
            chats.heard(picture.chat, seq, event)
        case ChatAnswered():
            chats.answered(picture.chat, seq, event, picture.builds.get(event.build))
        case ChatTold():
            chats.told(picture.chat, event)
        case ChatStanding():
            chats.standing(picture.chat, event)
        case Emitted():
            chats.said(picture.chat, event)
        case BuildsSwept() | HookCalled() | BuildEntered() | Unknown():
            pass
    return NOTHING


def _told(
    picture: Picture, event: NoticesQueued | NoticesSending | NoticesSent | NoticesDropped
) -> None:
    match event:
        case NoticesQueued():
            fold_queued(picture.outbox, picture.builds, event.tellings, event.at)
            picture.outbox.looked = max(picture.outbox.looked, min(event.through, picture.seq))
        case NoticesSending():
            sending = Sending(event.message, event.notices, event.at, event.left_out)
            fold_sending(picture.outbox, event.target, sending)
        case NoticesSent():
            said = Said(at=event.at, message=event.message, said=event.said, thread=event.thread)
            queue = picture.outbox.queues.get(event.target)
            known = queue.notices if queue is not None else ()
            about = {it.build for it in known if it.id in event.notices and it.build}
            chats.link(picture.chat, event.target.partition(":")[0], event.thread, about)
            fold_done(picture.outbox, event.target, event.notices, said)
        case NoticesDropped():
            dropped = Said(at=event.at, why=event.why or "?")
            fold_done(picture.outbox, event.target, event.notices, dropped)


def _led(picture: Picture, seq: int, event: LeaderElected | LeaderResigned) -> None:
    # The last event of the key is what writes are fenced by, whatever it says.
    picture.leader_seq = seq
    if isinstance(event, LeaderElected):
        picture.leader, picture.leader_since = event.agent, event.at
        picture.leader_why = event.why
    elif event.agent == picture.leader:
        picture.leader, picture.leader_since = "", event.at
        picture.leader_why = event.why


def _voting(
    voters: dict[str, Voter], event: VoterAppointed | VoterListening | VoterDismissed
) -> None:
    match event:
        case VoterAppointed():
            voters[event.name] = Voter(agent=event.name, server=event.server)
        case VoterListening():
            known = voters.get(event.agent)
            # The first one founds the cluster; nobody was there to appoint it.
            if not voters or (known is not None and known.server == event.server):
                voters[event.agent] = Voter(
                    agent=event.agent,
                    server=event.server,
                    host=event.host,
                    client=event.client,
                    route=event.route,
                )
        case VoterDismissed():
            known = voters.get(event.name)
            if known is not None and known.server == event.server:
                del voters[event.name]


def _on_build(cluster: Cluster, seq: int, event: BuildEvent) -> Change:
    before = cluster.picture.builds.get(event.build)
    if before is None:
        after = _entering(cluster, seq, event)
        if after is None:
            # Its descendants may be here still, though it has left the memory.
            return _with_its_tree(cluster, seq, event)
    else:
        # Also an event that moves nothing is the last one of its build: the journal compares the
        # next writer's claim with it, so it must be known here.
        after = replace(_moved(cluster, before, event) or before, last_seq=seq, seq=seq)
        if before.state is State.QUEUED and after.state is State.RUNNING:
            after = replace(after, fence=seq)
            _charge(cluster, after, event.at)
        _note_source(cluster.picture.sources, before, after)
    after = _put(cluster, before, after)
    is_new = before is None or before.state is State.FINISHED
    if not _moves_others(cluster, after, event, is_new=is_new):
        return Change(build=after)
    ripple = _ripple(cluster, seq, event.at)
    if isinstance(event, BuildCancelled) and event.tree:
        ripple.end_tree(after.id, by=event.by, why=event.why)
    elif isinstance(event, BuildRetried):
        ripple.reopen(after.id)
    elif isinstance(event, BuildRejected) and after.group is not None:
        for edge in after.group.cells:
            ripple.end_tree(edge.build, by=event.by, why=event.why)
    if is_new and after.state is State.HELD:
        ripple.look(after.id)
    if before is None and after.lane:
        ripple.supersede(after)
    cells = after.group.cells if after.group is not None else ()
    ripple.spread([after.id, *(edge.build for edge in cells)])
    return _change(cluster, after.id, ripple)


def _note_source(sources: dict[str, Seen], before: Build, after: Build) -> None:
    if after.source is None:
        return
    if after.source is not before.source:
        note_source(sources, after.job, after.source)
    is_over = after.state is State.FINISHED and before.state is not State.FINISHED
    if is_over and after.result is Result.PASSED:
        note_good(sources, after.job, after.source)


def _moves_others(cluster: Cluster, build: Build, event: BuildEvent, *, is_new: bool) -> bool:
    """Whether an event about ``build`` may move others, or move it on by what others are."""
    match event:
        case BuildCancelled(tree=True):
            return True
        case BuildRetried():
            return is_new and build.state is not State.FINISHED
        case BuildCancelled() | BuildFinished():
            is_linked = bool(build.cell) or build.id in cluster.links.waiting
            return build.state is State.FINISHED and is_linked
        case BuildRejected():
            is_group = build.group is not None and build.cancelled_by is not None
            return is_group or (build.state is State.FINISHED and build.id in cluster.links.waiting)
        case BuildReleased() | BuildApproved():
            return build.state is State.HELD
        case BuildRequested():
            return is_new and (build.state is State.HELD or bool(build.lane))
        case _:
            return False


def _ripple(cluster: Cluster, seq: int, at: datetime) -> Ripple:
    def put(before: Build, after: Build) -> None:
        _put(cluster, before, after)

    return Ripple(cluster.picture.builds, cluster.links, put, seq=seq, at=at)


def _change(cluster: Cluster, build_id: str, ripple: Ripple) -> Change:
    """Return what an event changed that was about one build, which may have moved again since."""
    others = tuple(build for id_, build in ripple.changed.items() if id_ != build_id)
    return Change(build=cluster.picture.builds.get(build_id), others=others)


def _with_its_tree(cluster: Cluster, seq: int, event: BuildEvent) -> Change:
    if not isinstance(event, BuildCancelled) or not event.tree:
        return NOTHING
    ripple = _ripple(cluster, seq, event.at)
    ripple.end_tree(event.build, by=event.by, why=event.why)
    ripple.spread()
    return Change(others=tuple(ripple.changed.values()))


def _on_pipeline(
    cluster: Cluster, seq: int, event: PipelineRequested, *, key: str | None = None
) -> Change:
    """Fold the requests of several builds: all of them, or none; ``key`` is whose key it has."""
    key = event.pipeline if key is None else key
    builds, picture = cluster.picture.builds, cluster.picture
    root = builds.get(event.pipeline)
    if root is not None:
        _put(cluster, root, replace(root, last_seq=seq, seq=seq))
    new: list[Build] = []
    if not _is_outdated(event, picture):
        ripple = _ripple(cluster, seq, event.at)
        for wanted in event.builds:
            request = _request(event, wanted)
            if request is None or request.build in builds:
                continue
            entering = _entering(cluster, seq, request)
            if entering is not None:
                last_seq = seq if entering.id == key else 0
                new.append(_put(cluster, None, replace(entering, last_seq=last_seq)))
        for build in new:
            if build.edges:
                ripple.look(build.id)
        for build in new:
            if build.lane:
                ripple.supersede(build)
        ripple.spread([build.id for build in new if build.state is State.HELD])
        changed = dict.fromkeys([*(build.id for build in new), *ripple.changed])
    else:
        changed = {}
    if root is not None:
        changed[root.id] = None
    return Change(others=tuple(builds[id_] for id_ in changed))


def _on_fires(cluster: Cluster, seq: int, event: SchedulesFired) -> Change:
    """Settle instants: each whose schedule has not come so far yet, in the event's order."""
    schedules = cluster.picture.schedules
    skips = tuple(skip for skip in event.skips if skipped(schedules, skip))
    fires = []
    changed: dict[str, None] = {}
    for fire in event.fires:
        if not may_fire(schedules, fire.schedule, fire.at):
            continue
        changed |= _fire(cluster, seq, event, fire)
        if fire.build in cluster.picture.builds:
            fired(schedules, fire.schedule, fire.at)
            fires.append(Fired(fire.schedule, fire.at, fire.build))
    if skips or fires:
        note = Note(seq=seq, at=event.at, by=event.agent, skips=skips, fires=tuple(fires))
        cluster.picture.ledger = (*cluster.picture.ledger, note)
    return Change(others=tuple(cluster.picture.builds[id_] for id_ in changed))


def _fire(cluster: Cluster, seq: int, event: SchedulesFired, fire: Fire) -> dict[str, None]:
    """Let the builds of one instant enter; one that is there already stands for it as it is."""
    if fire.build in cluster.picture.builds:
        return {}
    request = PipelineRequested(
        at=event.at,
        by=event.by,
        agent=event.agent,
        pipeline=fire.build,
        builds=fire.builds,
        specs=event.specs,
        commit=event.commit,
        seen=event.seen,
    )
    # The event's key is not that of any build: nothing in the journal is their last one yet.
    changed = dict.fromkeys(it.id for it in _on_pipeline(cluster, seq, request, key="").builds)
    new = cluster.picture.builds.get(fire.build)
    if new is not None and fire.ends:
        ripple = _ripple(cluster, seq, event.at)
        for former in fire.ends:
            ripple.end_tree(former, by=new.ref, newer=new.ref)
        ripple.spread()
        changed |= dict.fromkeys(ripple.changed)
    return changed


def _is_outdated(event: PipelineRequested, picture: Picture) -> bool:
    """Whether builds that these wait for have left the memory, or may have, since the writer looked."""
    own = {wanted.build for wanted in event.builds}
    others = [edge for it in event.builds for edge in it.needs if edge.build not in own]
    is_added = event.pipeline not in own  # to builds that are there, and one of them may have gone
    return (is_added and event.seen < picture.sealed_seq) or any(
        edge.is_open and edge.build not in picture.builds for edge in others
    )


def _request(event: PipelineRequested, wanted: Wanted) -> BuildRequested | None:
    if not 0 <= wanted.spec < len(event.specs):
        return None
    return BuildRequested(
        at=event.at,
        by=event.by,
        agent=event.agent,
        build=wanted.build,
        job=wanted.job,
        spec=event.specs[wanted.spec],
        params=wanted.params,
        trigger=wanted.trigger,
        commit=event.commit,
        script=wanted.script,
        held=wanted.held,
        pipeline="" if wanted.build == event.pipeline else event.pipeline,
        parent=wanted.parent,
        needs=wanted.needs,
        group=wanted.group,
        cell=wanted.cell,
        lane=wanted.lane,
    )


def _entering(cluster: Cluster, seq: int, event: BuildEvent) -> Build | None:
    """Return the build that ``event`` brings into the picture; ``None`` if it brings none."""
    match event:
        case BuildRequested():
            number = cluster.picture.numbers.get(event.job, 0) + 1
            cluster.picture.numbers[event.job] = number
            return _requested(cluster, seq, event, number)
        case BuildRetried(record=record) if record.id == event.build:
            return _revived(cluster, seq, event, record)
        case _:
            return None


def _requested(cluster: Cluster, seq: int, event: BuildRequested, number: int) -> Build:
    rate, used = event.spec.rate, cluster.picture.rates
    if rate is not None and rate.is_sound and event.job in used:
        # What an agent whose clock was far ahead has used up does not last until its time comes.
        used[event.job] = min(used[event.job], event.at.timestamp() + rate.per_s)
        cluster.queue.rate_changed(event.job)
    # What waits for others is held, and judged at once: it may be let go by the same event.
    held = event.held
    # A group's approval holds its cells as well.
    is_asked = event.spec.approve is not None or _is_foreign(event)
    if is_asked and not event.cell and APPROVAL not in held:
        held = (*held, APPROVAL)
    is_held = held or event.needs or event.group or event.cell
    return Build(
        id=event.build,
        job=event.job,
        number=number,
        state=State.HELD if is_held else State.QUEUED,
        requested_at=event.at,
        params=event.params,
        trigger=event.trigger,
        spec=event.spec,
        commit=event.commit,
        script=event.script,
        held=held,
        stamp=cluster.picture.begun.get(project_of(event.job), 0),
        pipeline=event.pipeline,
        parent=event.parent,
        requested_seq=seq,
        last_seq=seq,
        seq=seq,
        needs=event.needs,
        group=event.group,
        cell=event.cell,
        lane=event.lane,
    )


def _is_foreign(event: BuildRequested) -> bool:
    """Whether what is to run is from somebody who may not write to the repository.

    What a build asks for that was approved is not asked about again.
    """
    return event.trigger.data.get("fork") == "true" and event.trigger.kind != "build"


def _revived(cluster: Cluster, seq: int, event: BuildRetried, record: Build) -> Build | None:
    """Return a sealed build as it comes back; ``None`` for a record that cannot be of one."""
    picture = cluster.picture
    after = _retried(cluster, record, event)
    is_number_taken = (record.job, record.number) in cluster.numbered
    if after is None or is_number_taken or max(record.number, record.attempt) > MAX_COUNT:
        return None
    picture.numbers[record.job] = max(picture.numbers.get(record.job, 0), record.number)
    # A record from before the journal was begun anew may name a sequence that is still to come.
    stamp = min(record.stamp, picture.begun.get(project_of(record.job), 0))
    return replace(
        after,
        requested_seq=min(record.requested_seq, seq),
        stamp=stamp,
        fence=min(record.fence, seq),
        last_seq=seq,
        seq=seq,
    )


def _retried(cluster: Cluster, build: Build, event: BuildRetried) -> Build | None:
    """Return a finished build as it comes back; ``None`` too where it would wait for what is gone.

    How those ended that it waited for and that have left the memory, the event's record says.
    """
    record = event.record
    if [edge.build for edge in record.edges] == [edge.build for edge in build.edges]:
        build = replace(build, needs=record.needs, group=record.group)
    move = Move.WAIT_AGAIN if build.edges or build.cell or build.held else Move.RETRY
    builds = cluster.picture.builds
    if any(edge.is_open and edge.build not in builds for edge in build.edges):
        return None
    if next_state(build.state, move) is None:
        return None
    return replace(_again(build, event.at, 0.0, move), cancelled_by=None, superseded_by="")


def _sealed(cluster: Cluster, seq: int, event: HistorySealed) -> Change:
    picture = cluster.picture
    oldest_first = (picture.builds[id_] for id_ in cluster.unsealed)
    ripe = takewhile(lambda build: build.seq <= event.through, oldest_first)
    # One event may have finished several: every agent has them in the same order.
    done = tuple(sorted(ripe, key=lambda build: (build.seq, build.job, build.number)))
    for build in done:
        cluster.leave(build)
        del cluster.requests[bisect.bisect_left(cluster.requests, build.requested_seq)]
        del picture.builds[build.id]
    forget_builds(picture.outbox, done)
    notes = tuple(note for note in picture.ledger if note.seq <= event.through)
    picture.ledger = tuple(note for note in picture.ledger if note.seq > event.through)
    picture.sealed_through = max(picture.sealed_through, min(event.through, seq))
    picture.sealed_seq, picture.sealed_at = seq, event.at
    picture.shares.forget()
    return Change(sealed=done, ledger=notes)


def _charge(cluster: Cluster, build: Build, at: datetime) -> None:
    """Note that a queued build begins: its project has had a turn, its job's rate is used."""
    picture, spec = cluster.picture, build.spec
    project = project_of(build.job)
    picture.begun[project] = picture.begun.get(project, 0) + 1
    picture.shares.begin(spec.labels, project, picture.policy.weight(project))
    if spec.rate is not None and spec.rate.is_sound:
        used_until = picture.rates.get(build.job, 0.0)
        picture.rates[build.job] = rates.after(used_until, spec.rate, at.timestamp())
        cluster.queue.rate_changed(build.job)


def _moved(cluster: Cluster, build: Build, event: BuildEvent) -> Build | None:
    """Return the build after ``event``; ``None`` where the transition table has no such move."""
    match event:
        case BuildRequested():
            return None
        case BuildReleased():
            # What waits for builds as well is judged by that: see Ripple.
            if not build.needs and not build.cell and build.group is None:
                return step(build, Move.RELEASE, held=())
            return replace(build, held=()) if build.state is State.HELD else None
        case BuildStarted():
            if event.attempt != build.attempt + 1:
                return None
            if not cluster.may_begin(build, event.agent, event.at):
                return None
            return step(
                build,
                Move.CLAIM,
                attempt=event.attempt,
                agent=event.agent,
                started_at=event.at,
                not_before=None,
            )
        case BuildFinished():
            return _finished(build, event)
        case BuildCancelled():
            return ended(build, at=event.at, by=event.by, why=event.why)
        case BuildRetried():
            return _retried(cluster, build, event)
        case BuildCheckedOut():
            is_its = build.state is State.RUNNING and event.attempt == build.attempt
            return replace(build, source=event.source) if is_its else None
        case BuildWaiting():
            is_its = build.state is State.RUNNING and event.attempt == build.attempt
            return replace(build, is_waiting=not event.over) if is_its else None
        case BuildApproved():
            return approved(build, event)
        case BuildRejected():
            return rejected(build, event)
        case BuildAsked():
            return asked(build, event)
        case BuildAnswered():
            return answered(build, event)
        case ArtifactKept():
            others = [a for a in build.artifacts if a.path != event.artifact.path]
            kept = replace(event.artifact, kept_at=event.at)
            return replace(build, artifacts=(*others, kept))


def _finished(build: Build, event: BuildFinished) -> Build | None:
    # That an attempt is lost is for others to say; anything else only its own agent knows.
    is_entitled = event.agent == build.agent or event.reason is Reason.LOST
    if event.attempt != build.attempt or not is_entitled:
        return None
    # Lost while it was to be ended: whoever cancelled it has what they wanted.
    is_cancelled = event.reason is Reason.LOST and build.cancelled_by is not None
    reason = Reason.CANCELLED if is_cancelled else event.reason
    if reason is Reason.CANCELLED and build.superseded_by:
        reason = Reason.SUPERSEDED
    over = step(
        build,
        Move.FINISH,
        result=result_of(reason, event.exit_code),
        reason=reason,
        exit_code=event.exit_code,
        signal=event.signal,
        message=event.message,
        finished_at=event.at,
        log_bytes=event.log_bytes,
        log_sha256=event.log_sha256,
        usage=event.usage,
        annotations=event.annotations,
        steps=event.steps,
        step=event.step,
        tests=event.tests,
        metrics=event.metrics,
        is_waiting=False,
    )
    if over is None or not wants_retry(over):
        return over
    # The table's TRY_AGAIN: from running straight to queued, so that no result shows in between.
    return _again(over, event.at, retry_delay_s(over), Move.RETRY)


def _again(build: Build, at: datetime, delay_s: float, move: Move) -> Build:
    """Return an ended build before its next attempt, the ended one kept among ``former``."""
    former = build.former
    if build.attempt > len(former) and build.result is not None and build.reason is not None:
        last = Attempt(
            attempt=build.attempt,
            agent=build.agent or "",
            result=build.result,
            reason=build.reason,
            exit_code=build.exit_code,
            message=build.message,
            started_at=build.started_at,
            finished_at=build.finished_at,
            log_bytes=build.log_bytes,
            log_sha256=build.log_sha256,
            tests=None if build.tests is None else replace(build.tests, failures=()),
        )
        former = (*former, last)
    return replace(
        build,
        state=State.HELD if move is Move.WAIT_AGAIN else State.QUEUED,
        former=former,
        result=None,
        reason=None,
        exit_code=None,
        signal=None,
        message="",
        agent=None,
        started_at=None,
        finished_at=None,
        not_before=at + timedelta(seconds=delay_s) if delay_s else None,
        log_bytes=0,
        log_sha256="",
        usage=Usage(),
        annotations=(),
        steps=(),
        step="",
        tests=None,
        metrics=(),
        # Who said no is asked again; who said yes is not.
        approval=build.approval if build.approval is not None and build.approval.approved else None,
        asked_at=None,
    )


def _put(cluster: Cluster, before: Build | None, after: Build) -> Build:
    if before is None:
        bisect.insort(cluster.requests, after.requested_seq)
        cluster.picture.failures.pop(after.trigger.source, None)
    else:
        cluster.leave(before)
    cluster.picture.builds[after.id] = after
    chat = cluster.picture.chat
    if after.id in chat.followed or chat.waiting or chat.over:
        chats.moved(chat, cluster.picture.seq, after)
    if after.trigger.data:
        owe(cluster.picture.statuses, cluster.picture.seq, after)
    cluster.enter(after)
    return after
