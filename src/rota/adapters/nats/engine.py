"""The engine: a nats-server child that is started, watched, restarted, and taken over again.

The child outlives its daemon. What is needed to find it again stands in ``engine.json``; a process
counts as ours only if number, start time and boot agree *and* it answers with our server's name.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Self

from rota.adapters.nats import monitor
from rota.adapters.nats.beside import beside
from rota.adapters.nats.bootstrap import GRACE_S
from rota.adapters.nats.client import Address, Client
from rota.adapters.nats.config import HOST, Folder, free_bytes
from rota.adapters.nats.launch import PATIENCE_S, Launcher
from rota.errors import UnavailableError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from types import TracebackType

    from rota.adapters.nats.child import Child

log = logging.getLogger(__name__)

TICK_S = 3.0
#: A server that answers none of so many ticks in a row hangs.
HUNG_TICKS = 3
BACKOFF_S = (0.1, 10.0)
HEALTHY_S = 60.0
#: Below this the disk counts as full; above twice of it the engine is started anew.
SCARCE_BYTES = 16 << 20


class Engine:
    """One engine in a folder. Use as an async context manager; leaving it lets the child live on.

    :meth:`stop` ends the child, for ``rota stop``. One engine a folder: who else might use it is
    kept out by the daemon's own lock.
    """

    def __init__(self, home: Path) -> None:
        self._launcher = Launcher(Folder(home.absolute()))
        self._child: Child | None = None
        self._watching: AbstractAsyncContextManager[asyncio.Task[None]] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._well = asyncio.Event()
        self._heal_wanted = False
        self._complaints = 0
        self._scarce = False
        self.trouble: str | None = None
        """What is wrong, in words for the status page; ``None`` if nothing is."""

    async def __aenter__(self) -> Self:
        await self.start()
        self._watching = beside(self._watch(), "engine-watch")
        self._watcher = await self._watching.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.release()

    @property
    def name(self) -> str:
        """The server's name, unique for ever."""
        return self._launcher.state.name

    @property
    def pid(self) -> int:
        """The child's process id; 0 while none runs."""
        return self._child.pid.number if self._child and not self._child.gone.done() else 0

    @property
    def log(self) -> Path:
        """Where the child's own words are."""
        return self._launcher.folder.log

    def connect(self, name: str = "rota") -> Client:
        """Return a client for the journal, the logs and the blobs; use it as a context manager.

        It survives every restart of the engine.
        """
        return Client(
            self._servers,
            self._launcher.state.passwords.rota_login,
            name=name,
            trouble=lambda: self.trouble,
            complain=self._complain,
        )

    async def start(self) -> None:
        """Take the living child over, or start one. Safe to call twice.

        Raises:
            UnavailableError: no child could be brought to answer; the hint has its last words.
        """
        if not self.pid:
            self._child = await self._launcher.begin()
            self._well.set()

    async def release(self) -> None:
        """Stop watching the child and let it live on. Safe to call twice."""
        watching, self._watching = self._watching, None
        try:
            if watching is not None:
                await watching.__aexit__(None, None, None)
        finally:
            if self._child is not None:
                self._child.release()

    async def stop(self) -> None:
        """End the child and stop watching it. Safe to call twice."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        if self._child is not None:
            await self._child.end(GRACE_S)
        self._well.clear()

    async def heal(self) -> None:
        """Start the child anew, on the same data, and return once it answers.

        The cure for a stream that stays wedged after the disk was full.

        Raises:
            UnavailableError: it does not answer within the patience of one start.
        """
        self._heal_wanted = True
        self._well.clear()
        self._wake.set()
        try:
            async with asyncio.timeout(sum(PATIENCE_S)):
                await self._well.wait()
        except TimeoutError:
            raise UnavailableError("the engine could not be healed", hint=self.trouble) from None

    def _servers(self) -> tuple[Address, ...]:
        return (Address(HOST, self._launcher.state.ports.client),)

    def _complain(self) -> None:
        """A client got no confirmation in time."""
        self._complaints += 1

    async def _watch(self) -> None:
        """Keep a child running, for ever."""
        delay_s = BACKOFF_S[0]
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            reason = await self._until_sick()
            self._well.clear()
            if loop.time() - begun > HEALTHY_S:
                delay_s = BACKOFF_S[0]
            self.trouble = reason
            log.warning("the engine is started anew: %s", reason)
            if self._child is not None:
                await self._child.end(GRACE_S)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, BACKOFF_S[1])
            await self._revive()

    async def _revive(self) -> None:
        try:
            self._child = await self._launcher.launch()
        except UnavailableError as error:
            self.trouble = f"the engine does not start: {error.message}"
            return
        self.trouble = None
        self._complaints = 0
        self._scarce = False
        self._heal_wanted = False
        self._well.set()

    async def _until_sick(self) -> str:
        """Return, in words, why the child must be started anew."""
        child, silent = self._child, 0
        if child is None or child.gone.done():
            return "its server does not run"
        child.gone.add_done_callback(self._on_gone)
        while True:
            await self._tick()
            if child.gone.done():
                return "its server ended unexpectedly"
            if self._heal_wanted:
                return "it is being healed"
            if reason := self._cured_disk():
                return reason
            if await monitor.is_alive(self._launcher.state.ports.monitor, TICK_S):
                silent = 0
            else:
                silent += 1
            if silent >= HUNG_TICKS:
                return "its server hangs"

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
            self.trouble = (
                f"the disk is full: {free >> 20} MiB are left where the engine writes "
                f"({self._launcher.folder.home}), it needs {2 * SCARCE_BYTES >> 20} MiB"
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
