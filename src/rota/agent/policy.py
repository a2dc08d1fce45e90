"""A leader's duty: what the settings say of limits stands in the journal, so that the fold knows it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from rota.core.policy import Policy
from rota.core.settings import policy_of
from rota.errors import StaleError
from rota.ports.store import MAIN
from rota.service.world import World

FOLD_S = 5.0

Record = Callable[[Policy], Awaitable[int]]


class PolicyWriter:
    """Writes it down for as long as this agent leads; :meth:`keep_policy` is the duty.

    ``record`` appends ``limits.set``, fenced by the lease, and returns its sequence.
    """

    def __init__(self, world: World, record: Record) -> None:
        self._world, self._record = world, record
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """The definitions are others by now, or somebody wrote a policy."""
        self._changed.set()

    async def keep_policy(self) -> None:
        """Keep the journal's policy at what the settings say, for ever."""
        while True:
            self._changed.clear()
            wanted = policy_of(self._world.definitions.settings)
            if self._is_up_to_date() and wanted != self._world.cluster.picture.policy:
                # Refused where another agent leads by now: this one is told so in a moment.
                with contextlib.suppress(StaleError, TimeoutError):
                    await self._world.reached(await self._record(wanted), FOLD_S)
                    continue
            await self._changed.wait()

    def _is_up_to_date(self) -> bool:
        """Whether the settings are those of the last `main` that the journal names."""
        newest = self._world.cluster.picture.refs.get(MAIN, self._world.commit)
        return self._world.commit == newest
