"""Several engines as one group: who gets in, who does not, and what a restart finds."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from tests.harness.engine import (
    AUTHORITY,
    PATIENCE_S,
    Authority,
    credentials_of,
    forget_stream,
    running,
    until,
)
from tests.harness.voters import (
    Group,
    Load,
    assert_all_there,
    has_copies,
    is_seated,
    patiently,
    started,
)

from rota.adapters.nats import Address, Client, Engine, NatsBlobs, NatsJournal
from rota.adapters.nats import engine as engine_module
from rota.adapters.nats.config import ROTA
from rota.adapters.nats.pinned import pinned_context
from rota.core.events import EPOCH, LeaderElected
from rota.core.voter import Voter
from rota.errors import FencedError, InvariantError, StaleError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from rota.adapters.nats import NatsEnsemble
    from rota.ports.credentials import Credentials

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Group]:
    async with Group(tmp_path) as group:
        await group.found("a1")
        yield group


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of three voters that run while the module's tests do."""
    folder = tmp_path_factory.mktemp("three")
    asyncio.run(_build(folder))
    yield folder
    asyncio.run(_end(folder))


async def _build(folder: Path) -> None:
    async with Group(folder, lives_on=True) as group:
        await group.found_three()


async def _end(folder: Path) -> None:
    async with Group(folder) as group:
        await group.take_over(NAMES)


@pytest.fixture
async def trio(three: Path) -> AsyncIterator[Group]:
    """Three voters, three copies; the test leaves them whole."""
    async with Group(three, lives_on=True) as group:
        await group.take_over(NAMES)
        async with group.asking("a1") as ensemble:
            await until(lambda: has_copies(ensemble, 3))
        yield group


def door(group: Group, name: str = "a1") -> Address:
    """Return where clients reach a voter."""
    voter = group.voters[name]
    return Address(voter.host, voter.client)


async def why_not(client: Client, patience_s: float = 1.0) -> str:
    """Return the reason that is given for not being let in."""
    async with client:
        with pytest.raises(UnavailableError) as caught:
            await client.connected(patience_s)
    return str(caught.value.hint)


def stranger(group: Group, credentials: Credentials) -> Client:
    """Return a client that shows ``credentials`` to the first voter."""
    pins = set(group.pins.values())
    return Client(
        lambda: [door(group)], ROTA, tls=lambda: pinned_context(credentials, lambda: pins)
    )


NAMES = ("a1", "a2", "a3")
HUNG_UP = "it hung up: it may know this agent's key no more, or not yet"


async def test_only_members_are_let_in(group: Group, tmp_path: Path) -> None:
    plain = Client(lambda: [door(group)], ROTA)
    assert await why_not(plain) != ""
    foreign = Authority().credentials(tmp_path / "foreign")
    assert "certificate verify failed" in await why_not(stranger(group, foreign))
    signed_elsewhere = replace(foreign, ca=credentials_of(group.home("a1")).ca)
    assert "unknown ca" in await why_not(stranger(group, signed_elsewhere))
    signed_here = AUTHORITY.credentials(tmp_path / "signed")
    assert await why_not(stranger(group, signed_here)) == HUNG_UP
    group.pins["new"] = signed_here.pin
    await group.tell()
    async with stranger(group, signed_here) as client:
        await client.connected(PATIENCE_S)


async def test_a_client_talks_to_no_server_whose_key_it_does_not_know(
    group: Group, tmp_path: Path
) -> None:
    """Who was a member knows the key of the CA, and can sign for any address."""
    member = credentials_of(group.home("a1"))
    client = Client(
        lambda: [door(group)], ROTA, tls=lambda: pinned_context(member, lambda: {"another"})
    )
    assert "the server's key is not that of a member" in await why_not(client)


async def test_a_member_that_left_is_cut_off_at_once_and_no_other_is(
    group: Group, tmp_path: Path
) -> None:
    leaver = AUTHORITY.credentials(tmp_path / "leaver")
    group.pins["leaver"] = leaver.pin
    await group.tell()
    feed = await group.client.feed("rota.nobody")
    async with stranger(group, leaver) as client:
        await client.connected(PATIENCE_S)
        pid = group.engines["a1"].pid
        del group.pins["leaver"]
        await group.tell()
        await until(lambda: not client.is_connected)
        with pytest.raises(UnavailableError) as caught:
            await client.connected(0.5)
        assert caught.value.hint == HUNG_UP
    assert group.engines["a1"].pid == pid
    await group.client.request("$JS.API.INFO", within_s=PATIENCE_S)
    assert not feed._queue  # it would say so, had the connection been lost


async def test_nothing_is_reloaded_when_nothing_is_new(group: Group) -> None:
    log = group.engines["a1"].log
    before = log.read_text().count("Reloaded server configuration")
    conf = log.with_name("nats.conf").stat().st_mtime_ns
    for _ in range(3):
        await group.tell()
    assert log.with_name("nats.conf").stat().st_mtime_ns == conf
    assert log.read_text().count("Reloaded server configuration") == before


async def test_a_server_of_a_member_that_is_no_voter_is_not_taken_in(group: Group) -> None:
    await group.add("a2")
    alone = group.engines["a2"]
    # It believes to be a voter, the others know better.
    voter = Voter("a2", "uninvited")
    await alone.know([*group.voters.values(), voter], group.pins)
    await alone.join("uninvited", "127.0.0.1")
    await until(lambda: "certificate not pinned" in group.engines["a1"].log.read_text())
    async with group.asking("a1") as ensemble:
        assert [seat.server for seat in await ensemble.seats()] == [group.engines["a1"].name]
    assert str(alone.trouble).startswith("no quorum: ")


async def test_a_server_that_was_removed_does_not_get_in_again(tmp_path: Path) -> None:
    async with Group(tmp_path) as trio:
        await trio.found_three()
        await _remove_and_bring_back(trio)


async def _remove_and_bring_back(trio: Group) -> None:
    async with trio.engines["a1"].connect() as client, Load(client, writers=1) as load:
        await load.goes_on()
        await trio.engines["a3"].stop()
        gone = trio.voters["a3"].server
        async with trio.asking("a1") as ensemble:
            await until(lambda: is_gone(ensemble, gone))
            await patiently(ensemble.remove, gone)
            await ensemble.remove(gone)  # once more does no harm
            await trio.forget("a3")
            back = await trio.engines["a3"].found()
            assert back.name == gone
            mark = "certificate not pinned"
            await until(lambda: mark in trio.engines["a1"].log.read_text())
            assert all(seat.server != gone for seat in await ensemble.seats())
        assert str(trio.engines["a3"].trouble).startswith("no quorum")
        async with trio.engines["a3"].connect() as elsewhere:  # its own server is of no use
            await NatsJournal(elsewhere).append(started("by a3"))
        await load.goes_on()
    await assert_all_there(NatsJournal(trio.client), load.acknowledged)


async def is_gone(ensemble: NatsEnsemble, server: str) -> bool:
    """Whether the group knows that a server is gone."""
    try:
        seats = await ensemble.seats()
    except UnavailableError:
        return False
    return any(seat.server == server and seat.is_offline for seat in seats)


async def test_a_member_that_is_restarted_joins_again_without_a_pause(trio: Group) -> None:
    async with trio.engines["a2"].connect() as client, Load(client) as load:
        await load.goes_on()
        for name in ("a1", "a2", "a3"):
            engine = trio.engines[name]
            server = engine.server
            await engine.stop()
            await load.goes_on()
            assert await engine.found() == server
            async with trio.asking(name) as ensemble:
                await until(partial(is_seated, ensemble, engine.name))
                await until(lambda: has_copies(ensemble, 3))
    await assert_all_there(NatsJournal(trio.client), load.acknowledged)


async def test_a_child_of_a_group_that_is_killed_is_started_again(
    trio: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "TICK_S", 0.2)
    async with trio.engines["a2"].connect() as client, Load(client) as load:
        await load.goes_on()
        for name in ("a1", "a2", "a3"):
            engine = trio.engines[name]
            pid = engine.pid
            os.kill(pid, signal.SIGKILL)
            await until(lambda: engine.pid not in (0, pid))  # noqa: B023
            async with trio.asking(name) as ensemble:
                await until(lambda: has_copies(ensemble, 3))
            await load.goes_on()
    await assert_all_there(NatsJournal(trio.client), load.acknowledged)


async def test_all_members_restarted_at_once_find_each_other_and_lost_nothing(
    trio: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "TICK_S", 0.2)
    async with trio.engines["a2"].connect() as client, Load(client) as load:
        await load.goes_on()
        for engine in trio.engines.values():
            os.kill(engine.pid, signal.SIGKILL)
            await engine.stop()
        async with asyncio.TaskGroup() as tasks:
            for engine in trio.engines.values():
                tasks.create_task(engine.found())
        await load.goes_on()
    await assert_all_there(NatsJournal(trio.client), load.acknowledged)
    await until(lambda: [engine.trouble for engine in trio.engines.values()] == [None] * 3)


async def test_a_start_without_a_quorum_says_so_and_goes_on_once_there_is_one(
    trio: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "TICK_S", 0.2)
    monkeypatch.setattr(engine_module, "QUORUM_S", 0.5)
    seq = await NatsJournal(trio.client).append(started("before"))
    for engine in trio.engines.values():
        await engine.stop()
    first = trio.engines["a1"]
    await first.found()
    assert first.pid != 0
    words = "no quorum: 2 of the engine's 3 servers are needed, 1 can be reached"
    assert first.trouble == words
    async with first.connect() as client:
        with pytest.raises(UnavailableError) as caught:
            await NatsJournal(client).append(started("meanwhile"))
        assert caught.value.hint == words
        # Its own copy may lack what the others have: it is not taken for the journal.
        with pytest.raises(UnavailableError):
            await NatsJournal(client).bounds()
        await trio.engines["a2"].found()
        await until(lambda: first.trouble is None)
        await patiently(NatsJournal(client).append, started("after"))
        await trio.engines["a3"].found()
        there = [entry.event async for entry in NatsJournal(client).read(after=seq - 1)]
    assert there[0] == started("before")
    assert started("after") in there[1:]


async def test_a_client_moves_on_from_a_server_that_is_dead_or_hangs(
    trio: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = trio.engines["a3"]
    async with other.connect() as client, Load(client, writers=1) as load:
        await load.goes_on()
        own = client.address
        assert own == door(trio, "a3")
        os.kill(other.pid, signal.SIGSTOP)
        pid = other.pid
        try:
            await until(lambda: client.is_connected and client.address != own)
            await load.goes_on()
        finally:
            os.kill(pid, signal.SIGCONT)
    await assert_all_there(NatsJournal(trio.client), load.acknowledged)


async def test_an_agent_that_is_no_voter_has_no_server_and_says_whom_it_misses(
    group: Group,
) -> None:
    pure = await group.add("a2")
    assert pure.server is None
    assert pure.pid == 0
    async with pure.connect() as client:
        await client.connected(PATIENCE_S)
        assert pure.trouble is None
        await group.engines["a1"].stop()
        await until(lambda: pure.trouble is not None)
        where = door(group)
        assert str(pure.trouble).startswith(
            f"none of the engine's servers can be reached ({where}): "
        )


async def test_what_is_known_of_the_others_outlives_a_restart(group: Group) -> None:
    await group.add("a2")
    async with Engine(group.home("a2"), credentials_of(group.home("a2"))) as again:
        assert again.voters == tuple(group.voters.values())
        async with again.connect() as client:
            await client.connected(PATIENCE_S)


async def test_a_founder_opens_up_with_its_data_and_its_name(group: Group, tmp_path: Path) -> None:
    engine = group.engines["a1"]
    await NatsJournal(group.client).append(started("before"))
    both = AUTHORITY.credentials(tmp_path / "both", ["127.0.0.1", "127.0.0.2"])
    tls = group.home("a1").with_name("a1-tls")
    group.pins["a1"] = both.pin
    for path in (both.cert, both.key):
        (tls / path.name).write_bytes(path.read_bytes())
    await engine.stop()
    async with Engine(group.home("a1"), both) as engine:
        before = await engine.found()
        after = await engine.move("127.0.0.2")
        assert after == replace(before, host="127.0.0.2")
        assert await engine.move("127.0.0.2") == after
        async with engine.connect() as client:
            await client.connected(PATIENCE_S)
            assert client.address == Address("127.0.0.2", after.client)
            assert (await NatsJournal(client).bounds())[1] == 1
        with pytest.raises(UnavailableError) as caught:
            await engine.move("192.0.2.1")
        assert caught.value.message == (
            "the engine cannot listen on 192.0.2.1: Cannot assign requested address"
        )
        assert engine.server == after


async def test_fenced_appends_of_a_group_are_all_taken_and_those_of_a_former_leader_are_not(
    trio: Group,
) -> None:
    """With several copies the engine decides on one fenced write at a time."""
    journal = NatsJournal(trio.client)
    async with trio.engines["a2"].connect() as client, trio.engines["a3"].connect() as third:
        others = [NatsJournal(client), NatsJournal(third)]
        token = await journal.append(LeaderElected(at=EPOCH, agent="a1"))
        writers = [journal, *others] * 10
        seqs = await asyncio.gather(
            *(each.append(started("fenced"), fence=token) for each in writers)
        )
        assert len(set(seqs)) == 30

        async def elect() -> int:
            return await others[0].append(LeaderElected(at=EPOCH, agent="a2"), expect=token)

        late = [each.append(started("late"), fence=token) for each in writers]
        second, *results = await asyncio.gather(elect(), *late, return_exceptions=True)
        assert isinstance(second, int)
        taken = [seq for seq in results if isinstance(seq, int)]
        assert len(taken) + sum(isinstance(each, FencedError) for each in results) == 30
        assert all(seq < second for seq in taken)
        with pytest.raises(FencedError):
            await journal.append(started("late"), fence=token)


async def test_one_of_many_claims_wins_in_a_group(trio: Group) -> None:
    async with trio.engines["a2"].connect() as client, trio.engines["a3"].connect() as third:
        journals = [NatsJournal(each) for each in (trio.client, client, third)]
        for round_ in range(5):
            build = f"claimed-{os.getpid()}-{round_}"
            claims = [each.append(started(build), expect=0) for each in journals * 5]
            results = await asyncio.gather(*claims, return_exceptions=True)
            assert len([each for each in results if isinstance(each, int)]) == 1
            assert len([each for each in results if isinstance(each, StaleError)]) == 14


async def test_a_group_whose_copies_are_whole_has_none_that_is_damaged(trio: Group) -> None:
    async with trio.asking("a2") as ensemble, trio.engines["a3"].connect() as client:
        async with Load(client) as load:
            for _ in range(5):
                await load.goes_on()
                assert await ensemble.damaged() == []
        assert await ensemble.damaged() == []


async def test_a_new_stream_gets_as_many_copies_as_the_journal_has(trio: Group) -> None:
    await forget_stream(trio.client, "BLOB")
    await NatsBlobs(trio.client).open()
    async with trio.asking("a1") as ensemble:
        await until(lambda: has_copies(ensemble, 3))


async def test_a_new_stream_is_put_off_rather_than_made_with_fewer_copies(tmp_path: Path) -> None:
    """One that got a single copy while servers were few would keep it, and nobody would know."""
    async with Group(tmp_path) as group:
        await group.found_three()
        gone = group.engines["a3"]
        async with group.asking("a1") as ensemble:
            await gone.stop()
            await until(lambda: is_gone(ensemble, gone.name))
            await patiently(ensemble.remove, gone.name)
        await forget_stream(group.client, "BLOB")
        blobs = NatsBlobs(group.client)
        with pytest.raises(UnavailableError):
            await blobs._stream.ensure(blobs._spec, within_s=1.0)
        assert await blobs._stream.info() is None


async def test_a_second_cluster_is_not_founded_beside_the_first(group: Group) -> None:
    pure = await group.add("a2")
    with pytest.raises(InvariantError):
        await pure.found()


async def test_a_server_whose_data_is_gone_does_not_start_under_its_name(tmp_path: Path) -> None:
    async with Group(tmp_path) as group:
        await group.found("a1")
        await group.add("a2")
        await group.appoint("a2", by="a1")
        second = group.engines.pop("a2")
        await second.stop()
        await second.release()
        shutil.rmtree(group.home("a2") / "js")
        async with Engine(group.home("a2"), credentials_of(group.home("a2"))) as again:
            assert again.server is None
            assert [voter.agent for voter in again.voters] == ["a1", "a2"]


async def test_a_lone_server_whose_data_is_gone_is_not_begun_anew(stopped_engine: Path) -> None:
    shutil.rmtree(stopped_engine / "js")
    with pytest.raises(UnavailableError) as caught:
        async with running(stopped_engine):
            pass
    assert caught.value.message == f"the engine's data in {stopped_engine}/js is gone"
    assert str(caught.value.hint).startswith("bring it back, or move ")
