"""Several engines as one group: what the membership duty does, step by step, without agents."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace
from tests.harness.engine import PATIENCE_S, credentials_of, until

from rota.adapters.nats import (
    Client,
    Engine,
    NatsBlobs,
    NatsEnsemble,
    NatsJournal,
    NatsLease,
    NatsLogs,
)
from rota.core.events import EPOCH, BuildStarted
from rota.core.voter import Voter
from rota.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_numbers = itertools.count(1)


def started(build: str) -> BuildStarted:
    return BuildStarted(at=EPOCH, build=build, attempt=1)


class Group:
    """Agents by name, each with an engine; the first one founds.

    Every server is ended and wiped at the end, unless the group is one that lives on.
    """

    def __init__(self, folder: Path, *, lives_on: bool = False) -> None:
        self.folder = folder
        self.lives_on = lives_on
        self.engines: dict[str, Engine] = {}
        self.voters: dict[str, Voter] = {}
        self.pins: dict[str, str] = {}
        self._stack = AsyncExitStack()
        self.client: Client
        self.ensemble: NatsEnsemble

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._stack.__aexit__(kind, error, trace)
        finally:
            if not self.lives_on:
                await self._end()

    async def _end(self) -> None:
        for name in self.engines:
            async with Engine(self.home(name), credentials_of(self.home(name))) as engine:
                await engine.retire()

    def home(self, name: str) -> Path:
        return self.folder / name

    async def found(self, name: str) -> Engine:
        """Make the first agent, a voter, and a client of its own to ask by."""
        engine = await self._open(name)
        server = await engine.found()
        self.voters[name] = Voter(name, server.name, server.host, server.client, server.route)
        await self.tell()
        self.client = await self._stack.enter_async_context(engine.connect())
        for stream in (NatsJournal, NatsLogs, NatsBlobs, NatsLease):
            await stream(self.client).open()
        return engine

    async def found_three(self) -> None:
        """Make three voters, three copies."""
        await self.found("a1")
        for name in ("a2", "a3"):
            await self.add(name)
        for name in ("a2", "a3"):
            await self.appoint(name, by="a1")
        await self.replicate(3, by="a1")

    async def take_over(self, names: Sequence[str]) -> None:
        """Go on with a group that lives, as if every daemon had been started anew."""
        for name in names:
            engine = await self._open(name)
            await engine.found()
            self.voters = {voter.agent: voter for voter in engine.voters}
        first = self.engines[names[0]]
        self.client = await self._stack.enter_async_context(first.connect())

    async def _open(self, name: str) -> Engine:
        credentials = credentials_of(self.home(name))
        engine = Engine(self.home(name), credentials)
        self.engines[name] = await self._stack.enter_async_context(engine)
        self.pins[name] = credentials.pin
        return engine

    async def add(self, name: str) -> Engine:
        """Make a member that runs no server."""
        engine = await self._open(name)
        await self.tell()
        return engine

    async def tell(self) -> None:
        """Let all engines know what a fold of the journal would."""
        for engine in self.engines.values():
            await engine.know(tuple(self.voters.values()), self.pins)

    @asynccontextmanager
    async def asking(self, name: str) -> AsyncIterator[NatsEnsemble]:
        """Ask the ensemble by the clients of one agent."""
        engine = self.engines[name]
        async with engine.connect() as client, engine.connect(system=True) as system:
            await system.connected(PATIENCE_S)
            await client.connected(PATIENCE_S)
            yield NatsEnsemble(client, system, lambda: engine.voters)

    async def appoint(self, name: str, *, by: str) -> str:
        """Make a member a voter; return its server's name once the group took it in."""
        server = f"s{next(_numbers)}-{name}"
        self.voters[name] = Voter(name, server)
        await self.tell()
        found = await self.engines[name].join(server, "127.0.0.1")
        self.voters[name] = replace(
            self.voters[name], host=found.host, client=found.client, route=found.route
        )
        await self.tell()
        async with self.asking(by) as ensemble:
            await until(lambda: is_seated(ensemble, server))
        return server

    async def replicate(self, copies: int, *, by: str) -> None:
        async with self.asking(by) as ensemble:
            await patiently(ensemble.replicate, copies)
            await until(lambda: has_copies(ensemble, copies))

    async def dismiss(self, name: str, *, by: str) -> None:
        """Let a living voter hand over, and end its server."""
        server = self.voters[name].server
        async with self.asking(by) as ensemble:
            await patiently(ensemble.evacuate, server)
            await until(lambda: keeps_nothing(ensemble, server))
            await patiently(ensemble.remove, server)
        await self.forget(name)
        await self.engines[name].retire()

    async def lose(self, name: str) -> str:
        """Let an agent's machine be gone for good, disk and all; return its server's name."""
        engine = self.engines.pop(name)
        os.kill(engine.pid, signal.SIGKILL)
        await engine.stop()
        await engine.release()
        shutil.rmtree(self.home(name))
        return self.voters[name].server

    async def forget(self, name: str) -> None:
        """Let all know that ``name`` is no voter any more."""
        del self.voters[name]
        await self.tell()


async def patiently(do: object, *args: object) -> None:
    """Do it until the engine can."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await do(*args)  # type: ignore[operator]
            except UnavailableError:
                await asyncio.sleep(0.05)
            else:
                return


async def is_seated(ensemble: NatsEnsemble, server: str) -> bool:
    """Whether a server is one of the group, and has all that was decided."""
    try:
        seats = await ensemble.seats()
    except UnavailableError:
        return False
    return any(s.server == server and s.is_current and not s.is_offline for s in seats)


async def has_copies(ensemble: NatsEnsemble, copies: int) -> bool:
    try:
        return await ensemble.copies() == (copies, True)
    except UnavailableError:
        return False


async def keeps_nothing(ensemble: NatsEnsemble, server: str) -> bool:
    try:
        return not await ensemble.keeps(server)
    except UnavailableError:
        return False


class Load:
    """Appends by several writers, for as long as the context lasts, and what was acknowledged."""

    def __init__(self, client: Client, writers: int = 3) -> None:
        self.journal = NatsJournal(client)
        self.acknowledged: dict[str, int] = {}
        self.refused = 0
        self.gap_s = 0.0
        self._writers = writers
        self._prefix = secrets.token_hex(4)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write(n)) for n in range(self._writers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            assert task.cancelled(), task.exception()

    async def _write(self, writer: int) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        for count in itertools.count():
            build = f"{self._prefix}w{writer}n{count}"
            try:
                self.acknowledged[build] = await self.journal.append(started(build), expect=0)
            except UnavailableError:
                self.refused += 1
                continue
            self.gap_s, last = max(self.gap_s, loop.time() - last), loop.time()

    async def goes_on(self, events: int = 30) -> None:
        """Return once so many more were acknowledged."""
        goal = len(self.acknowledged) + events
        await until(lambda: len(self.acknowledged) >= goal)

    def gap(self) -> float:
        """Return the longest time that a writer waited since the last call."""
        gap, self.gap_s = self.gap_s, 0.0
        return gap


async def assert_all_there(journal: NatsJournal, acknowledged: dict[str, int]) -> None:
    """Fail the test unless each acknowledged event is there, at its place, once."""
    there: dict[str, int] = {}
    async for entry in journal.read():
        if isinstance(entry.event, BuildStarted):
            assert entry.event.build not in there, "an event is there twice"
            there[entry.event.build] = entry.seq
    assert acknowledged.items() <= there.items()
