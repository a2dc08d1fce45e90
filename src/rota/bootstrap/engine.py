"""The engine of an agent: servers of rota, one of them perhaps here, or a bus of others."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from rota.adapters.nats import Bus, Engine
from rota.adapters.peers import HttpsPeers
from rota.bootstrap.member import Member
from rota.bootstrap.options import AgentOptions
from rota.daemon.folder import DataFolder
from rota.errors import (
    ConflictError,
    DeniedError,
    UnavailableError,
)
from rota.service.members import Known

logger = logging.getLogger("rota")


def engine_of(options: AgentOptions, folder: DataFolder, member: Member) -> Engine | Bus:
    """Return the engine to use; a bus that was used once is used again."""
    url = options.bus or folder.read("bus") or (member.known.bus if member.known else "")
    if not url:
        return Engine(options.data / "engine", member.credentials)
    bus = Bus(url)
    folder.write("bus", url)
    return bus


async def bring_up(engine: Engine | Bus, member: Member, data: Path) -> None:
    """Start this agent's own server if it has one, or is the first; else know where others are."""
    if isinstance(engine, Bus):
        await engine.check()
        return
    known = member.known
    if known is not None and known.voters and not engine.voters:
        pins = {name: one.pin for name, one in known.members.items()}
        coming = {name: one.coming for name, one in known.members.items() if one.coming}
        await engine.know(tuple(known.voters.values()), pins, coming)
    if engine.server is not None and await _was_dismissed(engine.server.name, member):
        logger.warning("its server was dismissed while it was away: %s", engine.server.name)
        await engine.retire()
    is_first = known is None or not known.voters
    if engine.server is not None or is_first:
        await engine.found(member.host)


async def _was_dismissed(server: str, member: Member) -> bool:
    """Ask other members whether this agent's server is still appointed. Nobody knows: it is."""
    known = member.known
    if known is None:
        return False
    async with HttpsPeers(member.credentials) as peers:
        for peer in known.peers(besides=member.name)[:3]:
            try:
                raw = await peers.request(peer, "GET", "/peer/voters", within_s=2.0)
            except DeniedError as error:
                raise ConflictError(
                    f"{member.name} is no member of its cluster any more",
                    hint="to join again: empty its data folder, then rota agent --join TOKEN",
                ) from error
            except UnavailableError:
                continue
            now = msgspec.json.decode(raw, type=Known)
            if now.seq >= known.seq:
                return all(voter.server != server for voter in now.voters.values())
    return False
