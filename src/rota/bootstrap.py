"""The composition root: the only module that names adapters and puts them together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import getpass
import logging
import os
import platform
import re
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec
import uvloop
from aiohttp import web
from msgspec.structs import replace

import rota
from rota.adapters.clocks import SystemClock
from rota.adapters.git import GitService, GitStore
from rota.adapters.git.fetching import from_clone
from rota.adapters.inotify import InotifyWatcher
from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex, MemoryStore
from rota.adapters.nats import Bus, Engine
from rota.adapters.nats.blobs import NatsBlobs
from rota.adapters.nats.ensemble import NatsEnsemble
from rota.adapters.nats.journal import NatsJournal
from rota.adapters.nats.lease import NatsLease
from rota.adapters.nats.logs import NatsLogs
from rota.adapters.nats.presence import NatsPresence
from rota.adapters.peers import HttpsPeers, HttpsStranger, own_address, server_context
from rota.adapters.pki import TlsKeyring
from rota.adapters.process import ProcessExecutor
from rota.adapters.shown import MeasuredBlobs, ShownLogs
from rota.adapters.sqlite_index import SqliteIndex
from rota.adapters.tools import known_tools, watch_tools
from rota.agent.agent import Agent, Ports, background
from rota.agent.agent import run_agent as run_the_agent
from rota.agent.health import run_health
from rota.agent.joining import SNAPSHOT, fetch_snapshot, join, read_known, write_known
from rota.agent.solo import run_solo
from rota.agent.timeline import has_parted
from rota.core.address import Address
from rota.core.build import Build
from rota.core.events import kind_of
from rota.core.fold import decode_picture
from rota.core.header import decode_script
from rota.core.ids import parse_agent_name
from rota.core.labels import parse_agent_labels
from rota.core.settings import Settings
from rota.daemon.folder import DataFolder, digest
from rota.daemon.notify import notify, say_ready
from rota.daemon.sockets import (
    LOOPBACK,
    address,
    host_port,
    peer_socket,
    reachable_host,
    tcp_socket,
    unix_socket,
)
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    NotFoundError,
    PartedError,
    UnavailableError,
)
from rota.http.access import Access
from rota.http.app import make_app, make_runner
from rota.http.peer import add_peer_routes
from rota.ports.credentials import Credentials
from rota.ports.journal import Entry
from rota.ports.peers import Peer
from rota.ports.store import Source
from rota.service.admission import Gate
from rota.service.context import Myself
from rota.service.join_tokens import JoinTokens
from rota.service.members import Known, known, member_of, tokens
from rota.service.world import World

logger = logging.getLogger("rota")

MAX_SLOTS = 1000
#: What is known of the machine's tools, so that a start asks none of them.
TOOLS = "tools.json"
#: Where a bus keeps what its agents sign each other's certificates with.
AUTHORITY = "cluster/authority"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentOptions:
    """What `rota agent` was given. ``ready_fd`` gets the line `ready` once builds are taken."""

    data: Path
    name: str | None = None
    listen: str | None = None
    labels: str = ""
    slots: int | None = None
    join: str | None = None
    from_clone: Path | None = None
    bus: str | None = None
    ready_fd: int | None = None


def run_agent(options: AgentOptions) -> int:
    """Run an agent until it is told to stop; return the exit status."""
    if options.from_clone is not None and options.join is not None:
        raise InputError("--from-clone begins a cluster of its own, --join enters another's")
    logging.basicConfig(
        level=os.environ.get("ROTA_LOG", "INFO").upper(),
        format="%(asctime)s %(levelname)-7s %(message)s",
        stream=sys.stderr,
    )
    options.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close_on_exec(keep=2)
    folder = DataFolder(options.data)
    try:
        with folder.held(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(options, folder))
    except* PartedError as parted:
        logger.warning("begins anew: %s", parted.exceptions[0])
    # In a process without a past; builds and the engine's server are found again by it.
    return os.execv(sys.executable, again(sys.orig_argv))  # noqa: S606 - our own command, no shell


def again(command: Sequence[str]) -> list[str]:
    """Return the command that starts this agent again: what was for its first start is left away."""
    words, kept = iter(command), []
    for word in words:
        if word in ("--ready-fd", "--join", "--from-clone"):
            next(words, None)
        elif not word.startswith(("--ready-fd=", "--join=", "--from-clone=")):
            kept.append(word)
    return kept


def _close_on_exec(keep: int) -> None:
    """Let no script have what our own parent left open, such as make's job server."""
    for entry in Path("/proc/self/fd").iterdir():
        if int(entry.name) > keep:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(entry.name), False)


async def _serve(options: AgentOptions, folder: DataFolder) -> int:
    stopping, serving = asyncio.Event(), asyncio.current_task()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        # Before it is ready nobody waits for the event: what is being started is given up.
        stopping.set()
        if serving is not None and not ready.is_set():
            serving.cancel()

    ready = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        if options.from_clone is not None:
            await from_clone(options.from_clone, options.data / "store.git")
        member = await _member(options, folder)
        async with _engine(options, folder, member) as engine:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    await _bring_up(engine, member, options.data)
                    daemon = _Daemon(options, folder, member, engine, stack)
                    await daemon.run(stopping, ready)
            except asyncio.CancelledError:
                if not stopping.is_set():
                    raise
                logger.info("told to stop before it was ready")
            except (InputError, ConflictError):
                await engine.stop()  # started wrongly, it is not looked after by anybody
                raise
            # Only here: a daemon that crashed leaves its engine alive, to be taken over.
            await engine.stop()
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
        logger.info("told to stop before it was ready")
    logger.info("stopped")
    return 0


# -- who it is ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Member:
    """Who this agent is in its cluster, before anything of it runs.

    ``host`` is where others reach it; ``source`` has the store, for one that has just joined.
    """

    name: str
    host: str
    keyring: TlsKeyring
    credentials: Credentials
    known: Known | None
    source: Peer | None = None


async def _member(options: AgentOptions, folder: DataFolder) -> _Member:
    """Return who this agent is: a member for long, one that joins, or the first of a cluster."""
    name = _name(options, folder)
    keyring = TlsKeyring(options.data / "tls", SystemClock())
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
        )
        if joined.remark:
            logger.warning("%s", joined.remark)
        host, source = given or joined.address, joined.source
    if options.bus is not None and not keyring.fingerprint():
        await _share_authority(Bus(options.bus), keyring, name, host)
    credentials = await asyncio.to_thread(keyring.found, name, [host])
    await asyncio.to_thread(keyring.renew, name, [host])
    folder.write("name", name)
    folder.write("host", host)
    return _Member(
        name=name,
        host=host,
        keyring=keyring,
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
    former = folder.read("name")
    name = options.name or former or socket.gethostname().partition(".")[0] or "agent"
    if former and name != former:
        raise ConflictError(
            f"{options.data} is the folder of an agent named {former}, not {name}",
            hint="leave --name away, or give this one another folder: --data DIR",
        )
    return parse_agent_name(name)


# -- its engine ---------------------------------------------------------------------------------


def _engine(options: AgentOptions, folder: DataFolder, member: _Member) -> Engine | Bus:
    url = options.bus or folder.read("bus") or (member.known.bus if member.known else "")
    if not url:
        return Engine(options.data / "engine", member.credentials)
    bus = Bus(url)
    folder.write("bus", url)
    return bus


async def _bring_up(engine: Engine | Bus, member: _Member, data: Path) -> None:
    """Start this agent's own server if it has one, or is the first; else know where others are."""
    if isinstance(engine, Bus):
        await engine.check()
        return
    known = member.known
    if known is not None and known.voters and not engine.voters:
        pins = {name: one.pin for name, one in known.members.items()}
        await engine.know(tuple(known.voters.values()), pins)
    if engine.server is not None and await _was_dismissed(engine.server.name, member):
        logger.warning("its server was dismissed while it was away: %s", engine.server.name)
        await engine.retire()
    is_first = known is None or not known.voters
    if engine.server is not None or is_first:
        await engine.found(member.host)


async def _was_dismissed(server: str, member: _Member) -> bool:
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


# -- the daemon ---------------------------------------------------------------------------------


class _Daemon:
    """One agent, its ports and its sockets, for as long as it runs."""

    def __init__(
        self,
        options: AgentOptions,
        folder: DataFolder,
        member: _Member,
        engine: Engine | Bus,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self._options, self._folder, self._member = options, folder, member
        self._engine, self._stack = engine, stack
        self._is_host_given = bool(reachable_host(options.listen))
        self._peer: socket.socket | None = None
        self._tls: ssl.SSLContext | None = None
        self._opening = asyncio.Lock()
        self._tools: dict[str, str] = {}
        self._agent: Agent
        self._runner: web.AppRunner

    async def run(self, stopping: asyncio.Event, ready: asyncio.Event) -> None:
        """Run until ``stopping`` is set; set ``ready`` once builds are taken."""
        options, folder, stack, data = self._options, self._folder, self._stack, self._options.data
        store = await stack.enter_async_context(GitStore(data / "store.git"))
        if self._member.source is not None and not (data / "index.db").exists():
            await store.fetch(self._source(self._member.source), force=True)
        ports = await self._ports(store)
        await self._refresh(ports, store)
        tcp = stack.enter_context(tcp_socket(options.listen, folder))
        if self._is_open():
            self._peer = stack.enter_context(peer_socket(self._member.host, folder))
        self._tools = await asyncio.to_thread(known_tools, Settings().path, data / TOOLS)
        me = self._myself(f"http://{address(tcp)}")
        path = data / "rota.sock"
        agent = self._agent = await stack.enter_async_context(
            run_the_agent(me, ports, stop=stopping.set, socket=str(path))
        )
        await self._open_doors(store, tcp, path)
        agent.loop.on_entry.append(self._remember)
        await stack.enter_async_context(
            background(
                run_health(
                    agent.service.world,
                    data,
                    lambda: self._engine.trouble,
                    agent.loop.decide_soon,
                )
            )
        )
        await self._look_for_tools()
        logger.info("%s is ready: %s, data in %s", me.name, me.url, data)
        ready.set()
        say_ready(options.ready_fd)
        await stopping.wait()
        logger.info("stopping; builds that run go on: %d", len(agent.runner.active))
        notify("STOPPING=1")

    async def _refresh(self, ports: Ports, store: GitStore) -> None:
        """Take the state from another agent where this one's own is lost, or cannot be gone on with.

        Nobody answers: then it is made from the history, as far as that goes.
        """
        known, path = self._member.known, self._options.data / SNAPSHOT
        if known is None or self._member.source is not None:
            return
        saved = ports.index.snapshot()
        cluster = decode_picture(saved[1]) if saved is not None else None
        with contextlib.suppress(UnavailableError):
            if cluster is not None and not await has_parted(ports.journal, cluster.picture):
                return
            peers = known.peers(besides=self._member.name)
            async with HttpsPeers(self._member.credentials) as connected:
                path.unlink(missing_ok=True)
                source = await fetch_snapshot(self._options.data, peers, connected)
            await store.fetch(self._source(source), force=True)

    async def _look_for_tools(self) -> None:
        """Say which tools this machine has, now and whenever that changes."""
        agent, cache, again = self._agent, self._options.data / TOOLS, asyncio.Event()

        async def changed(found: dict[str, str]) -> None:
            await agent.members.found(_labels(self._member.name, self._options.labels, found))

        def path() -> Sequence[str]:
            return agent.service.world.definitions.settings.path

        agent.follower.told.append(again.set)
        watching = watch_tools(path, cache, changed, known=self._tools, again=again)
        await self._stack.enter_async_context(background(watching))

    def _is_open(self) -> bool:
        """Whether other agents reach this one: it joined, has made a token, or uses a bus."""
        is_known = self._member.known is not None or bool(self._folder.read("peer"))
        return is_known or isinstance(self._engine, Bus)

    def _myself(self, url: str) -> Myself:
        options = self._options
        slots = options.slots if options.slots is not None else os.cpu_count() or 1
        if not 0 <= slots <= MAX_SLOTS:
            raise InputError(f"--slots is {slots}, it can be 0 to {MAX_SLOTS}")
        return Myself(
            name=self._member.name,
            version=rota.__version__,
            pid=os.getpid(),
            data=options.data,
            labels=_labels(self._member.name, options.labels, self._tools),
            slots=slots,
            url=url,
            peer=f"https://{address(self._peer)}" if self._peer is not None else "",
            token=digest(self._folder.token()),
            pin=self._member.credentials.pin,
            host=self._member.host,
        )

    async def _ports(self, store: GitStore) -> Ports:
        stack, engine, data = self._stack, self._engine, self._options.data
        client = await stack.enter_async_context(engine.connect("rota"))
        journal, lease = NatsJournal(client), NatsLease(client)
        logs = NatsLogs(client, max_bytes=_log_bytes(Settings(), data))
        blobs = NatsBlobs(client)
        # A journal that is made now begins where the history ends: ADR 20.
        begin = functools.partial(journal.open, first=await store.covered() + 1)
        for make in (begin, lease.open, logs.open, blobs.open):
            try:
                await make()
            except UnavailableError as error:
                if not (data / "index.db").exists():
                    raise
                logger.warning("%s", error.message)  # no quorum: what is known is served
                break
        ensemble = None
        if isinstance(engine, Engine):
            system = await stack.enter_async_context(engine.connect("rota", system=True))
            ensemble = NatsEnsemble(client, system, lambda: engine.voters)
        index = SqliteIndex(data / "index.db")
        stack.callback(index.close)
        watcher = InotifyWatcher()
        stack.callback(watcher.close)

        async def keep_logs(settings: Settings) -> None:
            limit = _log_bytes(settings, data)
            await logs.limit(max_bytes=limit, max_age_s=settings.logs.max_age_s)

        async def fetch(world: World, *, force: bool) -> None:
            await self._fetch(world, store, force=force)

        return Ports(
            journal=journal,
            logs=logs,
            configure=keep_logs,
            fetch=fetch,
            blobs=blobs,
            store=store,
            index=index,
            executor=ProcessExecutor(),
            watcher=watcher,
            clock=SystemClock(),
            lease=lease,
            presence=NatsPresence(client),
            voting=engine if isinstance(engine, Engine) else None,
            ensemble=ensemble,
        )

    def _source(self, peer: Peer) -> Source:
        mine = self._member.credentials
        return Source(
            url=f"{peer.url}/store.git", cert=str(mine.cert), key=str(mine.key), pin=peer.pin
        )

    async def _fetch(self, world: World, store: GitStore, *, force: bool) -> None:
        """Bring both branches from the first other member that answers."""
        found = known(world).peers(besides=self._member.name)
        fault = UnavailableError("no other agent is known whose store could be asked")
        for peer in found:
            try:
                await store.fetch(self._source(peer), force=force)
            except UnavailableError as error:
                fault = error
            else:
                return
        raise fault

    # -- who may come in ------------------------------------------------------------------------

    async def _open_doors(self, store: GitStore, tcp: socket.socket, path: Path) -> None:
        service, data, stack = self._agent.service, self._options.data, self._stack
        git = await stack.enter_async_context(GitService(store, self._agent.mover.pushed))
        keyring = self._member.keyring
        gate = Gate(
            service,
            keyring,
            JoinTokens(data / "join-tokens.json", service.clock),
            self._reachable,
            bus=self._folder.read("bus"),
        )
        service.door, service.ca = gate, keyring.ca().decode()
        service.peers = await stack.enter_async_context(HttpsPeers(self._member.credentials))
        world = service.world
        access = Access(
            self._folder.token(),
            tokens=lambda: tokens(world),
            member_of=lambda pin: member_of(world, pin),
        )
        app = make_app(service, access.principal, git)
        add_peer_routes(app, gate, self._agent.historian.state)
        runner = self._runner = make_runner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        unix = stack.enter_context(unix_socket(path))
        for opened in (unix, tcp):
            await web.SockSite(runner, opened, backlog=512).start()
        if self._peer is not None:
            await self._listen_to_peers(self._peer)

    async def _listen_to_peers(self, opened: socket.socket) -> None:
        self._tls = server_context(self._member.credentials)
        await web.SockSite(self._runner, opened, ssl_context=self._tls, backlog=512).start()

    async def _reachable(self) -> Sequence[Address]:
        """Let other machines reach this agent, from its first join token on."""
        async with self._opening:
            if self._peer is None:
                await self._open_up()
            assert self._peer is not None
            return (Address(*host_port(address(self._peer))),)

    async def _open_up(self) -> None:
        host = self._member.host
        if not self._is_host_given and host == LOOPBACK:
            host = own_address()
        if host != self._member.host:
            await asyncio.to_thread(self._member.keyring.renew, self._member.name, [host])
            self._member = dataclasses.replace(self._member, host=host)
            self._folder.write("host", host)
        if isinstance(self._engine, Engine) and self._engine.server is not None:
            await self._engine.move(host)
        self._peer = self._stack.enter_context(peer_socket(host, self._folder))
        await self._listen_to_peers(self._peer)
        me = replace(self._agent.service.me, host=host, peer=f"https://{address(self._peer)}")
        await self._agent.members.appear(me)

    def _remember(self, entry: Entry) -> None:
        """Write down what the next start must know of the others, when that changes."""
        if kind_of(entry.event).partition(".")[0] in ("agent", "voter") and self._is_among_others():
            found = known(self._agent.service.world, self._folder.read("bus"))
            try:
                write_known(self._options.data, found)
            except UnavailableError as error:
                logger.warning("%s", error.message)

    def _is_among_others(self) -> bool:
        return len(self._agent.service.world.cluster.picture.agents) > 1


def _log_bytes(settings: Settings, data: Path) -> int:
    """Return how much logs may take: as the settings say, but no more than half of the disk."""
    disk = os.statvfs(data)
    return min(settings.logs.max_bytes, disk.f_blocks * disk.f_frsize // 2)


def _labels(name: str, given: str, tools: Mapping[str, str]) -> dict[str, str]:
    """Return what the agent carries at its start: what it was given goes above what is found."""
    items = (item for item in given.split(",") if item.strip())
    return {**_found_labels(name), **tools, **parse_agent_labels(items)}


def _found_labels(name: str) -> dict[str, str]:
    """Return what every machine says of itself."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system = platform.system().lower()
    return {
        "agent": name,
        system: "",
        "os": system,
        "arch": platform.machine(),
        "cores": str(os.cpu_count() or 1),
        "memory": f"{memory >> 30}G",
    }


# -- rota exec ----------------------------------------------------------------------------------


def exec_script(path: Path, params: Mapping[str, str]) -> Build:
    """Run a job's script here and now, its log to standard output; return how it went.

    Raises:
        InputError: the file, its header or the parameters are wrong; nothing was run.
    """
    try:
        text = decode_script(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    name = re.sub(r"[^A-Za-z0-9_.+-]", "-", path.name).lstrip(".-+") or "script"
    with (
        tempfile.TemporaryDirectory(prefix="rota-exec-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_exec(Path(folder), name, text, params))


async def _exec(data: Path, name: str, text: str, params: Mapping[str, str]) -> Build:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, interrupted.set)
    watcher = InotifyWatcher()
    ports = Ports(
        journal=MemoryJournal(),
        logs=ShownLogs(_write_out),
        blobs=MeasuredBlobs(),
        store=MemoryStore(),
        index=MemoryIndex(),
        executor=ProcessExecutor(),
        watcher=watcher,
        clock=SystemClock(),
    )
    host = parse_agent_name(socket.gethostname().partition(".")[0] or "agent")
    me = Myself(
        name=host,
        version=rota.__version__,
        pid=os.getpid(),
        data=data,
        labels=_labels(host, "", {}),
        slots=1,
    )
    try:
        async with run_the_agent(me, ports, stop=interrupted.set) as agent:
            return await run_solo(
                agent,
                name,
                text,
                params,
                who=getpass.getuser(),
                interrupted=interrupted,
            )
    finally:
        watcher.close()


def _write_out(data: bytes) -> None:
    """Write to standard output, all of it, past Python's buffers; a reader that left ends it."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
