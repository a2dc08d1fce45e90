"""All networks in one place: each runs by itself, is spoken on at its own pace, and never floods us."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec.structs import replace

from rota.chat.fit import fitted, plain
from rota.chat.pace import Bucket, Flood
from rota.core.chat_text import saying_id
from rota.errors import InputError, LaterError, RotaError
from rota.ports.chat_wire import HeardThat, Report, Standing
from rota.ports.networks import Abilities, Heard, Network, Said, Saying

logger = logging.getLogger(__name__)

#: How long somebody may wait for their turn on a network; more is refused at once, to be said later.
MAX_WAIT_S = 60.0
#: A network that will not take us is asked again after so long: somebody may have mended it.
AGAIN_S = 300.0
#: And after a fault of ours so much.
FAULT_S = 30.0
#: How often it is looked whether a network is connected.
LOOK_S = 0.5

Tell = Callable[[Report], Awaitable[None]]

#: What is heard is cut to so many characters; a person types less.
MAX_TEXT, MAX_NICK, MAX_ID = 8000, 60, 300


def bounded(heard: Heard) -> Heard:
    """Return what was heard in the bounds of what is passed on; nicks are one line."""
    name = heard.id
    if len(name) > MAX_ID:
        name = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
    return replace(
        heard,
        id=name,
        text=heard.text[:MAX_TEXT],
        nick=" ".join(plain(heard.nick).split())[:MAX_NICK] or "?",
        who=heard.who[:MAX_ID],
    )


class Station:
    """One network, with its pace."""

    def __init__(self, network: Network, tell: Tell) -> None:
        self.network, self._tell = network, tell
        self._flood = Flood()
        self._fast: asyncio.Queue[Heard] = asyncio.Queue()
        self._bucket = Bucket(network.abilities.every_s, network.abilities.burst)
        self._paced: Abilities = network.abilities
        self._turn = asyncio.Lock()
        self._refusal = ""
        self._not_before = 0.0

    @property
    def trouble(self) -> str:
        """Why it is not connected."""
        return self._refusal or self.network.trouble

    async def run(self, position: str) -> None:
        """Be on it, for ever; a fault in what speaks its protocol holds up no other network."""
        while True:
            try:
                await self._run(position)
            except* Exception:  # anything may be in code that reads what strangers write
                self._refusal = "a fault of the bot, see the log of the agent"
                logger.exception("%s", self.network.name)
                await self._tell(Standing(network=self.network.name, trouble=self._refusal))
            await asyncio.sleep(FAULT_S)
            self._refusal = ""

    async def _run(self, position: str) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._be_on(position), name=f"on {self.network.name}")
            group.create_task(self._listen(), name=f"hear {self.network.name}")
            group.create_task(self._watch(), name=f"watch {self.network.name}")
            group.create_task(self._slow_down(), name=f"slow down {self.network.name}")

    async def _be_on(self, position: str) -> None:
        while True:
            try:
                await self.network.run(position)
            except InputError as error:
                self._refusal = error.told
                logger.warning("%s: %s", self.network.name, self._refusal)
            await asyncio.sleep(AGAIN_S)
            self._refusal = ""

    async def _listen(self) -> None:
        clock = asyncio.get_running_loop()
        async for heard in self.network.heard():
            heard = bounded(heard)
            person = heard.who or heard.nick
            if self._flood.admits(person, heard.room, clock.time()):
                await self._tell(HeardThat(network=self.network.name, heard=heard))
            elif self._flood.is_to_tell(person, clock.time()):
                logger.warning("%s: %s writes too fast", self.network.name, heard.nick)
                self._fast.put_nowait(heard)

    async def _slow_down(self) -> None:
        """Tell who writes too fast; listening goes on meanwhile."""
        while True:
            heard = await self._fast.get()
            saying = Saying(
                id=saying_id("slow", self.network.name, heard.id),
                room=heard.room,
                thread=heard.thread,
                text=f"{heard.nick}: that is too fast for me; I go on listening in a moment",
            )
            try:
                await self.say(saying)
            except RotaError as error:
                logger.warning("%s: %s", self.network.name, error.message)

    async def _watch(self) -> None:
        known: str | None = None
        while True:
            if self.trouble != known:
                known = self.trouble
                await self._tell(Standing(network=self.network.name, trouble=known))
            await asyncio.sleep(LOOK_S)

    def refuse(self) -> None:
        """Fail on a network that will not take us.

        Other trouble may be one room's: the network says whether it concerns a message.

        Raises:
            LaterError: it will not.
        """
        if self._refusal:
            raise LaterError(f"{self.network.name}: {self._refusal}")

    async def say(self, saying: Saying, *, keep_first: bool = False) -> Said:
        """Say something when it is its turn.

        Raises:
            LaterError: it is not connected, or others have too much to say.
            InputError: it will never be taken.
        """
        self.refuse()
        clock, abilities = asyncio.get_running_loop(), self.network.abilities
        if abilities != self._paced:
            self._bucket, self._paced = Bucket(abilities.every_s, abilities.burst), abilities
        wait_s = max(self._bucket.take(clock.time()), self._not_before - clock.time())
        if wait_s > MAX_WAIT_S:
            self._bucket.give_back()
            raise LaterError(f"{self.network.name} is told too much at once", after_s=wait_s)
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        async with self._turn:
            try:
                return await self.network.say(fitted(saying, abilities, keep_first=keep_first))
            except LaterError as error:
                self._not_before = clock.time() + error.after_s
                raise


class Hub:
    """The networks, by name. Those that could not be made are known by why."""

    def __init__(self, networks: Sequence[Network], faults: Mapping[str, str], tell: Tell) -> None:
        self._stations = {it.name: Station(it, tell) for it in networks}
        self._faults, self._tell = faults, tell

    async def run(self, positions: Mapping[str, str]) -> None:
        """Be on all of them until cancelled."""
        for name, fault in self._faults.items():
            await self._tell(Standing(network=name, trouble=fault))
        async with asyncio.TaskGroup() as group:
            for name, station in self._stations.items():
                position = positions.get(name, "")
                group.create_task(station.run(position), name=name)

    def abilities(self, name: str) -> Abilities:
        """Return what a network can.

        Raises:
            InputError: there is none of that name.
        """
        return self._station(name).network.abilities

    async def say(self, name: str, saying: Saying, *, keep_first: bool = False) -> Said:
        """Say something; see :meth:`Station.say`."""
        return await self._station(name).say(saying, keep_first=keep_first)

    async def was_said(self, name: str, saying: Saying) -> bool | None:
        """See :meth:`rota.ports.networks.Network.was_said`."""
        station = self._station(name)
        station.refuse()
        return await station.network.was_said(fitted(saying, station.network.abilities))

    def _station(self, name: str) -> Station:
        if name in self._faults:
            raise LaterError(f"{name}: {self._faults[name]}", after_s=AGAIN_S)
        station = self._stations.get(name)
        if station is None:
            raise InputError(
                f"there is no network {name!r}",
                hint="known: " + (", ".join(self._stations) or "none"),
            )
        return station
