"""What becomes of instants whose time has come: misses, overlaps, pauses, changes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.harness.facts import moment

from rota.core.agenda import GRACE_S, MAX_MISSES, MAX_WAITING, Agenda, Due
from rota.core.schedules import Pause, Scheduled, Skip, build_id, revised
from rota.core.timetable import Timetable
from rota.core.triggers import Schedule

A = "web:a"
NOON = datetime.fromisoformat("2026-06-01T12:00:00+00:00")


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def scheduled(**rule: Any) -> Scheduled:
    rule = {"every_s": 60.0} | rule
    return Scheduled(job="web", rule=Schedule(**rule), since=NOON)


def agenda(**schedules: Scheduled) -> Agenda:
    known = {f"web:{name}": it for name, it in schedules.items()}
    made = Agenda(lambda: known, lambda id_, it: Timetable(it.rule, id_, {}))
    while made.work(1):
        pass
    return made


def nothing(_: str) -> list[str]:
    return []


def test_nothing_is_due_before_its_time() -> None:
    due = agenda(a=scheduled()).due(at(59.9), nothing)
    assert (due.fires, due.skips) == ((), ())


def test_what_is_due_fires_as_its_instant_however_late_it_is_looked_at() -> None:
    due = agenda(a=scheduled()).due(at(60 + GRACE_S), nothing)
    assert due.fires == (Due(A, at(60)), Due(A, at(120)))


def test_what_is_due_together_fires_by_priority() -> None:
    made = agenda(a=scheduled(), b=scheduled(priority=5), c=scheduled(priority=-5))
    due = made.due(at(60), nothing)
    assert [it.schedule for it in due.fires] == ["web:b", "web:a", "web:c"]


def test_a_schedule_that_was_asked_for_is_not_due_again_until_it_is_looked_at() -> None:
    made = agenda(a=scheduled())
    assert made.due(at(60), nothing).fires
    assert not made.due(at(60), nothing).fires
    made.look([A])
    assert not made.work()
    assert made.due(at(60), nothing).fires


def test_a_limit_leaves_the_others_for_the_next_round() -> None:
    made = agenda(**{f"s{n}": scheduled() for n in range(10)})
    first = made.due(at(60), nothing, limit=4)
    second = made.due(at(60), nothing, limit=40)
    assert len(first.fires) == 4
    assert len({it.schedule for it in (*first.fires, *second.fires)}) == 10


def test_by_default_only_the_last_of_missed_instants_fires() -> None:
    due = agenda(a=scheduled(every_s=600.0)).due(at(3600 + 300), nothing)
    assert due.fires == (Due(A, at(3600)),)
    (skip,) = due.skips
    assert (skip.first, skip.last, skip.count) == (at(600), at(3000), 5)
    assert skip.why == "missed, up to 55m late; misfire policy: once"


def test_a_miss_says_that_nobody_led_then() -> None:
    made = agenda(a=scheduled(every_s=600.0, misfire="skip"))
    (skip,) = made.due(at(700), nothing, led_since=at(650)).skips
    assert skip.why == (
        "missed, up to 1m40s late; misfire policy: skip; "
        "the present leader was elected at 2026-06-01 12:10:50 UTC"
    )


@pytest.mark.parametrize(
    ("rule", "fired", "skipped"),
    [
        ({"misfire": "skip"}, [], 4),
        ({"misfire": "once"}, [2400], 3),
        ({"misfire": "all"}, [600, 1200, 1800, 2400], 0),
        ({"misfire": "within", "within_s": 900.0}, [1800, 2400], 2),
        ({"misfire": "within", "within_s": 90.0}, [], 4),
    ],
)
def test_each_misfire_policy(rule: dict[str, Any], fired: list[int], skipped: int) -> None:
    due = agenda(a=scheduled(every_s=600.0, **rule)).due(at(2400 + 100), nothing)
    assert [it.at for it in due.fires] == [at(seconds) for seconds in fired]
    assert sum(it.count for it in due.skips) == skipped


def test_with_one_on_time_once_needs_no_missed_one() -> None:
    due = agenda(a=scheduled(every_s=600.0)).due(at(1200), nothing)
    assert due.fires == (Due(A, at(1200)),)
    assert due.skips[0].count == 1


@pytest.mark.parametrize("misfire", ["skip", "once", "all"])
def test_after_long_absence_each_instant_is_settled_once_and_few_fire(misfire: str) -> None:
    known = {A: scheduled(every_s=1.0, misfire=misfire)}
    made = Agenda(lambda: known, lambda id_, it: Timetable(it.rule, id_, {}))
    fired: list[datetime] = []
    skipped = rounds = 0
    now = at(3700.5)
    made.work()
    while (due := made.due(now, nothing)).schedules:
        rounds += 1
        last = known[A].settled
        for skip in due.skips:
            assert skip.first == last + timedelta(seconds=1)
            skipped, last = skipped + skip.count, skip.last
        for fire in due.fires:
            assert fire.at == last + timedelta(seconds=1)
            last = fire.at
            fired.append(fire.at)
        known[A] = Scheduled(job="web", rule=known[A].rule, since=NOON, cursor=last)
        made.look([A])
        made.work()
    assert known[A].settled == at(3700)
    assert skipped + len(fired) == 3700
    late = [it for it in fired if it < now - timedelta(seconds=GRACE_S)]
    assert len(late) == {"skip": 0, "once": 0, "all": MAX_MISSES}[misfire]
    assert rounds < 10


@pytest.mark.parametrize(
    ("overlap", "running", "after", "ends"),
    [
        ("allow", ["x"], (), ()),
        ("queue", ["x", "y"], ("y",), ()),
        ("replace", ["x", "y"], (), ("x", "y")),
        ("skip", [], (), ()),
    ],
)
def test_each_overlap_policy(
    overlap: str, running: list[str], after: tuple[str, ...], ends: tuple[str, ...]
) -> None:
    due = agenda(a=scheduled(overlap=overlap)).due(at(60), lambda _: running)
    assert due.fires == (Due(A, at(60), after, ends),)


def test_what_overlaps_is_skipped_on_the_record() -> None:
    due = agenda(a=scheduled(overlap="skip")).due(at(60), lambda _: ["x"])
    why = "build x had not finished; overlap policy: skip"
    assert (due.fires, due.skips) == ((), (Skip(A, at(60), at(60), why),))


def test_a_queue_of_one_schedule_ends() -> None:
    full = [str(n) for n in range(MAX_WAITING + 1)]
    due = agenda(a=scheduled(overlap="queue")).due(at(60), lambda _: full)
    assert not due.fires
    assert due.skips[0].why == "101 builds of it had not finished, the limit is 100"


def test_jitter_puts_a_fire_off_and_not_its_instant() -> None:
    made = agenda(a=scheduled(jitter_s=30.0))
    top = made.next_due()
    assert top is not None
    assert at(60) < top[0] < at(90)
    assert not made.due(at(60), nothing).fires
    assert made.due(top[0], nothing).fires == (Due(A, at(60)),)


def test_a_paused_schedule_is_never_due() -> None:
    known = {A: scheduled()}
    made = Agenda(lambda: known, lambda id_, it: Timetable(it.rule, id_, {}))
    made.work()
    known[A] = Scheduled(job="web", rule=known[A].rule, since=NOON, pause=Pause("ada"))
    made.look([A])
    made.work()
    assert made.next_due() is None


def test_ids_of_builds_are_those_of_their_instants() -> None:
    assert build_id(A, at(0)) == build_id(A, moment((at(0) - moment(0)).total_seconds()))
    assert len({build_id(A, at(0)), build_id(A, at(1)), build_id("web:b", at(0))}) == 3


# -- what changes when definitions do ---------------------------------------------------------


def revision(known: Scheduled | None, wanted: Scheduled | None, now: datetime) -> Any:
    instants = None if known is None else Timetable(known.rule, A, {})
    return revised(A, known, wanted, instants, now)


def test_a_new_schedule_counts_from_when_it_was_seen() -> None:
    made = revision(None, scheduled(), at(5))
    assert (made.now.since, made.now.cursor, made.skip) == (at(5), None, None)


def test_what_has_not_changed_is_not_written_again() -> None:
    assert revision(scheduled(), scheduled(), at(5)) is None


@pytest.mark.parametrize("wanted", [None, scheduled(every_s=30.0)], ids=["removed", "changed"])
def test_what_was_not_settled_before_a_change_is_on_record(wanted: Scheduled | None) -> None:
    made = revision(scheduled(), wanted, at(130))
    assert (made.skip.first, made.skip.last, made.skip.count) == (at(60), at(120), 2)
    if wanted is not None:
        assert made.now.since == at(130)


def test_another_priority_or_policy_does_not_begin_it_anew() -> None:
    made = revision(scheduled(), scheduled(priority=3, overlap="skip"), at(130))
    assert (made.now.since, made.skip, made.now.rule.priority) == (NOON, None, 3)


def test_a_pause_is_settled_when_it_ends() -> None:
    rest = Scheduled(
        job="web", rule=scheduled().rule, since=NOON, cursor=at(60), pause=Pause("ada", reason="db")
    )
    made = revision(rest, scheduled(), at(300))
    assert made.now.pause is None
    assert made.skip == Skip(A, at(120), at(300), "paused by ada: db", 4)


def test_a_pause_may_leave_its_misses_to_the_misfire_policy() -> None:
    rest = Scheduled(
        job="web", rule=scheduled().rule, since=NOON, cursor=at(60), pause=Pause(misses="run")
    )
    made = revision(rest, scheduled(), at(300))
    assert (made.now.pause, made.now.cursor, made.skip) == (None, at(60), None)


def test_so_many_misses_that_counting_them_would_take_long_are_many() -> None:
    made = revision(scheduled(every_s=1.0), None, at(20_000.5))
    assert (made.skip.count, made.skip.last) == (0, at(20_000.5))
