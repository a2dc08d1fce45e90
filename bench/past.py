"""A long past for an agent that never ran: the records and the journal as they would be.

The records go through the real store. The journal is cut off behind them, as an agent cuts it once
they are in the history; so its next event has the sequence it would have. The index is left out:
the agent makes it from the records at its start.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from rota.adapters.clocks import SystemClock
from rota.adapters.git import GitStore
from rota.adapters.nats import Engine
from rota.adapters.nats.journal import NatsJournal
from rota.adapters.pki import TlsKeyring
from rota.core.build import Build, Trigger, Usage
from rota.core.events import Emitted
from rota.core.job import Reason
from rota.core.records import encode, record_path
from rota.core.states import Result, State
from rota.ports.store import Record

JOB = "web/job-0"
JOBS = 20
BATCH = 1000
#: Of each build: requested, started, finished.
EVENTS = 3
BEGAN = datetime(2025, 1, 1, tzinfo=UTC)


def last_number(count: int) -> int:
    """Return the number of the last build of :data:`JOB` among ``count``."""
    return (count - 1) // JOBS + 1


async def fill(data: Path, count: int) -> None:
    """Make a data folder as if ``count`` builds had run there."""
    data.mkdir(mode=0o700)
    async with GitStore(data / "store.git") as store:
        for start in range(0, count, BATCH):
            builds = [build(i) for i in range(start, min(start + BATCH, count))]
            await store.record(
                [Record(record_path(it), encode(it)) for it in builds],
                covers=builds[-1].last_seq,
                at=BEGAN + timedelta(seconds=start + BATCH),
            )
    await _cut_journal(data, count * EVENTS)


async def _cut_journal(data: Path, last: int) -> None:
    credentials = TlsKeyring(data / "tls", SystemClock()).found("bench", ["127.0.0.1"])
    async with Engine(data / "engine", credentials) as engine:
        await engine.found()
        async with engine.connect("rota") as client:
            journal = NatsJournal(client)
            await journal.open()
            await journal.trim(before=last + 1)
            await journal.append(Emitted(at=BEGAN, by="bench", agent="bench", type="bench.filled"))
        await engine.stop()


def build(index: int) -> Build:
    """Return one build of the past."""
    at = BEGAN + timedelta(seconds=index)
    seq = index * EVENTS + 1
    is_failed = index % 20 == 7
    return Build(
        id=f"{index:016d}",
        job=f"web/job-{index % JOBS}",
        number=index // JOBS + 1,
        state=State.FINISHED,
        result=Result.FAILED if is_failed else Result.PASSED,
        reason=Reason.SCRIPT,
        exit_code=1 if is_failed else 0,
        attempt=1,
        agent="bench",
        requested_at=at,
        started_at=at + timedelta(milliseconds=5),
        finished_at=at + timedelta(milliseconds=900),
        log_bytes=1000 + index % 997,
        params={"suite": "fast"},
        trigger=Trigger(by="bench"),
        commit=f"{index // 100:040x}",
        script=f"{index % JOBS:040x}",
        usage=Usage(user_s=0.5, system_s=0.1, max_rss_bytes=10_000_000 + index),
        requested_seq=seq,
        last_seq=seq + EVENTS - 1,
    )
