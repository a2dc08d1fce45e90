"""A leader's duty: machines of clouds, from what waits for them to their end.

What to do is decided by :mod:`rota.core.clouds`, each time something was folded or a provider has
answered. What is to be recorded is written at once, one thing after the other, and folded before
the next look; calls to providers run beside that, at most one about each machine. All that this
task remembers it can lose: the next leader begins with what is in the journal, and with looking.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar

from rota.agent.patience import persist_leading
from rota.core.cloud_demand import Want
from rota.core.clouds import (
    CloudView,
    Drain,
    End,
    Found,
    Gone,
    Joined,
    Late,
    Launch,
    Node,
    Step,
    steps,
)
from rota.core.events import (
    AgentLeft,
    AgentLost,
    AgentStopped,
    CloudAnswered,
    CloudDraining,
    CloudFailed,
    CloudGone,
    CloudJoined,
    CloudLaunched,
    CloudWanted,
    kind_of,
)
from rota.core.fold import Change
from rota.core.join_token import JoinToken
from rota.core.machines import BACK_OFF_S, CloudEvent, CloudRecord, MachineState
from rota.core.settings_clouds import Cloud
from rota.core.user_data import user_data
from rota.errors import RotaError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.clouds import Order, Provider, Providers, ReadSecret
from rota.ports.journal import Entry, Journal
from rota.service.world import World

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: A provider that has not answered after so long may have done what it was asked all the same.
CALL_S = 60.0
#: What a machine printed is fetched for a person; nothing waits for it for long.
WORDS_S = 10.0
MAX_WORDS = 500
#: A provider is asked what is there: while something is open, while there are machines, and else.
SOON_S, PATROL_S, REST_S = 3.0, 30.0, 60.0
#: One that does not answer is asked less and less often, up to this.
UNANSWERED_S = 300.0
#: Looks are so far apart at least; and, where time alone may change something, at most.
BREATH_S, TICK_S = 0.1, 1.0
FOLD_S = 10.0


class Attended:
    """One cloud of the settings, while this agent leads.

    ``is_changed``: its settings are others than before, and with them what failed is worth a try.
    """

    def __init__(self, cloud: Cloud, *, is_changed: bool) -> None:
        self.cloud, self.is_changed = cloud, is_changed
        self.provider: Provider | None = None
        self.nodes: Sequence[Node] | None = None
        self.task: asyncio.Task[None] | None = None
        self.woken = asyncio.Event()


class Clouds:
    """Keeps as many machines as are wanted: :meth:`run` is the duty.

    Args:
        name: This agent's.
        world: Says what waits, and what the settings are.
        journal: Intents and what became of them are written there.
        clock: Seconds are counted by it.
        providers: Are called.
        cluster: Returns what tags all machines of this cluster.
        token: Makes a machine's join token.
        read: Returns secrets by name, for providers' keys.
        version: Of rota, for machines to install.
    """

    def __init__(
        self,
        *,
        name: str,
        world: World,
        journal: Journal,
        clock: Clock,
        providers: Providers,
        cluster: Callable[[], str],
        token: Callable[[str], Awaitable[JoinToken]],
        read: ReadSecret,
        version: str,
    ) -> None:
        self._name, self._world, self._journal = name, world, journal
        self._clock, self._providers = clock, providers
        self._cluster, self._token, self._read = cluster, token, read
        self._version = version
        # Set by who makes this agent one among others.
        self.fence: Callable[[], int] = lambda: 0
        self.leads: Callable[[], bool] = lambda: False
        self._woken = asyncio.Event()
        self._attended: dict[str, Attended] = {}
        self._fresh: set[str] = set()
        self._busy: set[str] = set()
        self._missing: dict[str, float] = {}
        self._idle: dict[str, float] = {}

    def folded(self, entry: Entry, change: Change) -> None:
        """Note what may concern machines; returns at once."""
        event = entry.event
        machines = self._world.cluster.picture.machines
        if isinstance(event, AgentLost | AgentStopped | AgentLeft):
            name = event.agent if isinstance(event, AgentStopped) else event.name
            if name in machines:
                self._ask(machines[name].cloud)  # its node may be gone
        if change.builds or kind_of(event).startswith(("agent.", "cloud.")):
            self._woken.set()

    def changed(self) -> None:
        """Note that the settings may be others."""
        self._woken.set()

    async def run(self) -> None:
        """Launch, watch and end machines, for ever."""
        self._fresh.clear()
        self._busy.clear()
        self._missing.clear()
        self._idle.clear()
        self._attended.clear()
        async with asyncio.TaskGroup() as group:
            while True:
                self._woken.clear()
                self._follow_settings(group)
                if self._attended or self._world.cluster.picture.machines:
                    if await self._look(group):
                        continue  # what is wanted is to be launched at once
                    await asyncio.sleep(BREATH_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S if self._is_timed() else None):
                        await self._woken.wait()

    # -- what is there ----------------------------------------------------------------------------

    def _is_timed(self) -> bool:
        """Whether something may have to be done though nothing happens."""
        cluster = self._world.cluster
        waits = cluster.queue.number() > 0 and bool(self._attended)
        needs = any(it.cloud.min for it in self._attended.values())
        return bool(cluster.picture.machines) or waits or needs

    def _follow_settings(self, group: asyncio.TaskGroup) -> None:
        wanted = self._world.definitions.settings.cloud
        changed: set[str] = set()
        for name, attended in list(self._attended.items()):
            if wanted.get(name) != attended.cloud:
                changed.add(name)
                del self._attended[name]
                if attended.task is not None:
                    attended.task.cancel()
        for name, cloud in wanted.items():
            if name not in self._attended:
                attended = Attended(cloud, is_changed=name in changed)
                self._attended[name] = attended
                attended.task = group.create_task(
                    self._attend(name, attended), name=f"cloud {name}"
                )
        self._attended = {name: self._attended[name] for name in wanted}

    def _ask(self, cloud: str) -> None:
        """Have a provider asked soon what is there."""
        if cloud in self._attended:
            self._attended[cloud].woken.set()

    async def _attend(self, name: str, attended: Attended) -> None:
        """Ask one provider what is there, again and again."""
        failures = 0
        while True:
            attended.woken.clear()
            try:
                provider = attended.provider
                if provider is None:
                    provider = await self._answer(
                        self._providers.open(name, attended.cloud, self._read)
                    )
                nodes = await self._answer(provider.nodes(self._cluster()))
            except RotaError as error:
                attended.provider = attended.nodes = None  # its key may be another by the next try
                await self._record(CloudFailed(**self._by(name), what="list", error=error.told))
                failures += 1
                wait_s = min(BACK_OFF_S * 2.0 ** min(failures - 1, 10), UNANSWERED_S)
            else:
                failures = 0
                # What a former leader does not know of is not to be taken for an orphan.
                if not self.leads():
                    await never()
                attended.provider, attended.nodes = provider, nodes
                self._note_missing(name, nodes)
                record = self._record_of(name)
                if record.what == "list" or (record.failures and attended.is_changed):
                    await self._record(CloudAnswered(**self._by(name)))
                attended.is_changed = False
                wait_s = self._pause_s(name)
            self._woken.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await attended.woken.wait()
                await asyncio.sleep(min(SOON_S, wait_s))  # not at every word of many

    def _pause_s(self, cloud: str) -> float:
        machines = [it for it in self._world.cluster.picture.machines.values() if it.cloud == cloud]
        if any(it.state is not MachineState.JOINED for it in machines):
            return SOON_S
        return PATROL_S if machines else REST_S

    def _note_missing(self, cloud: str, nodes: Sequence[Node]) -> None:
        """Note which machines a provider does not list, and since when."""
        there = {it.id for it in nodes} | {it.machine for it in nodes}
        now = self._clock.monotonic()
        machines = self._world.cluster.picture.machines
        for machine in machines.values():
            if machine.cloud != cloud:
                continue
            is_open = machine.name in self._busy or machine.name in self._fresh
            is_there = machine.node in there if machine.node else machine.name in there
            if is_open or is_there:
                self._missing.pop(machine.name, None)
            else:
                self._missing.setdefault(machine.name, now)
        self._missing = {name: at for name, at in self._missing.items() if name in machines}

    def _note_idle(self) -> None:
        cluster, now = self._world.cluster, self._clock.monotonic()
        idle = {}
        for machine in cluster.picture.machines.values():
            agent = cluster.picture.agents.get(machine.name)
            is_idle = agent is not None and agent.is_up and not cluster.running.get(machine.name)
            if is_idle and machine.state is MachineState.JOINED:
                idle[machine.name] = self._idle.get(machine.name, now)
        self._idle = idle

    def _record_of(self, cloud: str) -> CloudRecord:
        return self._world.cluster.picture.clouds.get(cloud, CloudRecord())

    # -- decide and act ---------------------------------------------------------------------------

    async def _look(self, group: asyncio.TaskGroup) -> bool:
        """Decide and act; return whether machines were wanted that are to be launched now."""
        self._note_idle()
        now = self._clock.monotonic()
        view = CloudView(
            clouds={name: it.cloud for name, it in self._attended.items()},
            nodes={name: it.nodes for name, it in self._attended.items() if it.nodes is not None},
            fresh=self._fresh,
            busy=self._busy,
            missing_s={name: now - since for name, since in self._missing.items()},
            idle_s={name: now - since for name, since in self._idle.items()},
            knows_tokens={
                name
                for name, it in self._attended.items()
                if it.provider is not None and it.provider.knows_tokens
            },
        )
        found = steps(self._world.cluster, view, self._clock.now())
        for step in found:
            await self._act(group, step)
        return any(isinstance(step, Want) for step in found)

    async def _act(self, group: asyncio.TaskGroup, step: Step) -> None:
        match step:
            case Want():
                name = f"{step.cloud}-{secrets.token_hex(5)}"
                wanted = CloudWanted(
                    **self._by(step.cloud),
                    machine=name,
                    labels=step.labels,
                    slots=step.slots,
                    why=step.why,
                )
                await self._record(wanted)
                self._fresh.add(name)
            case Launch():
                self._fresh.discard(step.machine)
                self._begin(group, partial(self._launch, step), step.machine)
            case Found():
                await self._record(
                    CloudLaunched(**self._by(step.cloud), machine=step.machine, node=step.node)
                )
            case Joined():
                await self._record(CloudJoined(**self._by(step.cloud), machine=step.machine))
            case Late():
                self._begin(group, partial(self._give_up, step), step.machine)
            case Drain():
                await self._record(
                    CloudDraining(**self._by(step.cloud), machine=step.machine, why=step.why)
                )
            case Gone():
                await self._record(self._gone(step))
            case End():
                self._begin(
                    group, partial(self._end, step), *filter(None, (step.machine, step.node))
                )

    def _begin(
        self, group: asyncio.TaskGroup, work: Callable[[], Awaitable[None]], *about: str
    ) -> None:
        """Run a call beside the others; nothing else is done about the same meanwhile."""
        self._busy.update(about)

        async def run() -> None:
            try:
                await work()
            finally:
                self._busy.difference_update(about)
                self._woken.set()

        group.create_task(run(), name=f"cloud call {about[0]}")

    async def _launch(self, step: Launch) -> None:
        """Call the provider, once; say what it answered."""
        attended = self._attended.get(step.cloud)
        machine = self._world.cluster.picture.machines.get(step.machine)
        if machine is None or attended is None or attended.provider is None:
            return
        try:
            token = await self._token(machine.name)
            data = user_data(machine, attended.cloud, token, version=self._version)
            order = Order(machine=machine.name, cluster=self._cluster(), user_data=data)
            if not self.leads():
                await never()
            node = await self._answer(attended.provider.launch(order))
        except RotaError as error:
            is_over = not isinstance(error, UnavailableError)
            logger.warning("%s: %s", machine.name, error.message)
            await self._record(
                CloudFailed(
                    **self._by(step.cloud),
                    what="launch",
                    machine=machine.name,
                    error=error.told,
                    over=is_over,
                )
            )
            self._missing.pop(machine.name, None)
            self._ask(step.cloud)
            return
        await self._record(CloudLaunched(**self._by(step.cloud), machine=machine.name, node=node))

    async def _give_up(self, step: Late) -> None:
        """Record that a machine never came, with the last that it printed."""
        attended = self._attended.get(step.cloud)
        machine = self._world.cluster.picture.machines.get(step.machine)
        words = ""
        if attended is not None and attended.provider is not None and machine is not None:
            with contextlib.suppress(RotaError, TimeoutError):
                async with asyncio.timeout(WORDS_S):
                    words = (await attended.provider.words(machine.node)).strip()
        error = f"{step.error}; it printed last: {words[-MAX_WORDS:]}" if words else step.error
        await self._record(
            CloudFailed(**self._by(step.cloud), what="join", machine=step.machine, error=error)
        )

    async def _end(self, step: End) -> None:
        """Have a node ended, and record that it is gone."""
        attended = self._attended.get(step.cloud)
        if attended is None or attended.provider is None:
            return
        if not self.leads():
            await never()
        try:
            await self._answer(attended.provider.end(step.node))
        except RotaError as error:
            logger.warning("%s: cannot be ended: %s", step.machine or step.node, error.message)
            record = self._record_of(step.cloud)
            if not record.waits_s(self._clock.now()):
                await self._record(
                    CloudFailed(**self._by(step.cloud), what="end", error=error.told)
                )
            await asyncio.sleep(min(max(SOON_S, self._record_of(step.cloud).back_off_s), REST_S))
            return
        nodes = attended.nodes or ()
        attended.nodes = [it for it in nodes if it.id != step.node]
        await self._record(self._gone(step))

    async def _answer(self, call: Awaitable[T]) -> T:
        """Return what a provider answers.

        Raises:
            UnavailableError: nothing, in time.
        """
        try:
            async with asyncio.timeout(CALL_S):
                return await call
        except TimeoutError:
            raise UnavailableError(f"no answer within {CALL_S:.0f} s") from None

    # -- records ----------------------------------------------------------------------------------

    def _by(self, cloud: str) -> dict[str, Any]:
        """Return what all events of this duty begin with."""
        return {"at": self._clock.now(), "by": self._name, "agent": self._name, "cloud": cloud}

    def _gone(self, step: Gone | End) -> CloudGone:
        return CloudGone(**self._by(step.cloud), machine=step.machine, node=step.node, why=step.why)

    async def _record(self, event: CloudEvent) -> None:
        """Append what only a leader may, and return when it is folded here."""
        seq = await persist_leading(
            kind_of(event), lambda: self._journal.append(event, fence=self.fence())
        )
        # However long that takes: who does not see what it wants would want it again.
        while self._world.seq < seq:
            with contextlib.suppress(TimeoutError):
                await self._world.reached(seq, FOLD_S)


async def never() -> NoReturn:
    """Wait to be cancelled."""
    await asyncio.Event().wait()
    raise AssertionError
