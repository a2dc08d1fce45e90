"""One agent, assembled over its ports: what a daemon runs, and ``rota exec`` in small."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

from rota.agent.contained import swept
from rota.agent.definitions import Follower
from rota.agent.entrance import Entrance
from rota.agent.group import ended_group
from rota.agent.historian import Historian
from rota.agent.identities import Identities
from rota.agent.leadership import Leadership
from rota.agent.leading import Leading
from rota.agent.levels import refuse_too_new
from rota.agent.loop import Loop
from rota.agent.members import Members, announce, raise_alone
from rota.agent.mover import Mover
from rota.agent.patience import persist
from rota.agent.ports import Ports
from rota.agent.rebuild import last_known, restore
from rota.agent.runner import Runner
from rota.agent.sources import Sources
from rota.agent.staging import contained_of, giving_of, stages_of
from rota.agent.timed_journal import TimedJournal
from rota.agent.timeline import stay
from rota.agent.workplace import Workplace, tmp, work
from rota.agent.workspaces import Workspaces
from rota.core.events import (
    AgentStopped,
)
from rota.core.settings import Settings, kept_limits
from rota.core.surroundings import Place
from rota.errors import RotaError, UnavailableError
from rota.ports.journal import Journal
from rota.service.account import name_of, own_home
from rota.service.contact import Contact
from rota.service.context import Myself, Service
from rota.service.copies import Copies
from rota.service.counts import Counts
from rota.service.hold import HeldJournal, Hold
from rota.service.secrets import StoreSecrets
from rota.service.stores import Stores
from rota.service.waiting import Waits
from rota.service.world import World

logger = logging.getLogger(__name__)

#: Without a quorum an agent waits so long before it serves what it last knew.
BEGIN_S = 5.0
#: What is under way at a stop (a commit of the history, the last event) gets so long.
STOP_S = 5.0


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
    limited: Callable[[Settings], Settings] = lambda settings: settings,
    still: Callable[[], None] = lambda: None,
) -> AsyncIterator[Agent]:
    """Run an agent for as long as the context is open. It is ready when this yields.

    It has folded all the journal had, knows the definitions, and has found again what ran before.
    Leaving the context stops its tasks; the builds' processes go on. ``limited`` returns the
    settings as they hold on this machine. ``still`` is called while that takes long.
    """
    counts = Counts(ports.clock.now, lambda: world.definitions.settings.metrics.jobs)
    ports = dataclasses.replace(ports, journal=TimedJournal(ports.journal, counts, ports.clock))
    given = await asyncio.to_thread(_snapshot, me.data)
    bounds = await _bounds(ports.journal)
    if bounds is None and last_known(ports.index) is None:
        logger.warning(
            "%s has not been up for long enough to answer without the others: it waits for a quorum",
            me.name,
        )
        bounds = await persist("journal", ports.journal.bounds)
    world = await restore(
        ports.journal, ports.store, ports.index, given, bounds=bounds, still=still
    )
    refuse_too_new(world.cluster.picture)
    world.contact, world.hold = Contact(ports.clock), Hold(ports.clock)
    world.journal_first = bounds[0] if bounds else 1
    ports = dataclasses.replace(ports, journal=HeldJournal(ports.journal, world.hold))
    if bounds is None:
        world.contact.at = world.cluster.picture.at  # what is known is as of then, not as of now
    historian = Historian(world, ports.store, ports.index, ports.clock)
    follower = Follower(world, ports.store)
    workplace = Workplace(me.data)
    workspaces = Workspaces(
        workplace=workplace,
        disk=ports.disk,
        clock=ports.clock,
        limits=lambda: kept_limits(limited(world.definitions.settings)),
    )
    await historian.begin()
    service: Service
    async with ended_group() as group:
        runner = Runner(
            group=group,
            agent=me.name,
            place=lambda home: _place(me, workplace, home, socket),
            workplace=workplace,
            workspaces=workspaces,
            world=world,
            journal=ports.journal,
            logs=ports.logs,
            store=ports.store,
            executor=ports.executor,
            watcher=ports.watcher,
            clock=ports.clock,
            sources=Sources(world, ports.checkout),
        )
        entrance = Entrance(
            runner=runner,
            workspaces=workspaces,
            executor=ports.executor,
            data=me.data,
            containers=ports.containers,
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
        )
        runner.freed = historian.advanced = loop.decide_soon
        counts.attach = partial(loop.on_change.append, counts.folded)
        mover = Mover(
            name=me.name,
            world=world,
            store=ports.store,
            journal=ports.journal,
            blobs=ports.blobs,
            clock=ports.clock,
            append=lambda event, *, expect: service.append(event, expect=expect),
            follow=follower.follow,
            journal_first=lambda: world.journal_first,
            fetch=partial(ports.fetch, world),
        )
        loop.on_entry.append(mover.folded)
        loop.before_trim.append(mover.forget)
        stores = Stores(
            ports.blobs,
            ports.own_blobs,
            ports.blob_stores,
            settings=lambda: world.definitions.settings,
            is_alone=lambda: len(world.cluster.picture.agents) <= 1,
            read_secret=lambda name: service.read_secret(name),
            since=ports.clock.now(),
        )
        service = Service(
            me=me,
            world=world,
            journal=ports.journal,
            logs=ports.logs,
            blobs=stores,
            store=ports.store,
            clock=ports.clock,
            attempts=runner,
            workspaces=workspaces,
            entrance=entrance,
            main=mover,
            stop=stop,
            waits=Waits(me.name, world, ports.journal, ports.clock),
            counts=counts,
            ensemble=ports.ensemble,
            reports=ports.reports,
            case_index=ports.case_index,
        )
        service.copies = Copies(state=historian.state, find=stores.find_own)
        service.secrets = ports.secrets
        service.caches = ports.caches
        if ports.safe is not None and ports.programs is not None:
            service.secrets = secrets = StoreSecrets(service, ports.safe, ports.programs)
            identities = Identities(service.world, secrets)
            group.create_task(identities.run(), name="identities")
            follower.told.append(identities.changed)
        giving, contained = giving_of(service, ports), contained_of(service, ports)
        runner.stages = stages_of(service, ports, giving, contained, limited)
        entrance.contained = contained
        leading = Leading(
            service,
            ports,
            loop,
            follower,
            mover,
            socket=socket,
            fence=lambda: members.leadership.fence,
            leads=lambda: members.leadership.leads,
        )
        members = Members(service, ports, loop, group, leading.duties)
        members.hand_over = stores.hand_over
        follower.told += (
            members.limits.changed,
            members.policy.changed,
            members.scheduler.changed,
        )
        runner.leases, members.end_all = members.leases, runner.end_all
        group.create_task(historian.run(), name="historian")
        group.create_task(stores.run(), name="stores")
        group.create_task(workspaces.run(), name="workspaces")
        group.create_task(entrance.end_left(), name="end shells")
        group.create_task(service.waits.run(), name="waits")
        await follower.follow(await ports.store.head())

        async def begin() -> None:
            last = await _catch_up(ports.journal, world, bounds)
            group.create_task(loop.run(last), name="loop")
            await loop.caught_up()
            await raise_alone(me, world, ports)
            group.create_task(mover.run(), name="mover")
            await mover.begin()
            await leading.begin()
            await announce(me, world, ports)
            loop.go_live()
            if ports.containers is not None:
                sweep = swept(ports.containers, lambda: runner.active.values())
                group.create_task(sweep, name="sweep containers")
            if giving is not None:
                giving.sweep(
                    [it.build for it in runner.active.values()],
                    [home for _, _, home in workplace.homes()],
                )
            await members.begin(stop)
            await historian.begin_snapshots()

        begun = group.create_task(begin(), name="begin")
        _, late = await asyncio.wait([begun], timeout=BEGIN_S if bounds is None else None)
        if late:
            logger.warning(
                "%s waits for a quorum of the voters: what was last known is served, builds begin "
                "when enough of them are up",
                me.name,
            )
            begun.add_done_callback(partial(_say_begun, me.name))
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


def _say_begun(name: str, begun: asyncio.Task[None]) -> None:
    if not begun.cancelled() and begun.exception() is None:
        logger.info("a quorum of the voters is there: %s takes part", name)


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
        PartedError: the journal is another than what this agent has folded, or has forgotten events
            that it never saw.
    """
    if bounds is not None:
        return bounds[1]
    _, last = await persist("journal", journal.bounds)
    await stay(world, journal)
    return last


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
    return Place(
        workspace=str(work(home)),
        tmp=str(tmp(home)),
        bin=str(workplace.bin),
        user=name_of(os.geteuid()),
        home=own_home(),
        agent=me.name,
        socket=socket,
        url=me.url,
    )
