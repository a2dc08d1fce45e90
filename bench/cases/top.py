"""Looking at the cluster: what one look costs at its largest, and what ``rota top`` sends and uses.

The look is measured in one process, over a world of a thousand agents, ten thousand queued builds
and a million in the index; what it is held against is one pass over the builds in memory, without
which nobody can count them. ``rota top`` is measured on a pseudo-terminal of 80 by 24.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
import types
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from bench import usage
from bench.agent import ROTA, Agent, running
from bench.case import Result, Setting
from bench.cases.why import AT, Crowd
from bench.figure import Figure
from rota.adapters.clocks import SystemClock
from rota.adapters.memory import MemoryJournal
from rota.adapters.sqlite.index import SqliteIndex
from rota.core.build import Build
from rota.core.definitions import Definitions
from rota.core.states import Result as Ended
from rota.core.states import State
from rota.service.context import Principal, Service
from rota.service.overview import overview
from rota.service.overview_messages import OverviewRequest, TrendRequest
from rota.service.trends import LastResults, trend
from rota.service.verbs import Role
from rota.service.world import World

JOBS = 1000
ME = Principal("bench", Role.ADMIN)
SCRIPT = "#!/bin/sh\nfor i in $(seq 1000); do echo line $i; sleep 0.1; done\n"
QUICK = "#!/bin/sh\nexit 0\n"


def run(setting: Setting) -> Result:
    """Measure the look, then the program that looks."""
    agents, builds = setting.size(1000, 100), setting.size(10_000, 1000)
    many = setting.size(1_000_000, 20_000)
    result = Result()
    result.figures += _looks(setting.data(), agents, builds, many)
    data = setting.data()
    with running(data) as agent:
        result.figures += _watched(agent, setting.size(20, 3))
    return result


# -- one look -----------------------------------------------------------------------------------


def _looks(folder: Path, agents: int, builds: int, many: int) -> list[Figure]:
    folder.mkdir()
    index = SqliteIndex(folder / "index.db")
    for start in range(0, many, 10_000):
        index.add([_past(number) for number in range(start, min(start + 10_000, many))])
    crowd = Crowd(agents, builds, 50, limited=True)
    world = World(MemoryJournal(), index, crowd.cluster)
    world.definitions = Definitions()
    me = types.SimpleNamespace(name="a0", version="0")
    service = cast(Service, types.SimpleNamespace(world=world, clock=SystemClock(), me=me))
    floor = _least(lambda: sum(it.state is State.QUEUED for it in world.live()))

    def look(**request: Any) -> Any:
        return asyncio.run(overview(service, OverviewRequest(**request), ME))

    def recent() -> None:
        jobs = LastResults(world, 10)
        for number in range(JOBS):
            jobs.of(f"p{number % 20}/j{number}")

    job = TrendRequest(job="p0/j0")
    what = f"{agents} agents, {builds} queued"
    figures = [
        ("overview", lambda: look(rows=20), 20),
        ("overview, every row it has", lambda: look(rows=200), None),
        ("overview, filtered", lambda: look(rows=20, match="p7/*"), 60),
        ("trend of a job", lambda: asyncio.run(trend(service, job, ME)), 20),
        (f"last 10 of {JOBS} jobs", recent, None),
    ]
    measured = [
        Figure(
            what=name, value=_least(call), unit="ms", reach=reach, floor=floor, floor_name="passes"
        )
        for name, call, reach in figures
    ]
    size = len(msgspec.json.encode(look(rows=24)))
    index.close()
    return [
        *measured,
        Figure(what=f"its answer, {what}", value=size / 1024, unit="KiB", reach=32),
    ]


def _past(number: int) -> Build:
    at = AT + timedelta(seconds=number)
    job = number % JOBS
    return Build(
        id=f"past{number:012}",
        job=f"p{job % 20}/j{job}",
        number=number // JOBS + 1,
        state=State.FINISHED,
        result=Ended.FAILED if number % 7 == 0 else Ended.PASSED,
        requested_at=at,
        started_at=at,
        finished_at=at + timedelta(seconds=number % 100),
        requested_seq=number + 1,
        last_seq=number + 1,
        seq=number + 1,
    )


def _least(call: Callable[[], object], times: int = 15) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return min(took) * 1000


# -- who looks ----------------------------------------------------------------------------------


class Watched(NamedTuple):
    """What ``rota top`` sent its terminal, and what it and the agent used, in a second."""

    bytes: float
    top: float
    agent: float
    memory_mb: float


def _watched(agent: Agent, seconds: int) -> list[Figure]:
    with agent.connect() as connection:
        connection.put("quick", QUICK)
        connection.put("web/long", SCRIPT)
        idle_agent = _used(agent, seconds)
        idle = _watch(agent, seconds)
        for _ in range(8):  # four run, four wait
            connection.run("web/long")
        busy = _watch(agent, seconds)
    figures = []
    for name, found, reach in (("idle", idle, 100), ("4 running, 4 queued", busy, 1000)):
        figures += [
            Figure(what=f"rota top, {name}: sent", value=found.bytes, unit="B/s", reach=reach),
            Figure(what=f"rota top, {name}: its CPU", value=found.top, unit="%", reach=5),
            Figure(what=f"rota top, {name}: agent's CPU", value=found.agent, unit="%", reach=5),
        ]
    return [
        *figures,
        Figure(what="agent's CPU, nobody looks", value=idle_agent, unit="%"),
        Figure(what="rota top: memory", value=busy.memory_mb, unit="MB", reach=40),
    ]


def _used(agent: Agent, seconds: int) -> float:
    before = agent.cpu().daemon
    time.sleep(seconds)
    return (agent.cpu().daemon - before) / seconds / 10


def _watch(agent: Agent, seconds: int) -> Watched:
    """Let somebody look for a while, after the first picture is there."""
    with _terminal(agent) as (process, screen):
        _read(screen, 2.0)
        before = agent.cpu().daemon
        own = _cpu(process.pid)
        sent = _read(screen, seconds)
        used = (agent.cpu().daemon - before) / seconds / 10
        own = (_cpu(process.pid) - own) / seconds / 10
        return Watched(len(sent) / seconds, own, used, usage.pss_mb(process.pid))


@contextlib.contextmanager
def _terminal(agent: Agent) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    screen, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "ROTA_DATA": str(agent.data)}
    process = subprocess.Popen(
        [ROTA, "top"], stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
    )
    os.close(theirs)
    try:
        yield process, screen
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):
            _read(screen, 0.5)
        process.wait(10)
        os.close(screen)


def _read(screen: int, seconds: float) -> bytes:
    until, found = time.monotonic() + seconds, bytearray()
    while (left := until - time.monotonic()) > 0:
        if select.select([screen], [], [], left)[0]:
            found += os.read(screen, 65536)
    return bytes(found)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * usage.TICK_MS
