"""Verbs on agents: how they are, what they carry, when they rest, leave and stop."""

from __future__ import annotations

import os
from datetime import datetime

from rota.core.agent_file import LEVELS
from rota.core.agents import Agent
from rota.core.events import EPOCH, AgentDrained, AgentLabelled, AgentLeft
from rota.core.labels import parse_agent_labels
from rota.core.problem import nearest
from rota.core.states import State
from rota.errors import ConflictError, InputError, NotFoundError, UnavailableError
from rota.service import messages as m
from rota.service.chat import chat_troubles
from rota.service.context import Principal, Service
from rota.service.quorum import tolerates
from rota.service.schedules import late_schedules
from rota.service.world import World

DURABILITY = (
    "an acknowledged trigger or result is synced to disk: it survives a kill and a power cut"
)
#: What an agent says of itself, and nobody else for it.
FIXED_LABELS = frozenset({"agent"})


async def status(service: Service, request: m.Nothing, who: Principal) -> m.Status:
    """Say how this agent is."""
    world, me = service.world, service.me
    picture = world.cluster.picture
    disk = os.statvfs(me.data)
    late = late_schedules(world, service.clock.now(), who.sees)
    seen = [it for it in picture.builds.values() if who.sees(it.job)]
    held = sum(build.state is State.HELD for build in seen)
    myself = picture.agents.get(me.name)
    return m.Status(
        agent=me.name,
        version=me.version,
        pid=me.pid,
        url=me.url,
        peer=me.peer,
        data=str(me.data),
        leader=picture.leader,
        leader_since=picture.leader_since if picture.leader_since != EPOCH else None,
        leader_why=picture.leader_why,
        members=len(picture.agents),
        voters=tuple(sorted(picture.voters)),
        tolerates=await tolerates(service),
        stale_since=world.stale_since,
        draining=myself is not None and myself.draining,
        started_at=myself.since if myself is not None else EPOCH,
        seq=world.seq,
        slots=me.slots,
        labels=myself.labels if myself is not None else me.labels,
        running=len(world.cluster.running.get(me.name, {})),
        queued=sum(build.state is State.QUEUED for build in seen),
        held=held,
        jobs=sum(map(who.sees, world.definitions.jobs)),
        engine=world.troubles.get("engine", "ok"),
        free_bytes=disk.f_bavail * disk.f_frsize,
        durability=DURABILITY,
        certificate_until=certificate_until(service),
        level=picture.level,
        trouble=(*world.troubles.values(), *chat_troubles(world), *([late] if late else [])),
    )


def certificate_until(service: Service) -> datetime | None:
    """Return until when this agent's certificate holds; ``None`` if that cannot be told."""
    if service.probes is None:
        return None
    try:
        return service.probes.certificate().until
    except UnavailableError:
        return None


async def agents(service: Service, request: m.Nothing, who: Principal) -> list[m.AgentView]:
    """List all agents by name."""
    agents = service.world.cluster.picture.agents
    return [view(service.world, agent) for _, agent in sorted(agents.items())]


async def drain(service: Service, request: m.DrainRequest, who: Principal) -> m.AgentView:
    """Let an agent take no more builds, or take them again."""
    agent = find_agent(service, request.agent)
    if agent.leaving and request.off:
        raise ConflictError(f"{agent.name} is leaving the cluster")
    if agent.draining == request.off:
        await service.write(
            AgentDrained(
                at=service.clock.now(),
                by=who.name,
                agent=service.me.name,
                name=agent.name,
                draining=not request.off,
            )
        )
    return view(service.world, find_agent(service, request.agent))


async def label(service: Service, request: m.LabelRequest, who: Principal) -> m.AgentView:
    """Change an agent's labels."""
    agent = find_agent(service, request.agent)
    for name in FIXED_LABELS & request.labels.keys():
        raise InputError(f"the label {name!r} is what the agent is called; it cannot be changed")
    _check_labels({name: value or "" for name, value in request.labels.items()})
    if request.labels:
        await service.write(
            AgentLabelled(
                at=service.clock.now(),
                by=who.name,
                agent=service.me.name,
                name=agent.name,
                labels=request.labels,
            )
        )
    return view(service.world, find_agent(service, request.agent))


def _check_labels(labels: dict[str, str]) -> None:
    parsed = parse_agent_labels(
        f"{name}={value}" if value else name for name, value in labels.items()
    )
    # As texts they are separated by commas: a name or value that has one is read as two.
    for name in labels.items() - parsed.items():
        raise InputError(f"bad label: {'='.join(name)!r} is neither a word nor key=value")


async def leave(service: Service, request: m.AgentRequest, who: Principal) -> m.AgentView:
    """Let an agent finish what runs, hand over what it keeps, and leave."""
    agent = find_agent(service, request.agent)
    others = [other for other in service.world.cluster.picture.agents.values() if other != agent]
    if not any(other.is_up and not other.leaving for other in others):
        raise ConflictError(
            f"{agent.name} is the only agent that is up: who leaves hands over to another",
            hint="to end it: rota stop",
        )
    if not agent.is_up:
        raise ConflictError(
            f"{agent.name} is {agent.state}: it cannot hand over anything",
            hint=f"remove it: rota agents --forget {agent.name}",
        )
    if not agent.leaving:
        await service.write(
            AgentDrained(
                at=service.clock.now(),
                by=who.name,
                agent=service.me.name,
                name=agent.name,
                leaving=True,
            )
        )
    return view(service.world, find_agent(service, request.agent))


async def forget(service: Service, request: m.AgentRequest, who: Principal) -> m.AgentView:
    """Remove an agent that is gone."""
    agent = find_agent(service, request.agent)
    if agent.is_up:
        raise ConflictError(f"{agent.name} is up", hint=f"let it leave: rota leave {agent.name}")
    left = view(service.world, agent)
    await remove(service, agent.name, who, f"{who.name} removed it")
    return left


async def remove(service: Service, name: str, who: Principal, why: str) -> None:
    """Take an agent out of the journal, and return once this agent has folded that."""
    await service.write(
        AgentLeft(at=service.clock.now(), by=who.name, agent=service.me.name, name=name, why=why)
    )


async def stop(service: Service, request: m.Nothing, who: Principal) -> m.Stopping:
    """Stop this agent. What it runs goes on, and is found again at its next start."""
    service.stop()
    running = len(service.world.cluster.running.get(service.me.name, {}))
    return m.Stopping(agent=service.me.name, running=running)


async def reload(service: Service, request: m.ReloadRequest, who: Principal) -> m.Reloaded:
    """Let the agent be as its file says now; nothing changes if something in that is wrong."""
    if request.log_level not in ("", *LEVELS):
        raise InputError(f"log_level is {request.log_level!r}", hint=f"one of {', '.join(LEVELS)}")
    if service.reload is None:
        raise ConflictError("this agent has no file: it runs a single script")
    return await service.reload(request.log_level)


def find_agent(service: Service, name: str) -> Agent:
    """Return a member.

    Raises:
        NotFoundError: there is no such agent; the hint has the name that is most like it.
    """
    known = service.world.cluster.picture.agents
    if name not in known:
        raise NotFoundError(f"no agent {name!r}", hint=nearest(name, known) or "rota agents")
    return known[name]


def view(world: World, agent: Agent) -> m.AgentView:
    """Return an agent as REST shows it."""
    cluster, picture = world.cluster, world.cluster.picture
    return m.AgentView(
        name=agent.name,
        state=agent.state,
        since=agent.since,
        labels=agent.labels,
        slots=agent.slots,
        running=len(cluster.running.get(agent.name, {})),
        url=agent.url,
        peer=agent.peer,
        version=agent.version,
        draining=agent.draining,
        leaving=agent.leaving,
        is_leader=agent.name == picture.leader,
        is_voter=agent.name in picture.voters,
        ephemeral=agent.ephemeral,
        level=world.level_of(agent),
        pin=agent.pin,
    )
