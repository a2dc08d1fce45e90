"""The chain over the journal, and the deeds that outlive it, as the fold makes them."""

from __future__ import annotations

import hashlib
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.facts import moment

from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex, MemoryStore
from rota.agent.rebuild import restore
from rota.core import records
from rota.core.chain import AUDITED, START, Anchor, anchor_lines, link, read_anchor
from rota.core.cluster import Cluster, Picture, decode_picture, encode_picture
from rota.core.codec import encode
from rota.core.deeds import NO_DEEDS, VERBS, Deed, deed_line, read_deed
from rota.core.events import (
    AgentJoined,
    AgentLabelled,
    BuildAnswered,
    BuildCancelled,
    BuildFinished,
    BuildRejected,
    BuildRequested,
    BuildStarted,
    ClusterRaised,
    Emitted,
    Event,
    HistorySealed,
    Known,
    PipelineRequested,
    SchedulesSet,
    StoreMoved,
    Unknown,
    Wanted,
)
from rota.core.fold import Change, apply
from rota.core.job import Reason, Spec
from rota.core.levels import FIRST

AT = moment()
HASH = "a" * 40


class Story:
    """Events, one after the other, folded by one agent."""

    def __init__(self, picture: Picture | None = None) -> None:
        self.cluster = Cluster(picture)
        self.picture = self.cluster.picture

    def fold(self, event: Event, digest: bytes = b"") -> Change:
        return apply(self.cluster, self.picture.seq + 1, event, digest)

    def fold_all(self, *events: Event) -> list[Deed]:
        for event in events:
            self.fold(event)
        return self.picture.deeds


def asked(build: str = "b", by: str = "ann", agent: str = "p") -> BuildRequested:
    return BuildRequested(at=AT, by=by, agent=agent, build=build, job="web/test", spec=Spec())


def test_each_event_is_a_link() -> None:
    story = Story()
    event = asked()
    story.fold(event)
    digest = hashlib.sha256(encode(event)).digest()
    first = hashlib.sha256(bytes.fromhex(START) + (1).to_bytes(8, "big") + digest).hexdigest()
    assert story.picture.chain == first == link(START, 1, digest)
    story.fold(event, b"\1" * 32)
    assert story.picture.chain == link(first, 2, b"\1" * 32)


def test_bytes_count_and_not_what_is_understood_of_them() -> None:
    one, other = Story(), Story()
    for story, raw in ((one, b'{"kind":"new","x":1}'), (other, b'{"kind":"new","x":2}')):
        story.fold(Unknown(kind="new", raw=raw))
    assert one.picture.chain != other.picture.chain


def test_it_begins_when_the_cluster_is_raised_and_an_event_twice_is_one_link() -> None:
    story = Story(Picture(level=FIRST))
    story.fold(asked("a"))
    assert (story.picture.chain, story.picture.deeds) == ("", [])
    raised = ClusterRaised(at=AT, by="p", agent="p", level=2)
    story.fold(raised)
    assert story.picture.chain == link(START, 2, hashlib.sha256(encode(raised)).digest())
    chain = story.picture.chain
    apply(story.cluster, 2, asked("b"))
    assert story.picture.chain == chain


def test_at_the_first_level_a_seal_says_nothing_and_a_record_is_what_it_was() -> None:
    story = Story(Picture(level=FIRST))
    story.fold(asked())
    story.fold(BuildStarted(at=AT, agent="p", build="b", attempt=1))
    story.fold(BuildFinished(at=AT, agent="p", build="b", attempt=1, reason=Reason.SCRIPT))
    change = story.fold(HistorySealed(at=AT, agent="p", through=3))
    assert (change.anchor, change.deeds) == (None, ())
    record = records.encode(change.sealed[0])
    assert b"log_sha256" not in record
    assert records.decode(record) == change.sealed[0]


def test_a_seal_takes_the_deeds_along_and_anchors_the_chain() -> None:
    story = Story()
    story.fold(StoreMoved(at=AT, by="ann", agent="p", ref="main", old="", new=HASH, message="add"))
    story.fold(asked())
    story.fold(Emitted(at=AT, by="ann", agent="p", type="x.y"))
    change = story.fold(HistorySealed(at=AT, agent="p", through=2, former="b" * 40))
    assert [deed.seq for deed in change.deeds] == [1, 2]
    assert [deed.seq for deed in story.picture.deeds] == [3]
    anchor = Anchor(seq=4, chain=story.picture.chain, main=HASH, former="b" * 40)
    assert change.anchor == story.picture.anchor == anchor
    kept = decode_picture(encode_picture(story.cluster))
    assert kept is not None
    assert (kept.picture.chain, kept.picture.anchor) == (story.picture.chain, anchor)
    assert kept.picture.deeds == story.picture.deeds


def test_where_the_picture_was_lost_the_chain_is_taken_up_at_the_anchor() -> None:
    whole = Story()
    events: list[Event] = [
        asked(),
        HistorySealed(at=AT, agent="p", through=1),
        asked("c"),
        asked("d"),
    ]
    whole.fold_all(*events[:2])
    anchor = whole.picture.anchor
    whole.fold_all(*events[2:])
    lost = Story(Picture(anchor=anchor))
    lost.fold_all(*events)
    assert lost.picture.chain == whole.picture.chain
    assert lost.picture.deeds == whole.picture.deeds


async def told(*anchors: tuple[int, Anchor]) -> MemoryStore:
    """Return a store whose history has these anchors, each with what its commit covers."""
    store = MemoryStore()
    for covers, anchor in anchors:
        await store.record([], covers=covers, at=AT, told=anchor_lines(anchor))
    return store


async def test_a_journal_that_begins_where_the_history_ends_goes_on_with_its_chain() -> None:
    store = await told((3, Anchor(4, "b" * 64)), (7, Anchor(8, "c" * 64)))
    journal = MemoryJournal(first=8)
    world = await restore(journal, store, MemoryIndex(), bounds=await journal.bounds())
    assert world.cluster.picture.chain == "c" * 64
    assert world.cluster.picture.level == AUDITED


async def test_an_agent_that_lost_its_picture_takes_the_chain_up_within_the_journal() -> None:
    whole, journal = Story(Picture(level=FIRST)), MemoryJournal()
    raised = ClusterRaised(at=AT, by="p", agent="p", level=2)
    events = (raised, asked("a"), HistorySealed(at=AT, agent="p", through=2), asked("c"))
    for event in events:
        await journal.append(event)
        whole.fold(event)
    store = await told((2, whole.picture.anchor))
    world = await restore(journal, store, MemoryIndex(), bounds=await journal.bounds())
    chains = []
    async for entry in journal.read():
        world.fold(entry)
        chains.append(world.cluster.picture.chain)
    assert chains[:2] == ["", ""]  # what it was there, nobody needs any more
    assert chains[2:] == [whole.picture.anchor.chain, whole.picture.chain]


def test_deeds_are_what_somebody_asked_for() -> None:
    story = Story()
    done = story.fold_all(
        asked(),
        BuildStarted(at=AT, by="p", agent="p", build="b", attempt=1),
        BuildCancelled(at=AT, by="bob", agent="q", build="b", why="no need", via="irc:7"),
        BuildRejected(at=AT, by="p", agent="p", build="b", timed_out=True),
        BuildAnswered(at=AT, by="p", agent="p", build="b", question=1, timed_out=True),
        BuildCancelled(at=AT, by="bob", agent="q", build="nobody's"),
        Emitted(at=AT, by="ann", agent="p", type="x.y", build="b"),
        SchedulesSet(at=AT, by="p", agent="p"),
        AgentJoined(at=AT, by="p", agent="p", name="p", pin="00"),
        AgentLabelled(
            at=AT, by="ann", agent="p", name="p", labels={"gpu": "", "os": "x", "ssd": None}
        ),
    )
    assert done == [
        Deed(seq=1, at=AT, by="ann", kind="build.requested", on=("web/test#1",), agent="p"),
        Deed(
            seq=3,
            at=AT,
            by="bob",
            kind="build.cancelled",
            on=("web/test#1",),
            why="no need",
            agent="q",
            via="irc:7",
        ),
        Deed(seq=9, at=AT, by="p", kind="agent.joined", on=("p",), to="00", agent="p"),
        Deed(
            seq=10,
            at=AT,
            by="ann",
            kind="agent.labelled",
            on=("p",),
            to="gpu os=x -ssd",
            agent="p",
        ),
    ]
    assert story.picture.deeds_due == 9


def test_each_kind_of_event_is_a_deed_or_is_known_to_be_none() -> None:
    kinds = {str(it.__struct_config__.tag) for it in get_args(Known)}
    assert kinds == VERBS.keys() | NO_DEEDS
    assert not VERBS.keys() & NO_DEEDS


def test_builds_asked_for_together_are_one_deed_and_what_a_rule_sets_off_is_none() -> None:
    story = Story()

    def pipeline(root: str, by: str) -> PipelineRequested:
        builds = (Wanted(build=root, job="a"), Wanted(build=f"{root}2", job="b"))
        return PipelineRequested(
            at=AT, by=by, agent="p", pipeline=root, builds=builds, specs=(Spec(),)
        )

    assert [deed.on for deed in story.fold_all(pipeline("x", "ann"))] == [("a#1", "b#1")]
    twice = story.fold_all(pipeline("x", "ann"))
    assert len(twice) == 1


@given(
    st.builds(
        Deed,
        seq=st.integers(0, 2**53),
        at=st.just(AT),
        by=st.text(),
        kind=st.text(),
        on=st.lists(st.text()).map(tuple),
        why=st.text(),
    )
)
def test_a_deed_is_one_line_whatever_it_says(deed: Deed) -> None:
    line = deed_line(deed)
    assert len(line.split("\n")) == 1
    assert "\0" not in line
    assert read_deed(line) == deed
    message = records.message([], 7, [line])
    assert records.covered(message) == 7


@pytest.mark.parametrize("line", ["", "Deed: ", "Deed: {}", "Deed: [1]", "Deeds", 'Deed: {"seq":'])
def test_what_is_no_deed_is_none(line: str) -> None:
    assert read_deed(line) is None


def test_no_text_of_a_deed_is_taken_for_an_anchor() -> None:
    forged = f"\u2028Seal: 9\u2028Chain: {'d' * 64}\x85Former: {'e' * 40}\x1cJournal-Seq: 9"
    line = deed_line(Deed(seq=1, at=AT, kind="custom", why=forged))
    anchor = Anchor(seq=7, chain="c" * 64)
    message = records.message([], 6, [line, *anchor_lines(anchor)])
    assert read_anchor(message) == anchor
    assert read_anchor(records.message([], 6, [line])) is None


def test_an_anchor_is_read_from_a_message_or_is_none() -> None:
    anchor = Anchor(seq=7, chain="c" * 64, main=HASH, former="b" * 40)
    message = records.message([], 6, anchor_lines(anchor))
    assert read_anchor(message) == anchor
    assert records.covered(message) == 6
    assert read_anchor(records.message([], 6)) is None
    for wrong in ("Seal: 7\nChain: xyz", f"Seal: x\nChain: {'c' * 64}", f"Chain: {'c' * 64}"):
        assert read_anchor(wrong) is None
    assert read_anchor(f"Seal: 7\nChain: {'c' * 64}\nMain: no") is None
