"""The folded part of chat: heard once, answered, followed, told; and bounded."""

from datetime import UTC, datetime, timedelta

from rota.core import chat as chats
from rota.core.chat import END, MAX_IDS, MAX_WAITING
from rota.core.cluster import Cluster, decode_picture, encode_picture
from rota.core.events import (
    BuildCancelled,
    BuildRequested,
    BuildRetried,
    ChatAnswered,
    ChatHeard,
    ChatStanding,
    ChatTold,
    Emitted,
    Event,
    HistorySealed,
)
from rota.core.fold import apply
from rota.core.job import Spec

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Journal:
    """Folds events in order."""

    def __init__(self) -> None:
        self.cluster, self.seq = Cluster(), 0

    def __call__(self, *events: Event) -> chats.Chat:
        for event in events:
            self.seq += 1
            apply(self.cluster, self.seq, event)
        return self.cluster.picture.chat


def heard(message: str = "m1", **more: str) -> ChatHeard:
    """Return that a command was heard."""
    given = {"room": "#r", "text": "run web", **more}
    return ChatHeard(at=NOW, network="team", message=message, **given)  # type: ignore[arg-type]


def answered(message: str = "m1", **more: object) -> ChatAnswered:
    """Return that it was answered."""
    return ChatAnswered(at=NOW, network="team", message=message, room="#r", **more)  # type: ignore[arg-type]


def requested(build: str = "b", via: str = "team:m1") -> BuildRequested:
    """Return that a build is asked for by a command."""
    return BuildRequested(at=NOW, by="ann", build=build, job="web", spec=Spec(), via=via)


def cancelled(build: str = "b") -> BuildCancelled:
    """Return that a build that waits is over."""
    return BuildCancelled(at=NOW, by="ann", build=build)


def test_a_command_waits_until_it_is_answered_and_is_known_for_ever() -> None:
    journal = Journal()
    chat = journal(heard(position="p1"))
    assert [it.key for it in chat.waiting.values()] == ["team:m1"]
    assert chat.is_known("team", "m1")
    assert not chat.is_known("other", "m1")
    assert not chat.waiting["team:m1"].acted
    journal(heard(text="another"))
    assert chat.waiting["team:m1"].text == "run web"
    journal(requested())
    assert (chat.waiting["team:m1"].acted, chat.waiting["team:m1"].made) == (True, "b")
    journal(answered())
    assert not chat.waiting
    assert chat.is_known("team", "m1")
    journal(heard())
    assert not chat.waiting
    assert chat.positions == {"team": "p1"}


def test_what_it_began_is_followed_to_its_end_and_told_once() -> None:
    journal = Journal()
    chat = journal(heard(), requested(), answered(build="b", thread="t", follow="end"))
    (note,) = chat.following("b")
    assert (note.room, note.thread, note.ended) == ("#r", "t", 0)
    assert chat.about("team", "t") == "b"
    assert chat.in_room("team", "#r") == ["b"]
    journal(cancelled())
    (note,) = chat.following("b")
    assert note.ended == 4
    assert note.outcome is not None
    assert note.outcome.ref == "web#1"
    journal(HistorySealed(at=NOW, through=4))
    assert not journal.cluster.picture.builds
    assert chat.following("b") == [note]
    told = ChatTold(at=NOW, network="team", room="#r", thread="t", build="b", mark=END)
    journal(told, told)
    assert not chat.followed
    assert chat.about("team", "t") == "b"


def test_a_build_that_ends_before_its_command_is_answered_is_told_of_all_the_same() -> None:
    journal = Journal()
    seal = HistorySealed(at=NOW, through=3)
    chat = journal(heard(), requested(), cancelled(), seal, answered(build="b", follow="end"))
    (note,) = chat.following("b")
    assert note.ended == 5
    assert note.outcome is not None
    assert not journal.cluster.picture.builds


def test_a_build_that_is_tried_again_is_followed_on() -> None:
    journal = Journal()
    chat = journal(heard(), requested(), answered(build="b", follow="end"), cancelled())
    record = journal.cluster.picture.builds["b"]
    journal(BuildRetried(at=NOW, build="b", record=record))
    (note,) = chat.following("b")
    assert (note.ended, note.outcome) == (0, None)


def test_who_wants_it_no_longer_is_told_no_more() -> None:
    journal = Journal()
    chat = journal(heard(), requested(), answered(build="b", follow="log", offset=3))
    (note,) = chat.following("b")
    assert (note.log, note.offset) == (True, 3)
    progress = ChatTold(at=NOW, network="team", room="#r", build="b", attempt=1, offset=9)
    journal(progress, ChatTold(at=NOW, network="team", room="#r", build="b", mark="ask1"))
    (note,) = chat.following("b")
    assert (note.attempt, note.offset, note.told) == (1, 9, ("ask1",))
    journal(heard("m2"), answered("m2", build="b", unfollow=True))
    assert not chat.followed


def test_lines_that_rules_took_are_known_and_troubles_come_and_go() -> None:
    journal = Journal()
    said: dict[str, object] = {
        "network": "team",
        "message": "m9",
        "position": "p9",
        "text": "ship it",
    }
    chat = journal(Emitted(at=NOW, type="chat.said", data=said))
    assert chat.is_known("team", "m9")
    assert chat.positions == {"team": "p9"}
    journal(Emitted(at=NOW, type="chat.said", data={"network": 1, "message": []}))
    journal(ChatStanding(at=NOW, network="team", trouble="refused"))
    assert chat.troubles == {"team": "refused"}
    journal(ChatStanding(at=NOW, network="team"))
    assert chat.troubles == {}


def test_nothing_of_it_grows_without_bound_and_all_of_it_survives() -> None:
    journal = Journal()
    chat = journal()
    for number in range(MAX_WAITING + 50):
        journal(heard(f"w{number}"))
    assert len(chat.waiting) == MAX_WAITING
    for number in range(MAX_IDS + 50):
        journal(heard(f"a{number}"), answered(f"a{number}"))
    assert len(chat.answered["team"]) == MAX_IDS
    for number in range(chats.MAX_FOLLOWED + 10):
        build = f"b{number}"
        journal(requested(build), answered("x", build=build, follow="end", thread=build))
    assert len(chat.followed) == chats.MAX_FOLLOWED
    for number in range(chats.MAX_THREADS + 10):
        journal(answered("x", build="b", thread=f"t{number}"))
    assert len(chat.threads) == chats.MAX_THREADS
    again = decode_picture(encode_picture(journal.cluster))
    assert again is not None
    assert again.picture.chat == chat


def test_an_answer_of_long_ago_is_no_reason_to_keep_a_build() -> None:
    journal = Journal()
    late = NOW + timedelta(days=3)
    chat = journal(heard(), ChatAnswered(at=late, network="team", message="m1", build="gone"))
    assert not chat.followed


def test_a_room_is_told_of_an_end_by_the_bot_where_nothing_is_said_in_threads() -> None:
    journal = Journal()
    chat = journal(heard(), requested())
    assert chat.rooms_told("b", ("team",)) == {"team:#r"}
    assert chat.rooms_told("b", ()) == set()  # its answer begins a thread
    journal(answered(build="b", follow="end"), cancelled())
    assert chat.rooms_told("b", ()) == {"team:#r"}
    told = ChatTold(at=NOW, network="team", room="#r", build="b", mark=END)
    journal(told)
    assert not chat.followed
    assert chat.rooms_told("b", ()) == {"team:#r"}  # whoever looks a moment later knows
    again = decode_picture(encode_picture(journal.cluster))
    assert again is not None
    assert again.picture.chat.rooms_told("b", ()) == {"team:#r"}
    record = journal.cluster.picture.builds["b"]
    journal(BuildRetried(at=NOW, build="b", record=record))
    assert chat.rooms_told("b", ()) == set()  # the next end is another one


def test_a_thread_is_no_room_and_who_could_not_be_told_was_not() -> None:
    journal = Journal()
    chat = journal(heard(), requested(), answered(build="b", thread="t", follow="end"))
    assert chat.rooms_told("b", ("team",)) == set()
    journal(heard("m2"), answered("m2", build="b", follow="end"), cancelled())
    assert chat.rooms_told("b", ()) == {"team:#r"}
    journal(ChatTold(at=NOW, network="team", room="#r", build="b", mark=END, why="it is shut"))
    assert chat.rooms_told("b", ()) == set()
