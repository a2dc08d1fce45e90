"""A bridge in the test's process: rooms that real agents' bots are in, and the test is the people."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from rota.adapters.clocks import SystemClock
from rota.adapters.memory_network import MemoryServer
from rota.ports.networks import Abilities, Heard, Saying

QUICK = Abilities(every_s=0.0, burst=1000, has_threads=True, lines=20)


class ChatServer(MemoryServer):
    """Listens at ``path`` for bots, each of which hears what :meth:`hear` says.

    ``silent`` keeps answers back: what was said is taken and never confirmed. ``began`` has what each
    connection began with.
    """

    def __init__(self, path: Path, abilities: Abilities = QUICK) -> None:
        super().__init__()
        self.path, self.abilities = path, abilities
        self.silent = False
        self.now = SystemClock().now
        self.began: list[dict[str, Any]] = []
        self._bots: set[asyncio.Task[None]] = set()

    @property
    def setting(self) -> str:
        """What `server` is in the settings."""
        return f"unix:{self.path}"

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        self._bots.add(me)
        ear: asyncio.Queue[Heard] = asyncio.Queue()
        speaking: asyncio.Task[None] | None = None
        try:
            _write(writer, {"hello": self.abilities})
            while raw := await reader.readline():
                line = msgspec.json.decode(raw)
                if "begin" in line:
                    self.began.append(line["begin"])
                    position = line["begin"]["position"]
                    after = int(position) if position else len(self.history)
                    for heard in self.history[after:]:
                        ear.put_nowait(heard)
                    self.ears.append(ear)
                    self._wake()
                    speaking = asyncio.create_task(_speak(ear, writer))
                elif (answer := self._answer(line)) is not None:
                    _write(writer, {"n": line["n"], **answer})
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._bots.discard(me)
            if ear in self.ears:
                self.ears.remove(ear)
            if speaking is not None:
                speaking.cancel()
            writer.close()

    def _answer(self, line: dict[str, Any]) -> dict[str, Any] | None:
        if "was_said" in line:
            name = line["was_said"]["id"]
            known = any(it.saying.id == name for it in self.said)
            return {"was_said": None if self.forgets else known}
        saying = msgspec.convert(line["say"], Saying)
        if (why := self.refused.get(saying.room)) is not None:
            return {"refused": why}
        if self.late_s is not None:
            return {"later": self.late_s}
        spoken = self.take("bot", saying)
        if self.silent:
            return None
        name = f"s{spoken.n}"
        return {"said": {"id": name, "thread": saying.thread or name}}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ChatServer]:
        """Take bots for as long as the context is open."""
        server = await asyncio.start_unix_server(self._attend, str(self.path), limit=1 << 20)
        try:
            yield self
        finally:
            server.close()
            for bot in list(self._bots):
                bot.cancel()
            await asyncio.gather(*self._bots, return_exceptions=True)

    async def joined(self, bots: int = 1) -> None:
        """Wait until so many bots hear."""
        while len(self.ears) < bots:
            self.changed = asyncio.Event()
            await self.changed.wait()


async def _speak(ear: asyncio.Queue[Heard], writer: asyncio.StreamWriter) -> None:
    while True:
        _write(writer, {"heard": await ear.get()})
        with contextlib.suppress(OSError):
            await writer.drain()


def _write(writer: asyncio.StreamWriter, message: object) -> None:
    with contextlib.suppress(OSError):
        writer.write(msgspec.json.encode(message) + b"\n")
