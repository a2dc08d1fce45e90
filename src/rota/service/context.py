"""What the verbs work with: the picture, the ports, and this agent's own attempts."""

from __future__ import annotations

import asyncio
import dataclasses
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec

from rota.core.events import Event
from rota.errors import DeniedError, UnavailableError
from rota.ports.blobs import Blobs
from rota.ports.clock import Clock
from rota.ports.journal import Journal
from rota.ports.logs import Logs
from rota.ports.store import Store
from rota.service.search import Searches
from rota.service.verbs import Role
from rota.service.world import World

#: How long an answer waits for this agent to have folded what it wrote itself. Usually 1 ms.
FOLD_TIMEOUT_S = 5.0


class Principal(msgspec.Struct, frozen=True):
    """Who asks: a name for the record, a role, and the build it speaks from, if any."""

    name: str
    role: Role
    build: str = ""

    def require(self, role: Role, what: str) -> None:
        """Do nothing if the principal may.

        Raises:
            DeniedError: it may not.
        """
        if self.role < role:
            raise DeniedError(
                f"{self.name} is a {self.role.name.lower()}; {what} needs a {role.name.lower()}",
                known=True,
            )


class Attempts(Protocol):
    """The attempts that run on this agent, as far as the verbs touch them."""

    async def send(self, build: str, data: bytes, *, eof: bool) -> None:
        """Write to the standard input of a build that runs here."""
        ...


class Myself(msgspec.Struct, frozen=True, kw_only=True):
    """This agent, as it was started."""

    name: str
    version: str
    pid: int
    data: Path
    labels: dict[str, str]
    slots: int


@dataclasses.dataclass(kw_only=True)
class Service:
    """All that a verb's handler may use. Made once by the composition root."""

    me: Myself
    world: World
    journal: Journal
    logs: Logs
    blobs: Blobs
    store: Store
    clock: Clock
    attempts: Attempts
    reload: Callable[[str], Awaitable[None]]  # definitions follow `main`; takes who moved it
    stop: Callable[[], None]
    url: str = ""
    searches: Searches = dataclasses.field(default_factory=Searches)
    #: What must not be done twice at a time on this agent, by name: see :meth:`turn`.
    turns: weakref.WeakValueDictionary[str, asyncio.Lock] = dataclasses.field(
        default_factory=weakref.WeakValueDictionary
    )

    def turn(self, name: str) -> asyncio.Lock:
        """Return the lock under which those who do the same on this agent take turns.

        It spares them the races they would lose at the store or journal; those with other agents
        remain, and are decided there.
        """
        return self.turns.setdefault(name, asyncio.Lock())

    async def write(self, event: Event, *, expect: int | None = None) -> int:
        """Append an event and return its sequence once this agent has folded it.

        So what a caller is told is what the next reader here sees.
        """
        seq = await self.journal.append(event, expect=expect)
        try:
            await self.world.reached(seq, FOLD_TIMEOUT_S)
        except TimeoutError as error:
            raise UnavailableError(
                f"event {seq} was written, but this agent lags behind the journal",
                hint="the request was taken; look again in a moment: rota ps",
            ) from error
        return seq
