"""Verbs on the cluster as a whole: who is in it, who may come, and what to do after a disaster."""

from __future__ import annotations

import asyncio

from rota.core.events import EPOCH
from rota.errors import ConflictError, UnavailableError
from rota.service import messages as m
from rota.service.agents import agents
from rota.service.context import Door, Principal, Service
from rota.service.quorum import tolerates

#: How long a rescued group may take to have a leader again: it is compiled into the engine.
RESCUE_S = 30.0


async def ring(service: Service, request: m.Nothing, who: Principal) -> m.Ring:
    """Say who is in the cluster, and how it is."""
    picture = service.world.cluster.picture
    return m.Ring(
        leader=picture.leader,
        leader_since=picture.leader_since if picture.leader_since != EPOCH else None,
        leader_why=picture.leader_why,
        agents=tuple(await agents(service, request, who)),
        voters=tuple(sorted(picture.voters)),
        tolerates=await tolerates(service),
        stale_since=service.world.stale_since,
        ca=service.ca,
    )


async def invite(service: Service, request: m.InviteRequest, who: Principal) -> m.JoinTokenView:
    """Make a join token."""
    return await _door(service).invite(who.name, request.expires_s, request.uses)


async def invitations(
    service: Service, request: m.Nothing, who: Principal
) -> list[m.JoinTokenView]:
    """List the join tokens of this agent."""
    return await _door(service).invitations()


async def revoke(service: Service, request: m.RevokeRequest, who: Principal) -> m.JoinTokenView:
    """Make a join token worthless."""
    return await _door(service).revoke(request.id)


async def recover(service: Service, request: m.Nothing, who: Principal) -> m.Recovered:
    """Go on with the voters that are left.

    The leader then replaces those who are gone, as it does with any that is lost.
    """
    ensemble = service.ensemble
    if ensemble is None:
        raise ConflictError("the engine is somebody else's: recover it with its own tools")
    if await tolerates(service) != -1:
        raise ConflictError(
            "the voters have a quorum: there is nothing to recover from",
            hint="an agent that is gone is replaced by itself, or: rota agents --forget NAME",
        )
    picture, contact = service.world.cluster.picture, service.world.contact
    seq, known_at = picture.seq, contact.at if contact is not None else None
    alive = await ensemble.rescue(1)
    if not alive:
        raise UnavailableError("no voter can be reached from here", hint="ask at a voter itself")
    survivors = tuple(await _survivors(service, len(alive)))
    lost = tuple(voter for voter in picture.voters.values() if voter.server not in set(alive))
    for voter in lost:
        await ensemble.remove(voter.server)
    await ensemble.replicate(len(survivors) if len(survivors) % 2 else len(survivors) - 1)
    return m.Recovered(
        voters=tuple(sorted(survivors)),
        removed=tuple(sorted(voter.agent for voter in lost)),
        seq=seq,
        last_event_at=known_at,
        may_miss=_may_miss(service, seq, {voter.agent for voter in lost}),
    )


async def _survivors(service: Service, number: int) -> list[str]:
    """Wait until the rescued servers have a leader; return the agents that they belong to."""
    assert service.ensemble is not None
    owners = {v.server: v.agent for v in service.world.cluster.picture.voters.values()}
    end = asyncio.get_running_loop().time() + RESCUE_S
    while True:
        try:
            seats = await service.ensemble.seats()
        except UnavailableError:
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(0.2)
        else:
            alive = [seat for seat in seats if not seat.is_offline]
            return [owners.get(seat.server, seat.server) for seat in alive][:number]


def _may_miss(service: Service, seq: int, lost: set[str]) -> tuple[str, ...]:
    """Return, in words, what only those who are gone may have had."""
    cluster = service.world.cluster
    texts = [f"events after {seq} that only {', '.join(sorted(lost)) or 'the lost'} had taken"]
    for name in sorted(lost):
        for build_id in cluster.running.get(name, {}):
            build = cluster.picture.builds[build_id]
            texts.append(f"the end of {build.ref}, attempt {build.attempt}, and its last log lines")
    return tuple(texts)


def _door(service: Service) -> Door:
    if service.door is None:
        raise ConflictError("this agent lets nobody join: it runs a single script")
    return service.door
