"""What each agent looks at by itself: its machine, its folder, its store, its server, its ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta

from rota.core.certificate import LATE
from rota.errors import RotaError
from rota.ports.peers import Peer
from rota.service.doctor import machine, processes
from rota.service.doctor.check import Check, Look, finding
from rota.service.messages import Finding

#: The oldest git that all of it was tried with.
MIN_GIT = (2, 30)
MAX_PACKS, MAX_LOOSE = 100, 20_000
#: A server of ours that has more than this in memory has too many subjects, or leaks.
MAX_SERVER_BYTES = 1 << 30
MAX_SLOW = 100
#: So many events beyond its snapshot a start has to fold first.
MAX_TAIL = 200_000
PEER_S = 4.0
#: So long a cluster has for going over to another authority.
AUTHORITY_NOTICE = timedelta(days=365)


def _here(
    name: str, look_at: Callable[[Look], Iterator[machine.Found]]
) -> Callable[..., AsyncIterator[Finding]]:
    """Return a check that only looks at this machine, off the loop: disks can be slow."""

    async def run(look: Look) -> AsyncIterator[Finding]:
        for what, hint in await asyncio.to_thread(lambda: list(look_at(look))):
            yield finding(name, look.service.me.name, what, hint)

    return run


def _disk(look: Look) -> Iterator[machine.Found]:
    """Look at the disk as it is, and as it will be."""
    data, probes = look.service.me.data, look.service.probes
    yield from machine.disk(data)
    if probes is not None:
        yield from machine.growing(data, probes.growth())


async def _certificate(look: Look) -> AsyncIterator[Finding]:
    """Look at the certificate: until when it holds, for which hosts, and whether its key fits."""
    service = look.service
    me = service.me.name
    if service.probes is None:
        return
    try:
        present = await asyncio.to_thread(service.probes.certificate)
        authority = await asyncio.to_thread(service.probes.authority)
    except RotaError as error:
        yield finding("certificate", me, error.message, error.hint or "join again by a token")
        return
    if authority.left(look.now) < AUTHORITY_NOTICE:
        yield finding(
            "certificate",
            me,
            f"the cluster's own authority ends at {authority.until:%Y-%m-%d %H:%M} UTC: then no agent"
            " knows another",
            "is the clock right? else begin a new cluster by then: rota agent --from-clone DIR"
            " (docs/backup.md)",
        )
    life = timedelta(seconds=service.world.definitions.settings.certificates.life_s)
    left = present.left(look.now)
    again = service.world.troubles.get("certificate", "")
    if left < life / LATE:
        ends = "ended" if left < timedelta(0) else "ends"
        yield finding(
            "certificate",
            me,
            again or f"the certificate {ends} at {present.until:%Y-%m-%d %H:%M} UTC",
            "it is renewed while the agent runs: is its clock right, and tls/ writable? restart it",
        )
    if look.now < present.since:
        yield finding(
            "certificate",
            me,
            f"the certificate holds from {present.since:%Y-%m-%d %H:%M} UTC, and it is"
            f" {look.now:%Y-%m-%d %H:%M} by this clock",
            "set the clock; timedatectl says whether it is kept right",
        )
    if service.me.host not in present.hosts:
        yield finding(
            "certificate",
            me,
            f"the certificate is not for {service.me.host}, where others reach this agent",
            "restart the agent: it is signed anew at its start",
        )
    if service.me.pin and present.pin != service.me.pin:
        yield finding(
            "certificate",
            me,
            "the key in tls/ is another one than the agent shows",
            "put tls/ back as it was; or restart the agent, if you changed it on purpose",
        )


async def _git(look: Look) -> AsyncIterator[Finding]:
    """Look at git: its version, whether the store is whole, and how it is packed."""
    me, probes = look.service.me.name, look.service.probes
    if probes is None:
        return
    try:
        found = await probes.store()
    except RotaError as error:
        yield finding("git", me, error.message, error.hint or "is git installed?")
        return
    path = look.service.me.data / "store.git"
    if found.version < MIN_GIT:
        said = ".".join(map(str, found.version))
        yield finding("git", me, f"git is {said}", "2.30 or newer is needed, 2.39 is tried most")
    for text in found.faults[:5]:
        yield finding(
            "git",
            me,
            f"the store is damaged: {text}",
            f"stop the agent, remove {path}, start it: another agent's is fetched. Alone: bring a"
            " clone back",
        )
    if found.packs > MAX_PACKS or found.loose > MAX_LOOSE:
        yield finding(
            "git",
            me,
            f"the store has {found.packs} packs and {found.loose} loose objects",
            f"it is repacked in the background; if that fails: git -C {path} repack -a -d",
            is_warning=True,
        )


async def _server(look: Look) -> AsyncIterator[Finding]:
    """Look at the engine's own server: its memory, who reads too slowly, what it complains of."""
    service = look.service
    me = service.me.name
    if trouble := service.world.troubles.get("engine"):
        yield finding("engine", me, trouble, "see engine/engine.log in the data folder")
    found = await service.probes.server() if service.probes is not None else None
    if found is None:
        return
    if found.memory_bytes > MAX_SERVER_BYTES:
        yield finding(
            "engine",
            me,
            f"the engine's server holds {found.memory_bytes >> 20} MiB in memory",
            "fewer builds in the logs: `[logs] max_age` in the settings; restarting the agent's"
            " server frees what is free",
            is_warning=True,
        )
    if found.slow_consumers > MAX_SLOW:
        yield finding(
            "engine",
            me,
            f"the engine's server gave up {found.slow_consumers} readers that were too slow",
            "is a machine, or its network, overloaded? they come back, and read again",
            is_warning=True,
        )


async def _snapshot(look: Look) -> AsyncIterator[Finding]:
    """Look at how far this agent's last snapshot is behind what it knows."""
    service = look.service
    if service.probes is None:
        return
    behind = service.world.seq - service.probes.snapshot_seq()
    if behind > MAX_TAIL:
        yield finding(
            "snapshot",
            service.me.name,
            f"the last snapshot is {behind} events old: a start would fold all of them",
            "is index.db writable, and the disk not full? see agent.log",
            is_warning=True,
        )


async def _ways(look: Look) -> AsyncIterator[Finding]:
    """Look whether this agent reaches each other one that is up, where others are told it is."""
    service = look.service
    if service.peers is None:
        return
    others = [
        it
        for it in service.world.cluster.picture.agents.values()
        if it.is_up and it.peer and it.name != service.me.name
    ]
    peers = [Peer(it.name, it.peer, it.pin, it.coming) for it in others]
    for fault in await asyncio.gather(*(_reached(look, peer) for peer in peers)):
        if fault is not None:
            yield fault


async def _reached(look: Look, peer: Peer) -> Finding | None:
    service = look.service
    assert service.peers is not None
    try:
        await service.peers.request(peer, "GET", "/peer/voters", within_s=PEER_S)
    except RotaError as error:
        return finding(
            "ways",
            service.me.name,
            error.message,
            error.hint or f"is {peer.url} open in the firewall between the two?",
        )
    return None


async def _troubles(look: Look) -> AsyncIterator[Finding]:
    """Tell what the agent itself complains of."""
    for name, text in sorted(look.service.world.troubles.items()):
        if name not in ("engine", "certificate"):
            yield finding("troubles", look.service.me.name, text, "rota status, and its agent.log")


async def _store_key(look: Look) -> AsyncIterator[Finding]:
    """Look whether this agent can read the cluster's secrets."""
    service = look.service
    recipient = service.world.definitions.recipient
    if not recipient or service.secrets is None:
        return
    safe = getattr(service.secrets, "safe", None)
    if safe is not None and recipient not in safe.recipients():
        yield finding(
            "secrets",
            service.me.name,
            "this agent has not the key of the secrets: builds that need some fail here",
            "it asks the others for it; start an agent that has it, or: rota secret rotate",
        )


CHECKS = (
    Check(
        "disk",
        "room, how fast it goes, inodes, how long a write takes until it is on disk",
        _here("disk", _disk),
    ),
    Check(
        "limits",
        "files and processes: how many are there, may be, and what the slots need",
        _here("limits", lambda look: processes.limits(look.service.me.slots)),
    ),
    Check(
        "options",
        "whether the agent would start again with its agent.toml",
        _here("options", lambda look: machine.own_file(look.service.me.data)),
    ),
    Check("zones", "time zone data", _here("zones", lambda look: machine.zones())),
    Check(
        "permissions",
        "who can read keys, tokens and the engine's folder",
        _here("permissions", lambda look: machine.permissions(look.service.me.data)),
    ),
    Check(
        "certificate",
        "until when it and the authority hold, for which hosts, whether its key fits",
        _certificate,
    ),
    Check("git", "its version, whether the store is whole, how it is packed", _git),
    Check("engine", "the own server: its memory, readers that it gave up", _server),
    Check("snapshot", "how many events a start would have to fold", _snapshot),
    Check("ways", "whether each agent reaches each other one", _ways),
    Check("secrets", "whether the key of the secrets is there", _store_key),
    Check("troubles", "what the agent itself complains of", _troubles),
)
