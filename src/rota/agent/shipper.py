"""From the log file to the engine: reads what the script wrote, and sends it in pieces.

What is printed comes to the file without us; nothing here can slow it down or lose a byte of it. Pieces
go out when they are large enough or old enough, several at a time, in order. What may be shown is
decided before it is sent, so that a masked value leaves this machine in no form.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from contextlib import aclosing

from rota.agent.log_digest import LogDigest
from rota.agent.patience import persist
from rota.errors import NotFoundError, StaleError
from rota.ports.logs import LogKey, Logs
from rota.service.livelog import LiveLog

#: A piece at most, the size the log port takes.
PIECE = 512 * 1024
#: What is smaller waits so long for more.
FLUSH_S = 0.05
#: Pieces under way at once: hides the round trip, bounds the memory to a few MB an attempt.
WINDOW = 4


class Shipper:
    """Ships one attempt's log. :meth:`run` is its task; :meth:`finish` tells it the script ended.

    Args:
        key: Which log it is.
        live: Its file.
        logs: Where it goes.
        shipped: What the engine has already, from before this daemon's time.
        most: How long it may be by now: what the file has beyond that is no part of the log.
    """

    def __init__(
        self,
        key: LogKey,
        live: LiveLog,
        logs: Logs,
        *,
        shipped: int,
        most: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._most = most
        self._key, self._live, self._logs = key, live, logs
        self._read = 0
        self._shipped = shipped
        self._digest = None if shipped else LogDigest()
        self._wake = asyncio.Event()
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = False
        self._under_way: deque[asyncio.Task[None]] = deque()

    def on_write(self) -> None:
        """The file may have grown."""
        self._wake.set()

    def finish(self) -> None:
        """The script has ended: ship the rest and return."""
        self._ended = True
        self._wake.set()

    async def run(self) -> int:
        """Ship until the log is whole and the engine has it; return its length in bytes."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                ended = self._ended  # looked at before reading: nothing is written after it
                await self._read_on(group)
                if ended:
                    break
                await self._flush_when_due(group)
                await self._wake.wait()
            self._live.finish()
            await self._ship(group, PIECE)
            if self._shipped < self._live.end:
                await self._send(*self._next())
        if self._timer is not None:
            self._timer.cancel()
        return self._shipped

    async def digest(self) -> str:
        """Return the SHA-256 in hex of the log, once :meth:`run` has returned; empty if its beginning is gone.

        Cost: nothing, unless part of it was shipped before this daemon's time: then it is read again.
        """
        digest = self._digest
        return await (digest.hex() if digest is not None else persist("log", self._read_back))

    async def _read_back(self) -> str:
        # As it was shipped, not as the file has it: what is masked may have become more meanwhile.
        digest = LogDigest()
        try:
            async with aclosing(self._logs.read(self._key)) as pieces:
                async for piece in pieces:
                    digest.add(piece)
        except NotFoundError:
            return ""
        return await digest.hex()

    async def _read_on(self, group: asyncio.TaskGroup) -> None:
        """Scan what was written, shipping whole pieces on the way."""
        while (room := min(PIECE, self._most() - self._read)) > 0:
            data = self._live.pread(int(room), self._read)
            if not data:
                return
            self._read += len(data)
            self._live.scan(data)
            await self._ship(group, PIECE)
            # A script prints faster than it is scanned: others have their turn between two pieces.
            await asyncio.sleep(0)

    async def _flush_when_due(self, group: asyncio.TaskGroup) -> None:
        if self._shipped >= self._live.end:
            return
        if self._due:
            self._due = False
            await self._ship(group, 1)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._due = True
        self._wake.set()

    async def _ship(self, group: asyncio.TaskGroup, least: int) -> None:
        """Send what may be shown, as long as there are ``least`` bytes of it."""
        while self._live.end - self._shipped >= least:
            if len(self._under_way) >= WINDOW:
                await self._under_way.popleft()
            self._under_way.append(group.create_task(self._send(*self._next())))

    def _next(self) -> tuple[int, bytes]:
        offset = self._shipped
        data = self._live.shown(offset, min(offset + PIECE, self._live.end))
        self._shipped += len(data)
        if self._digest is not None:
            self._digest.add(data)
        return offset, data

    async def _send(self, offset: int, data: bytes) -> None:
        while True:
            try:
                await persist("log", lambda: self._logs.append(self._key, offset, data))
            except StaleError:
                # Sent before and the answer lost, or the piece in front is still under way.
                if await persist("log", lambda: self._logs.end(self._key)) >= offset + len(data):
                    return
                await asyncio.sleep(FLUSH_S)
            else:
                return
