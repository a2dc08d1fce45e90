"""What must hold after every event that is folded, whatever it was."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from msgspec.structs import asdict

from rota.core.build import Build
from rota.core.cluster import Cluster
from rota.core.demands import NOTHING as NO_WISH
from rota.core.demands import wish_of
from rota.core.events import (
    ArtifactKept,
    BuildAnswered,
    BuildApproved,
    BuildAsked,
    BuildCancelled,
    BuildEvent,
    BuildFinished,
    BuildRejected,
    BuildReleased,
    BuildRequested,
    BuildRetried,
    BuildStarted,
    BuildWaiting,
    Event,
    HistorySealed,
    PipelineRequested,
    SchedulesFired,
)
from rota.core.fold import NOTHING, Change, apply
from rota.core.job import Reason
from rota.core.links import Links
from rota.core.people import due
from rota.core.retries import retry_delay_s
from rota.core.schedules import SCHEDULE
from rota.core.states import TRANSITIONS, Move, State

MOVES: dict[type[BuildEvent], tuple[Move, ...]] = {
    BuildReleased: (Move.RELEASE, Move.ASK_TO_STOP),
    BuildStarted: (Move.CLAIM,),
    BuildFinished: (Move.FINISH, Move.TRY_AGAIN),
    BuildCancelled: (Move.CANCEL, Move.ASK_TO_STOP),
    BuildApproved: (Move.RELEASE, Move.ASK_TO_STOP),
    BuildRejected: (Move.SETTLE, Move.ASK_TO_STOP),
    BuildRetried: (Move.RETRY, Move.WAIT_AGAIN),
}
#: What an event about one build may do to others, and to what has just been asked for.
FOLLOWING = (Move.RELEASE, Move.SETTLE, Move.CANCEL, Move.ASK_TO_STOP)


def indexes(cluster: Cluster) -> dict[str, Any]:
    """The indexes of a cluster, in comparable form: order counts, but among what moved at once."""
    return {
        **_queued(cluster),
        "running": {agent: sorted(ids) for agent, ids in cluster.running.items()},
        "waiting": {agent: sorted(ids) for agent, ids in cluster.waiting.items()},
        "links": _links(cluster.links),
        "scheduled": {id_: sorted(ids) for id_, ids in cluster.scheduled.items()},
        "due": cluster.due,
        "unsealed": _unsealed(cluster, cluster.unsealed),
        "numbered": cluster.numbered,
        "requests": cluster.requests,
    }


def derived(cluster: Cluster) -> dict[str, Any]:
    """The same indexes, derived from nothing but the picture."""
    builds = cluster.picture.builds.values()
    by_event = sorted(builds, key=lambda build: build.seq)
    running: dict[str, list[str]] = {}
    waiting: dict[str, list[str]] = {}
    scheduled: dict[str, list[str]] = {}
    links = Links()
    for build in by_event:
        links.enter(build)
        if build.trigger.kind == SCHEDULE and build.state is not State.FINISHED:
            scheduled.setdefault(build.trigger.source, []).append(build.id)
        if build.state is State.RUNNING:
            running.setdefault(build.agent or "", []).append(build.id)
            if build.is_waiting:
                waiting.setdefault(build.agent or "", []).append(build.id)
    return {
        **_queued(Cluster(cluster.picture)),
        "running": {agent: sorted(ids) for agent, ids in running.items()},
        "waiting": {agent: sorted(ids) for agent, ids in waiting.items()},
        "links": _links(links),
        "scheduled": {id_: sorted(ids) for id_, ids in scheduled.items()},
        "due": sorted(item for build in builds for item in due(build)),
        "unsealed": _unsealed(
            cluster, [build.id for build in by_event if build.state is State.FINISHED]
        ),
        "numbered": {(build.job, build.number): build.id for build in builds},
        "requests": sorted(build.requested_seq for build in builds),
    }


def _queued(cluster: Cluster) -> dict[str, Any]:
    """Who is queued where, and what is taken of each pool; not what may begin, which rests on time."""
    queue, throttles = cluster.queue, cluster.throttles
    free = {
        (labels, project): items
        for labels, projects in queue.ready.items()
        for project, queued in projects.items()
        if (items := [it for it in queued if wish_of(cluster.picture.builds[it[2]]) == NO_WISH])
    }
    uses = queue.pools.uses.items()
    return {
        "free": free,
        "lines": {kind: line.items for kind, line in queue.lines.items()},
        "delayed": queue.delayed,
        "by labels": queue.waiting,
        "pools": {pool: (dict(use.holders), use.used, use.all) for pool, use in uses},
        "throttles": (throttles.running, throttles.totals),
    }


def _links(links: Links) -> dict[str, Any]:
    return {
        name: {key: set(ids) for key, ids in getattr(links, name).items()}
        for name in Links.__slots__
    }


def _unsealed(cluster: Cluster, ids: Iterable[str]) -> list[tuple[int, str]]:
    builds = cluster.picture.builds
    return [
        (seq, id_)
        for seq, group in itertools.groupby((builds[id_] for id_ in ids), key=lambda b: b.seq)
        for id_ in sorted(build.id for build in group)
    ]


def fold(cluster: Cluster, seq: int, event: Event) -> Change:
    """Apply an event, and check all that is true of every event."""
    before = dict(cluster.picture.builds)
    is_news = seq > cluster.picture.seq
    change = apply(cluster, seq, event)
    after = cluster.picture.builds
    assert indexes(cluster) == derived(cluster)
    if not is_news:
        assert change == NOTHING
        assert after == before
        return change
    assert cluster.picture.seq == seq
    for id_ in before.keys() | after.keys():
        _check(seq, event, before.get(id_), after.get(id_))
    left = [build for id_, build in before.items() if id_ not in after]
    assert list(change.sealed) == sorted(left, key=lambda b: (b.seq, b.job, b.number))
    changed = {id_: build for id_, build in after.items() if before.get(id_) != build}
    assert {build.id: build for build in change.builds} == changed
    assert len(change.builds) == len(changed)
    return change


def _check(seq: int, event: Event, before: Build | None, after: Build | None) -> None:
    if before == after:
        return
    if after is None:
        assert before is not None
        assert isinstance(event, HistorySealed)
        assert before.state is State.FINISHED
        assert before.seq <= event.through
        return
    assert isinstance(event, BuildEvent | PipelineRequested | SchedulesFired)
    assert after.seq == seq
    is_its = isinstance(event, BuildEvent) and event.build == after.id
    if is_its:
        assert after.last_seq == seq
    if before is None:
        assert isinstance(event, BuildRequested | BuildRetried | PipelineRequested | SchedulesFired)
        assert after.requested_seq <= seq
        return
    if _but_seq(before) == _but_seq(after):
        return
    if isinstance(event, ArtifactKept | BuildWaiting | BuildAsked | BuildAnswered):
        assert before.state is after.state
        return
    if is_its and isinstance(event, BuildFinished):
        _check_end(event, before, after)
    moves = MOVES[type(event)] if is_its and isinstance(event, BuildEvent) else FOLLOWING
    is_still = not is_its and before.state is after.state is State.HELD  # it knows more
    assert is_still or _leads(before.state, after.state, moves), (
        f"{event} moved a build from {before.state} to {after.state}"
    )


def _leads(before: State, after: State, moves: tuple[Move, ...]) -> bool:
    """Whether one of the moves leads there, or one that leads to held, and on from that."""
    for move in moves:
        there = TRANSITIONS.get((before, move))
        if there is after or (there is State.HELD and _leads(State.HELD, after, FOLLOWING)):
            return True
    return False


def _but_seq(build: Build) -> dict[str, Any]:
    return {**asdict(build), "last_seq": 0, "seq": 0}


def _check_end(event: BuildFinished, before: Build, after: Build) -> None:
    assert event.attempt == before.attempt == after.attempt
    assert event.agent == before.agent or event.reason is Reason.LOST
    if after.state is State.FINISHED:
        is_cancelled = event.reason is Reason.LOST and before.cancelled_by is not None
        reason = Reason.CANCELLED if is_cancelled else event.reason
        if reason is Reason.CANCELLED and before.superseded_by:
            reason = Reason.SUPERSEDED
        assert (after.reason, after.result is None) == (reason, False)
        assert after.former == before.former
        return
    retry = before.spec.retry
    assert before.cancelled_by is None
    assert event.reason in retry.on or event.exit_code in retry.exit_codes
    assert before.attempt <= retry.times
    assert len(after.former) == len(before.former) + 1
    assert after.former[-1].attempt == before.attempt
    assert after.former[-1].reason == event.reason
    wait = retry_delay_s(before)
    if wait:
        assert after.not_before is not None
        assert abs((after.not_before - event.at).total_seconds() - wait) < 1e-3
    else:
        assert after.not_before is None
    assert (after.result, after.agent, after.finished_at) == (None, None, None)
