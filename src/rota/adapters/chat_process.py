"""The bot's process: started where it is wanted, asked over a socket, started again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import msgspec

from rota import child
from rota.errors import LaterError
from rota.ports.chat import Command, Reported, nothing
from rota.ports.chat_wire import (
    MAX_LINE,
    Ask,
    Begin,
    Carried,
    Done,
    Drop,
    Failed,
    HeardThat,
    Known,
    Order,
    Perform,
    Report,
    Say,
    Setup,
    Standing,
    line,
    read_report,
)
from rota.ports.networks import Said, Saying

logger = logging.getLogger(__name__)

#: Between two processes; the last one repeats, and one that lived long begins anew.
DELAYS_S = (0.2, 1.0, 5.0, 30.0)
LONG_S = 60.0
#: What its answers may take; commands have limits of their own.
CALL_S = 90.0
PERFORM_S = 300.0
#: For it to leave the networks.
LEAVE_S = 2.0
#: For what it still has to say of its end.
LAST_WORDS_S = 1.0
MAX_HEARD = 1000
#: How soon it is looked again for a secret that was not there.
FAULT_S = 15.0
#: What it may know of our environment.
_PASSED = ("LANG", "LC_ALL", "PATH", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "ROTA_LOG")


class ChatProcess:
    """See :class:`rota.ports.chat.Chat`.

    Args:
        setup: Returns what the process is to be made with; asked for before each start, whenever
            the settings may have changed, and again where something was missing.
        admitted: Gives a token by which the process may speak for users while the context is open.
    """

    def __init__(
        self,
        setup: Callable[[], Awaitable[Setup]],
        admitted: Callable[[], AbstractContextManager[str]],
    ) -> None:
        self._setup, self._admitted = setup, admitted
        self._positions: dict[str, str] = {}
        self.pid: int | None = None  # of the process, while there is one
        self._heard: asyncio.Queue[Reported] = asyncio.Queue(MAX_HEARD)
        self._troubles: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Report]] = {}
        self._carried: dict[int, Callable[[], None]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._again, self._hung = asyncio.Event(), asyncio.Event()

    def changed(self) -> None:
        """Look at the settings anew."""
        self._again.set()

    async def run(self, positions: Mapping[str, str]) -> None:
        """Keep the process, until cancelled."""
        tries, clock = 0, asyncio.get_running_loop()
        while not self._heard.empty():
            self._heard.get_nowait()  # from when this agent led before; what matters is heard again
        self._positions = dict(positions)
        try:
            while True:
                self._again.clear()
                setup = await self._setup()
                self._troubles = {it.name: "not connected yet" for it in setup.networks}
                if not setup.networks:
                    await self._again.wait()
                    continue
                begun = clock.time()
                if await self._live(setup):
                    tries = 0  # it was ended since the settings changed
                    continue
                tries = 0 if clock.time() - begun > LONG_S else tries + 1
                delay = DELAYS_S[min(tries, len(DELAYS_S) - 1)]
                logger.warning("the process of the bot ended; it begins again in %g s", delay)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._again.wait()
        finally:
            self._troubles = {}

    async def _live(self, setup: Setup) -> bool:
        """Run one process to its end; return whether it was we who ended it."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        # Isolated from the environment and the current folder, as it reads what strangers write.
        argv = (sys.executable, "-I", "-W", "ignore", "-m", "rota.chat")
        env = {key: os.environ[key] for key in _PASSED if key in os.environ}
        try:
            process = await child.begin(*argv, stdin=theirs.fileno(), stdout=DEVNULL, env=env)
        except OSError as error:
            logger.warning("the bot's process cannot be started: %s", error.strerror)
            ours.close()
            return False
        finally:
            theirs.close()
        self.pid = process.pid
        self._hung.clear()
        try:
            with self._admitted() as token:
                begin = Begin(setup=setup, token=token, positions=dict(self._positions))
                async with asyncio.TaskGroup() as group:
                    again = group.create_task(self._until_others(setup))
                    echo = group.create_task(_echo(process))
                    talk = group.create_task(self._talk(ours, begin))
                    hung = group.create_task(self._hung.wait())
                    ends = [again, talk, hung]
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                    is_ours = again.done()
                    for end in ends:
                        end.cancel()
                    await asyncio.wait([echo], timeout=LAST_WORDS_S)
                    echo.cancel()
        finally:
            await asyncio.shield(_end(process))
            self.pid = None
        return is_ours

    async def _until_others(self, setup: Setup) -> None:
        """Return once a process is to be made with something else."""
        is_whole = not any(it.fault for it in setup.networks)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if is_whole else FAULT_S):
                    await self._again.wait()
            self._again.clear()
            if await self._setup() != setup:
                return

    async def _talk(self, ours: socket.socket, begin: Begin) -> None:
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE)
        try:
            writer.write(line(begin))
            self._writer = writer
            while raw := await reader.readline():
                await self._take(read_report(raw))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            logger.warning("the bot's process is not understood: %s", error)
        finally:
            self._writer = None
            writer.close()
            for waiting in self._asked.values():
                waiting.cancel()
            self._asked.clear()
            self._troubles = dict.fromkeys(self._troubles, "the bot's process is gone")

    async def _take(self, report: Report) -> None:
        match report:
            case HeardThat():
                if report.heard.position:
                    self._positions[report.network] = report.heard.position
                await self._heard.put(Reported(network=report.network, heard=report.heard))
            case Standing():
                self._troubles[report.network] = report.trouble
            case Carried():
                self._carried.get(report.call, nothing)()
            case Done() | Known() | Failed():
                waiting = self._asked.pop(report.call, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(report)

    async def reports(self) -> AsyncIterator[Reported]:
        """Yield what people write."""
        while True:
            yield await self._heard.get()

    def troubles(self) -> Mapping[str, str]:
        """Return which networks are not connected, and why."""
        return {name: trouble for name, trouble in self._troubles.items() if trouble}

    async def say(self, network: str, saying: Saying) -> Said:
        """Say something."""
        number = next(self._numbers)
        report = await self._ask(number, Say(call=number, network=network, saying=saying), CALL_S)
        assert isinstance(report, Done)
        return report.said[0]

    async def was_said(self, network: str, saying: Saying) -> bool | None:
        """Whether it was said."""
        number = next(self._numbers)
        report = await self._ask(number, Ask(call=number, network=network, saying=saying), CALL_S)
        assert isinstance(report, Known)
        return report.was_said

    async def perform(
        self, command: Command, carried: Callable[[], None] = nothing
    ) -> Sequence[Said]:
        """Carry a command out, and answer it."""
        number = next(self._numbers)
        self._carried[number] = carried
        try:
            report = await self._ask(number, Perform(call=number, command=command), PERFORM_S)
        finally:
            self._carried.pop(number, None)
        assert isinstance(report, Done)
        return report.said

    async def _ask(self, number: int, order: Order, limit_s: float) -> Report:
        writer = self._writer
        if writer is None:
            raise LaterError("the bot's process is not there yet")
        waiting = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            writer.write(line(order))
            async with asyncio.timeout(limit_s):
                await asyncio.wait([waiting])
        except TimeoutError:
            self._hung.set()
            raise LaterError(f"the bot's process did not answer within {limit_s:g} s") from None
        except asyncio.CancelledError:
            self._drop(number)
            raise
        finally:
            self._asked.pop(number, None)
        if waiting.cancelled():
            raise LaterError("the bot's process ended, and perhaps said it before")
        report: Report = waiting.result()
        if isinstance(report, Failed):
            raise report.error
        return report

    def _drop(self, number: int) -> None:
        if self._writer is not None:
            self._writer.write(line(Drop(call=number)))


async def _echo(process: Process) -> None:
    """Write what the process says of itself into our log."""
    assert process.stderr is not None
    while True:
        try:
            raw = await process.stderr.readline()
        except ValueError:  # a line beyond all bounds
            continue
        if not raw:
            return
        logger.warning("bot: %s", raw.decode("utf-8", "replace").rstrip()[:500])


async def _end(process: Process) -> None:
    """Let the process leave: its connection is closed; then it is killed."""
    try:
        await child.is_gone(process, LEAVE_S)
    finally:
        await child.end(process)
