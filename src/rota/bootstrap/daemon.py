"""One agent as a daemon: its ports, its sockets, its door."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec
from aiohttp import web
from msgspec.structs import replace

import rota
from rota.adapters.age import seal
from rota.adapters.blob_files import FileBlobs
from rota.adapters.cache_files import CacheFiles
from rota.adapters.clocks import SystemClock
from rota.adapters.clouds import LibcloudProviders
from rota.adapters.disk import SystemDisk
from rota.adapters.docker.containers import EngineContainers
from rota.adapters.docker.engine import Engine as ContainerEngine
from rota.adapters.docker.executor import ContainerExecutor
from rota.adapters.docker.found import found_engine, watch_engine
from rota.adapters.forges import HttpForges
from rota.adapters.git import GitCheckout, GitService, GitStore
from rota.adapters.inotify import InotifyWatcher
from rota.adapters.inspector import ProgramInspector
from rota.adapters.nats import Bus, Engine
from rota.adapters.nats.blobs import NatsBlobs
from rota.adapters.nats.engine import NO_QUORUM
from rota.adapters.nats.ensemble import NatsEnsemble
from rota.adapters.nats.journal import NatsJournal
from rota.adapters.nats.lease import NatsLease
from rota.adapters.nats.logs import NatsLogs
from rota.adapters.nats.presence import NatsPresence
from rota.adapters.nats.sizes import stream_sizes
from rota.adapters.oidc import OidcIdentity
from rota.adapters.otlp import HttpCollector
from rota.adapters.peers import HttpsPeers, own_address, server_context
from rota.adapters.process import ProcessExecutor
from rota.adapters.process.confiner import Confiner, confiner_of
from rota.adapters.process.forks import Forks
from rota.adapters.programs import SystemPrograms
from rota.adapters.reports.reader import ReportReader
from rota.adapters.restored_logs import FOLDER as RESTORED
from rota.adapters.restored_logs import bring_back
from rota.adapters.sqlite.cases import SqliteCases
from rota.adapters.sqlite.index import SqliteIndex
from rota.adapters.tmpfs import TmpfsFiles
from rota.adapters.tools import known_tools, watch_tools
from rota.agent.agent import Agent
from rota.agent.agent import run_agent as run_the_agent
from rota.agent.certificates import Certificates
from rota.agent.confining import uids
from rota.agent.group import background
from rota.agent.health import run_health
from rota.agent.joining import SNAPSHOT, fetch_snapshot, read_known, write_known
from rota.agent.keys import KeyChange
from rota.agent.ports import Ports
from rota.agent.timeline import SURE_S, has_parted
from rota.bootstrap.blobs import BLOB_STORES
from rota.bootstrap.chat import make_chat
from rota.bootstrap.executors import Executors
from rota.bootstrap.machine import Machine, labels_of, log_bytes
from rota.bootstrap.member import Member
from rota.bootstrap.options import AgentOptions
from rota.bootstrap.probes import DaemonProbes
from rota.bootstrap.reloading import Reloading
from rota.core.address import Address
from rota.core.agent_file import MAX_SLOTS, limited
from rota.core.cluster import Picture, decode_picture
from rota.core.confinement import BUILDS_DOOR
from rota.core.events import ClusterRaised, kind_of
from rota.core.levels import parse_level
from rota.core.settings import Settings
from rota.daemon.folder import DataFolder, digest
from rota.daemon.growth import DiskGrowth
from rota.daemon.nameplate import FILE, Nameplate
from rota.daemon.notify import Starting, notify, say_ready
from rota.daemon.own_log import keep_bounded
from rota.daemon.sockets import (
    LOOPBACK,
    address,
    host_port,
    peer_socket,
    reachable_host,
    tcp_socket,
    unix_socket,
)
from rota.daemon.watchdog import watch
from rota.errors import (
    InputError,
    UnavailableError,
)
from rota.http.access import Access
from rota.http.app import CALLERS, make_app, make_runner
from rota.http.connections import Connections
from rota.http.peer import add_peer_routes
from rota.ports.credentials import Credentials as KeyFiles
from rota.ports.journal import Entry, Journal
from rota.ports.peers import Peer
from rota.ports.store import Source
from rota.service.admission import Gate, Renewal
from rota.service.context import Myself
from rota.service.credentials import Credentials
from rota.service.join_tokens import JoinTokens
from rota.service.members import known, member_of, tokens
from rota.service.world import World

logger = logging.getLogger("rota")

#: What is known of the machine's tools, so that a start asks none of them.
TOOLS = "tools.json"
#: Holds the level that an agent announces, and so the cluster's: the way back stays open.
HOLD = "ROTA_LEVEL"
#: What has to wait for a quorum is tried again so often.
RETRY_S = 1.0
#: How long a member may take to say which keys it knows.
KEPT_S = 5.0
#: What events begin with after which there may be other members than before.
MEMBERSHIP = ("agent", "voter", "cloud")

Open = Callable[[], Awaitable[None]]


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
        self._is_host_given = bool(reachable_host(machine.listen))
        self._peer: socket.socket | None = None
        self._tls: ssl.SSLContext | None = None
        self._opening = asyncio.Lock()
        self._tools: dict[str, str] = {}
        self._abilities: dict[str, str] = {}
        self._confiner: Confiner
        self._agent: Agent
        self._containers: EngineContainers
        self._runner: web.AppRunner
        self._sizes: Callable[[], Awaitable[Mapping[str, int]]]
        self._site: web.BaseSite

    async def run(self, stopping: asyncio.Event, ready: asyncio.Event) -> None:
        """Run until ``stopping`` is set; set ``ready`` once builds are taken."""
        options, folder, stack, data = self._options, self._folder, self._stack, self._options.data
        store = await stack.enter_async_context(GitStore(data / "store.git"))
        if self._member.source is not None and not (data / "index.db").exists():
            await self._bring_store(store, self._member.source)
        ports = await self._ports(store)
        await self._refresh(ports, store)
        tcp = stack.enter_context(tcp_socket(self._machine.listen, folder))
        if self._is_open():
            self._peer = stack.enter_context(peer_socket(self._member.host, folder))
        self._abilities = await asyncio.to_thread(self._confiner.labels)
        self._tools = await asyncio.to_thread(_tools, data)
        me = self._myself(f"http://{address(tcp)}")
        path = data / "rota.sock"
        agent = self._agent = await stack.enter_async_context(
            run_the_agent(
                me,
                ports,
                stop=stopping.set,
                socket=str(path),
                limited=lambda settings: limited(settings, self._machine.file.limits),
                still=Starting(options.ready_fd).still,
            )
        )
        await self._open_doors(store, tcp, path)
        agent.loop.on_entry.append(self._remember)
        self._remember_level()
        agent.service.counts.engine_restarts = self._restarts
        growth = DiskGrowth(data)
        await stack.enter_async_context(
            background(
                run_health(
                    agent.service.world,
                    data,
                    lambda: self._engine.trouble,
                    agent.loop.decide_soon,
                    lambda: self._machine.file.limits.min_free or 0,
                    lambda: growth.note(agent.service.clock.now().timestamp()),
                )
            )
        )
        await self._listen_for_reloads()
        await self._keep_certificate()
        agent.service.probes = DaemonProbes(
            data,
            self._member.keyring,
            self._engine,
            lambda: agent.historian.snapshot_seq,
            lambda: growth.found,
        )
        await self._look_for_tools()
        await stack.enter_async_context(background(keep_bounded(data)))
        logger.info("%s is ready: %s, data in %s", me.name, me.url, data)
        ready.set()
        say_ready(options.ready_fd)
        await stack.enter_async_context(background(watch()))
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
            if cluster is not None and not await _is_parted(ports.journal, cluster.picture):
                return
            peers = known.peers(besides=self._member.name)
            async with HttpsPeers(self._member.credentials) as connected:
                path.unlink(missing_ok=True)
                source = await fetch_snapshot(self._options.data, peers, connected)
            await store.fetch(self._source(source), exact=True)

    async def _keep_certificate(self) -> None:
        service = self._agent.service
        certificates = Certificates(
            name=self._member.name,
            hosts=lambda: [self._member.host],
            world=service.world,
            keyring=self._member.keyring,
            clock=service.clock,
            ask=self._certified,
            renewed=self._renewed,
        )
        certificates.keys = service.keys = KeyChange(
            name=self._member.name,
            world=service.world,
            journal=service.journal,
            keyring=self._member.keyring,
            clock=service.clock,
            certify=certificates.certify,
            kept_by=self._kept_by,
            switched=self._switched,
        )
        await self._stack.enter_async_context(background(certificates.run()))

    async def _kept_by(self, peer: Peer) -> Collection[str]:
        """Return the pins that another member would know again, and lets in."""
        peers = self._agent.service.peers
        assert peers is not None
        raw = await peers.request(peer, "GET", "/peer/pins", within_s=KEPT_S)
        return msgspec.json.decode(raw, type=list[str])

    def _kept_pins(self) -> Collection[str]:
        written = read_known(self._options.data)
        if written is None:
            return ()
        pins = {pin for peer in written.members.values() for pin in (peer.pin, peer.coming) if pin}
        return pins & self._engine.pins if isinstance(self._engine, Engine) else pins

    def _switched(self, credentials: KeyFiles) -> None:
        """Let all that has loaded the former key load the present one, and show it from now on."""
        self._member = dataclasses.replace(self._member, credentials=credentials)
        if self._tls is not None:
            self._tls.load_cert_chain(credentials.cert, credentials.key)
        if isinstance(self._engine, Engine):
            self._engine.renew(credentials)
        service = self._agent.service
        self._agent.members.keep(replace(service.me, pin=credentials.pin))

    async def _certified(self, request: bytes) -> bytes:
        """Have another member sign a certificate: this one has not the authority's key."""
        service = self._agent.service
        renewal = Renewal(request=request.decode(), hosts=[self._member.host])
        fault = UnavailableError("no other agent is known that could sign a certificate")
        for peer in known(service.world).peers(besides=self._member.name):
            try:
                assert service.peers is not None
                return await service.peers.request(
                    peer, "POST", "/peer/renew", body=msgspec.json.encode(renewal)
                )
            except UnavailableError as error:
                fault = error
        raise fault

    def _renewed(self) -> None:
        """Let all that has loaded the former certificate load the present one."""
        credentials = self._member.credentials
        if self._tls is not None:
            self._tls.load_cert_chain(credentials.cert, credentials.key)
        if isinstance(self._engine, Engine):
            self._engine.reload()

    async def _look_for_tools(self) -> None:
        """Say which tools this machine has, now and whenever that changes."""
        agent, cache, again = self._agent, self._options.data / TOOLS, asyncio.Event()

        async def changed(found: dict[str, str]) -> None:
            self._tools = found
            await agent.members.found(self._labels(found))

        def path() -> Sequence[str]:
            return agent.service.world.definitions.settings.path

        agent.follower.told.append(again.set)
        watching = watch_tools(
            path, cache, changed, known=self._tools, again=again, besides=found_engine
        )
        await self._stack.enter_async_context(background(watching))
        failed = asyncio.Event()
        self._containers.failed = failed.set
        await self._stack.enter_async_context(background(watch_engine(failed, again.set)))

    def _labels(self, tools: Mapping[str, str]) -> dict[str, str]:
        found = {**self._abilities, **tools}
        return labels_of(self._member.name, self._machine.labels, found)

    def _is_open(self) -> bool:
        """Whether other agents reach this one: it joined, has made a token, or uses a bus."""
        is_known = self._member.known is not None or bool(self._folder.read("peer"))
        return is_known or isinstance(self._engine, Bus)

    def _myself(self, url: str) -> Myself:
        options, slots = self._options, self._machine.slots
        if not 0 <= slots <= MAX_SLOTS:
            raise InputError(f"--slots is {slots}, it can be 0 to {MAX_SLOTS}")
        return Myself(
            name=self._member.name,
            version=rota.__version__,
            pid=os.getpid(),
            data=options.data,
            labels=self._labels(self._tools),
            slots=slots,
            url=url,
            peer=f"https://{address(self._peer)}" if self._peer is not None else "",
            token=digest(self._folder.token()),
            pin=self._member.credentials.pin,
            host=self._member.host,
            level=parse_level(os.environ.get(HOLD, "")),
        )

    async def _ports(self, store: GitStore) -> Ports:
        stack, engine, data = self._stack, self._engine, self._options.data
        self._confiner = await asyncio.to_thread(confiner_of, data)
        await asyncio.to_thread(self._confiner.sweep)
        stack.callback(self._confiner.close)
        client = await stack.enter_async_context(engine.connect("rota"))
        self._sizes = functools.partial(stream_sizes, client)
        journal, lease = NatsJournal(client), NatsLease(client)
        logs = NatsLogs(client, max_bytes=log_bytes(Settings(), data))
        blobs = NatsBlobs(client)
        # A journal that is made now begins where the history ends: ADR 20.
        # So does one of a cluster that is restored where its state is: ADR 52.
        ends = max(await store.covered(), await asyncio.to_thread(_given_seq, data))
        begin = functools.partial(journal.open, first=ends + 1)
        # The lease last: in memory, after all servers were down, it waits until all are back.
        streams = (begin, logs.open, blobs.open, lease.open)
        try:
            await self._open(streams)
        except UnavailableError as error:
            if not (data / "index.db").exists():
                raise
            logger.warning("%s", error.message)  # no quorum: what is known is served
            await stack.enter_async_context(background(_open_late(streams)))
        ensemble = None
        if isinstance(engine, Engine):
            system = await stack.enter_async_context(engine.connect("rota", system=True))
            ensemble = NatsEnsemble(client, system, lambda: engine.voters)
            lease.has_quorum = ensemble.has_quorum
        await stack.enter_async_context(background(bring_back(data / RESTORED, logs)))
        index = SqliteIndex(data / "index.db")
        stack.callback(index.close)
        case_index = SqliteCases(data / "tests.db")
        stack.callback(case_index.close)
        checkout = GitCheckout(data / "mirrors")
        stack.callback(checkout.close)
        await stack.enter_async_context(background(checkout.run_housekeeping()))
        watcher = InotifyWatcher()
        stack.callback(watcher.close)

        containers = ContainerEngine()
        stack.push_async_callback(containers.close)
        contained = ContainerExecutor(containers, data / "containers")
        self._containers = EngineContainers(containers, data / "containers", data)
        stack.push_async_callback(contained.close)

        async def keep_logs(settings: Settings) -> None:
            limit = log_bytes(settings, data)
            await logs.limit(max_bytes=limit, max_age_s=settings.logs.max_age_s)

        async def fetch(world: World, *, force: bool) -> None:
            await self._fetch(world, store, force=force)

        return Ports(
            journal=journal,
            logs=logs,
            configure=keep_logs,
            fetch=fetch,
            blobs=blobs,
            # On a bus the engine's disks are other machines'.
            own_blobs=FileBlobs(data / "artifacts") if isinstance(engine, Engine) else None,
            blob_stores=BLOB_STORES,
            store=store,
            index=index,
            executor=Executors(ProcessExecutor(confiner=self._confiner, forks=Forks()), contained),
            containers=self._containers,
            checkout=checkout,
            reports=ReportReader(),
            case_index=case_index,
            watcher=watcher,
            clock=SystemClock(),
            caches=CacheFiles(data / "caches", SystemClock()),
            disk=SystemDisk(),
            safe=self._member.safe,
            programs=SystemPrograms(),
            private_files=TmpfsFiles(data),
            lease=lease,
            presence=NatsPresence(client),
            voting=engine if isinstance(engine, Engine) else None,
            ensemble=ensemble,
            clouds=LibcloudProviders(),
            chat=make_chat,
            collector=await stack.enter_async_context(HttpCollector()),
            forges=await stack.enter_async_context(HttpForges()),
        )

    async def _open(self, streams: Sequence[Open]) -> None:
        """Make the engine's streams where they are not there.

        Raises:
            UnavailableError: there is no quorum. Where the engine knows that, nothing is waited for.
        """
        trouble = self._engine.trouble
        is_known = (self._options.data / "index.db").exists()
        if trouble is not None and trouble.startswith(NO_QUORUM) and is_known:
            raise UnavailableError(trouble)
        for make in streams:
            await make()

    def _source(self, peer: Peer) -> Source:
        mine = self._member.credentials
        return Source(
            url=f"{peer.url}/store.git", cert=str(mine.cert), key=str(mine.key), pins=peer.pins
        )

    async def _bring_store(self, store: GitStore, first: Peer) -> None:
        """Fetch the store from who gave the state; or from another one, if that is gone by now."""
        known = self._member.known
        others = known.peers(besides=self._member.name) if known is not None else []
        fault: UnavailableError | None = None
        for peer in (first, *(it for it in others if it.name != first.name)):
            try:
                return await store.fetch(self._source(peer), force=True)
            except UnavailableError as error:
                fault = fault or error
        assert fault is not None
        raise fault

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
            safe=self._member.safe,
            kept=self._kept_pins,
        )
        service.door, service.ca = gate, keyring.ca().decode()
        service.ca_key = keyring.ca_key
        service.inspector = ProgramInspector(
            self._options.data / "store.git", self._options.data / "index.db"
        )
        service.engine_sizes = self._sizes
        if service.copies is not None:
            service.copies.identities, service.copies.seal = gate.identities, seal
        service.peers = await stack.enter_async_context(HttpsPeers(self._member.credentials))
        world = service.world
        service.identity = OidcIdentity()
        credentials = Credentials(service)
        self._agent.follower.told.append(credentials.followed)
        await stack.enter_async_context(background(credentials.run()))
        access = Access(
            self._folder.token(),
            tokens=lambda: tokens(world),
            member_of=lambda pin: member_of(world, pin),
            uids=lambda: uids(self._agent.runner.builds(), world.definitions.settings.isolation),
            users=credentials,
            speaks=service.speakers.knows,
            is_behind=lambda: not self._agent.loop.is_live or world.stale_since is not None,
        )
        app = make_app(service, access.principal, git)
        self._agent.loop.on_entry.append(app[CALLERS].noted)
        self._agent.follower.told.append(app[CALLERS].recheck)
        add_peer_routes(app, gate, self._agent.historian.state)
        runner = self._runner = make_runner(app, Connections(service.counts.refused))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        door = data / BUILDS_DOOR
        door.mkdir(mode=0o711, exist_ok=True)
        unix = stack.enter_context(unix_socket(path))
        # Nobody else can come as far as this folder, but a build that is shown it.
        builds = stack.enter_context(unix_socket(door / path.name, mode=0o666))
        for opened in (unix, builds):
            await self._serve(opened)
        self._site = await self._serve(tcp)
        if self._peer is not None:
            await self._listen_to_peers(self._peer)

    async def _serve(self, opened: socket.socket) -> web.BaseSite:
        site = web.SockSite(self._runner, opened, backlog=512)
        await site.start()
        return site

    async def _listen_for_reloads(self) -> None:
        async def labels() -> None:
            await self._agent.members.found(self._labels(self._tools))

        reloading = Reloading(self._machine, self._agent, self._folder, self._serve, labels)
        reloading.site = self._site
        self._agent.service.reload = reloading.reload
        await self._stack.enter_async_context(background(reloading.run()))

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

    def _restarts(self) -> int:
        return self._engine.restarts if isinstance(self._engine, Engine) else 0

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
        if kind_of(entry.event).partition(".")[0] in MEMBERSHIP and self._is_among_others():
            found = known(self._agent.service.world, self._folder.read("bus"))
            try:
                write_known(self._options.data, found)
            except UnavailableError as error:
                logger.warning("%s", error.message)
        if isinstance(entry.event, ClusterRaised):
            self._remember_level()

    def _remember_level(self) -> None:
        """Let no rota run in this folder that knows less than the cluster does."""
        plate = Nameplate(self._member.name, self._agent.service.world.cluster.picture.level)
        text = plate.text(rota.__version__)
        if text != self._folder.read(FILE):
            try:
                self._folder.write(FILE, text)
            except OSError as error:
                logger.warning("cannot write down the cluster's level: %s", error.strerror)

    def _is_among_others(self) -> bool:
        return len(self._agent.service.world.cluster.picture.agents) > 1


async def _open_late(streams: Sequence[Open]) -> None:
    """Make the streams as soon as there is a quorum."""
    for make in streams:
        while True:
            try:
                await make()
            except UnavailableError:
                await asyncio.sleep(RETRY_S)
            else:
                break


async def _is_parted(journal: Journal, picture: Picture) -> bool:
    """Whether another agent's state is needed; the journal is asked again before that is believed."""
    if not await has_parted(journal, picture):
        return False
    await asyncio.sleep(SURE_S)
    return bool(await has_parted(journal, picture))


def _given_seq(data: Path) -> int:
    """Return the event that the state is of with which this agent began; 0 without one."""
    try:
        cluster = decode_picture((data / SNAPSHOT).read_bytes())
    except FileNotFoundError:
        return 0
    return cluster.picture.seq if cluster is not None else 0


def _tools(data: Path) -> dict[str, str]:
    """Return what is known of this machine's tools without starting any."""
    return {**known_tools(Settings().path, data / TOOLS), **found_engine()}
