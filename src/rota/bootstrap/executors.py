"""The executor of an agent: processes, or containers where a task names one."""

from __future__ import annotations

from collections.abc import Sequence

from rota.adapters.docker.executor import ContainerExecutor
from rota.ports.executor import Executor, Running, Task
from rota.ports.session import Session, Tty


class Executors:
    """Implements :class:`rota.ports.executor.Executor` with two others.

    Args:
        plain: Runs what is to run on this machine as it is.
        contained: Runs what is to run in a container.
    """

    def __init__(self, plain: Executor, contained: ContainerExecutor) -> None:
        self._plain = plain
        self._contained = contained

    def moment(self) -> float:
        """See :meth:`rota.ports.executor.Executor.moment`; all have the same clock."""
        return self._plain.moment()

    async def start(self, task: Task) -> Running:
        """See :meth:`rota.ports.executor.Executor.start`."""
        if task.container is not None:
            return await self._contained.start(task)
        return await self._plain.start(task)

    async def adopt(self, task: Task) -> Running:
        """See :meth:`rota.ports.executor.Executor.adopt`; its home says where it was started."""
        if self._contained.has(task.home):
            return await self._contained.adopt(task)
        return await self._plain.adopt(task)

    async def enter(self, task: Task, argv: Sequence[str], tty: Tty | None) -> Session:
        """See :meth:`rota.ports.executor.Executor.enter`."""
        if task.container is not None:
            return await self._contained.enter(task, argv, tty)
        return await self._plain.enter(task, argv, tty)
