"""The engine as one agent has it: a server of its own, the servers of others, or both.

An own server is a child that is started, watched, restarted, and taken over again: it outlives its
daemon. What is needed to find it again stands in ``engine.json``; a process counts as ours only if
number, start time and boot agree *and* it answers with our server's name.

Where the other voters are and whose keys they take is told by :meth:`Engine.know`, and remembered:
a restart has to know where to connect before it has read anything.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

import msgspec

from rota.adapters.nats import monitor
from rota.adapters.nats.beside import beside
from rota.adapters.nats.bootstrap import GRACE_S, Site
from rota.adapters.nats.client import Address, Client
from rota.adapters.nats.config import ROTA, SYSTEM, Folder, free_bytes, free_ports, new_own
from rota.adapters.nats.launch import PATIENCE_S, Launcher
from rota.adapters.nats.pinned import pinned_context
from rota.adapters.nats.stubleaf import stub_leaf
from rota.errors import InvariantError, UnavailableError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from rota.adapters.nats.child import Child
    from rota.core.voter import Voter
    from rota.ports.credentials import Credentials
    from rota.ports.voting import Server

log = logging.getLogger(__name__)

TICK_S = 3.0
#: A server that answers none of so many ticks in a row hangs.
HUNG_TICKS = 3
#: An election takes up to nine seconds. Clients are sent elsewhere when there is no leader for
#: longer; a server that finds none for ever, though enough others are there, is started anew.
ELECTION_S = 10.0
STUCK_S = 40.0
#: How often it is looked who leads a server that is alone.
LONE_LOOK_S = 14.0
BACKOFF_S = (0.1, 10.0)
HEALTHY_S = 60.0
ELECTING = "the engine's servers are electing a leader"
NO_QUORUM = "no quorum"
#: How long a start waits for the group to elect; without a quorum it goes on all the same.
QUORUM_S = 3.0
QUORUM_LOOK_S = 0.05
#: Below this the disk counts as full; above twice of it the engine is started anew.
SCARCE_BYTES = 16 << 20


class Engine:
    """One engine in a folder. Use as an async context manager; leaving it lets the child live on.

    Entering reads what a former daemon left and starts nothing; :meth:`found` does. :meth:`stop`
    ends the child, for ``rota stop``. One engine a folder: who else might use it is kept out by the
    daemon's own lock. All calls may come from any task; those that change the child wait for each
    other.
    """

    def __init__(self, home: Path, credentials: Credentials) -> None:
        self._credentials = credentials
        self._launcher = Launcher(Site(Folder(home.absolute()), credentials))
        self._child: Child | None = None
        self._running = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._well = asyncio.Event()
        self._wish = ""
        self._complaints = 0
        self._scarce = False
        self._trouble: str | None = None
        self.restarts = 0
        """How often its own server was started anew since this object was made."""
        self._clients: WeakSet[Client] = WeakSet()
        self._turn = random.randrange(60)  # noqa: S311 - spreads agents over the voters, no secret

    async def __aenter__(self) -> Self:
        self._launcher.load()
        async with AsyncExitStack() as stack:
            _ = await stack.enter_async_context(beside(self._watch(), "engine-watch"))
            _ = await stack.enter_async_context(beside(self._keep_awake(), "engine-leaf"))
            self._running = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.release()

    # -- what it is -----------------------------------------------------------------------------

    @property
    def server(self) -> Server | None:
        """Our own server; ``None`` where this agent is a pure client."""
        own = self._launcher.state.own
        return own.server if own else None

    @property
    def voters(self) -> Sequence[Voter]:
        """The voters as they were last known."""
        return self._launcher.state.voters

    @property
    def name(self) -> str:
        """Our own server's name, unique for ever.

        Raises:
            UnavailableError: there is none.
        """
        return self._launcher.own.name

    @property
    def pid(self) -> int:
        """The child's process id; 0 while none runs."""
        return self._child.pid.number if self._child and not self._child.gone.done() else 0

    @property
    def log(self) -> Path:
        """Where the child's own words are."""
        return self._launcher.folder.log

    @property
    def trouble(self) -> str | None:
        """What is wrong, in words for the status page; ``None`` if nothing is."""
        return self._trouble or self._unreachable()

    def _unreachable(self) -> str | None:
        """What keeps our clients out, where there is no server of ours that could say."""
        if self._launcher.state.own is not None:
            return None
        whys = [client.why or "no answer" for client in self._clients if client.is_out]
        if not whys:
            return None
        where = ", ".join(str(address) for address in self._addresses()) or "nowhere"
        return f"none of the engine's servers can be reached ({where}): {whys[0]}"

    # -- its clients ----------------------------------------------------------------------------

    def connect(self, name: str = "rota", *, system: bool = False) -> Client:
        """Return a client for the journal, the logs and the blobs; use it as a context manager.

        It survives every restart of the engine, and goes to our own server while that is well, to
        another voter's else. With ``system`` it is one for the ensemble.
        """
        client = Client(
            self._addresses,
            SYSTEM if system else ROTA,
            name=name,
            trouble=lambda: self._trouble,
            complain=self._complain,
            tls=self._tls,
        )
        self._clients.add(client)
        return client

    def _tls(self) -> ssl.SSLContext:
        return pinned_context(self._credentials, self._known_pins)

    def _known_pins(self) -> set[str]:
        return {self._credentials.pin, *self._launcher.state.members}

    def _addresses(self) -> tuple[Address, ...]:
        """Return where to connect, best first."""
        state = self._launcher.state
        others = [
            Address(voter.host, voter.client)
            for voter in state.others
            if voter.is_listening and (voter.agent in state.pins or not state.pins)
        ]
        turn = self._turn % len(others) if others else 0
        others = others[turn:] + others[:turn]
        if state.own is None:
            return tuple(others)
        own = Address(state.own.host, state.own.ports.client)
        return (own, *others) if self._well.is_set() else (*others, own)

    def _complain(self) -> None:
        """A client got no confirmation in time."""
        self._complaints += 1

    # -- its own server -------------------------------------------------------------------------

    async def found(self, host: str | None = None) -> Server:
        """Bring our own server up: taken over if it lives, started if not, for the first time too.

        One that knows of others joins them, and without a quorum it runs all the same: see
        :attr:`trouble`. Safe to call twice.

        Args:
            host: Where others are to reach it; ``None`` for where it was, at first on loopback.

        Raises:
            UnavailableError: no child could be brought to answer; the hint has its last words.
            InvariantError: there is no server here, but there are some elsewhere: that would make
                a second cluster.
        """
        if self._launcher.state.own is None and self._launcher.state.voters:
            raise InvariantError("a cluster is founded once, and others run its servers")
        async with self._lock:
            if not self.pid or (host is not None and host != self._launcher.own.host):
                self._child = await self._launcher.begin(host)
        return await self._started()

    async def join(self, server: str, host: str) -> Server:
        """Start an empty server of that name, which was never used before, beside those we know.

        What lay in the folder is wiped. Called again with the same name it goes on with the server
        that it started. Whether the group took it in is the ensemble's to say.

        Raises:
            UnavailableError: it could not be brought to answer; the hint has its last words.
        """
        own = self._launcher.state.own
        if own is None or own.name != server:
            await self.retire()
            async with self._lock:
                self._launcher.update(own=new_own(name=server, host=host, booted=True))
        return await self.found(host)

    async def move(self, host: str) -> Server:
        """Let our own server listen on another address from now on: same name, same data.

        It is started anew for that; its ports stay if they are free there.

        Raises:
            UnavailableError: one cannot listen on ``host``, or the server does not answer there.
        """
        own = self._launcher.own
        if own.host != host:
            free_ports(host)  # refused here, and nothing has changed
            await self.found(host)
        return self._launcher.own.server

    async def retire(self) -> None:
        """End our own server for good and wipe its data: a pure client from now on.

        Safe to call twice.
        """
        async with self._lock:
            child, self._child = self._child, None
            if child is not None:
                await child.end(GRACE_S)
            await self._launcher.clear()
            self._well.clear()
            self._trouble = None
        self._wake.set()

    async def know(
        self, voters: Sequence[Voter], pins: Mapping[str, str], coming: Mapping[str, str] = {}
    ) -> None:
        """Take note of all voters, ours included, and of the pins of all members.

        ``coming`` are those of keys that members have made and may use soon. Servers take clients
        with any of the pins, and routes from voters. Cost: nothing where that
        is known; else a file is written, and the own child reads its configuration again without
        dropping a connection but those whose pin is gone.

        Raises:
            UnavailableError: it cannot be written down.
        """
        state = self._launcher.state
        voters, pins, coming = tuple(voters), dict(pins), dict(coming)
        if (state.voters, state.pins, state.coming) == (voters, pins, coming):
            return
        self._launcher.update(voters=voters, pins=pins, coming=coming)
        self.reload()
        self._leave_strangers()

    def _leave_strangers(self) -> None:
        """Let no client of ours stay at the server of an agent that is no member any more.

        Its key was looked at when they connected: what it says now would still be believed.
        """
        known = self._addresses()
        for client in self._clients:
            if client.is_connected and client.address not in known:
                client.leave()

    async def usage(self) -> tuple[int, int]:
        """Return the bytes our own server holds in memory, and how many readers it gave up."""
        return await monitor.usage(self._launcher.own.ports.monitor, TICK_S)

    @property
    def pins(self) -> set[str]:
        """The pins that are let in, as they are written down."""
        return self._launcher.state.members

    def renew(self, credentials: Credentials) -> None:
        """Show another key from now on; connections with the former one are made anew.

        Raises:
            UnavailableError: the server's configuration cannot be written.
        """
        self._credentials = credentials
        self._launcher.site = msgspec.structs.replace(self._launcher.site, credentials=credentials)
        self.reload()
        for client in self._clients:
            client.renew()

    def reload(self) -> None:
        """Let the own server read what may have changed on disk: the certificate.

        Raises:
            UnavailableError: its configuration cannot be written.
        """
        if self._child is not None and not self._child.gone.done():
            self._launcher.reload(self._child)

    async def release(self) -> None:
        """Stop watching the child and let it live on. Safe to call twice."""
        try:
            await self._running.aclose()
        finally:
            if self._child is not None:
                self._child.release()

    async def stop(self) -> None:
        """End the child and watch it no more; :meth:`found` starts it again. Safe to call twice."""
        async with self._lock:
            child, self._child = self._child, None
            self._well.clear()
            if child is not None:
                await child.end(GRACE_S)

    async def heal(self) -> None:
        """Start the child anew, on the same data, and return once it answers.

        The cure for a stream that stays wedged after the disk was full.

        Raises:
            UnavailableError: it does not answer within the patience of one start.
        """
        self._wish = "it is being healed"
        self._well.clear()
        self._wake.set()
        try:
            async with asyncio.timeout(sum(PATIENCE_S)):
                await self._well.wait()
        except TimeoutError:
            raise UnavailableError("the engine could not be healed", hint=self.trouble) from None

    # -- watching it ----------------------------------------------------------------------------

    async def _started(self) -> Server:
        """Let the watcher know of a new child, and wait a moment for its group to elect."""
        self._trouble = None
        self._well.set()
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(QUORUM_S):
                while True:
                    self._trouble = await self._look_for_quorum()
                    if self._trouble is None:
                        break
                    await asyncio.sleep(QUORUM_LOOK_S)
        if self._trouble is not None:
            self._well.clear()
        return self._launcher.own.server

    async def _look_for_quorum(self) -> str | None:
        """Return in words what keeps our server from being led; ``None`` if nothing does."""
        own = self._launcher.own
        meta = await monitor.meta(own.ports.monitor, TICK_S)
        if meta.leader:
            if not own.joined:
                self._launcher.update_own(joined=True)
            return None
        reached = 1 + len(await monitor.routed(own.ports.monitor, TICK_S) - {own.name})
        size = max(meta.cluster_size, 1)
        if reached > size // 2:
            return f"{ELECTING}: {reached} of the engine's {size} servers can be reached"
        return (
            f"{NO_QUORUM}: {size // 2 + 1} of the engine's {size} servers are needed, "
            f"{reached} can be reached"
        )

    async def _keep_awake(self) -> None:
        """Be a server's foreign connection for as long as we can, in case it is alone.

        Whatever group it starts later, or once its last peer has gone, needs one as well.
        """
        while True:
            own = self._launcher.state.own
            if own is None or not own.joined or not self.pid:
                await asyncio.sleep(TICK_S)
                continue
            async with stub_leaf(own.ports.leaf, own.leaf_password, retry_s=1.0):
                while True:
                    await asyncio.sleep(TICK_S)
                    if self._launcher.state.own != own or not self.pid:
                        break

    async def _watch(self) -> None:
        """Keep a child running, for ever, wherever there is one to run."""
        delay_s, tries = BACKOFF_S[0], 0
        loop = asyncio.get_running_loop()
        while True:
            child, begun = self._child, loop.time()
            if child is None:
                await self._tick()
                continue
            reason = await self._until_sick(child)
            if loop.time() - begun > HEALTHY_S:
                delay_s, tries = BACKOFF_S[0], 0
            async with self._lock:
                if self._child is not child:
                    continue
                self._well.clear()
                self._trouble = reason
                log.warning("the engine is started anew: %s", reason)
                await child.end(GRACE_S)
            await asyncio.sleep(delay_s)
            async with self._lock:
                if self._child is child:
                    await self._revive(PATIENCE_S[min(tries, len(PATIENCE_S) - 1)])
            delay_s, tries = min(2 * delay_s, BACKOFF_S[1]), tries + 1

    async def _revive(self, patience_s: float) -> None:
        self.restarts += 1
        try:
            self._child = await self._launcher.launch_once(patience_s)
        except UnavailableError as error:
            self._trouble = f"the engine does not start: {error.message}"
            return
        self._complaints = 0
        self._scarce = False
        self._wish = ""
        self._trouble = await self._look_for_quorum()
        self._well.set()

    async def _until_sick(self, child: Child) -> str:
        """Return, in words, why the child must be started anew, or as soon as it is not ours."""
        silent, loop = 0, asyncio.get_running_loop()
        led = loop.time()
        if child.gone.done():
            return "its server does not run"
        child.gone.add_done_callback(self._on_gone)
        while self._child is child:
            await self._tick()
            if child.gone.done():
                return "its server ended unexpectedly"
            if self._wish:
                return self._wish
            self._launcher.rotate_log()
            if not await monitor.is_alive(self._launcher.own.ports.monitor, TICK_S):
                silent += 1
            else:
                silent = 0
                led = await self._look_after_leader(led)
            if reason := self._cured_disk():
                return reason
            if silent >= HUNG_TICKS:
                return "its server hangs"
            if loop.time() - led > STUCK_S:
                return "its server finds no leader, though enough of them can be reached"
        return ""

    async def _look_after_leader(self, led: float) -> float:
        """Look whether our server is led; return when it was last, or could not have been."""
        now = asyncio.get_running_loop().time()
        is_alone = not self._launcher.state.others
        is_well = self._well.is_set() and self._trouble is None
        if is_alone and is_well and now - led < LONE_LOOK_S:
            return led  # nobody else could lead it
        trouble = await self._look_for_quorum()
        if not self._scarce:
            self._trouble = trouble
        if trouble is None:
            self._well.set()
            return now
        is_electing = trouble.startswith(ELECTING)
        if self._well.is_set() and (not is_electing or now - led > ELECTION_S):
            self._well.clear()
            self._send_away()
        return led if is_electing else now

    def _send_away(self) -> None:
        """Let the clients that use our server look for another voter's, if there is one."""
        own = self._launcher.own
        if self._launcher.state.others:
            for client in self._clients:
                if client.address == Address(own.host, own.ports.client):
                    client.leave()

    def _on_gone(self, _: asyncio.Future[None]) -> None:
        self._wake.set()

    async def _tick(self) -> None:
        try:
            async with asyncio.timeout(TICK_S):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def _cured_disk(self) -> str | None:
        """Note a full disk; say so once it has room again and the server must be started anew."""
        free = free_bytes(self._launcher.folder.home)
        if free < SCARCE_BYTES:
            self._scarce = True
            self._trouble = (
                f"the disk is full: {free >> 20} MiB are left where the engine writes "
                f"({self._launcher.folder.home}), it needs {2 * SCARCE_BYTES >> 20} MiB: free some space"
            )
        elif self._scarce and free >= 2 * SCARCE_BYTES:
            return "its disk was full and has room again"
        elif not self._scarce and self._is_wedged():
            return "it could not write for a while"
        return None

    def _is_wedged(self) -> bool:
        """Whether a stream gave up writing: a client complained, and the child says why."""
        if not self._complaints:
            return False
        self._complaints = 0
        mark = b"[%d] " % self.pid
        lines = self.log.read_bytes().splitlines()
        return any(line.startswith(mark) and b"ritical write error" in line for line in lines)
