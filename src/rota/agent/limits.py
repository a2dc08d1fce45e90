"""A leader's duty: what the settings allow logs to take is what the engine keeps of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from rota.agent.patience import persist
from rota.core.definitions import Definitions
from rota.core.retention import longest_logs_s
from rota.core.settings import Settings
from rota.service.world import World

logger = logging.getLogger(__name__)

Configure = Callable[[Settings], Awaitable[None]]


class Limits:
    """Tells the engine of the settings; one agent does, for all have the same engine."""

    def __init__(self, world: World, configure: Configure) -> None:
        self._world, self._configure = world, configure
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """The definitions are others by now."""
        self._changed.set()

    async def keep_limits(self) -> None:
        """Keep the engine's limits at what the settings say, for ever."""
        while True:
            self._changed.clear()
            wanted = for_the_engine(self._world.definitions)
            await persist("limits", lambda: self._configure(wanted))  # noqa: B023 - awaited within the turn
            await self._changed.wait()


def for_the_engine(definitions: Definitions) -> Settings:
    """Return the settings with logs kept as long as any job wants; the sweeper ends the others."""
    settings = definitions.settings
    jobs = (definition.job for definition in definitions.jobs.values())
    logs = replace(settings.logs, max_age_s=longest_logs_s(settings, jobs))
    return replace(settings, logs=logs)
