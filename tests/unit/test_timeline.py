"""Whether an agent's picture and the journal are one story."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex
from rota.agent import timeline
from rota.agent.timeline import has_parted, stay
from rota.core.cluster import Cluster
from rota.core.events import Emitted
from rota.core.fold import apply
from rota.errors import PartedError
from rota.service.world import World

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(number: int, second: int = 0) -> Emitted:
    return Emitted(at=NOON + timedelta(minutes=number, seconds=second), type="x")


async def told(journal: MemoryJournal, count: int) -> Cluster:
    cluster = Cluster()
    for number in range(1, count + 1):
        apply(cluster, await journal.append(event(number)), event(number))
    return cluster


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


async def test_an_agent_that_has_seen_part_of_the_journal_goes_on(journal: MemoryJournal) -> None:
    cluster = await told(journal, 3)
    assert await has_parted(journal, cluster.picture) == ""
    await journal.append(event(4))
    assert await has_parted(journal, cluster.picture) == ""
    await journal.trim(before=4)
    assert await has_parted(journal, cluster.picture) == ""
    assert await has_parted(MemoryJournal(), Cluster().picture) == ""


async def test_one_that_was_away_for_longer_than_the_journal_reaches_has_parted(
    journal: MemoryJournal,
) -> None:
    cluster = await told(journal, 3)
    await journal.append(event(4))
    await journal.append(event(5))
    await journal.trim(before=5)
    expect = "the journal begins at event 5, and this agent has seen 3 only"
    assert await has_parted(journal, cluster.picture) == expect


async def test_one_that_saw_what_the_journal_lost_has_parted(journal: MemoryJournal) -> None:
    cluster = await told(journal, 3)
    shorter = MemoryJournal()
    await told(shorter, 2)
    expect = "the journal ends at event 2, but this agent has seen event 3"
    assert await has_parted(shorter, cluster.picture) == expect
    await shorter.append(event(3, second=1))
    expect = "event 3 is another one than this agent has seen"
    assert await has_parted(shorter, cluster.picture) == expect


async def test_a_journal_that_begins_behind_what_an_agent_has_seen_goes_on(
    journal: MemoryJournal,
) -> None:
    cluster = await told(MemoryJournal(), 5)
    await told(journal, 2)
    await journal.trim(before=6)
    assert await journal.bounds() == (6, 5)
    assert await has_parted(journal, cluster.picture) == ""
    assert await journal.append(event(6)) == 6


async def test_one_that_waited_for_a_quorum_stays_or_begins_anew(
    journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "SURE_S", 0.0)
    world = World(journal, MemoryIndex(), await told(journal, 3))
    await journal.append(event(4))
    await stay(world, journal)
    await journal.append(event(5))
    await journal.trim(before=5)
    with pytest.raises(PartedError, match="begins at event 5, and this agent has seen 3 only"):
        await stay(world, journal)
