"""One agent, assembled over its ports: what a daemon runs, and ``rota exec`` in small."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from rota.agent.ballot import Ballot
from rota.agent.definitions import Follower
from rota.agent.duties import Duties, Duty
from rota.agent.exclusive import Leases
from rota.agent.historian import Historian
from rota.agent.leadership import Leadership
from rota.agent.leaving import Leaving
from rota.agent.leftovers import keep_artifacts
from rota.agent.limits import Limits
from rota.agent.loop import Loop, never, nobody
from rota.agent.membership import Membership
from rota.agent.mover import FetchFrom, Mover, nobody_to_fetch_from
from rota.agent.patience import persist
from rota.agent.rebuild import restore
from rota.agent.retention import Sweeper
from rota.agent.roll import Roll
from rota.agent.runner import Runner
from rota.agent.timeline import watch_timeline
from rota.agent.workplace import Workplace, tmp, work
from rota.core.agents import AgentState
from rota.core.events import (
    AgentFound,
    AgentJoined,
    AgentStarted,
    AgentStopped,
    BuildsSwept,
    LeaderElected,
    LeaderResigned,
)
from rota.core.retention import Swept
from rota.core.settings import Settings
from rota.core.surroundings import Place
from rota.errors import RotaError, UnavailableError
from rota.ports.blobs import Blobs
from rota.ports.clock import Clock
from rota.ports.ensemble import Ensemble
from rota.ports.executor import Executor
from rota.ports.index import Index
from rota.ports.journal import Entry, Journal
from rota.ports.lease import Lease
from rota.ports.logs import Logs
from rota.ports.presence import Presence
from rota.ports.store import Store
from rota.ports.voting import Voting
from rota.ports.watcher import Watcher
from rota.service.contact import Contact
from rota.service.context import Myself, Service
from rota.service.world import World

logger = logging.getLogger(__name__)

#: Without a quorum an agent waits so long before it serves what it last knew.
BEGIN_S = 5.0
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
    """Gives the engine the limits that the settings say; called by the leader."""
    fetch: FetchFrom = nobody_to_fetch_from
    """Brings both branches of the store from another agent."""
    lease: Lease | None = None
    presence: Presence | None = None
    voting: Voting | None = None
    ensemble: Ensemble | None = None
    """What an agent among others needs; ``None`` for one that is alone for ever."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agent:
    """A running agent."""

    service: Service
    loop: Loop
    follower: Follower
    historian: Historian
    mover: Mover
    runner: Runner
    members: Members


@contextlib.asynccontextmanager
async def run_agent(
    me: Myself,
    ports: Ports,
    *,
    stop: Callable[[], None],
    socket: str = "",
) -> AsyncIterator[Agent]:
    """Run an agent for as long as the context is open. It is ready when this yields.

    It has folded all the journal had, knows the definitions, and has found again what ran before.
    Leaving the context stops its tasks; the builds' processes go on.
    """
    given = await asyncio.to_thread(_snapshot, me.data)
    bounds = await _bounds(ports.journal)
    world = await restore(ports.journal, ports.store, ports.index, given, bounds=bounds)
    world.contact = Contact(ports.clock)
    historian = Historian(world, ports.store, ports.index, ports.clock)
    follower = Follower(world, ports.store)
    workplace = Workplace(me.data)
    await historian.begin()
    service: Service
    async with _ended_group() as group:
        runner = Runner(
            group=group,
            agent=me.name,
            place=lambda home: _place(me, workplace, home, socket),
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
            journal_first=bounds[0] if bounds else 1,
        )
        runner.freed = loop.decide_soon
        mover = Mover(
            name=me.name,
            world=world,
            store=ports.store,
            journal=ports.journal,
            blobs=ports.blobs,
            clock=ports.clock,
            append=lambda event, *, expect: service.append(event, expect=expect),
            follow=follower.follow,
            journal_first=lambda: loop.journal_first,
            fetch=partial(ports.fetch, world),
        )
        loop.on_entry.append(mover.folded)
        loop.before_trim.append(mover.forget)
        service = Service(
            me=me,
            world=world,
            journal=ports.journal,
            logs=ports.logs,
            blobs=ports.blobs,
            store=ports.store,
            clock=ports.clock,
            attempts=runner,
            main=mover,
            stop=stop,
            ensemble=ports.ensemble,
        )
        members = Members(service, ports, loop, group)
        follower.told.append(members.limits.changed)
        runner.leases = members.leases
        group.create_task(historian.run(), name="historian")
        await follower.follow(await ports.store.head())

        async def begin() -> None:
            last = await _catch_up(ports.journal, world, bounds)
            group.create_task(loop.run(last), name="loop")
            await loop.caught_up()
            group.create_task(mover.run(), name="mover")
            await mover.begin()
            await _announce(me, world, ports)
            loop.go_live()
            await members.begin(stop)

        begun = group.create_task(begin(), name="begin")
        _, late = await asyncio.wait([begun], timeout=BEGIN_S if bounds is None else None)
        if late:
            logger.warning("no quorum of the voters: what was last known is served, and no more")
        elif begun.exception() is not None:
            await begun
        try:
            yield Agent(
                service=service,
                loop=loop,
                follower=follower,
                historian=historian,
                mover=mover,
                runner=runner,
                members=members,
            )
        finally:
            members.is_over = True
            await _leave(me, ports, historian, members.leadership)


class Members:
    """What makes an agent one among others: the lease, the roll, its part in the engine."""

    def __init__(
        self, service: Service, ports: Ports, loop: Loop, group: asyncio.TaskGroup
    ) -> None:
        me, world = service.me, service.world
        self._me, self._world, self._ports, self._group = me, world, ports, group
        self._service, self._loop = service, loop
        self._is_saying = False
        self.is_over = False  # set where it stops by plan: then it is right to say so
        self.leadership = Leadership(
            name=me.name,
            world=world,
            journal=ports.journal,
            lease=ports.lease,
            clock=ports.clock,
            journal_first=lambda: loop.journal_first,
            changed=self._led,
        )
        self._wakes: list[Callable[[], None]] = []
        self.leases: Leases | None = None
        self.limits = Limits(world, ports.configure)
        sweeper = Sweeper(
            world=world,
            index=ports.index,
            logs=ports.logs,
            blobs=ports.blobs,
            clock=ports.clock,
            record=self._record_swept,
        )
        works: list[Duty] = [self._watch_silence, self.limits.keep_limits, sweeper.run]
        silent, led_s = nobody, never
        if ports.presence is not None:
            roll = Roll(me.name, world, ports.presence, ports.clock, confirms=self._counts_on)
            group.create_task(roll.speak(), name="presence")
            group.create_task(roll.attend(), name="roll")
            works.append(roll.lead)
            silent, led_s = roll.silent, roll.led_s
            loop.on_entry.append(lambda entry: roll.noted(entry.event.agent))
            self.leases = Leases(
                world, ports.executor, leads=self._is_leading, is_heard=roll.is_heard
            )
            group.create_task(self.leases.run(), name="leases of attempts")
        if ports.ensemble is not None:
            membership = Membership(
                name=me.name,
                world=world,
                journal=ports.journal,
                ensemble=ports.ensemble,
                clock=ports.clock,
                silent=silent,
                leads=lambda: self.leadership.leads,
                fence=lambda: self.leadership.fence,
            )
            works.append(membership.run)
        self._duties = Duties(self.leadership, works)
        loop.lead_by(lambda: self.leadership.leads, silent, led_s)
        loop.on_entry.append(self._folded)

    async def begin(self, stop: Callable[[], None]) -> None:
        """Take part from now on; an agent that is alone leads when this returns."""
        me, world, ports, group = self._me, self._world, self._ports, self._group
        leaving = Leaving(
            name=me.name,
            world=world,
            journal=ports.journal,
            clock=ports.clock,
            leadership=self.leadership,
            stop=stop,
        )
        self._wakes.append(leaving.changed)
        group.create_task(leaving.run(), name="leaving")
        if ports.voting is not None:
            ballot = Ballot(
                name=me.name,
                host=lambda: self._me.host,
                world=world,
                journal=ports.journal,
                voting=ports.voting,
                ensemble=ports.ensemble,
                clock=ports.clock,
            )
            self._wakes.append(ballot.changed)
            group.create_task(ballot.run(), name="ballot")
            ballot.changed()
        self._contradict()
        if len(world.cluster.picture.agents) <= 1:
            await self.leadership.stand()
        group.create_task(watch_timeline(world, ports.journal), name="timeline")
        group.create_task(self.leadership.run(), name="lease")
        group.create_task(self._duties.run(), name="duties")
        self._duties.changed()

    async def appear(self, me: Myself) -> None:
        """Tell the others of this agent's new addresses."""
        self._me = self._service.me = me
        await self._say_up()
        for wake in self._wakes:
            wake()

    def _is_leading(self) -> bool:
        return self.leadership.leads

    def _counts_on(self, name: str) -> bool:
        """Say whether this agent alone could record another as lost now, and is not about to."""
        agent = self._world.cluster.picture.agents.get(name)
        is_up = agent is not None and agent.is_up
        return is_up and name not in self._loop.losing and self._is_leading()

    def _led(self) -> None:
        self._duties.changed()
        self._loop.decide_soon()

    async def _record_swept(self, swept: tuple[Swept, ...]) -> None:
        event = BuildsSwept(
            at=self._ports.clock.now(), by=self._me.name, agent=self._me.name, swept=swept
        )
        await self._ports.journal.append(event, fence=self.leadership.fence)

    async def found(self, labels: dict[str, str]) -> None:
        """Record what this agent found on its machine since it started."""
        if labels == self._me.labels:
            return
        self._me = self._service.me = replace(self._me, labels=labels)
        event = AgentFound(
            at=self._ports.clock.now(), by=self._me.name, agent=self._me.name, labels=labels
        )
        await persist("labels", lambda: self._ports.journal.append(event))

    async def _watch_silence(self) -> None:
        """Decide every second: nobody announces that an agent fell silent."""
        while True:
            self._loop.decide_soon()
            await asyncio.sleep(1.0)

    def _folded(self, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, LeaderElected | LeaderResigned):
            self.leadership.noted(entry.seq, event)
        if not self._loop.is_live:
            return
        self._contradict()
        for wake in self._wakes:
            wake()

    def _contradict(self) -> None:
        """Say that this agent is up where the journal says otherwise: too early, or too late.

        What it ran is decided by the journal all the same.
        """
        known = self._world.cluster.picture.agents.get(self._me.name)
        is_wrong = known is not None and known.state in (AgentState.LOST, AgentState.STOPPED)
        if is_wrong and not self._is_saying and not self.is_over:
            self._is_saying = True
            self._group.create_task(self._say_up(), name="up again")

    async def _say_up(self) -> None:
        await _say_up(self._me, self._ports, self._world)
        self._is_saying = False


async def _bounds(journal: Journal) -> tuple[int, int] | None:
    """Return the journal's first and last event; ``None`` if no quorum answers."""
    try:
        return await journal.bounds()
    except UnavailableError as error:
        logger.warning("the journal cannot be reached: %s", error.message)
        return None


async def _catch_up(journal: Journal, world: World, bounds: tuple[int, int] | None) -> int:
    """Return the event to fold up to before this agent takes part; wait for a quorum first.

    Raises:
        UnavailableError: the journal has forgotten events that this agent never saw.
    """
    first, last = bounds if bounds is not None else await persist("journal", journal.bounds)
    if bounds is None and world.seq < first - 1:
        raise UnavailableError(
            "the journal no longer has what happened while this agent was away",
            hint="start it again: it then takes the state from another agent",
        )
    return last


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


async def _announce(me: Myself, world: World, ports: Ports) -> None:
    """Say that this agent is up; the first one of a cluster is its first member."""
    known = world.cluster.picture.agents.get(me.name)
    if me.pin and (known is None or known.pin != me.pin):
        joined = AgentJoined(
            at=ports.clock.now(), by=me.name, agent=me.name, name=me.name, pin=me.pin
        )
        await persist("join", lambda: ports.journal.append(joined))
    await _say_up(me, ports, world)


async def _say_up(me: Myself, ports: Ports, world: World) -> None:
    """Say that this agent is up, and return when it has folded that, or soon after."""
    up = AgentStarted(
        at=ports.clock.now(),
        by=me.name,
        agent=me.name,
        labels=me.labels,
        slots=me.slots,
        url=me.url,
        peer=me.peer,
        token=me.token,
        version=me.version,
    )
    seq = await persist("start", lambda: ports.journal.append(up))
    with contextlib.suppress(TimeoutError):
        await world.reached(seq, STOP_S)


def _snapshot(data: Path) -> bytes:
    """Return the state that the agent was given when it joined; empty if it founded the cluster."""
    try:
        return (data / "snapshot.json").read_bytes()
    except FileNotFoundError:
        return b""


async def _leave(me: Myself, ports: Ports, historian: Historian, leadership: Leadership) -> None:
    """Say good-bye, if that is possible in time; nothing depends on it."""
    down = AgentStopped(at=ports.clock.now(), by=me.name, agent=me.name)
    try:
        async with asyncio.timeout(STOP_S):
            await leadership.resign(f"{me.name} was stopped")
            await ports.journal.append(down)
            await historian.settled()
    except (RotaError, TimeoutError) as error:
        logger.warning("left without a word: %s", error)
    historian.snapshot()


def _place(me: Myself, workplace: Workplace, home: Path, socket: str) -> Place:
    user = pwd.getpwuid(os.geteuid())
    return Place(
        workspace=str(work(home)),
        tmp=str(tmp(home)),
        bin=str(workplace.bin),
        user=user.pw_name,
        home=user.pw_dir,
        agent=me.name,
        socket=socket,
        url=me.url,
    )
