"""The verb: every agent examines itself, and the one that is asked compares them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from rota.errors import OlderError, RotaError
from rota.ports.peers import Peer
from rota.service import messages as m
from rota.service.context import Principal, Service
from rota.service.doctor import member, whole
from rota.service.doctor.check import Check, Examined, Look, finding
from rota.service.members import spoken_for

logger = logging.getLogger(__name__)

#: How long an agent may take to examine itself: git looks at every object once.
EXAMINE_S = 60.0
#: A check that takes longer than this is said, and left.
CHECK_S = 45.0


async def doctor(service: Service, request: m.DoctorRequest, who: Principal) -> m.Diagnosis:
    """Examine every agent and the cluster; or, with ``own``, this agent alone."""
    mine = await _own(service)
    if request.own:
        return m.Diagnosis(
            agents=(service.me.name,),
            findings=mine.findings,
            checks=tuple(_views(member.CHECKS)),
            now=service.clock.now(),
            main=mine.main,
            history=mine.history,
            covered=mine.covered,
        )
    others, unreached, older = await _others(service, who)
    examined = (mine, *others)
    look = Look(
        service=service,
        now=service.clock.now(),
        examined=examined,
        unreached=unreached,
        older=older,
    )
    of_all = await _run(whole.CHECKS, look)
    found = [*of_all, *(it for one in examined for it in one.findings)]
    found.sort(key=lambda it: (it.severity != "trouble", it.agent, it.check))
    return m.Diagnosis(
        agents=tuple(it.name for it in examined),
        findings=tuple(found),
        checks=tuple(_views((*whole.CHECKS, *member.CHECKS))),
        now=service.clock.now(),
    )


async def _own(service: Service) -> Examined:
    look = Look(service=service, now=service.clock.now())
    found = await _run(member.CHECKS, look)
    main = history = ""
    covered = 0
    try:
        main, history = await service.store.head("main"), await service.store.head("history")
        covered = await service.store.covered()
    except RotaError as error:
        logger.warning("%s", error.message)
    return Examined(
        name=service.me.name, findings=tuple(found), main=main, history=history, covered=covered
    )


async def _others(
    service: Service, who: Principal
) -> tuple[list[Examined], dict[str, str], tuple[str, ...]]:
    """Return what the other agents say of themselves, why some do not, and who cannot be asked."""
    peers = [
        Peer(it.name, it.peer, it.pin, it.coming)
        for it in service.world.cluster.picture.agents.values()
        if it.is_up and it.name != service.me.name
    ]
    found = await asyncio.gather(*(_ask(service, peer, who) for peer in peers))
    said = [it for it in found if isinstance(it, Examined)]
    why = {peer.name: it for peer, it in zip(peers, found, strict=True) if isinstance(it, str)}
    older = tuple(peer.name for peer, it in zip(peers, found, strict=True) if it is None)
    return said, why, older


async def _ask(service: Service, peer: Peer, who: Principal) -> Examined | str | None:
    """Return what it says of itself, or why it says nothing; ``None`` if it knows no such question."""
    if service.peers is None:
        return "this agent reaches no other"
    headers = spoken_for(who)
    try:
        # Once for its clock: a quick answer says more of that than one that took seconds.
        away_s, unsure_s = await _clock_of(service, peer)
        raw = await service.peers.request(
            peer, "GET", "/v1/doctor?own=true", headers=headers, within_s=EXAMINE_S
        )
        told = msgspec.json.decode(raw, type=m.Diagnosis)
    except OlderError:
        return None
    except RotaError as error:
        return error.message
    except msgspec.MsgspecError:
        return "its answer cannot be understood: it runs another version of rota"
    return Examined(
        name=peer.name,
        findings=told.findings,
        main=told.main,
        history=told.history,
        covered=told.covered,
        away_s=away_s,
        unsure_s=unsure_s,
    )


async def _clock_of(service: Service, peer: Peer) -> tuple[float, float]:
    """Return how far a peer's clock is ahead of ours in seconds, and how far that may be off."""
    assert service.peers is not None
    before, begun = service.clock.now(), service.clock.monotonic()
    raw = await service.peers.request(peer, "GET", "/peer/clock", within_s=5.0)
    took = service.clock.monotonic() - begun
    theirs = msgspec.json.decode(raw, type=m.ClockView).now
    return (theirs - before).total_seconds() - took / 2, took / 2


async def _run(checks: Iterable[Check], look: Look) -> list[m.Finding]:
    """Run checks one after the other: a machine in trouble is not asked for all at once."""
    found: list[m.Finding] = []
    for check in checks:
        try:
            async with asyncio.timeout(CHECK_S):
                found += [it async for it in check.run(look)]
        except (TimeoutError, RotaError, OSError) as error:
            why = error.message if isinstance(error, RotaError) else str(error)
            found.append(
                finding(
                    check.name,
                    look.service.me.name,
                    f"it could not be looked at: {why or f'it took longer than {CHECK_S:g} s'}",
                    "see agent.log in the data folder",
                )
            )
    return found


def _views(checks: Iterable[Check]) -> Iterable[m.CheckView]:
    return (m.CheckView(name=it.name, looks_at=it.looks_at) for it in checks)
