"""The outbox as it is folded: what is owed, told once, bounded, and the same after a snapshot."""

from __future__ import annotations

from typing import Any

import msgspec
from tests.harness.facts import moment

from rota.core import outbox as module
from rota.core.cluster import Cluster, decode_picture, encode_picture
from rota.core.events import (
    BuildFinished,
    BuildRequested,
    BuildStarted,
    Event,
    HistorySealed,
    NoticesDropped,
    NoticesQueued,
    NoticesSending,
    NoticesSent,
)
from rota.core.fold import apply
from rota.core.job import Reason, Spec
from rota.core.outbox import Due, Tale, Telling, end_mark, message_id

ROOM = "irc:#web"


class Journal:
    def __init__(self) -> None:
        self.cluster, self.seq = Cluster(), 0

    def __call__(self, event: Event) -> Any:
        self.seq += 1
        return apply(self.cluster, self.seq, event)

    @property
    def outbox(self) -> Any:
        return self.cluster.picture.outbox

    def ended(self, build: str) -> None:
        self(BuildRequested(at=moment(), build=build, job="web", spec=Spec()))
        self(BuildStarted(at=moment(), agent="a", build=build, attempt=1))
        self(
            BuildFinished(
                at=moment(), agent="a", build=build, attempt=1, reason=Reason.SCRIPT, exit_code=1
            )
        )

    def telling(self, build: str, *targets: str, turn: Any = "broken") -> Telling:
        found = self.cluster.picture.builds.get(build)
        mark = end_mark(found) if found is not None else "1"
        notices = tuple(Due(target, "failed") for target in targets or (ROOM,))
        tale = Tale(
            build=build,
            ref="web#1",
            lane="web main",
            turn=turn,
            concerned=targets or (ROOM,),
            notices=notices,
        )
        return Telling(build=build, mark=mark, tales=(tale,))

    def queue(self, *tellings: Telling) -> None:
        self(NoticesQueued(at=moment(), tellings=tellings, through=self.seq))

    def sending(self, target: str = ROOM) -> tuple[str, tuple[str, ...]]:
        queue = self.outbox.queues[target]
        ids = tuple(notice.id for notice in queue.notices)
        message = message_id(ids, queue.left_out)
        event = NoticesSending(
            at=moment(), target=target, message=message, notices=ids, left_out=queue.left_out
        )
        self(event)
        return message, ids


def test_from_what_is_owed_to_what_was_sent() -> None:
    journal = Journal()
    journal.ended("b1")
    journal.queue(journal.telling("b1"))
    assert journal.outbox.looked == 3
    assert journal.cluster.picture.builds["b1"].told == (ROOM,)
    assert journal.outbox.broken["web main"].ref == "web#1"
    message, ids = journal.sending()
    assert message == ids[0], "one notice is its own message"
    assert journal.outbox.queues[ROOM].sending.message == message
    journal(NoticesSent(at=moment(), target=ROOM, message=message, notices=ids, said="s1"))
    assert not journal.outbox.queues
    [done] = journal.outbox.done.values()
    assert (done.said.said, done.said.was_sent, done.notice.build) == ("s1", True, "b1")
    journal.queue(journal.telling("b1", turn="fixed"))
    assert not journal.outbox.queues, "that end was told of"
    assert journal.outbox.broken
    journal(HistorySealed(at=moment(), agent="a", through=journal.seq))
    assert not journal.outbox.marks
    assert not journal.cluster.picture.builds


def test_what_is_told_changes_nothing_else_of_a_build() -> None:
    journal = Journal()
    journal.ended("b1")
    before = journal.cluster.picture.builds["b1"]
    journal.queue(journal.telling("b1"))
    after = journal.cluster.picture.builds["b1"]
    assert msgspec.structs.replace(after, told=()) == before
    assert journal.cluster.unsealed == {"b1": None}


def test_what_is_dropped_says_why_and_an_unknown_target_nothing() -> None:
    journal = Journal()
    journal.queue(journal.telling("b1"))
    _, ids = journal.sending()
    journal(NoticesDropped(at=moment(), target=ROOM, notices=ids, why="no such channel"))
    [done] = journal.outbox.done.values()
    assert (done.said.why, done.said.was_sent) == ("no such channel", False)
    before = msgspec.json.encode(journal.outbox)
    journal(NoticesSent(at=moment(), target="irc:#none", message="m", notices=ids))
    journal(NoticesSending(at=moment(), target="irc:#none", message="m", notices=ids))
    assert msgspec.json.encode(journal.outbox) == before


def test_the_oldest_are_dropped_and_counted(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MAX_QUEUE", 3)
    journal = Journal()
    for number in range(5):
        journal.queue(journal.telling(f"b{number}"))
    queue = journal.outbox.queues[ROOM]
    assert [notice.build for notice in queue.notices] == ["b2", "b3", "b4"]
    assert queue.left_out == 2
    message, ids = journal.sending()
    assert message not in ids
    journal.queue(journal.telling("b5"))
    queue = journal.outbox.queues[ROOM]
    assert [notice.build for notice in queue.notices] == ["b2", "b3", "b4"], "it is being said"
    assert queue.left_out == 3
    journal(NoticesSent(at=moment(), target=ROOM, message=message, notices=ids))
    assert not journal.outbox.queues


def test_where_all_are_owed_much_each_keeps_little(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MAX_OWED", 6)
    monkeypatch.setattr(module, "MAX_CROWDED", 2)
    journal = Journal()
    for number in range(8):
        journal.queue(journal.telling(f"b{number}", f"irc:#{number % 2}"))
    queues = journal.outbox.queues
    assert {name: [it.build for it in queue.notices] for name, queue in queues.items()} == {
        "irc:#0": ["b4", "b6"],
        "irc:#1": ["b1", "b3", "b5", "b7"],
    }
    assert journal.outbox.owed == 6


def test_there_are_not_more_targets_than_may_be(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MAX_TARGETS", 1)
    journal = Journal()
    journal.queue(journal.telling("b1", ROOM, "mail:a@b.example"))
    assert list(journal.outbox.queues) == [ROOM]
    [done] = journal.outbox.done.values()
    assert done.said.why == "1 targets wait already"


def test_what_is_done_and_broken_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MAX_DONE", 2)
    journal = Journal()
    for number in range(4):
        journal.queue(journal.telling(f"b{number}"))
        message, ids = journal.sending()
        journal(NoticesSent(at=moment(), target=ROOM, message=message, notices=ids))
    assert [done.notice.build for done in journal.outbox.done.values()] == ["b2", "b3"]


def test_a_snapshot_is_the_same_and_an_old_one_has_no_outbox() -> None:
    journal = Journal()
    journal.ended("b1")
    journal.queue(journal.telling("b1", ROOM, "mail:a@b.example"))
    journal.sending()
    raw = encode_picture(journal.cluster)
    restored = decode_picture(raw)
    assert restored is not None
    assert restored.picture == journal.cluster.picture
    _, _, fields = msgspec.json.decode(raw)
    del fields["outbox"]
    for build in fields["builds"].values():
        del build["told"]
    old = decode_picture(msgspec.json.encode(fields))
    assert old is not None
    assert not old.picture.outbox.queues
    assert old.picture.builds["b1"].told == ()
