"""One agent, assembled over its ports: what a daemon runs, and ``rota exec`` in small."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path

from rota.agent.definitions import Follower
from rota.agent.historian import Historian
from rota.agent.leftovers import keep_artifacts
from rota.agent.loop import Loop
from rota.agent.patience import persist
from rota.agent.rebuild import restore
from rota.agent.runner import Runner
from rota.agent.workplace import Workplace, tmp, work
from rota.core.decide import expected
from rota.core.events import AgentStarted, AgentStopped, LeaderElected
from rota.core.settings import Settings
from rota.core.surroundings import Place
from rota.errors import RotaError, StaleError
from rota.ports.blobs import Blobs
from rota.ports.clock import Clock
from rota.ports.executor import Executor
from rota.ports.index import Index
from rota.ports.journal import Journal
from rota.ports.logs import Logs
from rota.ports.store import Store
from rota.ports.watcher import Watcher
from rota.service.context import Myself, Service
from rota.service.world import World

logger = logging.getLogger(__name__)

#: What is under way at a stop (a commit of the history, the last event) gets so long.
STOP_S = 5.0


async def no_settings(settings: Settings) -> None:
    """Do nothing with the settings."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ports:
    """The world, as adapters see it."""

    journal: Journal
    logs: Logs
    blobs: Blobs
    store: Store
    index: Index
    executor: Executor
    watcher: Watcher
    clock: Clock
    configure: Callable[[Settings], Awaitable[None]] = no_settings
    """Told of the settings at the start and whenever they changed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agent:
    """A running agent."""

    service: Service
    loop: Loop
    follower: Follower
    runner: Runner


@contextlib.asynccontextmanager
async def run_agent(
    me: Myself,
    ports: Ports,
    *,
    stop: Callable[[], None],
    socket: str = "",
    url: str = "",
) -> AsyncIterator[Agent]:
    """Run an agent for as long as the context is open. It is ready when this yields.

    It has folded all the journal had, knows the definitions, and has found again what ran before.
    Leaving the context stops its tasks; the builds' processes go on.
    """
    world, first = await restore(ports.journal, ports.store, ports.index)
    historian = Historian(world, ports.store, ports.index, ports.clock)
    follower = Follower(me.name, world, ports.store, ports.journal, ports.clock, ports.configure)
    workplace = Workplace(me.data)
    await historian.begin()
    async with _ended_group() as group:
        runner = Runner(
            group=group,
            agent=me.name,
            place=lambda home: _place(me, workplace, home, socket, url),
            workplace=workplace,
            world=world,
            journal=ports.journal,
            logs=ports.logs,
            store=ports.store,
            executor=ports.executor,
            watcher=ports.watcher,
            clock=ports.clock,
            keep=lambda build, path: keep_artifacts(service, build, path),
        )
        loop = Loop(
            group=group,
            name=me.name,
            labels=me.labels,
            slots=me.slots,
            world=world,
            journal=ports.journal,
            runner=runner,
            historian=historian,
            clock=ports.clock,
            journal_first=first,
        )
        runner.freed = loop.decide_soon
        service = Service(
            me=me,
            world=world,
            journal=ports.journal,
            logs=ports.logs,
            blobs=ports.blobs,
            store=ports.store,
            clock=ports.clock,
            attempts=runner,
            reload=follower.follow,
            stop=stop,
            url=url,
        )
        _, last = await ports.journal.bounds()
        group.create_task(loop.run(last), name="loop")
        group.create_task(historian.run(), name="historian")
        await loop.caught_up()
        await follower.follow()
        await _announce(me, world, ports, url, first)
        loop.go_live()
        try:
            yield Agent(service=service, loop=loop, follower=follower, runner=runner)
        finally:
            await _leave(me, ports, historian)


@contextlib.asynccontextmanager
async def _ended_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose tasks are cancelled when its body is left, as 3.11 has no such call."""

    class _Over(Exception):  # noqa: N818 - not an error: the way to end a group
        pass

    async def end() -> None:
        raise _Over

    try:
        async with asyncio.TaskGroup() as group:
            yield group
            group.create_task(end())
    except* _Over:
        pass


@contextlib.asynccontextmanager
async def background(task: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run ``task`` for as long as the context is open."""
    async with _ended_group() as group:
        group.create_task(task)
        yield


async def _announce(me: Myself, world: World, ports: Ports, url: str, first: int) -> None:
    """Say that this agent is up, and lead if nobody else does: alone, it always does."""
    up = AgentStarted(
        at=ports.clock.now(),
        by=me.name,
        agent=me.name,
        labels=me.labels,
        slots=me.slots,
        url=url,
        version=me.version,
    )
    await persist("start", lambda: ports.journal.append(up))
    if world.cluster.picture.leader != me.name:
        lead = LeaderElected(at=ports.clock.now(), by=me.name, agent=me.name)
        expect = expected(world.cluster.picture.leader_seq, first)
        with contextlib.suppress(StaleError):
            await persist("lead", lambda: ports.journal.append(lead, expect=expect))


async def _leave(me: Myself, ports: Ports, historian: Historian) -> None:
    """Say good-bye, if that is possible in time; nothing depends on it."""
    down = AgentStopped(at=ports.clock.now(), by=me.name, agent=me.name)
    try:
        async with asyncio.timeout(STOP_S):
            await ports.journal.append(down)
            await historian.settled()
    except (RotaError, TimeoutError) as error:
        logger.warning("left without a word: %s", error)
    historian.snapshot()


def _place(me: Myself, workplace: Workplace, home: Path, socket: str, url: str) -> Place:
    user = pwd.getpwuid(os.geteuid())
    return Place(
        workspace=str(work(home)),
        tmp=str(tmp(home)),
        bin=str(workplace.bin),
        user=user.pw_name,
        home=user.pw_dir,
        agent=me.name,
        socket=socket,
        url=url,
    )
