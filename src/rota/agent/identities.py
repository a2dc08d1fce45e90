"""Keeps this agent in possession of the key that the secrets on ``main`` are encrypted for.

Who changes the key hands it to the others first; who was away then asks for it here, as soon as it
sees on ``main`` that there is another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from rota.errors import RotaError
from rota.service.secrets import StoreSecrets
from rota.service.world import World

logger = logging.getLogger(__name__)

FIRST_S, LAST_S = 0.5, 60.0


class Identities:
    """Asks other members for the present identity while this agent lacks it."""

    def __init__(self, world: World, secrets: StoreSecrets) -> None:
        self._world, self._secrets = world, secrets
        self._wake = asyncio.Event()

    def changed(self) -> None:
        """The definitions are others."""
        self._wake.set()

    async def run(self) -> None:
        """Ask whenever the key is missing, for ever."""
        wait_s = FIRST_S
        while True:
            self._wake.clear()
            if self._has():
                wait_s = FIRST_S
                await self._wake.wait()
                continue
            with contextlib.suppress(RotaError):
                await self._secrets.fetch()
            if self._has():
                logger.info("the key of the cluster's secrets came from another member")
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait_s)
            wait_s = min(LAST_S, wait_s * 2)

    def _has(self) -> bool:
        recipient = self._world.definitions.recipient
        try:
            return not recipient or recipient in self._secrets.safe.recipients()
        except RotaError as error:
            logger.warning("%s", error.message)
            return False
