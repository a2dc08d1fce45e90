"""Verbs on agents: how they are, and stop."""

from __future__ import annotations

import os

from rota.core.events import EPOCH
from rota.core.fold import Agent
from rota.core.states import State
from rota.service import messages as m
from rota.service.context import Principal, Service

DURABILITY = (
    "an acknowledged trigger or result is synced to disk: it survives a kill and a power cut"
)


async def status(service: Service, request: m.Nothing, who: Principal) -> m.Status:
    """Say how this agent is."""
    world, me = service.world, service.me
    picture = world.cluster.picture
    disk = os.statvfs(me.data)
    held = sum(build.state is State.HELD for build in picture.builds.values())
    return m.Status(
        agent=me.name,
        version=me.version,
        pid=me.pid,
        url=service.url,
        data=str(me.data),
        leader=picture.leader,
        leader_since=picture.leader_since if picture.leader_since != EPOCH else None,
        started_at=picture.agents[me.name].since if me.name in picture.agents else EPOCH,
        seq=world.seq,
        slots=me.slots,
        labels=me.labels,
        running=len(world.cluster.running.get(me.name, {})),
        queued=world.cluster.queued(),
        held=held,
        jobs=len(world.definitions.jobs),
        engine=world.troubles.get("engine", "ok"),
        free_bytes=disk.f_bavail * disk.f_frsize,
        durability=DURABILITY,
        trouble=tuple(world.troubles.values()),
    )


async def agents(service: Service, request: m.Nothing, who: Principal) -> list[Agent]:
    """List all agents by name."""
    known = service.world.cluster.picture.agents
    return [known[name] for name in sorted(known)]


async def stop(service: Service, request: m.Nothing, who: Principal) -> m.Stopping:
    """Stop this agent. What it runs goes on, and is found again at its next start."""
    service.stop()
    running = len(service.world.cluster.running.get(service.me.name, {}))
    return m.Stopping(agent=service.me.name, running=running)
