"""The twin of a network: rooms in memory, in which tests are the people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import msgspec

from rota.errors import InputError, LaterError
from rota.ports.networks import Abilities, Heard, Said, Saying

#: What a network can that keeps nobody waiting.
QUICK = Abilities(every_s=0.0, burst=1000, has_threads=True)

#: When the first message is written, where nobody has a clock.
START = datetime(2026, 1, 1, tzinfo=UTC)


class Spoken(msgspec.Struct, frozen=True):
    """What the server took, and from whom; ``n`` counts from 1."""

    n: int
    name: str
    saying: Saying


class MemoryServer:
    """What several connections of the twin see: everything is kept, nothing is forgotten.

    ``is_down`` cuts everybody off; ``refused`` has rooms that take nothing, with the reason;
    ``late_s`` is answered to whatever is said while it is not ``None``. ``forgets`` lets
    :meth:`MemoryNetwork.was_said` know nothing.
    """

    def __init__(self) -> None:
        self.said: list[Spoken] = []
        self.history: list[Heard] = []
        self.refused: dict[str, str] = {}
        self.late_s: float | None = None
        self.forgets = False
        self.ears: list[asyncio.Queue[Heard]] = []
        self.changed = asyncio.Event()
        self.now: Callable[[], datetime] = lambda: START + timedelta(seconds=len(self.history))
        self._is_down = False

    @property
    def is_down(self) -> bool:
        """Whether nobody is connected."""
        return self._is_down

    @is_down.setter
    def is_down(self, down: bool) -> None:
        self._is_down = down
        self._wake()

    def hear(
        self,
        text: str,
        *,
        room: str = "#room",
        who: str = "account:ann",
        nick: str = "ann",
        thread: str = "",
        is_direct: bool = False,
        name: str = "",
    ) -> Heard:
        """Let a person write something; return it as it is heard."""
        number = len(self.history) + 1
        heard = Heard(
            id=name or f"m{number}",
            room=room,
            thread=thread,
            who=who,
            nick=nick,
            text=text,
            at=self.now(),
            is_direct=is_direct,
            position=str(number),
        )
        self.history.append(heard)
        for ear in self.ears:
            ear.put_nowait(heard)
        return heard

    def texts(self, room: str = "") -> list[str]:
        """Return what was said, in one room or in all."""
        return [it.saying.text for it in self.said if not room or it.saying.room == room]

    async def until(self, count: int) -> None:
        """Wait until so many messages were said."""
        while len(self.said) < count:
            self.changed = asyncio.Event()
            await self.changed.wait()

    def take(self, name: str, saying: Saying) -> Spoken:
        """Let somebody say something."""
        spoken = Spoken(len(self.said) + 1, name, saying)
        self.said.append(spoken)
        self._wake()
        return spoken

    def _wake(self) -> None:
        self.changed.set()


class MemoryNetwork:
    """One connection; see :class:`rota.ports.networks.Network`."""

    def __init__(
        self,
        name: str,
        *,
        server: MemoryServer | None = None,
        abilities: Abilities = QUICK,
    ) -> None:
        self._name, self._abilities = name, abilities
        self.server = server or MemoryServer()
        self._ears: asyncio.Queue[Heard] = asyncio.Queue()
        self._is_on = False

    @property
    def name(self) -> str:
        """Its name in the settings."""
        return self._name

    @property
    def abilities(self) -> Abilities:
        """What it can."""
        return self._abilities

    @property
    def trouble(self) -> str:
        """Why it is not connected."""
        if self.server.is_down:
            return "the server is down"
        return "" if self._is_on else "not connected yet"

    async def run(self, position: str) -> None:
        """Be there until cancelled."""
        after = int(position) if position else len(self.server.history)
        for heard in self.server.history[after:]:
            self._ears.put_nowait(heard)
        self.server.ears.append(self._ears)
        self._is_on = True
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._is_on = False
            self.server.ears.remove(self._ears)

    async def heard(self) -> AsyncIterator[Heard]:
        """Yield what people write."""
        while True:
            yield await self._ears.get()

    async def say(self, saying: Saying) -> Said:
        """Say something."""
        self._refuse()
        if (why := self.server.refused.get(saying.room)) is not None:
            raise InputError(why)
        spoken = self.server.take(self._name, saying)
        return Said(id=f"s{spoken.n}", thread=saying.thread or f"s{spoken.n}")

    async def was_said(self, saying: Saying) -> bool | None:
        """Whether it was."""
        self._refuse()
        if self.server.forgets:
            return None
        return any(it.saying.id == saying.id for it in self.server.said)

    def _refuse(self) -> None:
        if self.trouble:
            raise LaterError(f"{self._name}: {self.trouble}")
        if self.server.late_s is not None:
            raise LaterError(f"{self._name}: slow down", after_s=self.server.late_s)
