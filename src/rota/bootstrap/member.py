"""Who an agent is in its cluster, before anything of it runs."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
from collections.abc import AsyncIterator

import msgspec

import rota
from rota.adapters.age import AgeSafe
from rota.adapters.clocks import SystemClock
from rota.adapters.nats import Bus
from rota.adapters.nats.blobs import NatsBlobs
from rota.adapters.peers import HttpsPeers, HttpsStranger, own_address
from rota.adapters.pki import TlsKeyring
from rota.agent.joining import join, read_known
from rota.bootstrap.options import AgentOptions
from rota.core.address import Address
from rota.core.ids import parse_agent_name
from rota.daemon.folder import DataFolder
from rota.daemon.nameplate import FILE, Nameplate, read_nameplate
from rota.daemon.sockets import (
    LOOPBACK,
    reachable_host,
)
from rota.errors import (
    ConflictError,
    NotFoundError,
)
from rota.ports.credentials import Credentials
from rota.ports.peers import Peer
from rota.service.members import Known

logger = logging.getLogger("rota")

#: Where a bus keeps what its agents sign each other's certificates with.
AUTHORITY = "cluster/authority"


@dataclasses.dataclass(kw_only=True)
class Member:
    """Who this agent is in its cluster.

    ``host`` is where others reach it; ``source`` has the store, for one that has just joined. Host
    and credentials change while the agent runs: when it opens up to others, when it has a new key.
    """

    name: str
    host: str
    keyring: TlsKeyring
    safe: AgeSafe
    credentials: Credentials
    known: Known | None
    source: Peer | None = None


async def identify(options: AgentOptions, folder: DataFolder) -> Member:
    """Return who this agent is: a member for long, one that joins, or the first of a cluster."""
    name = _name(options, folder)
    keyring = TlsKeyring(options.data / "tls", SystemClock())
    safe = AgeSafe(options.data / "tls", SystemClock())
    given = reachable_host(options.listen)
    host = given or folder.read("host") or _host_towards(options.bus)
    source = None
    if options.join is not None:
        joined = await join(
            options.data,
            options.join,
            name,
            [given] if given else [],
            keyring=keyring,
            stranger=HttpsStranger(),
            connect=HttpsPeers,
            safe=safe,
            ephemeral=options.ephemeral,
        )
        if joined.remark:
            logger.warning("%s", joined.remark)
        host, source = given or joined.address, joined.source
    if options.bus is not None and not keyring.fingerprint():
        await _share_authority(Bus(options.bus), keyring, name, host)
    credentials = await asyncio.to_thread(keyring.found, name, [host])
    await asyncio.to_thread(keyring.renew, name, [host])
    level = read_nameplate(folder.read(FILE), options.data).level
    folder.write(FILE, Nameplate(name, level).text(rota.__version__))
    folder.write("host", host)
    return Member(
        name=name,
        host=host,
        keyring=keyring,
        safe=safe,
        credentials=credentials,
        known=read_known(options.data),
        source=source,
    )


def _host_towards(bus: str | None) -> str:
    """Return by which address others reach this machine: those of a bus, or nobody so far."""
    if bus is None:
        return LOOPBACK
    first = Bus(bus).addresses[0]
    return own_address(Address(first.host, first.port))


class _Authority(msgspec.Struct):
    ca: bytes
    ca_key: bytes


async def _share_authority(bus: Bus, keyring: TlsKeyring, name: str, host: str) -> None:
    """Let all who come by the same bus have one certificate authority: the first one's.

    Whoever may use the bus can read and write all of the cluster anyway.
    """
    await bus.check()
    async with bus.connect("rota-join") as client:
        blobs = NatsBlobs(client)
        await blobs.open()
        if (shared := await _read_authority(blobs)) is None:
            await asyncio.to_thread(keyring.found, name, [host])
            raw = msgspec.json.encode(_Authority(keyring.ca(), keyring.ca_key()))
            await blobs.put(AUTHORITY, _once(raw))
            # Another agent may have done the same in this moment: the last one's holds.
            shared = await _read_authority(blobs)
        if shared is not None and (not keyring.fingerprint() or shared.ca != keyring.ca()):
            await asyncio.to_thread(keyring.forget)
            await asyncio.to_thread(keyring.adopt, ca=shared.ca, ca_key=shared.ca_key)


async def _read_authority(blobs: NatsBlobs) -> _Authority | None:
    try:
        raw = b"".join([piece async for piece in blobs.get(AUTHORITY)])
    except NotFoundError:
        return None
    return msgspec.json.decode(raw, type=_Authority)


async def _once(raw: bytes) -> AsyncIterator[bytes]:
    yield raw


def _name(options: AgentOptions, folder: DataFolder) -> str:
    """Return what this agent is called: a member keeps its name."""
    former = read_nameplate(folder.read(FILE), options.data).name
    name = options.name or former or socket.gethostname().partition(".")[0] or "agent"
    if former and name != former:
        raise ConflictError(
            f"{options.data} is the folder of an agent named {former}, not {name}",
            hint="leave --name away, or give this one another folder: --data DIR",
        )
    return parse_agent_name(name)
