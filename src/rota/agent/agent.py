"""One agent, assembled over its ports: what a daemon runs, and ``rota exec`` in small."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path

from rota.agent.adopter import Adopter
from rota.agent.answering import Answers
from rota.agent.bot import Bot
from rota.agent.caching import Caching
from rota.agent.clouds import Clouds
from rota.agent.contained import Contained, swept
from rota.agent.definitions import Follower
from rota.agent.duties import Duty
from rota.agent.entrance import Entrance
from rota.agent.following import Followers
from rota.agent.group import ended_group
from rota.agent.historian import Historian
from rota.agent.identities import Identities
from rota.agent.leadership import Leadership
from rota.agent.leftovers import Leftovers
from rota.agent.levels import refuse_too_new
from rota.agent.lookout import Lookout
from rota.agent.loop import Loop
from rota.agent.members import Members, announce, raise_alone
from rota.agent.mover import Mover
from rota.agent.needed import Needed
from rota.agent.notifier import Notifier
from rota.agent.patience import persist
from rota.agent.poller import Poller
from rota.agent.ports import Ports
from rota.agent.reactor import Reactor
from rota.agent.rebuild import last_known, restore
from rota.agent.reports import Reporting
from rota.agent.runner import Runner
from rota.agent.secrets import SecretStage
from rota.agent.sources import Sources
from rota.agent.stages import Stage
from rota.agent.statuses import Statuses
from rota.agent.timed_journal import TimedJournal
from rota.agent.timeline import stay
from rota.agent.tracer import Tracer
from rota.agent.workplace import Workplace, tmp, work
from rota.agent.workspaces import Workspaces
from rota.core.events import (
    AgentStopped,
)
from rota.core.join_token import JoinToken
from rota.core.polling import polls
from rota.core.settings import Settings, kept_limits
from rota.core.surroundings import Place
from rota.core.user_data import cluster_tag
from rota.errors import RotaError, UnavailableError
from rota.ports.chat import Chat
from rota.ports.journal import Journal
from rota.service.account import name_of, own_home
from rota.service.build_cases import is_flaky
from rota.service.contact import Contact
from rota.service.context import Myself, Principal, Service
from rota.service.copies import Copies
from rota.service.counts import Counts
from rota.service.hold import HeldJournal, Hold
from rota.service.linking import link
from rota.service.logs import last_words
from rota.service.reactions import events_for
from rota.service.secrets import StoreSecrets
from rota.service.stores import Stores
from rota.service.verbs import Role
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
            read_secret=lambda name: _secret(service, name),
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
        giving = _giving(service, ports)
        runner.stages = _stages(service, ports, giving, limited)
        entrance.contained = next(iter(_contained(service, ports)), None)
        reactor = Reactor(
            world=world,
            journal=ports.journal,
            store=ports.store,
            plan=partial(events_for, service),
            advanced=loop.decide_soon,
        )
        loop.on_change.append(reactor.folded)
        loop.settled = lambda: reactor.settled
        follower.told.append(reactor.followed)
        duties: list[Duty] = [reactor.run]
        statuses = _statuses(service, ports)
        if statuses is not None:
            loop.on_change.append(statuses.folded)
            duties.append(statuses.run)
        if ports.collector is not None:
            tracer = Tracer(
                world=world,
                collector=ports.collector,
                clock=ports.clock,
                counts=counts,
                read_secret=lambda name: _secret(service, name),
                version=me.version,
            )
            loop.on_change.append(tracer.folded)
            duties.append(tracer.run)
        clouds = _clouds(service, ports)
        if clouds is not None:
            loop.on_change.append(clouds.folded)
            follower.told.append(clouds.changed)
            duties.append(clouds.run)
        chat = _chat(service, ports, socket)
        bot = _bot(service, ports, chat)
        if bot is not None:
            loop.on_change.append(bot.folded)
            follower.told.append(bot.changed)
            duties.append(bot.run)
        lookout, notifier = _notices(service, ports, chat, loop)
        if lookout is not None and notifier is not None:
            loop.on_change += (lookout.folded, notifier.folded)
            loop.settled = partial(_settled, reactor, lookout)
            duties += (lookout.run, notifier.run)
        if ports.checkout is not None:
            poller = Poller(
                name=me.name,
                world=world,
                journal=ports.journal,
                clock=ports.clock,
                checkout=ports.checkout,
                wanted=lambda: polls(world.definitions),
            )
            follower.told.append(poller.changed)
            duties.append(poller.run)
            adopter = Adopter(
                name=me.name,
                world=world,
                store=ports.store,
                main=mover,
                journal=ports.journal,
                clock=ports.clock,
                checkout=ports.checkout,
                plan=partial(events_for, service),
            )
            loop.on_change.append(adopter.folded)
            follower.told.append(adopter.changed)
            duties.append(adopter.run)
        members = Members(service, ports, loop, group, duties)
        members.hand_over = stores.hand_over
        reactor.fence = lambda: members.leadership.fence
        if statuses is not None:
            statuses.fence = reactor.fence
        if bot is not None:
            bot.fence = reactor.fence
        if lookout is not None and notifier is not None:
            lookout.fence = notifier.fence = reactor.fence
        if clouds is not None:
            clouds.fence = reactor.fence
            clouds.leads = lambda: members.leadership.leads
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
            await reactor.begin()
            if lookout is not None:
                lookout.begin()
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


async def _secret(service: Service, name: str) -> bytes:
    if service.secrets is None:
        raise UnavailableError("this agent reads no secrets")
    return await service.secrets.read(name)


def _stages(
    service: Service,
    ports: Ports,
    giving: SecretStage | None,
    limited: Callable[[Settings], Settings],
) -> tuple[Stage, ...]:
    """Return what surrounds a script, from the outermost to the innermost."""
    reporting = () if ports.reports is None else (Reporting(service, ports.reports),)
    secrets = () if giving is None else (giving,)
    return (
        Needed(service),
        *secrets,
        *_caching(service, ports, limited),
        Leftovers(service),
        *reporting,
        *_contained(service, ports),
    )


def _giving(service: Service, ports: Ports) -> SecretStage | None:
    if service.secrets is None or ports.private_files is None:
        return None
    return SecretStage(service.secrets, ports.safe, ports.private_files)


def _contained(service: Service, ports: Ports) -> tuple[Stage, ...]:
    if ports.containers is None:
        return ()
    world, secrets = service.world, service.secrets
    contained = Contained(
        ports.containers,
        lambda: world.definitions.settings,
        data=service.me.data,
        secrets=secrets,
    )
    return (contained,)


def _caching(
    service: Service, ports: Ports, limited: Callable[[Settings], Settings]
) -> tuple[Stage, ...]:
    if ports.caches is None:
        return ()
    name, world = service.me.name, service.world

    def labels() -> Mapping[str, str]:
        myself = world.cluster.picture.agents.get(name)
        return service.me.labels if myself is None else myself.labels

    caching = Caching(
        service,
        ports.caches,
        ports.clock,
        labels=labels,
        settings=lambda: limited(world.definitions.settings),
    )
    return (caching,)


def _statuses(service: Service, ports: Ports) -> Statuses | None:
    if ports.forges is None:
        return None
    return Statuses(
        name=service.me.name,
        world=service.world,
        journal=ports.journal,
        clock=ports.clock,
        forges=ports.forges,
        base=lambda: service.world.definitions.settings.url or service.me.url,
    )


def _chat(service: Service, ports: Ports, socket: str) -> Chat | None:
    if ports.chat is None:
        return None
    return ports.chat(
        settings=lambda: service.world.definitions.settings,
        read_secret=lambda name: _secret(service, name),
        admitted=service.speakers.admitted,
        socket=socket,
    )


def _bot(service: Service, ports: Ports, chat: Chat | None) -> Bot | None:
    if chat is None:
        return None
    name, world = service.me.name, service.world

    async def linked(network: str, who: str, nick: str, code: str) -> str:
        said = await link(service, code, network=network, who=who, nick=nick, fence=answers.fence())
        return said.text

    followers = Followers(
        name=name,
        world=world,
        journal=ports.journal,
        logs=ports.logs,
        clock=ports.clock,
        chat=chat,
        tail=partial(last_words, service),
    )
    answers = Answers(
        name=name,
        world=world,
        journal=ports.journal,
        clock=ports.clock,
        chat=chat,
        followers=followers,
        link=linked,
    )
    return Bot(
        name=name,
        world=world,
        clock=ports.clock,
        chat=chat,
        answers=answers,
        followers=followers,
    )


def _notices(
    service: Service, ports: Ports, chat: Chat | None, loop: Loop
) -> tuple[Lookout | None, Notifier | None]:
    """Return who finds out whom to tell, and who tells them."""
    if chat is None:
        return None, None
    name, world = service.me.name, service.world
    lookout = Lookout(
        name=name,
        world=world,
        journal=ports.journal,
        clock=ports.clock,
        advanced=loop.decide_soon,
        is_flaky=partial(is_flaky, service, Principal("rota", Role.ADMIN)),
    )
    notifier = Notifier(
        name=name,
        world=world,
        journal=ports.journal,
        clock=ports.clock,
        chat=chat,
        tail=partial(last_words, service),
        base=lambda: world.definitions.settings.url or service.me.url,
        audience=lambda: lookout.audience,
    )
    return lookout, notifier


def _settled(reactor: Reactor, lookout: Lookout) -> int:
    """Return up to where all that happened has had its consequences."""
    return min(reactor.settled, lookout.settled)


def _clouds(service: Service, ports: Ports) -> Clouds | None:
    if ports.clouds is None:
        return None

    async def token(machine: str) -> JoinToken:
        if service.door is None:
            raise UnavailableError("this agent lets nobody join yet")
        return await service.door.machine_token(machine)

    return Clouds(
        name=service.me.name,
        world=service.world,
        journal=ports.journal,
        clock=ports.clock,
        providers=ports.clouds,
        cluster=lambda: cluster_tag(service.ca),
        token=token,
        read=lambda name: _secret(service, name),
        version=service.me.version,
    )


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
