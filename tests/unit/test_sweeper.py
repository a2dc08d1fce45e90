"""The duty that drops old logs and artifacts, over the twins in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from rota.adapters.clocks import ManualClock
from rota.adapters.memory import MemoryBlobs, MemoryJournal, MemoryLogs
from rota.adapters.memory_store import MemoryIndex
from rota.agent.retention import PAGE, Sweeper
from rota.core.build import Artifact, Attempt, Build
from rota.core.cluster import Cluster
from rota.core.definitions import Definition, Definitions
from rota.core.events import BuildRequested, BuildsSwept
from rota.core.job import Job, Keep, Reason, Spec
from rota.core.retention import Swept
from rota.core.states import Result, State
from rota.errors import UnavailableError
from rota.ports.journal import Entry
from rota.ports.logs import LogKey
from rota.service.artifacts import blob_name
from rota.service.logs import removed_text
from rota.service.world import World

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Here:
    """A sweeper with what it works on; what it records is folded at once."""

    def __init__(self) -> None:
        self.index, self.logs, self.blobs = MemoryIndex(), MemoryLogs(), MemoryBlobs()
        self.world = World(MemoryJournal(), self.index, Cluster())
        self.recorded: list[tuple[Swept, ...]] = []
        self.sweeper = Sweeper(
            world=self.world,
            index=self.index,
            logs=self.logs,
            blobs=self.blobs,
            clock=ManualClock(NOW),
            record=self._record,
        )

    async def _record(self, swept: tuple[Swept, ...]) -> None:
        self.recorded.append(swept)
        entry = Entry(self.world.seq + 1, BuildsSwept(at=NOW, swept=swept))
        self.world.fold(entry)

    def keep(self, job: str, keep: Keep) -> None:
        definition = Definition(job=Job(job, spec=Spec(keep=keep)), blob="")
        self.world.definitions = Definitions(jobs={job: definition})

    async def built(self, number: int, days: float, *, job: str = "web", file: int = 0) -> Build:
        end = NOW - timedelta(days=days)
        build = Build(
            id=f"{job}{number:08}",
            job=job,
            number=number,
            state=State.FINISHED,
            result=Result.PASSED,
            attempt=2,
            requested_at=end,
            requested_seq=number,
            finished_at=end,
            log_bytes=3,
            artifacts=(Artifact("a.txt", file, ""),) if file else (),
            former=(Attempt(1, "x", Result.LOST, Reason.LOST, finished_at=end),),
        )
        self.index.add([build])
        for attempt in (1, 2):
            await self.logs.append(LogKey(build.id, attempt), 0, b"abc")
        if file:
            await self.blobs.put(blob_name(build.id, "a.txt"), _bytes(file))
        return build

    async def has_log(self, build: Build) -> list[bool]:
        return [await self.logs.end(LogKey(build.id, attempt)) > 0 for attempt in (1, 2)]


async def _bytes(size: int) -> AsyncIterator[bytes]:
    yield bytes(size)


@pytest.fixture
def here() -> Here:
    return Here()


async def test_what_is_too_old_goes_and_is_recorded(here: Here) -> None:
    young, old = await here.built(2, 29), await here.built(1, 31, file=5)
    assert await here.sweeper.sweep(NOW) == 1
    assert await here.has_log(young) == [True, True]
    assert await here.has_log(old) == [False, False]
    assert await here.blobs.find(blob_name(old.id, "a.txt")) is not None
    assert here.recorded == [(Swept(old.id, logs="logs.max_age"),)]
    assert await here.sweeper.sweep(NOW) == 0
    assert len(here.recorded) == 1
    text = removed_text(old, 2, here.world.removed(old.id))
    assert text == "was removed on 2026-11-24 by the cluster's `logs.max_age`"
    assert removed_text(young, 2, here.world.removed(young.id)) == "is no longer kept"


async def test_a_jobs_own_limits_hold_for_it_alone(here: Here) -> None:
    here.keep("web", Keep(builds=1))
    builds = [await here.built(n, 3 - n, file=4) for n in (2, 1)]
    other = [await here.built(n, 3 - n, job="b") for n in (2, 1)]
    assert await here.sweeper.sweep(NOW) == 1
    assert here.recorded == [(Swept(builds[1].id, "keep.builds", "keep.builds"),)]
    assert await here.blobs.find(blob_name(builds[1].id, "a.txt")) is None
    assert [await here.has_log(build) for build in other] == [[True, True]] * 2


async def test_more_than_a_page_is_swept_in_one_go(here: Here) -> None:
    here.keep("web", Keep(builds=3))
    for number in range(1, 2 * PAGE + 10):
        await here.built(number, 20 - number / 1000)
    assert await here.sweeper.sweep(NOW) == 2 * PAGE + 6
    assert sum(map(len, here.recorded)) == 2 * PAGE + 6
    assert len(here.index.remains(job="web")) == 3
    assert await here.sweeper.sweep(NOW) == 0


async def test_what_was_gone_already_is_not_recorded_again(here: Here) -> None:
    build = await here.built(1, 31)
    for attempt in (1, 2):
        await here.logs.drop(LogKey(build.id, attempt))
    assert await here.sweeper.sweep(NOW) == 1
    assert here.recorded == []
    assert await here.sweeper.sweep(NOW) == 0
    assert removed_text(build, 2, here.world.removed(build.id)) == "is no longer kept"


async def test_a_build_that_lives_again_is_left_alone(here: Here) -> None:
    build = await here.built(1, 31)
    asked = BuildRequested(at=NOW, build=build.id, job="web", spec=Spec())
    here.world.fold(Entry(1, asked))
    assert await here.sweeper.sweep(NOW) == 0
    assert await here.has_log(build) == [True, True]


async def test_what_was_dropped_is_recorded_also_when_the_engine_fails_in_between(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.keep("web", Keep(builds=1))
    for number in range(1, 41):
        await here.built(number, 20 - number / 10)
    drop, count = here.logs.drop, 0

    async def failing(key: LogKey) -> None:
        nonlocal count
        count += 1
        if count > 40:
            raise UnavailableError("the engine does not answer")
        await drop(key)

    monkeypatch.setattr(here.logs, "drop", failing)
    with pytest.raises(UnavailableError):
        await here.sweeper.sweep(NOW)
    (first,) = [len(each) for each in here.recorded]
    assert 16 <= first < 24, "those of the last few that went are among them"
    monkeypatch.undo()
    assert await here.sweeper.sweep(NOW) == 39 - first
    assert len(here.index.remains(job="web")) == 1
