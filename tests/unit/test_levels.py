"""Levels: what all members can holds for all, from one event of the journal on."""

from __future__ import annotations

import asyncio
import typing
from datetime import datetime

import msgspec
import pytest
from tests.harness.facts import moment

from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex, MemoryStore
from rota.agent.levels import Levels, refuse_too_new
from rota.core.agents import Agent
from rota.core.cluster import Cluster, Picture, decode_picture, encode_picture
from rota.core.codec import encode
from rota.core.events import (
    AgentDrained,
    AgentJoined,
    AgentLeft,
    AgentLost,
    AgentStarted,
    AgentStopped,
    ClusterRaised,
    Event,
    Known,
    LeaderElected,
)
from rota.core.file_levels import SETTINGS_KEYS, too_new_in
from rota.core.fold import apply
from rota.core.ids import parse_agent_name
from rota.core.levels import AWAY, FIRST, LEVEL, NEEDED, attainable, just_gone, parse_level
from rota.core.settings import _SETTINGS
from rota.daemon.nameplate import Nameplate, read_nameplate
from rota.errors import ConflictError, InputError, StaleError
from rota.ports.journal import Entry
from rota.service.levels import refuse_early, refuse_unread
from rota.service.world import World


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


class FakeWorld(World):
    """A world of a cluster alone: what its duty writes is folded by then."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(MemoryJournal(), MemoryIndex(), cluster)

    async def reached(self, seq: int, timeout_s: float) -> None:
        pass


class Fixed:
    """A clock that stands, until a test moves it."""

    def __init__(self) -> None:
        self.at = moment()

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0

    async def sleep_until(self, when: datetime) -> None:
        raise AssertionError(when)


@pytest.mark.parametrize(
    "gone",
    [
        AgentStopped(at=moment(), agent="b"),
        AgentLost(at=moment(), agent="a", name="b", silent_s=9.0),
    ],
)
async def test_nothing_is_raised_while_somebody_may_be_on_the_way_back(gone: Event) -> None:
    cluster = first()
    fold(cluster, started("a", 2), started("b", 2))
    clock, silent = Fixed(), {"b": 6.0}

    async def record(level: int, members: tuple[str, ...]) -> int:
        return fold(cluster, raised(*members, level=level))

    levels = Levels("a", FakeWorld(cluster), clock, record, silent=lambda: silent)
    levels.look_s = 0.0
    duty = asyncio.create_task(levels.run())
    await settle()
    assert cluster.picture.level == FIRST, "it says nothing, and nobody has found that it is lost"
    fold(cluster, gone)
    await settle()
    assert just_gone(cluster.picture.agents.values(), clock.at) == ["b"]
    assert cluster.picture.level == FIRST, "it may come back as the version before"
    clock.at += AWAY
    async with asyncio.timeout(5):
        await duty
    assert cluster.picture.level == LEVEL, "who is away for long holds up nobody"


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

    world = FakeWorld(cluster)
    levels = Levels("a", world, Fixed(), record)
    levels.look_s = 0.0
    duty = asyncio.create_task(levels.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not written
    if is_heard:
        world.levels["b"] = 2
    else:
        fold(cluster, started("b", 2))
    async with asyncio.timeout(5):
        await duty
    assert written[1:] == [raised("a", "b")]
    assert cluster.picture.level == LEVEL


def test_a_start_says_more_than_what_was_heard_before() -> None:
    world = FakeWorld(first())
    levels = Levels("a", world, Fixed(), None)  # type: ignore[arg-type]
    world.levels["b"] = 2
    assert world.level_of(Agent(name="b", since=moment())) == 2
    levels.folded(Entry(1, started("b")))
    assert world.level_of(Agent(name="b", since=moment())) == FIRST


def test_what_agents_before_levels_wrote_is_read_as_before() -> None:
    assert b"level" not in encode(started("a"))
    cluster = first()
    fold(cluster, started("a"), AgentLeft(at=moment(), agent="a", name="a"))
    assert cluster.picture.level == FIRST
    assert not cluster.picture.agents
    assert Agent(name="a", since=moment()).level == 0


def test_a_journal_above_what_this_rota_knows_is_not_folded() -> None:
    picture = Picture(agents={"b": Agent(name="b", since=moment(), level=LEVEL + 1, version="9.1")})
    refuse_too_new(picture)
    picture.level = LEVEL + 1
    with pytest.raises(ConflictError) as caught:
        refuse_too_new(picture)
    assert (
        caught.value.message == f"the cluster is at level {LEVEL + 1}, and this rota knows {LEVEL}"
    )
    assert caught.value.hint == "install the rota of the other agents here, 9.1"


@pytest.mark.parametrize(("leader", "who"), [("a", "a"), ("old", "b"), ("", "b")])
async def test_who_comes_up_with_too_old_a_rota_is_asked_to_leave_once(
    leader: str, who: str
) -> None:
    cluster = first()
    fold(
        cluster,
        *(started(name, 2) for name in ("b", "c", "a", "old")),
        raised("a", "b", "c", "old"),
    )
    fold(cluster, AgentStopped(at=moment(), agent="a"))
    fold(cluster, LeaderElected(at=moment(), agent=leader))
    dismissed: list[tuple[str, str]] = []
    all_of_them = [attend(name, cluster, dismissed) for name in "abc"]
    fold(cluster, started("old"))
    for levels, _ in all_of_them:
        levels.folded(Entry(9, started("old")))
        levels.folded(Entry(10, started("b", 2)))
    await settle()
    assert dismissed == [(who, "old")]
    for levels, task in all_of_them:
        levels.folded(Entry(11, AgentStopped(at=moment(), agent="old")))
        task.cancel()


def attend(
    name: str, cluster: Cluster, dismissed: list[tuple[str, str]]
) -> tuple[Levels, asyncio.Task[None]]:
    async def dismiss(outdated: str) -> None:
        dismissed.append((name, outdated))
        fold(cluster, AgentDrained(at=moment(), agent=name, name=outdated, leaving=True))

    levels = Levels(name, FakeWorld(cluster), Fixed(), None, dismiss)  # type: ignore[arg-type]
    return levels, asyncio.create_task(levels.attend())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_folder_of_a_raised_cluster_has_no_name_for_an_older_rota() -> None:
    assert Nameplate("build-3").text("1.0") == "build-3"
    text = Nameplate("build-3", 2).text("1.0")
    assert text == "build-3, raised to level 2: a rota older than 1.0 cannot run here any more"
    with pytest.raises(
        InputError, match="bad agent name 'build-3, raised to level 2: a rota older"
    ):
        parse_agent_name(text)
    assert read_nameplate(text, "/d") == Nameplate("build-3", 2)
    assert read_nameplate("build-3", "/d") == Nameplate("build-3")
    assert read_nameplate("", "/d") == Nameplate("")
    with pytest.raises(ConflictError) as caught:
        read_nameplate(Nameplate("build-3", LEVEL + 1).text("9.1"), "/d")
    assert "/d is of an agent whose cluster was raised to level 3, and this rota knows 2" in str(
        caught.value
    )


#: All that agents from before levels know.
KNOWN_FIRST = """
    agent.drained agent.found agent.joined agent.labelled agent.left agent.lost agent.started
    agent.stopped build.answered build.approved build.artifact build.asked build.cancelled
    build.checked-out build.entered build.finished build.queued build.rejected build.requested
    build.retried build.started build.swept build.waiting cache.dropped cache.saved cache.used
    chat.answered chat.heard chat.standing chat.told cloud.answered cloud.draining cloud.failed
    cloud.gone cloud.joined cloud.launched cloud.paused cloud.wanted custom history.sealed
    hook.called leader.elected leader.resigned limits.set notices.dropped notices.queued
    notices.sending notices.sent pipeline.requested schedules.fired schedules.set scm.changed
    scm.seen status.posted store.moved trigger.failed user.code user.linked user.unlinked
    voter.appointed voter.dismissed voter.listening
"""
#: Whose absence from an older agent's state changes nothing that is decided or recorded by all.
HARMLESS = {"cluster.raised"}


def test_a_new_kind_of_event_waits_until_all_know_it() -> None:
    kinds = {str(kind.__struct_config__.tag) for kind in typing.get_args(Known)}
    ungated = kinds - set(KNOWN_FIRST.split()) - NEEDED.keys() - HARMLESS
    assert not ungated, "an older agent would pass over it: name it in rota.core.levels.NEEDED"
    assert NEEDED.keys() <= kinds
    assert set(NEEDED.values()) <= set(range(FIRST + 1, LEVEL + 1))


def test_what_not_all_know_is_refused_with_their_names() -> None:
    world = FakeWorld(first())
    fold(world.cluster, started("a", 2), AgentStarted(at=moment(), agent="b", version="0.1"))
    refuse_early(world, "build.requested")
    with pytest.raises(ConflictError) as caught:
        refuse_early(world, "token.made")
    assert caught.value.message == (
        "token.made needs level 2, and the cluster is at 1;"
        " it waits for agents whose rota does not know it: b (rota 0.1)"
    )
    fold(world.cluster, started("b", 2))
    with pytest.raises(ConflictError, match="it waits for the leader"):
        refuse_early(world, "token.made")
    fold(world.cluster, raised("a", "b"))
    refuse_early(world, "token.made")


#: The settings' keys that agents from before levels read.
SETTINGS_FIRST = """
    agents artifacts bucket builds caches chat cloud containers env forge groups isolation limits
    logs mail notify outlet path queue rest secrets share throttle timeout url voters workspaces
"""


def test_a_new_key_of_the_settings_waits_until_all_can_read_it() -> None:
    ungated = _SETTINGS.keys() - set(SETTINGS_FIRST.split()) - SETTINGS_KEYS.keys()
    assert not ungated, "an older agent would keep the settings from before: rota.core.file_levels"
    for key, level in SETTINGS_KEYS.items():
        outer, _, inner = key.partition(".")
        assert outer in _SETTINGS
        data = f"[{outer}]\n{inner or 'x'} = 1\n".encode()
        assert too_new_in("settings.toml", data, b"", level - 1) == {f"`{key}`": level}
        assert too_new_in("settings.toml", data, b"", level) == {}
        assert too_new_in("settings.toml", data, data, level - 1) == {}, "that harm is done"
        assert too_new_in("jobs/settings.toml", data, b"", level - 1) == {}


def test_what_old_agents_read_of_files_is_left_alone() -> None:
    for data in (b"voters = 5\n[rest]\norigins = []\n", b"rest = 3\n", b"[", b"\xff", b"[" * 9000):
        assert too_new_in("settings.toml", data, b"", FIRST) == {}
    assert too_new_in("users/ann.toml", b'role = "viewer"\n', b"", FIRST) == {}
    data = b'role = "none"\nlogins = ["x"]\n'
    assert too_new_in("users/ann.toml", data, b"", FIRST) == {
        "`logins`": 2,
        '`role = "none"`': 2,
    }


async def test_files_that_not_all_can_read_are_refused_with_their_names() -> None:
    world, store = FakeWorld(first()), MemoryStore({"settings.toml": b"[metrics]\n"})
    fold(world.cluster, started("a", 2), AgentStarted(at=moment(), agent="b", version="0.1"))
    head = await store.head()
    with pytest.raises(ConflictError) as caught:
        await refuse_unread(world, store, head, {"settings.toml": b"[metrics]\n[[access]]\n"})
    assert caught.value.message == (
        "settings.toml: `access` needs level 2, and the cluster is at 1;"
        " it waits for agents whose rota does not know it: b (rota 0.1)"
    )
    await refuse_unread(world, store, head, {"settings.toml": b"[metrics]\nopen = true\n"})
    with pytest.raises(ConflictError, match=r'users/ann.toml: `role = "none"` needs level 2'):
        await refuse_unread(world, store, "", {"users/ann.toml": b'role = "none"\n'})
    fold(world.cluster, started("b", 2), raised("a", "b"))
    await refuse_unread(world, store, head, {"settings.toml": b"[[access]]\n"})


def test_an_agent_may_announce_less_than_it_can() -> None:
    assert parse_level("") == LEVEL
    assert parse_level("1") == FIRST
    for wrong in ("0", "9", "x", "²", "-1", "1" * 5000):
        with pytest.raises(InputError) as caught:
            parse_level(wrong)
        assert caught.value.hint == f"1 to {LEVEL}; without one it announces {LEVEL}"
