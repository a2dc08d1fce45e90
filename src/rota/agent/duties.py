"""A leader's duties: tasks that run while this agent leads, and not a moment longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

from rota.agent.leadership import Leadership

Duty = Callable[[], Coroutine[None, None, None]]


class Duties:
    """Starts them when the lease is ours, ends them when it is not. :meth:`run` is its task."""

    def __init__(self, leadership: Leadership, duties: Sequence[Duty]) -> None:
        self._leadership, self._duties = leadership, duties
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Look whether this agent leads."""
        self._changed.set()

    async def run(self) -> None:
        """Keep them in step with the lease, for ever."""
        while True:
            if self._leadership.leads:
                await self._while_leading()
            await self._changed.wait()
            self._changed.clear()

    async def _while_leading(self) -> None:
        tasks: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:
            tasks += (group.create_task(duty(), name=duty.__name__) for duty in self._duties)
            while self._leadership.leads:
                await self._changed.wait()
                self._changed.clear()
            for task in tasks:
                task.cancel()
