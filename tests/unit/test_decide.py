"""Decisions, one fact a test."""

from __future__ import annotations

from typing import Any

from tests.harness.facts import moment

from rota.core.cluster import Cluster
from rota.core.decide import (
    KEEP_EVENTS,
    QUIET_S,
    TRIM_STEP,
    Claim,
    Decision,
    Effect,
    Forget,
    Lose,
    LoseBuild,
    Seal,
    Trim,
    View,
    decide,
    expected,
    trim_floor,
)
from rota.core.events import (
    AgentDrained,
    AgentJoined,
    AgentLeft,
    AgentLost,
    AgentStarted,
    AgentStopped,
    BuildCancelled,
    BuildFinished,
    BuildRequested,
    BuildStarted,
    Event,
    HistorySealed,
    LeaderElected,
    LeaderResigned,
)
from rota.core.fold import apply
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


def up(agent: str) -> Event:
    return AgentStarted(at=moment(), agent=agent, slots=2)


def test_who_does_not_hold_the_lease_has_no_duties() -> None:
    done = (requested("a"), started("a"), finished("a"), up("p"), up("q"))
    silent = {"q": 1e6}
    leading = decide(cluster_of(*done, LEADS), view(silent=silent), moment())
    assert {type(effect) for effect in duties(leading)} == {Seal, Lose}
    for cluster, leads in (
        (cluster_of(*done, LEADS), False),  # its beats are no longer heard
        (cluster_of(*done, LEADS, LeaderElected(at=moment(), agent="q")), True),
        (cluster_of(*done, LEADS, LeaderResigned(at=moment(), agent="p")), True),
    ):
        idle = decide(cluster, view(silent=silent, leads=leads), moment())
        assert duties(idle) == []
        assert idle.wake_at is None


def test_duties_are_fenced_by_the_election_that_the_leader_leads_by() -> None:
    again = LeaderElected(at=moment(), agent="p")
    cluster = cluster_of(LEADS, requested("a"), started("a"), again, finished("a"))
    assert duties(decide(cluster, view(), moment())) == [Seal(through=5, fence=4)]
    trimmed = view(journal_first=5)
    assert duties(decide(cluster, trimmed, moment())) == [Seal(through=5, fence=0)]
    assert (expected(4, 4), expected(4, 5)) == (4, 0)


def test_an_agent_that_is_silent_for_too_long_is_lost() -> None:
    cluster = cluster_of(LEADS, up("p"), up("q"), up("r"))
    assert duties(decide(cluster, view(silent={"q": 8.0, "p": 99.0}), moment())) == []
    gone = view(silent={"q": 8.5})
    assert duties(decide(cluster, gone, moment())) == [Lose(agent="q", silent_s=8.5, fence=1)]
    patient = view(silent={"q": 8.5}, lost_after_s=9.0)
    assert duties(decide(cluster, patient, moment())) == []
    told = view(silent={"q": 8.5}, losing={"q"})
    assert duties(decide(cluster, told, moment())) == []


def test_only_who_is_up_can_be_lost() -> None:
    silent = view(silent={"q": 99.0})
    for after in (AgentStopped(at=moment(), agent="q"), AgentLost(at=moment(), name="q")):
        assert duties(decide(cluster_of(LEADS, up("q"), after), silent, moment())) == []


def test_the_builds_of_a_lost_agent_are_lost() -> None:
    running = (LEADS, up("p"), up("q"), requested("a"), started("a", "q"))
    silent = view(slots=0, silent={"q": 99.0})
    assert all(isinstance(e, Lose) for e in duties(decide(cluster_of(*running), silent, moment())))
    lost = cluster_of(*running, AgentLost(at=moment(), name="q", silent_s=9.0))
    expect = [LoseBuild(build="a", attempt=1, why="q was lost", fence=1)]
    assert duties(decide(lost, silent, moment())) == expect
    assert duties(decide(lost, view(slots=0, losing={"a"}), moment())) == []


def test_a_lost_agent_that_is_up_again_keeps_its_builds() -> None:
    cluster = cluster_of(
        LEADS,
        up("q"),
        requested("a"),
        started("a", "q"),
        AgentLost(at=moment(), name="q"),
        up("q"),
    )
    assert duties(decide(cluster, view(), moment())) == []


def test_the_builds_of_a_stopped_agent_wait_for_its_return_for_a_while() -> None:
    stopped = AgentStopped(at=moment(), agent="q")
    cluster = cluster_of(LEADS, up("q"), requested("a"), started("a", "q"), stopped)
    for silent_s, effects in (
        (0.0, []),
        (60.0, []),
        (
            60.5,
            [LoseBuild(build="a", attempt=1, why="q was stopped, and did not come back", fence=1)],
        ),
    ):
        assert duties(decide(cluster, view(silent={"q": silent_s}), moment())) == effects
    soon = view(silent={"q": 60.5}, stopped_after_s=61.0)
    assert duties(decide(cluster, soon, moment())) == []


def test_the_builds_of_an_agent_that_left_are_lost_at_once() -> None:
    left = AgentLeft(at=moment(), name="q")
    cluster = cluster_of(LEADS, up("q"), requested("a"), started("a", "q"), left)
    expect = [LoseBuild(build="a", attempt=1, why="its agent left the cluster", fence=1)]
    assert duties(decide(cluster, view(is_sealing=True), moment())) == expect


def test_a_cancelled_build_does_not_wait_for_an_agent_that_is_away() -> None:
    stopped = AgentStopped(at=moment(), agent="q")
    cancelled = BuildCancelled(at=moment(), by="ann", build="a")
    running = (LEADS, up("q"), requested("a"), started("a", "q"))
    assert duties(decide(cluster_of(*running, cancelled), view(), moment())) == []
    away = cluster_of(*running, stopped, cancelled)
    expect = [LoseBuild(build="a", attempt=1, why="q is stopped", fence=1)]
    assert duties(decide(away, view(), moment())) == expect


def test_what_the_leader_runs_itself_is_not_lost() -> None:
    stopped = AgentStopped(at=moment(), agent="p")
    cluster = cluster_of(LEADS, up("p"), requested("a"), started("a"), stopped)
    assert duties(decide(cluster, view(silent={"p": 99.0}), moment())) == []


def test_an_agent_that_is_drained_takes_nothing_until_that_is_over() -> None:
    drained = AgentDrained(at=moment(), name="p")
    back = AgentDrained(at=moment(), name="p", draining=False)
    assert claimed(decide(cluster_of(up("p"), requested("a"), drained), view(), moment())) == []
    cluster = cluster_of(up("p"), requested("a"), drained, up("p"))
    assert claimed(decide(cluster, view(), moment())) == []
    cluster = cluster_of(up("p"), requested("a"), drained, back)
    assert claimed(decide(cluster, view(), moment())) == ["a"]
    other = AgentDrained(at=moment(), name="q")
    cluster = cluster_of(up("p"), up("q"), requested("a"), other)
    assert claimed(decide(cluster, view(), moment())) == ["a"]


def test_an_exclusive_build_is_given_up_later_and_not_before_this_leader_led_for_as_long() -> None:
    cluster = cluster_of(
        LEADS,
        up("q"),
        requested("a", exclusive=True),
        started("a", "q"),
        AgentLost(at=moment(), name="q"),
    )
    early = view(slots=0, silent={"q": 11.9})
    assert duties(decide(cluster, early, moment())) == []
    new = view(slots=0, silent={"q": 99.0}, led_s=11.9)
    assert duties(decide(cluster, new, moment())) == []
    late = view(slots=0, silent={"q": 12.1}, led_s=12.1)
    (lost,) = duties(decide(cluster, late, moment()))
    assert isinstance(lost, LoseBuild)


def shared(cluster: Cluster, **more: Any) -> dict[str, list[str]]:
    return {
        name: claimed(decide(cluster, view(name=name, quiet_s=0.0, **more), moment()))
        for name in ("p", "q", "r")
    }


def test_agents_that_compete_take_different_builds_of_the_same_front() -> None:
    cluster = cluster_of(up("p"), up("q"), up("r"), *(requested(name) for name in "abcdefghij"))
    by_agent = shared(cluster)
    taken = [build for builds in by_agent.values() for build in builds]
    assert sorted(taken) == list("abcdef"), by_agent


def test_a_lone_build_is_claimed_by_one_of_many_at_once_and_by_all_when_nobody_does() -> None:
    cluster = cluster_of(up("p"), up("q"), up("r"), requested("a"))
    assert sorted(map(len, shared(cluster).values())) == [0, 0, 1]
    waiting = [decide(cluster, view(name=n, quiet_s=0.0), moment()) for n in ("p", "q", "r")]
    assert all(each.wake_at is not None or each.effects for each in waiting)
    left = decide(cluster, view(name="q", quiet_s=QUIET_S), moment())
    assert claimed(left) == ["a"]


def test_who_is_drained_lost_or_has_no_slot_is_not_counted_on() -> None:
    cluster = cluster_of(
        up("p"),
        up("q"),
        AgentDrained(at=moment(), name="q"),
        up("r"),
        AgentLost(at=moment(), name="r"),
        requested("a"),
    )
    assert claimed(decide(cluster, view(quiet_s=0.0), moment())) == ["a"]


def test_an_ephemeral_agent_that_does_not_come_back_is_forgotten() -> None:
    at = moment()
    cluster = cluster_of(
        AgentJoined(at=at, agent="p", name="p", pin="p"),
        AgentJoined(at=at, agent="p", name="q", pin="q", ephemeral=True),
        AgentJoined(at=at, agent="p", name="r", pin="r"),
        *(AgentStarted(at=at, agent=name) for name in "pqr"),
        *(AgentStopped(at=at, agent=name) for name in "qr"),
        LEADS,
    )
    fence = cluster.picture.leader_seq

    def effects(silent_s: float, **more: Any) -> list[Effect]:
        silent = dict.fromkeys("qr", silent_s)
        return duties(decide(cluster, view(silent=silent, is_sealing=True, **more), moment()))

    assert effects(59.0) == []
    assert effects(61.0) == [Forget("q", "it was ephemeral, and stopped", fence)]
    assert effects(61.0, losing={"q"}) == []
