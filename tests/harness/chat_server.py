"""A bridge in the test's process: rooms that real agents' bots are in, and the test is the people."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
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
        thread = (saying.thread or name) if self.abilities.has_threads else ""
        return {"said": {"id": name, "thread": thread}}

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


class Aside:
    """A server in a thread of its own, for tests that are not asynchronous."""

    def __init__(self, server: ChatServer, loop: asyncio.AbstractEventLoop) -> None:
        self.server, self._loop = server, loop

    def hear(self, text: str, **more: Any) -> None:
        """Let a person write something."""
        done = threading.Event()

        def say() -> None:
            self.server.hear(text, **more)
            done.set()

        self._loop.call_soon_threadsafe(say)
        done.wait(30.0)

    def ids(self) -> list[str]:
        """Return the ids of all that was said, in order."""
        return [it.saying.id for it in list(self.server.said)]

    def texts(self, room: str = "") -> list[str]:
        """Return what was said, in one room or in all."""
        said = list(self.server.said)
        return [it.saying.text for it in said if not room or it.saying.room == room]


@contextlib.contextmanager
def chat_server_aside(path: Path) -> Iterator[Aside]:
    """Run a server in a thread for as long as the context is open."""
    server, begun = ChatServer(path), threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        over = asyncio.Event()
        async with server.running():
            loops.append((asyncio.get_running_loop(), over))
            begun.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="chat server")
    thread.start()
    begun.wait(30.0)
    loop, over = loops[0]
    try:
        yield Aside(server, loop)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30.0)
