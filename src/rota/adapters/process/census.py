"""Looks at all processes, once for all attempts that ask."""

from __future__ import annotations

import asyncio

from rota.adapters.process import proc
from rota.adapters.process.proc import Process


class Census:
    """Looks at all of ``/proc``, in a thread, at most once an ``interval_s`` for all who ask.

    Whoever asks while others wait gets the same look; none gets one begun before it asked.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._turn = asyncio.Lock()
        self._begun = float("-inf")
        self._asking = 0
        self._seen: list[Process] = []

    async def take(self) -> list[Process]:
        """Return all processes of this machine, as they are after the call."""
        asked = asyncio.get_running_loop().time()
        self._asking += 1
        try:
            async with self._turn:
                if self._begun < asked:
                    await self._look()
                return self._seen
        finally:
            self._asking -= 1
            if not self._asking:
                self._seen = []  # environments of all processes: a megabyte nobody needs

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._begun + self._interval_s - loop.time())
        self._begun = loop.time()
        self._seen = await asyncio.to_thread(lambda: proc.sweep(proc.all_pids()))
