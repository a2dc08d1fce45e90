"""Keeps this agent's certificate fresh while it runs: renewed when a third of its life is left.

With it comes another key, if the settings and the other members allow that; if they do not until a
sixth is left, the certificate alone is renewed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from rota.agent.keys import KeyChange
from rota.core.certificate import LATE
from rota.errors import RotaError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.keyring import Keyring
from rota.service.world import World

logger = logging.getLogger(__name__)

#: By the clock, not by waiting until then: a machine that slept, or whose clock was set, is seen.
LOOK_S = 60.0
#: What is said of a certificate by `rota status`, under this name.
TROUBLE = "certificate"

#: Has a certificate signed by a member that holds the authority's key: request -> certificate (PEM).
Ask = Callable[[bytes], Awaitable[bytes]]


class Certificates:
    """The agent's certificate. :meth:`run` is its task.

    ``hosts`` are the names and addresses it is for; ``ask`` is for an agent that has not the key of
    the authority; ``renewed`` lets whoever has loaded the old one load the new one.
    """

    def __init__(
        self,
        *,
        name: str,
        hosts: Callable[[], Sequence[str]],
        world: World,
        keyring: Keyring,
        clock: Clock,
        ask: Ask,
        renewed: Callable[[], None],
        keys: KeyChange | None = None,
    ) -> None:
        self._name, self._hosts, self._world = name, hosts, world
        self._keyring, self._clock = keyring, clock
        self._ask, self._renewed = ask, renewed
        #: How the key is changed; without it, it stays.
        self.keys = keys

    async def run(self) -> None:
        """Look every minute, for ever; what goes wrong is a trouble of this agent."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Renew the certificate if it is due, and say so if it cannot be."""
        why = ""
        try:
            if self.keys is not None:
                await self.keys.go_on()
            present, now = self._keyring.present(), self._clock.now()
            if present.is_due(now, self._life):
                await self._renew(is_late=present.left(now) < self._life / LATE)
        except RotaError as error:
            why = error.told
            logger.warning("the certificate could not be renewed: %s", why)
        self._say(why)

    @property
    def _life(self) -> timedelta:
        return timedelta(seconds=self._world.definitions.settings.certificates.life_s)

    async def certify(self, request: bytes) -> bytes:
        """Return a certificate for this agent and the key of a request (both PEM)."""
        keyring = self._keyring
        if not keyring.is_authority:
            return await self._ask(request)
        return await asyncio.to_thread(keyring.sign, request, self._name, self._hosts(), self._life)

    async def _renew(self, *, is_late: bool) -> None:
        keyring, hosts, keys = self._keyring, self._hosts(), self.keys
        if keys is not None and self._world.definitions.settings.certificates.keys:
            if not keys.why_not() and not keys.is_another_at_it:
                await keys.change()
                return
            if not is_late:
                return
        if keyring.is_authority:
            await asyncio.to_thread(keyring.renew, self._name, hosts, self._life)
        else:
            cert = await self._ask(await asyncio.to_thread(keyring.request, self._name))
            await asyncio.to_thread(keyring.install, ca=keyring.ca(), ca_key=b"", cert=cert)
        self._renewed()
        logger.info("the certificate was renewed: it holds until %s", keyring.present().until)

    def _say(self, why: str) -> None:
        """Say it among the agent's troubles while its certificate is late."""
        try:
            present = self._keyring.present()
        except UnavailableError as error:
            self._world.troubles[TROUBLE] = error.told
            return
        left = present.left(self._clock.now())
        if left > self._life / LATE:
            self._world.troubles.pop(TROUBLE, None)
            return
        is_over = left <= timedelta(0)
        said = (
            f"the certificate of {self._name} {'ended' if is_over else 'ends'} at {present.until}"
        )
        self._world.troubles[TROUBLE] = f"{said}; {why}" if why else said
