"""The proof finds each instant that was lost, doubled or is not explained, and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from rota.core.build import Build, Trigger
from rota.core.schedule_proof import Proof, prove
from rota.core.schedules import (
    Fired,
    Note,
    Pause,
    Scheduled,
    Skip,
    build_id,
    decode_notes,
    encode_notes,
    ledger_path,
    rebuilt,
)
from rota.core.states import State
from rota.core.timetable import Timetable
from rota.core.triggers import Schedule

A = "web:a"
NOON = datetime.fromisoformat("2026-06-01T12:00:00+00:00")
RULE = Scheduled(job="web", rule=Schedule(every_s=60.0), since=NOON)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def note(seq: int, minutes: float, **what: Any) -> Note:
    return Note(seq=seq, at=at(minutes), **what)


def fire(seq: int, minutes: float, build: str = "") -> Note:
    instant = at(minutes)
    fired = Fired(A, instant, build or build_id(A, instant))
    return note(seq, minutes, fires=(fired,))


def skip(seq: int, first: float, last: float, count: int, now: float | None = None) -> Note:
    it = Skip(A, at(first), at(last), "because", count)
    return note(seq, last if now is None else now, skips=(it,))


SET = note(1, 0, set={A: RULE})
CLEAN = [SET, fire(2, 1), fire(3, 2), skip(4, 3, 5, 3), fire(5, 6)]


def record(minutes: float, number: int, id_: str = "") -> Build:
    trigger = Trigger(kind="schedule", source=A, at=at(minutes))
    return Build(
        id=id_ or build_id(A, at(minutes)),
        job="web",
        number=number,
        state=State.FINISHED,
        requested_at=at(minutes),
        trigger=trigger,
    )


def report(*notes: Note, builds: tuple[Build, ...] = (), job: str = "") -> Proof:
    return prove(notes, builds, lambda id_, it: Timetable(it.rule, id_, {}), job)


def found(it: Proof) -> list[tuple[str, float]]:
    return [(one.what, (one.at - NOON).total_seconds() / 60) for one in it.findings]


def test_a_clean_history_is_clean() -> None:
    it = report(*CLEAN, builds=(record(1, 1), record(2, 2)))
    assert it.is_clean
    assert (it.schedules, it.fired, it.skipped, it.recorded) == (1, 3, 3, 2)
    assert it.through == at(6)


def test_the_order_of_files_does_not_matter() -> None:
    assert report(*reversed(CLEAN)) == report(*CLEAN)


@pytest.mark.parametrize("gone", [1, 2])
def test_a_fire_that_is_missing_is_lost(gone: int) -> None:
    notes = [*CLEAN[:gone], *CLEAN[gone + 1 :]]
    assert found(report(*notes)) == [("lost", gone)]


def test_a_skip_that_is_missing_is_lost() -> None:
    assert found(report(*CLEAN[:3], CLEAN[4])) == [("lost", 3), ("lost", 4), ("lost", 5)]


def test_what_was_long_due_at_the_end_is_lost() -> None:
    other = note(9, 9, set={"db:x": replace(RULE, job="db", since=at(9))})
    assert found(report(*CLEAN, other)) == [("lost", 7)]  # of 8 and 9 it may be too early to say


def test_a_second_fire_of_an_instant_is_doubled() -> None:
    it = report(*CLEAN[:3], fire(3, 2, "other"), *CLEAN[3:])
    assert found(it) == [("doubled", 2)]
    assert "fired as other, and before as" in it.findings[0].text


def test_a_fire_that_is_no_instant_is_unexplained() -> None:
    assert found(report(*CLEAN, fire(6, 6.5))) == [("unexplained", 6.5)]


def test_a_count_that_is_wrong_is_unexplained() -> None:
    it = report(*CLEAN[:3], skip(4, 3, 5, 2), CLEAN[4])
    assert found(it) == [("unexplained", 3)]
    assert it.findings[0].text == "skipped 2 instants up to 2026-06-01T12:05:00Z, there are 3"


def test_two_records_of_one_instant_are_doubled() -> None:
    it = report(*CLEAN, builds=(record(1, 1), record(1, 2, "other")))
    assert found(it) == [("doubled", 1)]


def test_a_record_that_no_note_knows_is_unexplained() -> None:
    assert found(report(*CLEAN, builds=(record(7, 9),))) == [("unexplained", 7)]


def test_a_pause_at_the_end_loses_nothing() -> None:
    paused = note(6, 6.5, set={A: replace(RULE, pause=Pause("ada"))})
    assert report(*CLEAN, paused, note(7, 60)).is_clean


@pytest.mark.parametrize(
    "last",
    [note(6, 8.5, removed=(A,)), note(6, 8.5, set={A: replace(RULE, since=at(8.5))})],
    ids=["removed", "changed"],
)
def test_what_was_not_settled_before_a_change_is_lost(last: Note) -> None:
    assert found(report(*CLEAN, last)) == [("lost", 7), ("lost", 8)]


def test_only_one_job_may_be_looked_at() -> None:
    broken = note(2, 0, set={"db:x": replace(RULE, job="db")})
    assert not report(SET, broken, *CLEAN[1:]).is_clean
    assert report(SET, broken, *CLEAN[1:], job="web").is_clean


def test_a_ledger_comes_back_from_its_bytes() -> None:
    data = encode_notes(tuple(CLEAN))
    assert decode_notes(data) == CLEAN
    assert decode_notes(b"{broken\n" + data) == CLEAN
    assert ledger_path(12_345_678) == "schedules/00012/34/12345678.jsonl"


def test_cursors_are_rebuilt_from_a_ledger() -> None:
    (known,) = rebuilt(CLEAN).values()
    assert (known.cursor, known.since) == (at(6), NOON)
    assert rebuilt([*CLEAN, note(9, 9, removed=(A,))]) == {}
