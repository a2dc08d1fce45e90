"""A cloud in virtual time, with leaders that die at every point of what they do about it.

The duty that runs here is the real one, over a journal that loses acknowledgements and a provider as
they are: calls that time out after they were carried out, requests of dead leaders that arrive
later, listings that lack what was just launched, quotas, spot instances that are taken away, and
machines that never boot. One seed is one story: `python -m tests.property.clouds --seed 7`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import random
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from msgspec.structs import replace
from tests.harness.timeless import LoopClock, run_timeless
from tests.property.schedules import Flaky

from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex
from rota.agent.clouds import Clouds
from rota.core.clouds import SETTLE_S, Node
from rota.core.cluster import Cluster
from rota.core.definitions import Definitions
from rota.core.events import (
    AgentJoined,
    AgentLeft,
    AgentLost,
    AgentStarted,
    BuildFinished,
    BuildRequested,
    BuildStarted,
    CloudGone,
    CloudWanted,
    Event,
    LeaderElected,
)
from rota.core.fold import apply
from rota.core.job import Reason, Retry, Spec
from rota.core.join_token import JoinToken
from rota.core.machines import MachineState
from rota.core.settings_clouds import Cloud
from rota.core.states import State
from rota.errors import ConflictError, NotFoundError, UnavailableError
from rota.ports.clouds import Order
from rota.service.world import World

NAMES = ("a", "b", "c")
CLOUD = Cloud(
    provider="fake",
    image="i",
    size="s",
    labels={"linux": ""},
    max=500,
    idle_s=60.0,
    patience_s=0.0,
    join_within_s=240.0,
)
LOST_AFTER_S = 8.0
#: By then all that anybody ever launched is gone, whoever lost sight of it.
CALM_S = 300.0


@dataclasses.dataclass
class Ways:
    """How bad the world is: chances, and seconds."""

    timeout: float = 0.05  # no answer, and it was carried out
    nothing: float = 0.03  # no answer, and it was not
    refused: float = 0.03
    list_fails: float = 0.03
    dud: float = 0.0
    spot: float = 0.0
    lag_s: float = 15.0  # at most so long what is new is not listed
    late_s: float = 20.0  # and a request of a dead leader is on its way
    knows_tokens: bool = False


@dataclasses.dataclass
class Instance:
    """A node at the provider."""

    id: str
    machine: str
    born_s: float
    listed_from_s: float
    over_s: float | None = None
    was_taken: bool = False
    life: asyncio.Task[None] | None = None


class Sky:
    """The provider: what it has launched, and what its callers get to know of that."""

    def __init__(self, story: Story) -> None:
        self.story, self.ways, self.chance = story, story.ways, story.chance
        self.instances: dict[str, Instance] = {}
        self.calls = 0
        self.first_call_s: float | None = None

    @property
    def alive(self) -> list[Instance]:
        return [it for it in self.instances.values() if it.over_s is None]

    async def launch(self, order: Order) -> str:
        self.calls += 1
        self.first_call_s = self.first_call_s or now_s()
        kind = self.chance.random()
        if kind < self.ways.refused:
            await asyncio.sleep(self.chance.uniform(0.1, 1.0))
            raise ConflictError("InstanceLimitExceeded: no more of these")
        if kind < self.ways.refused + self.ways.nothing:
            await asyncio.sleep(self.chance.uniform(1.0, 50.0))
            raise UnavailableError("no answer")
        # Who calls may die meanwhile: the request is on its way.
        way_s = self.chance.choice([0.2, 1.0, self.chance.uniform(0, self.ways.late_s)])
        made = asyncio.ensure_future(self._make(order.machine, way_s))
        instance = await asyncio.shield(made)
        if self.chance.random() < self.ways.timeout:
            await asyncio.sleep(self.chance.uniform(1.0, 100.0))
            raise UnavailableError("no answer")
        await asyncio.sleep(self.chance.uniform(0.1, 2.0))
        return instance.id

    async def _make(self, machine: str, way_s: float) -> Instance:
        await asyncio.sleep(way_s)
        known = [it for it in self.instances.values() if it.machine == machine]
        if known and self.ways.knows_tokens:
            return known[0]
        number, now = len(self.instances) + 1, now_s()
        lag_s = self.chance.choice([0.0, self.chance.uniform(0.0, self.ways.lag_s)])
        instance = Instance(f"i-{number}", machine, now, now + lag_s)
        self.instances[instance.id] = instance
        instance.life = self.story.task(self.story.live(instance))
        return instance

    async def nodes(self, cluster: str) -> Sequence[Node]:
        await asyncio.sleep(self.chance.uniform(0.05, 1.0))
        if self.chance.random() < self.ways.list_fails:
            raise UnavailableError("no answer")
        now = now_s()
        found = [
            # What was just ended is still listed as if it were there.
            Node(it.id, it.machine, is_over=it.over_s is not None and now > it.over_s + 5.0)
            for it in self.instances.values()
            if it.listed_from_s <= now and (it.over_s is None or now < it.over_s + 120.0)
        ]
        await asyncio.sleep(self.chance.uniform(0.0, 0.5))
        return found

    async def end(self, node: str) -> None:
        await asyncio.sleep(self.chance.uniform(0.1, 1.0))
        if self.chance.random() < self.ways.nothing:
            raise UnavailableError("no answer")
        self.over(self.instances[node])
        if self.chance.random() < self.ways.timeout:
            raise UnavailableError("no answer")

    def over(self, instance: Instance) -> None:
        if instance.over_s is None:
            instance.over_s = now_s()
            if instance.life is not None:
                instance.life.cancel()
            self.story.begin(self.story.miss(instance.machine))

    async def words(self, node: str) -> str:
        return ""


class Dialled:
    """The provider as one leader calls it: it may die before and after each call."""

    def __init__(self, sky: Sky, point: Callable[[], None]) -> None:
        self._sky, self._point = sky, point
        self.knows_tokens = sky.ways.knows_tokens

    async def open(self, name: str, cloud: Cloud, read: object) -> Dialled:
        return self

    async def launch(self, order: Order) -> str:
        self._point()
        node = await self._sky.launch(order)
        self._point()
        return node

    async def nodes(self, cluster: str) -> Sequence[Node]:
        return await self._sky.nodes(cluster)

    async def end(self, node: str) -> None:
        self._point()
        await self._sky.end(node)
        self._point()

    async def words(self, node: str) -> str:
        return await self._sky.words(node)


class Pointed(Flaky):
    """The journal as one leader writes to it: it may die before and after each write."""

    def __init__(
        self, journal: MemoryJournal, chance: random.Random, point: Callable[[], None]
    ) -> None:
        super().__init__(journal, chance)
        self._point = point

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        self._point()
        seq = await super().append(event, expect=expect, fence=fence)
        self._point()
        return seq


class Host:
    """An agent that may lead."""

    def __init__(self, story: Story, name: str) -> None:
        self.story, self.name = story, name
        self.clock = LoopClock()
        self.token = 0
        self.tasks: list[asyncio.Task[Any]] = []

    @property
    def is_up(self) -> bool:
        return bool(self.tasks)

    @property
    def leads(self) -> bool:
        return bool(self.token) and self.story.leader is self and self.is_up

    def start(self) -> None:
        journal = Pointed(self.story.journal, self.story.chance, self._point)
        self.world = World(journal, MemoryIndex(), Cluster())
        definitions = Definitions()
        settings = replace(definitions.settings, cloud={"sky": self.story.cloud})
        self.world.definitions = replace(definitions, settings=settings)
        self.duty: asyncio.Task[Any] | None = None
        self.token = 0

        async def token(machine: str) -> JoinToken:
            return JoinToken("0" * 64, "x" * 43, ())

        async def nothing(name: str) -> bytes:
            raise NotFoundError(name)

        self.clouds = Clouds(
            name=self.name,
            world=self.world,
            journal=journal,
            clock=self.clock,
            providers=Dialled(self.story.sky, self._point),
            cluster=lambda: "cluster",
            token=token,
            read=nothing,
            version="0",
        )
        self.clouds.fence = lambda: self.token
        self.clouds.leads = lambda: self.leads
        self.tasks = [self.story.task(self.fold(journal))]

    def _point(self) -> None:
        self.story.point(self)

    def kill(self) -> None:
        for task in (*self.tasks, *([self.duty] if self.duty else [])):
            task.cancel()
        self.tasks, self.duty, self.token = [], None, 0

    async def fold(self, journal: Flaky) -> None:
        async with contextlib.aclosing(journal.read(follow=True)) as entries:
            async for entry in entries:
                if self.story.chance.random() < 0.1:
                    await asyncio.sleep(self.story.chance.uniform(0.0, 0.02))
                change = self.world.fold(entry)
                self.clouds.folded(entry, change)
                if isinstance(entry.event, LeaderElected):
                    self._led(entry.seq, entry.event)

    def _led(self, seq: int, event: LeaderElected) -> None:
        if self.duty is not None:
            self.duty.cancel()
            self.duty = None
        if event.agent == self.name and seq >= self.story.elected_seq:
            self.token = seq
            self.duty = self.story.task(self.clouds.run())


class Story:
    """One cluster, one cloud, and what befalls them.

    Args:
        seed: Of all chance.
        builds: So many are queued at the start.
        ways: Of the world.
        kill_at: The leader dies at these points of what it does, counted over all leaders.
        slots: Of an agent that is there anyway.
    """

    def __init__(
        self,
        seed: int,
        builds: int,
        ways: Ways | None = None,
        *,
        kill_at: Sequence[int] = (),
        slots: int = 0,
        cloud: Cloud = CLOUD,
    ) -> None:
        self.chance = random.Random(seed)
        self.ways = ways or Ways()
        self.number, self.cloud = builds, cloud
        self.kill_at, self.slots = set(kill_at), slots
        self.journal = MemoryJournal()
        self.sky = Sky(self)
        self.cluster = Cluster()
        self.hosts = [Host(self, name) for name in NAMES]
        self.leader: Host | None = None
        self.elected_seq = self.points = self.kills = 0
        self.failure: BaseException | None = None
        self.tasks: set[asyncio.Task[Any]] = set()
        self.intents = self.orphans = 0
        self.asked_s = 0.0
        self.done_s = 0.0
        self.news = asyncio.Event()

    def task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        self.task(work).add_done_callback(lambda _: None)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = self.failure or task.exception()
            self.news.set()

    # -- the agents -------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Fold what is written, as the truth, and let agents take builds."""
        async with contextlib.aclosing(self.journal.read(follow=True)) as entries:
            async for entry in entries:
                apply(self.cluster, entry.seq, entry.event)
                self.intents += isinstance(entry.event, CloudWanted)
                self.orphans += isinstance(entry.event, CloudGone) and not entry.event.machine
                self.news.set()
                self.news = asyncio.Event()

    async def live(self, instance: Instance) -> None:
        """Boot, join, build, and leave when told to: a machine's whole life."""
        name = instance.machine
        if self.chance.random() < self.ways.dud:
            return
        if self.chance.random() < self.ways.spot:
            asyncio.get_running_loop().call_later(
                self.chance.uniform(5.0, 120.0), self._take, instance
            )
        await asyncio.sleep(self.chance.uniform(5.0, 60.0))
        machine = self.cluster.picture.machines.get(name)
        if machine is None or machine.state is MachineState.DRAINING:
            return  # its token opens nothing
        if name in self.cluster.picture.agents:
            return  # it was used by a twin
        await self.write(
            AgentJoined(at=at(), agent="a", name=name, pin=instance.id, ephemeral=True)
        )
        labels = {**machine.labels, "agent": name}
        await self.write(AgentStarted(at=at(), agent=name, labels=labels, slots=machine.slots))
        await self.work(name)
        await self.write(AgentLeft(at=at(), agent=name, name=name))

    def _take(self, instance: Instance) -> None:
        if instance.over_s is None:
            instance.was_taken = True
            self.sky.over(instance)

    async def work(self, name: str) -> None:
        """Take builds, one at a time, until it is to leave."""
        while True:
            agent = self.cluster.picture.agents.get(name)
            if agent is None or agent.leaving:
                return
            self.cluster.look(at())
            free = [it for lists in self.cluster.queue.ready.values() for it in lists.values()]
            items = sorted(item for items in free for item in items)
            if not items:
                await self.news.wait()
                continue
            build = self.cluster.picture.builds[items[0][2]]
            started = BuildStarted(at=at(), agent=name, build=build.id, attempt=build.attempt + 1)
            await self.write(started)
            await asyncio.sleep(self.chance.choice([1.0, 10.0, 40.0, 120.0]))
            await self.write(
                BuildFinished(
                    at=at(),
                    agent=name,
                    build=build.id,
                    attempt=build.attempt + 1,
                    reason=Reason.SCRIPT,
                    exit_code=0,
                )
            )

    async def miss(self, name: str) -> None:
        """What a leader says of agents that are silent, and of what they ran."""
        await asyncio.sleep(LOST_AFTER_S)
        agent = self.cluster.picture.agents.get(name)
        if agent is not None and agent.is_up:
            await self.write(AgentLost(at=at(), agent="a", name=name))
        for id_ in list(self.cluster.running.get(name, {})):
            build = self.cluster.picture.builds[id_]
            await self.write(
                BuildFinished(
                    at=at(), agent="a", build=id_, attempt=build.attempt, reason=Reason.LOST
                )
            )

    async def write(self, event: Event) -> None:
        """Append what has nothing to do with clouds, and return when it is known."""
        seq = await self.journal.append(event)
        while self.cluster.picture.seq < seq:
            await self.news.wait()

    # -- leaders ----------------------------------------------------------------------------------

    def point(self, host: Host) -> None:
        """Let the leader die here, if it is time for that."""
        self.points += 1
        if self.points in self.kill_at and host.leads:
            self.kills += 1
            host.kill()
            self.leader = None
            self.begin(self._succeed(host))
            raise asyncio.CancelledError

    async def _succeed(self, dead: Host) -> None:
        await asyncio.sleep(self.chance.uniform(0.5, 5.0))
        await self.elect(self.chance.choice([it for it in self.hosts if it is not dead]))
        await asyncio.sleep(self.chance.uniform(0.0, 10.0))
        if not dead.is_up:
            dead.start()

    async def elect(self, host: Host) -> None:
        if not host.is_up:
            host.start()
        self.leader = host
        # Its number is known before it can be read.
        _, last = await self.journal.bounds()
        self.elected_seq = last + 1
        await self.journal.append(LeaderElected(at=at(), agent=host.name))

    # -- the story --------------------------------------------------------------------------------

    async def run(self) -> Story:
        """Tell it, and hold what must be true against it."""
        self.begin(self.watch())
        for host in self.hosts:
            host.start()
            await self.write(AgentJoined(at=at(), agent=host.name, name=host.name, pin=host.name))
            up = AgentStarted(at=at(), agent=host.name, labels={"agent": host.name}, slots=0)
            await self.write(up)
        if self.slots:
            await self.write(AgentJoined(at=at(), agent="a", name="static", pin="static"))
            up = AgentStarted(at=at(), agent="static", labels={"linux": ""}, slots=self.slots)
            await self.write(up)
            self.begin(self.work("static"))
        await self.elect(self.hosts[0])
        await asyncio.sleep(5.0)
        self.asked_s = now_s()
        spec = Spec(labels="linux", retry=Retry(times=20, on=(Reason.LOST,)))
        for number in range(self.number):
            requested = BuildRequested(at=at(), build=f"b{number}", job="j", spec=spec)
            await self.journal.append(requested)
        await self._until(self._is_built, 4 * 3600.0)
        self.done_s = now_s()
        await self._until(lambda: not self.sky.alive, CALM_S)
        picture = self.cluster.picture
        await self._until(lambda: not picture.machines, CALM_S)
        assert not [it.name for it in picture.agents.values() if it.ephemeral]
        self._judge()
        return self

    def _is_built(self) -> bool:
        builds = self.cluster.picture.builds.values()
        done = [it for it in builds if it.state is State.FINISHED]
        return len(done) == self.number

    def _judge(self) -> None:
        instances = self.sky.instances.values()
        wasted = sum(it.was_taken for it in instances)
        is_fair = self.ways.lag_s + self.ways.late_s < SETTLE_S and not self.ways.dud
        if is_fair:
            assert len(instances) <= self.number + wasted, f"{len(instances)} for {self.number}"
        twins = len(instances) - len({it.machine for it in instances})
        assert not twins, f"{twins} machines were launched twice"

    async def _until(self, is_so: Callable[[], bool], within_s: float) -> None:
        end = now_s() + within_s
        while not is_so():
            if self.failure is not None:
                raise self.failure
            assert now_s() < end, self.tale()
            await asyncio.sleep(1.0)

    def tale(self) -> str:
        picture = self.cluster.picture
        states = [it.state for it in picture.builds.values()]
        return (
            f"{now_s():.0f} s: {[(str(s), states.count(s)) for s in set(states)]},"
            f" machines {list(picture.machines.values())}, alive {self.sky.alive},"
            f" records {picture.clouds}, leader {self.leader and self.leader.name}"
        )


def at() -> Any:
    return LoopClock().now()


def now_s() -> float:
    return asyncio.get_running_loop().time()


def tell(seed: int, builds: int, ways: Ways | None = None, **how: Any) -> Story:
    """Tell one story."""

    async def told() -> Story:
        story = Story(seed, builds, ways, **how)
        try:
            return await story.run()
        finally:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    return run_timeless(told())


def random_ways(seed: int) -> Ways:
    """Return a world that is bad in its own way."""
    chance = random.Random(seed)
    return Ways(
        dud=chance.choice([0.0, 0.0, 0.1]),
        spot=chance.choice([0.0, 0.0, 0.2]),
        timeout=chance.choice([0.0, 0.05, 0.3]),
        nothing=chance.choice([0.0, 0.05, 0.2]),
        refused=chance.choice([0.0, 0.05, 0.3]),
        knows_tokens=chance.random() < 0.4,
    )


def kills(seed: int, count: int, upto: int) -> list[int]:
    """Return points at which leaders die."""
    return random.Random(seed).sample(range(1, upto), count)


def main() -> int:
    """Tell stories, each of another seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.clouds", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stories", type=int, default=10)
    parser.add_argument("--builds", type=int, default=100)
    parser.add_argument("--kills", type=int, default=10)
    args = parser.parse_args()
    for seed in range(args.seed, args.seed + args.stories):
        began = time.perf_counter()
        ways = random_ways(seed)
        story = tell(seed, args.builds, ways, kill_at=kills(seed, args.kills, 3 * args.builds))
        call_s = (story.sky.first_call_s or 0.0) - story.asked_s
        print(
            f"seed {seed}: {len(story.sky.instances)} launched for {args.builds} builds in"
            f" {story.sky.calls} calls, {story.intents} intents; {story.kills} leaders killed;"
            f" first call after {call_s:.2f} s, all built after {story.done_s - story.asked_s:.0f} s;"
            f" {ways}; {time.perf_counter() - began:.1f} s"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
