"""Decisions, one fact a test."""

from __future__ import annotations

from typing import Any

from tests.harness.facts import moment

from rota.core.decide import (
    KEEP_EVENTS,
    TRIM_STEP,
    Claim,
    Decision,
    Effect,
    Seal,
    Trim,
    View,
    decide,
    trim_floor,
)
from rota.core.events import (
    BuildCancelled,
    BuildFinished,
    BuildRequested,
    BuildStarted,
    Event,
    HistorySealed,
    LeaderElected,
)
from rota.core.fold import Cluster, apply
from rota.core.job import Reason, Retry, Spec


def cluster_of(*events: Event) -> Cluster:
    cluster = Cluster()
    for event in events:
        apply(cluster, cluster.picture.seq + 1, event)
    return cluster


def requested(build: str, **spec: Any) -> Event:
    return BuildRequested(at=moment(), build=build, job="web", spec=Spec(**spec))


def started(build: str, agent: str = "p", attempt: int = 1) -> Event:
    return BuildStarted(at=moment(), agent=agent, build=build, attempt=attempt)


def finished(build: str, reason: Reason = Reason.SCRIPT) -> Event:
    return BuildFinished(at=moment(), agent="p", build=build, attempt=1, reason=reason)


LEADS = LeaderElected(at=moment(), agent="p")


def view(**more: Any) -> View:
    return View(**{"name": "p", "labels": {}, "slots": 2, "leads": True, **more})


def claimed(decision: Decision) -> list[str]:
    return [effect.build for effect in decision.effects if isinstance(effect, Claim)]


def duties(decision: Decision) -> list[Effect]:
    return [effect for effect in decision.effects if not isinstance(effect, Claim)]


def test_nothing_to_do_is_nothing_and_wakes_nobody() -> None:
    assert decide(cluster_of(), view(), moment()) == Decision()
    assert decide(cluster_of(LEADS), view(), moment()) == Decision()


def test_a_claim_names_the_next_attempt_and_the_builds_last_event() -> None:
    cluster = cluster_of(requested("a"), started("a", attempt=9))
    (claim,) = decide(cluster, view(), moment()).effects
    assert claim == Claim(build="a", attempt=1, expect=2)


def test_an_agent_claims_for_its_free_slots_alone() -> None:
    cluster = cluster_of(requested("a"), requested("b"), requested("c"), started("a"))
    assert claimed(decide(cluster, view(), moment())) == ["b"]
    assert claimed(decide(cluster, view(slots=3), moment())) == ["b", "c"]
    assert claimed(decide(cluster, view(claiming={"b"}), moment())) == []
    assert claimed(decide(cluster, view(slots=3, claiming={"a", "b"}), moment())) == ["c"]
    assert claimed(decide(cluster, view(slots=0), moment())) == []
    assert claimed(decide(cluster, view(slots=-1), moment())) == []
    assert claimed(decide(cluster, view(takes_builds=False), moment())) == []
    assert claimed(decide(cluster, view(name="q"), moment())) == ["b", "c"]


def test_priority_then_age_decides_across_all_expressions() -> None:
    cluster = cluster_of(
        requested("a", labels="linux"),
        requested("b", priority=1),
        requested("c", labels="linux || arm", priority=1),
        requested("d", labels="windows", priority=9),
        requested("e", labels="not && valid &&", priority=9),
    )
    seen = decide(cluster, view(slots=9, labels={"linux": ""}), moment())
    assert claimed(seen) == ["b", "c", "a"]
    assert claimed(decide(cluster, view(slots=1, labels={"linux": ""}), moment())) == ["b"]


def test_a_retry_waits_for_its_time_and_lets_others_pass() -> None:
    policy = Retry(times=1, on=(Reason.LOST,), delay_s=30.0)
    cluster = cluster_of(
        requested("a", retry=policy), started("a"), finished("a", Reason.LOST), requested("b")
    )
    early = decide(cluster, view(slots=1), moment(29))
    assert (claimed(early), early.wake_at) == (["b"], moment(30))
    assert claimed(decide(cluster, view(slots=1), moment(30))) == ["a"]


def test_only_the_leader_seals() -> None:
    events = (requested("a"), started("a"), finished("a"))
    assert duties(decide(cluster_of(*events), view(), moment())) == []
    cluster = cluster_of(*events, LEADS)
    assert duties(decide(cluster, view(), moment())) == [Seal(through=4, fence=4)]
    assert duties(decide(cluster, view(name="q"), moment())) == []
    assert duties(decide(cluster, view(is_sealing=True), moment())) == []


def test_seals_are_a_second_apart_whatever_the_wall_clock_says() -> None:
    done = (requested("b"), started("b"), finished("b"))
    cluster = cluster_of(LEADS, HistorySealed(at=moment(), through=1), *done)
    for now in (moment(-600), moment(0.1), moment(600)):
        early = decide(cluster, view(since_seal_s=0.25), now)
        assert duties(early) == []
        assert early.wake_at is not None
        assert (early.wake_at - now).total_seconds() == 0.75
        due = decide(cluster, view(since_seal_s=1.0), now)
        assert duties(due) == [Seal(through=5, fence=1)]


def test_the_journal_is_trimmed_in_steps_behind_the_history() -> None:
    sealed = KEEP_EVENTS + TRIM_STEP + 1
    cluster = cluster_of(LEADS)
    apply(cluster, sealed + 1, HistorySealed(at=moment(), through=sealed))
    for covered, effects in (
        (sealed, [Trim(before=TRIM_STEP + 1)]),
        (sealed - 1, []),
        (sealed + 10**6, [Trim(before=TRIM_STEP + 1)]),
        (0, []),
    ):
        assert duties(decide(cluster, view(history_covered=covered), moment())) == effects
    later = view(history_covered=sealed, journal_first=2)
    assert duties(decide(cluster, later, moment())) == []


def test_the_oldest_live_build_holds_the_journal() -> None:
    cluster = cluster_of(LEADS, requested("a"), requested("b"))
    apply(cluster, 100, HistorySealed(at=moment(), through=99))
    assert trim_floor(cluster, 99) == 2
    apply(cluster, 101, BuildCancelled(at=moment(), build="a"))
    assert trim_floor(cluster, 99) == 2
    apply(cluster, 102, HistorySealed(at=moment(), through=101))
    assert trim_floor(cluster, 101) == 3
    apply(cluster, 103, BuildCancelled(at=moment(), build="b"))
    apply(cluster, 104, HistorySealed(at=moment(), through=103))
    assert trim_floor(cluster, 101) == 101
