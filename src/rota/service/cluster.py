"""Verbs on the cluster as a whole: who is in it, who may come, and what to do after a disaster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from rota.core.events import EPOCH, VoterDismissed
from rota.core.voter import Voter
from rota.errors import ConflictError, RotaError, UnavailableError
from rota.ports.ensemble import Ensemble
from rota.ports.peers import Peer
from rota.service import messages as m
from rota.service.agents import agents
from rota.service.context import Door, Principal, Service
from rota.service.hold import Hold
from rota.service.members import Known, known, spoken_for
from rota.service.quorum import tolerates

#: How long a rescued group may take to have a leader again: it is compiled into the engine.
RESCUE_S = 40.0
RETRY_S = 0.3
#: An agent that has seen more than this one is worth waiting for.
PEER_S = 5.0


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
    """Go on with the voters that are left, from the last event that any agent here has seen.

    The agent that has seen the most does it; the journal then begins behind what it knows, so that
    nothing that somebody has seen is lost, and nothing is said twice in different words. Until then
    nobody who can be reached writes.
    """
    ensemble = service.ensemble
    if ensemble is None:
        raise ConflictError("the engine is somebody else's: recover it with its own tools")
    if await tolerates(service) != -1:
        raise ConflictError(
            "the voters have a quorum: there is nothing to recover from",
            hint="an agent that is gone is replaced by itself, or: rota agents --forget NAME",
        )
    ahead = await _ahead(service)
    if ahead is not None and not who.peer:
        return await _elsewhere(service, ahead, who)
    hold = _hold(service)
    hold.begin()
    await _tell(service, "POST")
    try:
        return await _recover(service, ensemble, who)
    finally:
        hold.end()
        await _tell(service, "DELETE")


async def _recover(service: Service, ensemble: Ensemble, who: Principal) -> m.Recovered:
    world = service.world
    known_at = world.contact.at if world.contact is not None else None
    alive = set(await ensemble.reachable())
    voters = world.cluster.picture.voters.values()
    staying = [voter for voter in voters if voter.server in alive]
    lost = [voter for voter in voters if voter.server not in alive]
    if not staying:
        raise UnavailableError("no voter can be reached from here", hint="ask at another agent")
    await _persist(lambda: _rescue(ensemble, len(staying)))
    await _settle(ensemble, alive, lost)
    seq = world.seq
    await _persist(lambda: ensemble.replicate(_odd(len(staying))))
    await _persist(lambda: _skip(service, seq))
    _hold(service).end()
    for voter in lost:
        await _persist(lambda: _dismiss(service, voter, who))  # noqa: B023 - awaited within the turn
    return m.Recovered(
        voters=tuple(sorted(voter.agent for voter in staying)),
        removed=tuple(sorted(voter.agent for voter in lost)),
        seq=seq,
        last_event_at=known_at,
        may_miss=_may_miss(service, seq, {voter.agent for voter in lost}),
    )


async def _ahead(service: Service) -> Peer | None:
    """Return the agent that has folded more than this one, if any that answers has."""
    best, found = service.world.seq, None
    if service.peers is None:
        return None
    for one in known(service.world).peers(besides=service.me.name):
        try:
            raw = await service.peers.request(one, "GET", "/peer/voters", within_s=PEER_S)
        except RotaError:
            continue
        seq = msgspec.json.decode(raw, type=Known).seq
        if seq > best:
            best, found = seq, one
    return found


async def _elsewhere(service: Service, ahead: Peer, who: Principal) -> m.Recovered:
    assert service.peers is not None
    raw = await service.peers.request(
        ahead, "POST", "/v1/recover", headers=spoken_for(who), within_s=2 * RESCUE_S
    )
    return msgspec.json.decode(raw, type=m.Recovered)


async def _rescue(ensemble: Ensemble, number: int) -> None:
    # They agree once they have been without a leader for ten seconds.
    await ensemble.rescue(number)


async def _settle(ensemble: Ensemble, alive: set[str], lost: Sequence[Voter]) -> None:
    """Wait until the servers that are left have a leader among them and no seat for the others."""

    async def settled() -> None:
        for voter in lost:
            await ensemble.remove(voter.server)
        seats = await ensemble.seats()
        is_led = any(seat.is_leader and seat.server in alive for seat in seats)
        if not is_led or any(seat.server not in alive for seat in seats):
            raise UnavailableError("the engine's servers have not settled yet")

    await _persist(settled)


async def _skip(service: Service, seq: int) -> None:
    """Let the journal begin behind what this agent has folded, where it lacks some of that."""
    _, last = await service.journal.bounds()
    if last < seq:
        await service.journal.trim(before=seq + 1)
        service.world.journal_first = seq + 1


def _hold(service: Service) -> Hold:
    hold = service.world.hold
    assert hold is not None, "an agent that runs has one"
    return hold


async def _tell(service: Service, method: str) -> None:
    """Ask all who can be reached to write nothing, or to write again.

    Who cannot be has no voters to write to either, or finds that the journal parted from it.
    """
    peers = service.peers
    if peers is None:
        return

    async def tell(peer: Peer) -> None:
        with contextlib.suppress(RotaError):
            await peers.request(peer, method, "/peer/hold", within_s=PEER_S)

    async with asyncio.TaskGroup() as group:
        for peer in known(service.world).peers(besides=service.me.name):
            group.create_task(tell(peer))


async def _dismiss(service: Service, voter: Voter, who: Principal) -> None:
    await service.journal.append(
        VoterDismissed(
            at=service.clock.now(),
            by=who.name,
            agent=service.me.name,
            name=voter.agent,
            server=voter.server,
            why="it was gone when the cluster was recovered",
        )
    )


async def _persist(step: Callable[[], Awaitable[None]]) -> None:
    """Do a step of a recovery, again and again while the engine is not ready for it."""
    end = asyncio.get_running_loop().time() + RESCUE_S
    while True:
        try:
            return await step()
        except UnavailableError:
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(RETRY_S)


def _odd(number: int) -> int:
    return number if number % 2 else number - 1


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
