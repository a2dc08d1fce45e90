"""A leader's duties: tasks that run while this agent leads by one election, and not a moment longer.

What they write is fenced by that. Elected once more, it begins them anew: one of them may have been refused
in between, and waits for its end.
"""

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
            if election := self._leadership.election:
                await self._while_leading(election)
                continue
            await self._changed.wait()
            self._changed.clear()

    async def _while_leading(self, election: int) -> None:
        tasks: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:
            tasks += (group.create_task(duty(), name=duty.__name__) for duty in self._duties)
            while self._leadership.election == election:
                await self._changed.wait()
                self._changed.clear()
            for task in tasks:
                task.cancel()
