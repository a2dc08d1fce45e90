"""Gives this agent another key while it runs, so that nobody is disconnected and nothing is lost.

A new key is made and kept on disk, its pin is announced in the journal, every other member says that
it has written that down, the key is used, and the journal says so: then the former one opens nothing
any more. Each step stands on disk or in the journal, so whatever ends the daemon in between, the
next one goes on (:meth:`KeyChange.go_on`).

Every member has to say so, not only those that are up: one that was away, and came back knowing keys
that nobody shows any more, could reach nobody who would tell it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from rota.agent.patience import persist
from rota.core.agents import Agent
from rota.core.events import AgentKeyMade, AgentKeyTaken
from rota.errors import ConflictError, RotaError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.credentials import Credentials
from rota.ports.journal import Journal
from rota.ports.keyring import Keyring
from rota.ports.peers import Peer
from rota.service.world import World

logger = logging.getLogger(__name__)

#: The level at which all members know what the events of a change mean.
LEVEL = 2
#: How long members may take to say that they know the new key, before it is left for later.
KNOWN_S = 20.0
LOOK_S = 0.2
FOLD_S = 10.0

#: Has a certificate signed for a request (both PEM).
Certify = Callable[[bytes], Awaitable[bytes]]


class KeyChange:
    """This agent's change of its key.

    ``kept_by`` asks a peer which pins it has written down; ``switched`` lets all that has loaded the
    former key load the new one.
    """

    def __init__(
        self,
        *,
        name: str,
        world: World,
        journal: Journal,
        keyring: Keyring,
        clock: Clock,
        certify: Certify,
        kept_by: Callable[[Peer], Awaitable[Collection[str]]],
        switched: Callable[[Credentials], None],
    ) -> None:
        self._name, self._world, self._journal = name, world, journal
        self._keyring, self._clock = keyring, clock
        self._certify, self._kept_by, self._switched = certify, kept_by, switched
        self._lock = asyncio.Lock()

    def why_not(self) -> str:
        """Return in words why the key cannot be changed now; empty if it can."""
        if self._world.cluster.picture.level < LEVEL:
            return "an agent of the cluster runs a version that does not know of changed keys"
        away = [it.name for it in self._others() if not it.is_up]
        if away:
            return (
                f"{', '.join(sorted(away))} could not be told of the new key, and would not know"
                f" {self._name} when it is back"
            )
        return ""

    @property
    def is_another_at_it(self) -> bool:
        """Whether another agent changes its key now; voters do it better one after the other."""
        return any(it.coming for it in self._others())

    async def change(self, by: str = "") -> str:
        """Change the key, and return the pin of the new one.

        Raises:
            ConflictError: it cannot be done now; nothing was changed.
            UnavailableError: a member does not say that it knows the new key. It is announced, and
                used as soon as all do.
        """
        async with self._lock:
            await self._go_on()
            if why := self.why_not():
                raise ConflictError(
                    f"the key of {self._name} stays: {why}",
                    hint="let them be up, or have those forgotten that are gone:"
                    " rota agents --forget NAME",
                )
            request = await asyncio.to_thread(self._keyring.prepare, self._name)
            cert = await self._certify(request)
            pin = await asyncio.to_thread(self._keyring.prepared, cert)
            await self._announce(pin, by)
            await self._use(pin)
            return pin

    async def go_on(self) -> None:
        """Finish what was begun, by this daemon or the one before it.

        Raises:
            UnavailableError: it has to be tried again later.
        """
        async with self._lock:
            await self._go_on()

    async def _go_on(self) -> None:
        myself = self._world.cluster.picture.agents.get(self._name)
        if myself is None:
            return
        prepared, own = self._keyring.coming(), self._keyring.present().pin
        if myself.coming and myself.coming == own:
            await self._say_taken(own)
        elif myself.coming and myself.coming == prepared:
            await self._use(prepared)
        elif myself.coming:
            logger.warning("the next key of %s is not there any more: it is taken back", self._name)
            await self._announce("", "")
        elif prepared:
            self._keyring.drop_coming()  # made, and nobody was told

    async def _use(self, pin: str) -> None:
        await self._until_known(pin)
        # Two renames in one turn of the loop: nobody here reads a key and another's certificate.
        self._switched(self._keyring.switch())
        await self._say_taken(pin)
        logger.info("%s has another key: %s", self._name, pin[:16])

    async def _announce(self, pin: str, by: str) -> None:
        event = AgentKeyMade(at=self._clock.now(), by=by or self._name, agent=self._name, pin=pin)
        await self._say(event)

    async def _say_taken(self, pin: str) -> None:
        await self._say(
            AgentKeyTaken(at=self._clock.now(), by=self._name, agent=self._name, pin=pin)
        )

    async def _say(self, event: AgentKeyMade | AgentKeyTaken) -> None:
        seq = await persist("key", lambda: self._journal.append(event))
        try:
            await self._world.reached(seq, FOLD_S)
        except TimeoutError as error:
            raise UnavailableError("this agent lags behind the journal") from error

    async def _until_known(self, pin: str) -> None:
        end = self._clock.monotonic() + KNOWN_S
        while missing := await self._missing(pin):
            if self._clock.monotonic() > end:
                raise UnavailableError(
                    f"the new key of {self._name} is announced and not used yet:"
                    f" {', '.join(missing)} did not say that it knows it",
                    hint="it is used as soon as all do; one that is gone for good:"
                    " rota agents --forget NAME",
                )
            await asyncio.sleep(LOOK_S)

    async def _missing(self, pin: str) -> list[str]:
        """Return the other members that have not written the pin down, as far as they say."""
        others = self._others()
        known = await asyncio.gather(*(self._knows(it, pin) for it in others))
        return sorted(it.name for it, knows in zip(others, known, strict=True) if not knows)

    async def _knows(self, agent: Agent, pin: str) -> bool:
        try:
            return pin in await self._kept_by(Peer(agent.name, agent.peer, agent.pin, agent.coming))
        except RotaError as error:
            logger.debug("%s: %s", agent.name, error.message)
            return False

    def _others(self) -> list[Agent]:
        agents = self._world.cluster.picture.agents.values()
        return [it for it in agents if it.name != self._name and it.pin]
