"""What makes an agent one among others: the lease and its duties, the roll, its part in the engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from rota.agent.ballot import Ballot
from rota.agent.cache_sweeper import CacheSweeper
from rota.agent.duties import Duties, Duty
from rota.agent.exclusive import Leases
from rota.agent.leadership import Leadership
from rota.agent.leaving import Leaving
from rota.agent.levels import Levels
from rota.agent.limits import Limits
from rota.agent.loop import Loop, never, nobody
from rota.agent.membership import Membership
from rota.agent.outcast import Outcast
from rota.agent.patience import persist
from rota.agent.policy import PolicyWriter
from rota.agent.ports import Ports
from rota.agent.retention import Sweeper
from rota.agent.roll import Roll
from rota.agent.scheduler import Scheduler
from rota.agent.timeline import watch_timeline
from rota.core.agents import AgentState
from rota.core.events import (
    AgentDrained,
    AgentFound,
    AgentJoined,
    AgentStarted,
    BuildsSwept,
    CachesDropped,
    ClusterRaised,
    LeaderElected,
    LeaderResigned,
    LimitsSet,
)
from rota.core.levels import LEVEL
from rota.core.policy import Policy
from rota.core.retention import Swept
from rota.errors import NotFoundError
from rota.ports.journal import Entry
from rota.service.context import Myself, Principal, Service
from rota.service.messages import DemoteRequest
from rota.service.promotions import demote
from rota.service.ticks import tick
from rota.service.verbs import Role
from rota.service.world import World

logger = logging.getLogger(__name__)

#: How long an agent waits to have folded what it said of itself.
FOLD_S = 5.0


async def _nothing() -> int:
    """Hand nothing over."""
    return 0


async def _end_nothing() -> None:
    """End nothing: there is nothing that runs."""


class Members:
    """What makes an agent one among others: the lease, the roll, its part in the engine."""

    def __init__(
        self,
        service: Service,
        ports: Ports,
        loop: Loop,
        group: asyncio.TaskGroup,
        duties: Sequence[Duty] = (),
    ) -> None:
        me, world = service.me, service.world
        self._me, self._world, self._ports, self._group = me, world, ports, group
        self._service, self._loop = service, loop
        self._is_saying = False
        self.hand_over: Callable[[], Awaitable[int]] = _nothing
        self.end_all: Callable[[], Awaitable[None]] = _end_nothing
        self.is_over = False  # set where it stops by plan: then it is right to say so
        self.leadership = Leadership(
            name=me.name,
            world=world,
            journal=ports.journal,
            lease=ports.lease,
            clock=ports.clock,
            journal_first=lambda: service.world.journal_first,
            changed=self._led,
        )
        self._wakes: list[Callable[[], None]] = []
        self.leases: Leases | None = None
        self.limits = Limits(world, ports.configure)
        sweeper = Sweeper(
            world=world,
            index=ports.index,
            logs=ports.logs,
            blobs=service.blobs,
            clock=ports.clock,
            record=self._record_swept,
            demote=self._end_promotion,
        )
        caches = CacheSweeper(world, service.blobs, ports.clock, self._record_caches)
        self.policy = PolicyWriter(world, self._record_policy)
        self.scheduler = Scheduler(
            name=me.name,
            world=world,
            journal=ports.journal,
            clock=ports.clock,
            fence=lambda: self.leadership.fence,
        )
        group.create_task(self.scheduler.keep(), name="agenda")
        loop.on_entry.append(self.scheduler.folded)
        works: list[Duty] = [
            self._watch_silence,
            self.limits.keep_limits,
            self.policy.keep_policy,
            sweeper.run,
            caches.run,
            self.scheduler.lead,
        ]
        works += duties
        silent, led_s = nobody, never
        if ports.presence is not None:
            roll = Roll(
                me.name, world, ports.presence, ports.clock, me.level, confirms=self._counts_on
            )
            group.create_task(roll.speak(), name="presence")
            group.create_task(roll.attend(), name="roll")
            works.append(roll.lead)
            silent, led_s = roll.silent, roll.led_s
            loop.on_entry.append(lambda entry: roll.noted(entry.event.agent))
            self.leases = Leases(
                world, ports.executor, leads=self._is_leading, is_heard=roll.is_heard
            )
            group.create_task(self.leases.run(), name="leases of attempts")
        levels = Levels(me.name, world, ports.clock, self._raise, self._dismiss, silent)
        works.append(levels.run)
        group.create_task(levels.attend(), name="levels")
        loop.on_entry.append(levels.folded)
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
            is_claiming=lambda: self._loop.is_claiming,
            hand_over=lambda: self.hand_over(),
        )
        self._wakes.append(leaving.changed)
        group.create_task(leaving.run(), name="leaving")
        outcast = Outcast(me.name, world, self._service.peers, lambda: self.end_all(), stop)
        group.create_task(outcast.run(), name="outcast")
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

    def keep(self, me: Myself) -> None:
        """Take over what changed of this agent that others need not be told of."""
        self._me = self._service.me = me

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

    async def _record_caches(self, names: tuple[str, ...], why: str) -> None:
        event = CachesDropped(
            at=self._ports.clock.now(),
            by=self._me.name,
            agent=self._me.name,
            caches=names,
            why=why,
        )
        await self._ports.journal.append(event, fence=self.leadership.fence)

    async def _end_promotion(self, name: str) -> None:
        me = Principal(name=self._me.name, role=Role.ADMIN)
        with contextlib.suppress(NotFoundError):
            await demote(self._service, DemoteRequest(promotion=name, why="its time is over"), me)

    async def _record_swept(self, swept: tuple[Swept, ...]) -> None:
        event = BuildsSwept(
            at=self._ports.clock.now(), by=self._me.name, agent=self._me.name, swept=swept
        )
        await self._ports.journal.append(event, fence=self.leadership.fence)

    async def _raise(self, level: int, members: tuple[str, ...]) -> int:
        at, me = self._ports.clock.now(), self._me.name
        event = ClusterRaised(at=at, by=me, agent=me, level=level, members=members)
        return await persist(
            "level", lambda: self._ports.journal.append(event, fence=self.leadership.fence)
        )

    async def _dismiss(self, name: str) -> None:
        at, me = self._ports.clock.now(), self._me.name
        event = AgentDrained(at=at, by=me, agent=me, name=name, leaving=True)
        seq = await persist("level", lambda: self._ports.journal.append(event))
        with contextlib.suppress(TimeoutError):
            await self._world.reached(seq, FOLD_S)

    async def _record_policy(self, policy: Policy) -> int:
        at, me = self._ports.clock.now(), self._me.name
        event = LimitsSet(at=at, by=me, agent=me, policy=policy)
        return await persist(
            "limits", lambda: self._ports.journal.append(event, fence=self.leadership.fence)
        )

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
            await tick(1.0)

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
        await say_up(self._me, self._ports, self._world)
        self._is_saying = False


async def raise_alone(me: Myself, world: World, ports: Ports) -> None:
    """Say what this agent can if it has the journal to itself: nobody else folds that.

    It comes before anything else that a new version writes.
    """
    picture = world.cluster.picture
    if picture.level < me.level and picture.agents.keys() <= {me.name}:
        raised = ClusterRaised(
            at=ports.clock.now(), by=me.name, agent=me.name, level=me.level, members=(me.name,)
        )
        await persist("level", lambda: ports.journal.append(raised))


async def announce(me: Myself, world: World, ports: Ports) -> None:
    """Say that this agent is up; the first one of a cluster is its first member."""
    known = world.cluster.picture.agents.get(me.name)
    if me.pin and (known is None or not known.has_key(me.pin)):
        joined = AgentJoined(
            at=ports.clock.now(),
            by=me.name,
            agent=me.name,
            name=me.name,
            pin=me.pin,
            level=LEVEL,
        )
        await persist("join", lambda: ports.journal.append(joined))
    await say_up(me, ports, world)


async def say_up(me: Myself, ports: Ports, world: World) -> None:
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
        level=max(me.level, world.cluster.picture.level),
    )
    seq = await persist("start", lambda: ports.journal.append(up))
    with contextlib.suppress(TimeoutError):
        await world.reached(seq, FOLD_S)
