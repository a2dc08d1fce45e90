"""The sockets of an agent, and who comes in by them: people, programs, builds, other agents."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path

from aiohttp import web
from msgspec.structs import replace

from rota.adapters.age import seal
from rota.adapters.git import GitService, GitStore
from rota.adapters.inspector import ProgramInspector
from rota.adapters.nats import Bus, Engine
from rota.adapters.oidc import OidcIdentity
from rota.adapters.peers import HttpsPeers, own_address, server_context
from rota.agent.agent import Agent
from rota.agent.confining import uids
from rota.agent.group import background
from rota.agent.joining import read_known
from rota.bootstrap.member import Member
from rota.core.address import Address
from rota.core.confinement import BUILDS_DOOR
from rota.daemon.folder import DataFolder
from rota.daemon.sockets import (
    LOOPBACK,
    address,
    host_port,
    peer_socket,
    reachable_host,
    tcp_socket,
    unix_socket,
)
from rota.http.access import Access
from rota.http.app import CALLERS, make_app, make_runner
from rota.http.connections import Connections
from rota.http.peer import add_peer_routes
from rota.ports.credentials import Credentials as KeyFiles
from rota.service.admission import Gate
from rota.service.credentials import Credentials
from rota.service.join_tokens import JoinTokens
from rota.service.members import member_of, tokens


class Doors:
    """Opens an agent's sockets: for callers at once, for other agents when it may have some.

    Args:
        member: Who this agent is; where others reach it is changed when it opens up.
        folder: Keeps the addresses from start to start.
        data: The agent's folder.
        engine: Moves to where others reach it.
        stack: Closes all of it.
        listen: Where people and programs come in, as the operator says.
    """

    def __init__(
        self,
        member: Member,
        folder: DataFolder,
        data: Path,
        engine: Engine | Bus,
        stack: contextlib.AsyncExitStack,
        listen: str | None,
    ) -> None:
        self._member, self._folder, self._data = member, folder, data
        self._engine, self._stack = engine, stack
        self._is_host_given = bool(reachable_host(listen))
        self._tcp = stack.enter_context(tcp_socket(listen, folder))
        is_known = member.known is not None or bool(folder.read("peer"))
        # Other agents reach this one: it joined, has made a token, or uses a bus.
        is_open = is_known or isinstance(engine, Bus)
        self._peer: socket.socket | None = (
            stack.enter_context(peer_socket(member.host, folder)) if is_open else None
        )
        self._tls: ssl.SSLContext | None = None
        self._opening = asyncio.Lock()
        self._agent: Agent
        self._runner: web.AppRunner
        #: Who serves people and programs over TCP; nobody for a moment, while the address changes.
        self.site: web.BaseSite | None = None

    @property
    def url(self) -> str:
        """Where people and programs come in."""
        return f"http://{address(self._tcp)}"

    @property
    def peer_url(self) -> str:
        """Where other agents come in; empty if none does."""
        return f"https://{address(self._peer)}" if self._peer is not None else ""

    @property
    def path(self) -> Path:
        """The socket for callers on this machine."""
        return self._data / "rota.sock"

    def show(self, credentials: KeyFiles) -> None:
        """Let other agents be shown this certificate from now on."""
        if self._tls is not None:
            self._tls.load_cert_chain(credentials.cert, credentials.key)

    async def open(
        self, agent: Agent, store: GitStore, sizes: Callable[[], Awaitable[Mapping[str, int]]]
    ) -> None:
        """Let callers in.

        Args:
            agent: Who answers them.
            store: What git clones and pushes.
            sizes: What the engine's streams take on its disk, in bytes.
        """
        self._agent = agent
        service, data, stack = agent.service, self._data, self._stack
        git = await stack.enter_async_context(GitService(store, agent.mover.pushed))
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
        service.inspector = ProgramInspector(data / "store.git", data / "index.db")
        service.engine_sizes = sizes
        if service.copies is not None:
            service.copies.identities, service.copies.seal = gate.identities, seal
        service.peers = await stack.enter_async_context(HttpsPeers(self._member.credentials))
        world = service.world
        service.identity = OidcIdentity()
        credentials = Credentials(service)
        agent.follower.told.append(credentials.followed)
        await stack.enter_async_context(background(credentials.run()))
        access = Access(
            self._folder.token(),
            tokens=lambda: tokens(world),
            member_of=lambda pin: member_of(world, pin),
            uids=lambda: uids(agent.runner.builds(), world.definitions.settings.isolation),
            users=credentials,
            speaks=service.speakers.knows,
            is_behind=lambda: not agent.loop.is_live or world.stale_since is not None,
        )
        app = make_app(service, access.principal, git)
        agent.loop.on_entry.append(app[CALLERS].noted)
        agent.follower.told.append(app[CALLERS].recheck)
        add_peer_routes(app, gate, agent.historian.state)
        runner = self._runner = make_runner(app, Connections(service.counts.refused))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        door = data / BUILDS_DOOR
        door.mkdir(mode=0o711, exist_ok=True)
        unix = stack.enter_context(unix_socket(self.path))
        # Nobody else can come as far as this folder, but a build that is shown it.
        builds = stack.enter_context(unix_socket(door / self.path.name, mode=0o666))
        for opened in (unix, builds):
            await self.serve(opened)
        self.site = await self.serve(self._tcp)
        if self._peer is not None:
            await self._listen_to_peers(self._peer)

    async def serve(self, opened: socket.socket) -> web.BaseSite:
        """Let callers in by one more socket."""
        site = web.SockSite(self._runner, opened, backlog=512)
        await site.start()
        return site

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
            self._member.host = host
            self._folder.write("host", host)
        if isinstance(self._engine, Engine) and self._engine.server is not None:
            await self._engine.move(host)
        self._peer = self._stack.enter_context(peer_socket(host, self._folder))
        await self._listen_to_peers(self._peer)
        me = replace(self._agent.service.me, host=host, peer=self.peer_url)
        await self._agent.members.appear(me)

    def _kept_pins(self) -> Collection[str]:
        """Return the keys that this agent would know again after a start, and its engine lets in."""
        written = read_known(self._data)
        if written is None:
            return ()
        pins = {pin for peer in written.members.values() for pin in (peer.pin, peer.coming) if pin}
        return pins & self._engine.pins if isinstance(self._engine, Engine) else pins
