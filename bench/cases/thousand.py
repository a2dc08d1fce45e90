"""A thousand agents on one cluster: they say that they are there, follow the journal, take builds.

They are simulated by one process over the product's own adapters: a thousand members in the
journal, a word of each every two seconds, and builds that only they satisfy, each claimed by two of
them at once, as happens where many have a free slot. What counts is the leader's CPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from datetime import UTC, datetime

from tests.harness.checker import read_journal
from tests.harness.lab import Host, leader

from bench import usage
from bench.case import Result, Setting
from bench.figure import Figure
from bench.group import PATIENCE_S, cluster
from rota.adapters.clocks import SystemClock
from rota.adapters.nats.client import Address, Client
from rota.adapters.nats.config import ROTA
from rota.adapters.nats.journal import NatsJournal
from rota.adapters.nats.pinned import pinned_context
from rota.adapters.nats.presence import NatsPresence
from rota.adapters.pki import TlsKeyring
from rota.core.events import AgentStarted, BuildFinished, BuildRequested, BuildStarted
from rota.core.job import Reason, Spec
from rota.errors import StaleError
from rota.ports.presence import Word
from rota.service.builds import new_id

WORD_S = 2.0
BUILDS_A_SECOND = 20


def run(setting: Setting) -> Result:
    """Let them be there for a while without work, then with it."""
    count, watch_s = setting.size(1000, 100), setting.size(30, 5)
    with cluster(setting) as lab:
        led = leader(lab.hosts)
        idle, busy = asyncio.run(_measure(led, count, watch_s))
    return Result(
        figures=[
            Figure(
                what=f"{count} agents, {name}: leader's daemon",
                value=used.daemon / watch_s / 10,
                unit="%",
                reach=30,
            )
            for name, used in (("presence", idle), (f"{BUILDS_A_SECOND} builds/s", busy))
        ],
        notes=[
            (
                f"in % of a core; its engine's server: {idle.engine / watch_s / 10:.1f} with presence"
                f" alone, {busy.engine / watch_s / 10:.1f} with builds"
            )
        ],
        raw={"idle": idle._asdict(), "busy": busy._asdict()},
    )


async def _measure(led: Host, count: int, watch_s: float) -> tuple[usage.Cpu, usage.Cpu]:
    async with _client(led) as client:
        await client.connected(PATIENCE_S)
        journal, presence = NatsJournal(client), NatsPresence(client)
        names = [f"s{number}" for number in range(count)]
        for name in names:
            await journal.append(_started(name))
        async with asyncio.TaskGroup() as group:
            speaking = group.create_task(_speak(presence, names))
            await asyncio.sleep(3 * WORD_S)
            idle = await _cpu(led, watch_s)
            working = group.create_task(_work(journal, names))
            await asyncio.sleep(WORD_S)
            busy = await _cpu(led, watch_s)
            speaking.cancel()
            working.cancel()
    return idle, busy


def _client(led: Host) -> Client:
    """Return a client with the leader's own credentials, to its own server."""
    events = read_journal(led)
    listening = [e for e in events if e["kind"] == "voter.listening" and e["agent"] == led.name]
    pins = {event["pin"] for event in events if event["kind"] == "agent.joined"}
    credentials = TlsKeyring(led.data / "tls", SystemClock()).credentials()
    assert credentials is not None
    address = Address(listening[-1]["host"], listening[-1]["client"])
    return Client(lambda: (address,), ROTA, tls=lambda: pinned_context(credentials, lambda: pins))


async def _speak(presence: NatsPresence, names: list[str]) -> None:
    """Let each say its word every two seconds, evenly spread."""
    pause_s = WORD_S / len(names) * 10
    while True:
        began = time.monotonic()
        for at in range(0, len(names), 10):
            for name in names[at : at + 10]:
                await presence.say(Word(name))
            left_s = began + (at // 10 + 1) * pause_s - time.monotonic()
            await asyncio.sleep(max(0.0, left_s))


async def _work(journal: NatsJournal, names: list[str]) -> None:
    """Request builds that only the simulated satisfy; two claim each, and one has it."""
    chance = random.Random(1)
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(_one(journal, chance.sample(names, 2)))
            await asyncio.sleep(1 / BUILDS_A_SECOND)


async def _one(journal: NatsJournal, pair: list[str]) -> None:
    build = new_id("bench", "simulated", "")
    spec = Spec(labels="simulated")
    requested = BuildRequested(at=_now(), agent=pair[0], build=build, job="simulated", spec=spec)
    seq = await journal.append(requested, expect=0)
    claims = [_claim(journal, build, name, seq) for name in pair]
    claimed = await asyncio.gather(*claims)
    winner = next(name for name, seq in zip(pair, claimed, strict=True) if seq)
    finished = BuildFinished(
        at=_now(), agent=winner, build=build, attempt=1, reason=Reason.SCRIPT, exit_code=0
    )
    await journal.append(finished)


async def _claim(journal: NatsJournal, build: str, name: str, seq: int) -> int:
    with contextlib.suppress(StaleError):
        started = BuildStarted(at=_now(), agent=name, build=build, attempt=1)
        return await journal.append(started, expect=seq)
    return 0


def _started(name: str) -> AgentStarted:
    labels = {"agent": name, "simulated": "", "cores": "2"}
    return AgentStarted(at=_now(), by=name, agent=name, labels=labels, slots=2, url="", version="0")


async def _cpu(led: Host, seconds: float) -> usage.Cpu:
    before = usage.cpu(led.pid, led.engine_pid)
    await asyncio.sleep(seconds)
    return usage.cpu(led.pid, led.engine_pid).since(before)


def _now() -> datetime:
    return datetime.now(UTC)
