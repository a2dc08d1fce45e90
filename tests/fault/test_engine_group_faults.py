"""Growing, shrinking, replacing and rescuing the engine's servers under load: nothing is lost."""

from __future__ import annotations

import os
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from tests.harness.engine import PATIENCE_S, until
from tests.harness.voters import Group, Load, assert_all_there, has_copies, is_seated, patiently

from rota.adapters.nats import NatsJournal
from rota.adapters.nats import engine as engine_module
from rota.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from rota.adapters.nats import NatsEnsemble

pytestmark = [pytest.mark.nats, pytest.mark.fault, pytest.mark.slow]


@pytest.mark.timeout(240)
async def test_a_group_grows_to_five_and_shrinks_to_one_under_load(tmp_path: Path) -> None:
    async with Group(tmp_path) as group:
        await group.found("a1")
        for name in ("a2", "a3", "a4", "a5", "a6"):
            await group.add(name)
        async with group.engines["a6"].connect() as client, Load(client) as load:
            await load.goes_on()
            for name in ("a2", "a3"):
                await group.appoint(name, by="a6")
                await load.goes_on()
            await group.replicate(3, by="a6")
            await load.goes_on()
            for name in ("a4", "a5"):
                await group.appoint(name, by="a1")
                await load.goes_on()
            await group.replicate(5, by="a2")
            await load.goes_on()
            await group.replicate(3, by="a2")
            for name in ("a1", "a4"):  # the founder goes for good
                await group.dismiss(name, by="a3")
                assert not (group.home(name) / "js").exists()
                await load.goes_on()
            await group.replicate(1, by="a3")
            for name in ("a3", "a5"):
                await group.dismiss(name, by="a6")
                await load.goes_on()
            await group.engines["a2"].heal()
            await load.goes_on()
        await assert_all_there(NatsJournal(group.client), load.acknowledged)
        assert group.engines["a2"].trouble is None


async def test_a_voter_whose_machine_is_gone_for_good_is_replaced(tmp_path: Path) -> None:
    async with Group(tmp_path) as group:
        await group.found_three()
        await group.add("a4")
        async with group.engines["a4"].connect() as client, Load(client) as load:
            await load.goes_on()
            lost = await group.lose("a2")
            async with group.asking("a4") as ensemble:
                await until(lambda: is_missing(ensemble, lost))
                await patiently(ensemble.remove, lost)
            await group.forget("a2")
            fresh = await group.appoint("a4", by="a3")
            async with group.asking("a1") as ensemble:
                await until(lambda: has_copies(ensemble, 3))
                assert {seat.server for seat in await ensemble.seats()} == {
                    group.voters["a1"].server,
                    group.voters["a3"].server,
                    fresh,
                }
            await load.goes_on()
        await assert_all_there(NatsJournal(group.client), load.acknowledged)


async def is_missing(ensemble: NatsEnsemble, server: str) -> bool:
    try:
        seats = await ensemble.seats()
    except UnavailableError:
        return False
    return any(seat.server == server and seat.is_offline for seat in seats)


@pytest.mark.timeout(240)
async def test_the_one_that_is_left_of_three_is_rescued_with_all_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "TICK_S", 0.5)
    async with Group(tmp_path) as group:
        await group.found_three()
        async with group.engines["a1"].connect() as client, Load(client) as load:
            await load.goes_on(100)
        gone = [await group.lose(name) for name in ("a2", "a3")]
        last = group.engines["a1"]
        await until(lambda: str(last.trouble).startswith("no quorum: 2 of the engine's 3 servers"))
        async with group.asking("a1") as ensemble:
            with pytest.raises(UnavailableError) as caught:
                await ensemble.seats()
            assert caught.value.message == "no quorum: the engine's servers have no leader"
            agreed: list[str] = []

            async def is_rescued() -> bool:
                try:
                    agreed[:] = await ensemble.rescue(1)
                except UnavailableError:
                    return False
                return True

            await until(is_rescued)
            assert agreed == [last.name]
            await until(lambda: is_seated(ensemble, last.name))
            for server in gone:
                await patiently(ensemble.remove, server)
            for name in ("a2", "a3"):
                await group.forget(name)
            await patiently(ensemble.replicate, 1)
            await until(lambda: has_copies(ensemble, 1))
        async with last.connect() as client:
            journal = NatsJournal(client)
            async with Load(client) as after:
                await after.goes_on()
            await last.stop()
            await last.found()
            await client.connected(PATIENCE_S)
            await assert_all_there(journal, load.acknowledged | after.acknowledged)


@pytest.mark.timeout(240)
async def test_a_copy_that_lost_a_part_is_named_and_the_rest_of_the_journal_is_read_around_it(
    tmp_path: Path,
) -> None:
    """The engine neither heals such a copy nor says a word; whoever reads it would miss events."""
    async with Group(tmp_path) as group:
        await group.found_three()
        async with group.engines["a3"].connect() as client, Load(client) as load:
            await load.goes_on(300)
        victim = group.engines["a3"]
        await victim.stop()
        for block in (group.home("a3") / "js").rglob("JOURNAL/msgs/*.blk"):
            os.truncate(block, block.stat().st_size // 2)
        await victim.found()
        async with group.asking("a1") as ensemble:

            async def is_found() -> bool:
                try:
                    return list(await ensemble.damaged()) == [victim.name]
                except UnavailableError:
                    return False

            await until(is_found)
        async with victim.connect() as client:
            await client.connected(PATIENCE_S)
            assert client.address is not None
            assert victim.server is not None
            assert client.address.port == victim.server.client
            journal = NatsJournal(client)
            if (await journal._stream.info()).cluster.leader != victim.name:  # type: ignore[union-attr]
                await assert_all_there(journal, load.acknowledged)
                last = max(load.acknowledged.values())
                seqs = []
                async with aclosing(journal.read(follow=True)) as entries:
                    async for entry in entries:
                        seqs.append(entry.seq)
                        if entry.seq == last:
                            break
                assert seqs == list(range(1, last + 1))
