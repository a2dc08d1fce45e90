"""What an agent's file says, carried out while the agent runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

from msgspec.structs import asdict, replace

from rota.agent.agent import Agent
from rota.bootstrap.abilities import Abilities
from rota.bootstrap.doors import Doors
from rota.bootstrap.machine import Machine
from rota.core.agent_file import AgentFile
from rota.daemon.folder import DataFolder
from rota.daemon.notify import notify
from rota.daemon.sockets import address, host_port, reachable_host, tcp_socket
from rota.errors import InputError, RotaError, UnavailableError
from rota.service.messages import Reloaded

logger = logging.getLogger("rota")

#: So long whoever reloads waits for the other agents to be told.
TELL_S = 3.0


class Reloading:
    """Reads `agent.toml` anew, on SIGHUP and when it is asked to.

    Args:
        machine: The file, and the command line that goes above it.
        agent: Whom it is about.
        folder: The data folder, where the address is written down.
        doors: Where callers come in.
        abilities: Its labels.
    """

    def __init__(
        self,
        machine: Machine,
        agent: Agent,
        folder: DataFolder,
        doors: Doors,
        abilities: Abilities,
    ) -> None:
        self._machine, self._agent, self._folder = machine, agent, folder
        self._doors, self._abilities = doors, abilities
        self._turn = asyncio.Lock()
        self._url = agent.service.me.url
        self._news, self._told = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Reload whenever a signal came, and tell the others what is new, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell(), name="tell of reloads")
            await self._hear()

    async def _hear(self) -> None:
        while True:
            await self._machine.hangup.wait()
            self._machine.hangup.clear()
            notify("RELOADING=1")
            with contextlib.suppress(RotaError):
                await self.reload("")
            notify("READY=1")

    async def _tell(self) -> None:
        """Say what this agent is now. Without a quorum that takes as long as there is none."""
        while True:
            await self._news.wait()
            self._news.clear()
            service = self._agent.service
            me = replace(service.me, slots=self._machine.slots, url=self._url)
            if me != service.me:
                await self._agent.members.appear(me)
            await self._agent.members.found(self._abilities.labels())
            if not self._news.is_set():
                self._told.set()

    async def reload(self, log_level: str) -> Reloaded:
        """Let the agent be as its file says now; return what is other than before.

        Raises:
            InputError: something in it is wrong: nothing changes.
            UnavailableError: nothing can listen where it says: nothing changes.
        """
        async with self._turn:
            return await self._reload(log_level)

    async def _reload(self, log_level: str) -> Reloaded:
        machine, service = self._machine, self._agent.service
        slots, listen = machine.slots, machine.listen
        file, log = machine.file, machine.log_choice
        try:
            machine.read()
            # Where it says nothing any more, that is for the next start: no other address is better.
            if machine.listen is not None and machine.listen != listen:
                self._url = await self._move(machine, file)
        except RotaError as error:
            problems = error.problems if isinstance(error, InputError) else ()
            why = "; ".join(map(str, problems)) or error.message
            logger.error("%s is not taken over: %s", machine.path, why)  # noqa: TRY400 - no fault of ours
            raise
        if machine.slots != slots:
            self._agent.loop.resize(machine.slots)
        if log_level:
            machine.log_at(log_level)
        waits: tuple[str, ...] = ()
        changed = _changed(file, machine.file, log != machine.log_choice)
        if machine.listen is None and listen is not None:
            waits = ("listen: where nothing is said of it, it stays until the next start",)
            changed = tuple(it for it in changed if it != "listen")
        elif reachable_host(machine.listen) != reachable_host(listen):
            waits = ("listen: the address for other agents changes at the next start",)
        if not await self._is_told():
            waits = (*waits, "the other agents are told once a quorum of the voters is there")
        if changed:
            logger.info("%s is taken over: %s", machine.path, ", ".join(changed))
        return Reloaded(
            agent=service.me.name,
            path=str(machine.path),
            changed=tuple(it for it in changed if it not in machine.overruled),
            waits=waits,
            overruled=machine.overruled,
            log_level=machine.log_choice.level,
        )

    async def _is_told(self) -> bool:
        """Let the others be told; say whether they are, which takes some milliseconds."""
        self._told.clear()
        self._news.set()
        try:
            await asyncio.wait_for(self._told.wait(), TELL_S)
        except TimeoutError:
            return False
        return True

    async def _move(self, machine: Machine, before: AgentFile) -> str:
        """Listen at another address; return it. Connections that there are go on."""
        try:
            opened = await self._opened(machine.listen)
        except RotaError:
            machine.back(before)
            raise
        if self._doors.site is not None:
            await self._doors.site.stop()
        self._doors.site = await self._doors.serve(opened)
        return f"http://{address(opened)}"

    async def _opened(self, listen: str | None) -> socket.socket:
        try:
            return tcp_socket(listen, self._folder)
        except UnavailableError:
            # It may be ourselves who are in the way: on one address of this port, or on all.
            former = self._folder.read("listen")
            if (
                self._doors.site is None
                or not former
                or host_port(former)[1] != host_port(listen or "")[1]
            ):
                raise
            await self._doors.site.stop()
            self._doors.site = None
            try:
                return tcp_socket(listen, self._folder)
            except UnavailableError:
                self._doors.site = await self._doors.serve(tcp_socket(former, self._folder))
                raise


def _changed(before: AgentFile, now: AgentFile, logs: bool) -> tuple[str, ...]:
    """Return the names of what is other than before."""
    found = [name for name, it in asdict(now).items() if it != getattr(before, name)]
    return tuple(found if "log" in found or not logs else [*found, "log"])
