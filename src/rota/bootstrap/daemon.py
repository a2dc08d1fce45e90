"""One agent as a daemon: its ports, its sockets, its door."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

import rota
from rota.adapters.git import GitStore
from rota.adapters.nats import Bus, Engine
from rota.agent.agent import run_agent as run_the_agent
from rota.agent.group import background
from rota.agent.health import run_health
from rota.bootstrap.abilities import Abilities
from rota.bootstrap.doors import Doors
from rota.bootstrap.machine import Machine
from rota.bootstrap.member import Member
from rota.bootstrap.next_start import NextStart
from rota.bootstrap.options import AgentOptions
from rota.bootstrap.own_keys import OwnKeys
from rota.bootstrap.ports import open_ports
from rota.bootstrap.probes import DaemonProbes
from rota.bootstrap.reloading import Reloading
from rota.bootstrap.store_sources import StoreSources
from rota.core.agent_file import MAX_SLOTS, limited
from rota.core.levels import parse_level
from rota.daemon.folder import DataFolder, digest
from rota.daemon.growth import DiskGrowth
from rota.daemon.heap import keep_small
from rota.daemon.notify import Starting, notify, say_ready
from rota.daemon.own_log import keep_bounded
from rota.daemon.watchdog import watch
from rota.errors import InputError
from rota.service.context import Myself

logger = logging.getLogger("rota")

#: Holds the level that an agent announces, and so the cluster's: the way back stays open.
HOLD = "ROTA_LEVEL"


class Daemon:
    """One agent, its ports and its sockets, for as long as it runs."""

    def __init__(
        self,
        options: AgentOptions,
        folder: DataFolder,
        member: Member,
        engine: Engine | Bus,
        stack: contextlib.AsyncExitStack,
        machine: Machine,
    ) -> None:
        self._options, self._folder, self._member = options, folder, member
        self._machine = machine
        self._engine, self._stack = engine, stack

    async def run(self, stopping: asyncio.Event, ready: asyncio.Event) -> None:
        """Run until ``stopping`` is set; set ``ready`` once builds are taken."""
        options, folder, stack, data = self._options, self._folder, self._stack, self._options.data
        member, engine, machine = self._member, self._engine, self._machine
        store = await stack.enter_async_context(GitStore(data / "store.git"))
        sources = StoreSources(member, data, store)
        if member.source is not None and not (data / "index.db").exists():
            await sources.bring(member.source)
        opened = await open_ports(member, engine, data, store, sources, stack)
        await sources.refresh(opened.ports)
        doors = Doors(member, folder, data, engine, stack, machine.listen)
        abilities = Abilities(member.name, machine, data)
        await abilities.find(opened.confiner)
        me = self._myself(doors, abilities)
        agent = await stack.enter_async_context(
            run_the_agent(
                me,
                opened.ports,
                stop=stopping.set,
                socket=str(doors.path),
                limited=lambda settings: limited(settings, machine.file.limits),
                still=Starting(options.ready_fd).still,
            )
        )
        await doors.open(agent, store, opened.sizes)
        next_start = NextStart(member.name, agent.service.world, folder, data)
        agent.loop.on_entry.append(next_start.folded)
        next_start.keep_level()
        if isinstance(engine, Engine):
            agent.service.counts.engine_restarts = lambda: engine.restarts
        growth = DiskGrowth(data)
        await stack.enter_async_context(
            background(
                run_health(
                    agent.service.world,
                    data,
                    lambda: engine.trouble,
                    agent.loop.decide_soon,
                    lambda: machine.file.limits.min_free or 0,
                    lambda: growth.note(agent.service.clock.now().timestamp()),
                )
            )
        )
        reloading = Reloading(machine, agent, folder, doors, abilities)
        agent.service.reload = reloading.reload
        await stack.enter_async_context(background(reloading.run()))
        own_keys = OwnKeys(member, agent, doors, engine)
        await stack.enter_async_context(background(own_keys.keep()))
        agent.service.probes = DaemonProbes(
            data,
            member.keyring,
            engine,
            lambda: agent.historian.snapshot_seq,
            lambda: growth.found,
        )
        await stack.enter_async_context(background(abilities.watch(agent, opened.containers)))
        await stack.enter_async_context(background(keep_bounded(data)))
        await stack.enter_async_context(background(keep_small(lambda: agent.service.world.seq)))
        logger.info("%s is ready: %s, data in %s", me.name, me.url, data)
        ready.set()
        say_ready(options.ready_fd)
        await stack.enter_async_context(background(watch()))
        await stopping.wait()
        logger.info("stopping; builds that run go on: %d", len(agent.runner.active))
        notify("STOPPING=1")

    def _myself(self, doors: Doors, abilities: Abilities) -> Myself:
        slots = self._machine.slots
        if not 0 <= slots <= MAX_SLOTS:
            raise InputError(f"--slots is {slots}, it can be 0 to {MAX_SLOTS}")
        return Myself(
            name=self._member.name,
            version=rota.__version__,
            pid=os.getpid(),
            data=self._options.data,
            labels=abilities.labels(),
            slots=slots,
            url=doors.url,
            peer=doors.peer_url,
            token=digest(self._folder.token()),
            pin=self._member.credentials.pin,
            host=self._member.host,
            level=parse_level(os.environ.get(HOLD, "")),
        )
