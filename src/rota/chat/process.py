"""The process: its connection to the daemon, the hub, and a task for each thing that is asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys

from rota.bootstrap.networks import network_of
from rota.chat.hub import Hub
from rota.chat.speaker import Speaker
from rota.errors import InputError, LaterError
from rota.ports.chat_wire import (
    MAX_LINE,
    Ask,
    Begin,
    Carried,
    Done,
    Drop,
    Failed,
    Known,
    Perform,
    Report,
    Say,
    line,
    read_order,
)
from rota.ports.networks import Network

logger = logging.getLogger("rota.chat")

#: For the networks to be left, once the daemon is gone.
LEAVE_S = 1.5


def main() -> None:
    """Serve the daemon at the other end of standard input, and end with it."""
    logging.basicConfig(
        level=os.environ.get("ROTA_LOG", "WARNING").upper(),
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    status = 1
    try:
        asyncio.run(serve(socket.socket(fileno=0)))
        status = 0
    except KeyboardInterrupt:
        status = 130
    finally:
        sys.stderr.flush()
        # Commands may still wait in threads; nobody waits for them.
        os._exit(status)


async def serve(connection: socket.socket) -> None:
    """Do what the daemon asks for until it closes the connection."""
    connection.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=connection, limit=MAX_LINE)
    first = await reader.readline()
    if not first:
        return
    begin = read_order(first)
    if not isinstance(begin, Begin):
        raise TypeError("the daemon did not begin")
    process = Process(begin, writer)
    serving = asyncio.ensure_future(process.run())  # noqa: TID251 - it is left when the daemon is gone
    reading = asyncio.ensure_future(process.read(reader))  # noqa: TID251
    await asyncio.wait([serving, reading], return_when=asyncio.FIRST_COMPLETED)
    for task in (serving, reading):
        task.cancel()
    await asyncio.wait([serving, reading], timeout=LEAVE_S)
    for task in (serving, reading):
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%r", error, exc_info=error)


class Process:
    """What one process is: its networks, and what is asked of them."""

    def __init__(self, begin: Begin, writer: asyncio.StreamWriter) -> None:
        self._begin, self._writer = begin, writer
        networks: list[Network] = []
        faults: dict[str, str] = {}
        for wanted in begin.setup.networks:
            try:
                networks.append(network_of(wanted))
            except InputError as error:
                faults[wanted.name] = error.told
        self._hub = Hub(networks, faults, self._tell)
        self._speaker = Speaker(self._hub, begin.setup, begin.token)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._ready = asyncio.Event()

    async def run(self) -> None:
        """Be on the networks, and do what is asked."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._ready.set()
            group.create_task(self._hub.run(self._begin.positions), name="hub")
            await asyncio.get_running_loop().create_future()

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Take orders until the daemon is gone."""
        await self._ready.wait()
        assert self._group is not None
        while raw := await reader.readline():
            order = read_order(raw)
            if isinstance(order, Drop):
                if (task := self._tasks.get(order.call)) is not None:
                    task.cancel()
            elif not isinstance(order, Begin):
                task = self._group.create_task(self._answer(order), name=f"call {order.call}")
                self._tasks[order.call] = task

    async def _answer(self, order: Say | Ask | Perform) -> None:
        report: Report
        try:
            report = await self._do(order)
        except LaterError as error:
            report = Failed(
                call=order.call,
                kind="later",
                message=error.message,
                hint=error.hint or "",
                after_s=error.after_s,
            )
        except InputError as error:
            report = Failed(
                call=order.call, kind="never", message=error.message, hint=error.hint or ""
            )
        except Exception:
            logger.exception("%s", type(order).__name__)
            report = Failed(
                call=order.call, kind="never", message="a fault of the bot, see its log"
            )
        finally:
            self._tasks.pop(order.call, None)
        await self._tell(report)

    async def _do(self, order: Say | Ask | Perform) -> Report:
        match order:
            case Say():
                said = await self._hub.say(order.network, order.saying)
                return Done(call=order.call, said=(said,))
            case Ask():
                known = await self._hub.was_said(order.network, order.saying)
                return Known(call=order.call, was_said=known)
            case Perform():
                carried = Carried(call=order.call)
                said_all = await self._speaker.perform(order.command, lambda: self._tell(carried))
                return Done(call=order.call, said=tuple(said_all))

    async def _tell(self, report: Report) -> None:
        self._writer.write(line(report))
        # Whoever hears more than the daemon reads waits here, and so does what it heard.
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()
