"""Levels: what all members can holds for all, from one event of the journal on."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.harness.facts import moment

from rota.agent.levels import Levels
from rota.core.agents import Agent
from rota.core.cluster import Cluster, Picture, decode_picture, encode_picture
from rota.core.codec import encode
from rota.core.events import AgentJoined, AgentLeft, AgentStarted, ClusterRaised, Event
from rota.core.fold import apply
from rota.core.levels import FIRST, LEVEL, attainable
from rota.errors import StaleError
from rota.ports.journal import Entry


def first() -> Cluster:
    """A cluster whose agents are from before there were levels."""
    return Cluster(Picture(level=FIRST))


def fold(cluster: Cluster, *events: Event) -> int:
    for event in events:
        apply(cluster, cluster.picture.seq + 1, event)
    return cluster.picture.level


def started(name: str, level: int = 0) -> AgentStarted:
    return AgentStarted(at=moment(), agent=name, level=level)


def raised(*members: str, level: int = LEVEL) -> ClusterRaised:
    return ClusterRaised(at=moment(), agent="a", level=level, members=members)


def test_a_level_is_what_the_least_of_all_can() -> None:
    assert attainable(("a", "b"), {"a": 3, "b": 2}) == 2
    assert attainable(("a", "b"), {"a": 3}) == FIRST, "who does not say is from before levels"
    assert attainable(("a",), {"a": 0}) == FIRST
    assert attainable((), {}) == LEVEL


def test_a_cluster_is_raised_once_for_all_that_were_looked_at() -> None:
    cluster = first()
    assert fold(cluster, started("a", 2), started("b", 2)) == FIRST
    assert fold(cluster, raised("a")) == FIRST, "b joined meanwhile"
    assert fold(cluster, raised("a", "b", "gone")) == LEVEL
    assert fold(cluster, raised("a", "b", level=1)) == LEVEL, "nothing lowers it"


def test_who_was_let_in_as_the_others_were_raised_is_no_member() -> None:
    cluster = first()
    fold(cluster, started("a", 2), raised("a"))
    fold(cluster, AgentJoined(at=moment(), agent="a", name="old", pin="0", level=FIRST))
    assert "old" not in cluster.picture.agents
    fold(cluster, AgentJoined(at=moment(), agent="a", name="new", pin="1", level=LEVEL))
    assert "new" in cluster.picture.agents


def test_a_picture_from_before_levels_is_of_the_first() -> None:
    plain = msgspec.to_builtins(Picture(seq=7))
    del plain["level"]
    old = decode_picture(msgspec.json.encode(plain))
    assert old is not None
    assert old.picture.level == FIRST
    assert old.picture.seq == 7


def test_a_raised_picture_is_nothing_that_an_agent_from_before_levels_reads() -> None:
    cluster = first()

    class Before(msgspec.Struct):
        """What it decodes: any object will do, and what it does not know is passed over."""

        seq: int = 0

    assert msgspec.json.decode(encode_picture(cluster), type=Before).seq == 0
    fold(cluster, started("a", 2), raised("a"))
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(encode_picture(cluster), type=Before)
    kept = decode_picture(encode_picture(cluster))
    assert kept is not None
    assert kept.picture == cluster.picture
    for damaged in (
        b'["other",2,{}]',
        b'["rota",2,{"level":1}]',
        b'["rota",2]',
        b"[",
        b'["rota",2,7]',
    ):
        assert decode_picture(damaged) is None


class FakeWorld:
    """A world that folds what its duty writes."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def reached(self, seq: int, timeout_s: float) -> None:
        pass


@pytest.mark.parametrize("is_heard", [False, True])
async def test_the_leader_raises_when_the_last_member_has_said_that_it_can(is_heard: bool) -> None:
    cluster = first()
    fold(cluster, started("a", 2), started("b"))
    written: list[ClusterRaised] = []

    async def record(level: int, members: tuple[str, ...]) -> int:
        if not written:
            written.append(raised())
            raise StaleError("another one leads")
        event = raised(*members, level=level)
        written.append(event)
        fold(cluster, event)
        return cluster.picture.seq

    levels = Levels(FakeWorld(cluster), record)  # type: ignore[arg-type]
    levels.look_s = 0.0
    duty = asyncio.create_task(levels.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not written
    if is_heard:
        levels.heard["b"] = 2
    else:
        fold(cluster, started("b", 2))
    async with asyncio.timeout(5):
        await duty
    assert written[1:] == [raised("a", "b")]
    assert cluster.picture.level == LEVEL


def test_a_start_says_more_than_what_was_heard_before() -> None:
    levels = Levels(FakeWorld(first()), None)  # type: ignore[arg-type]
    levels.heard["b"] = 2
    levels.folded(Entry(1, started("b")))
    assert not levels.heard


def test_what_agents_before_levels_wrote_is_read_as_before() -> None:
    assert b"level" not in encode(started("a"))
    cluster = first()
    fold(cluster, started("a"), AgentLeft(at=moment(), agent="a", name="a"))
    assert cluster.picture.level == FIRST
    assert not cluster.picture.agents
    assert Agent(name="a", since=moment()).level == 0
