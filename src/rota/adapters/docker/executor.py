"""Starts attempts in containers, and adopts them from their homes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

from rota.adapters.docker.attempt import AWAY_S, LOOK_S, ContainerAttempt, remove
from rota.adapters.docker.body import container_body
from rota.adapters.docker.engine import Engine
from rota.adapters.docker.home import FOLDER, Home, Record
from rota.adapters.docker.interpreter import check
from rota.adapters.docker.owner import give
from rota.adapters.docker.session import ContainerSession, enter
from rota.adapters.docker.shell import Shell, bring
from rota.errors import ConflictError, ExecutionError, NotFoundError, RotaError, UnavailableError
from rota.homes.drain import Drain
from rota.homes.guard import moment
from rota.homes.lease import Lease
from rota.homes.stdin import ScriptInput
from rota.ports.executor import Container, Task
from rota.ports.session import Tty

#: For removals that are under way when the agent stops; what is left is found at its next start.
REMOVAL_S = 5.0
_GUARD = "rota.adapters.docker.guard"
_LOOK_S = 0.002  # until sh has come to begin the script, which takes about 5 ms


class ContainerExecutor:
    """Implements :class:`rota.ports.executor.Executor` for tasks that have a container.

    Args:
        engine: Which runs them.
        folder: Where copies of what is mounted into containers are kept; its own.
        send_timeout_s: How long a script may go without reading its standard input.
        away_s: How long the engine may be away until its containers are given up.
        look_s: How long it may say nothing until it is asked whether it is there.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        *,
        send_timeout_s: float = 5.0,
        away_s: float = AWAY_S,
        look_s: float = LOOK_S,
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._send_timeout_s = send_timeout_s
        self._away_s, self._look_s = away_s, look_s
        self._shell: Shell | None = None
        self._attempts: weakref.WeakSet[ContainerAttempt] = weakref.WeakSet()

    def moment(self) -> float:
        """Return the seconds since boot; they go on while the machine sleeps."""
        return moment()

    async def close(self) -> None:
        """Stop watching all attempts and leave them alone; who waits for one is cancelled."""
        await self.removed()
        for attempt in list(self._attempts):
            attempt.forget()

    async def removed(self) -> None:
        """Return once the containers of attempts that are over are removed, or a few seconds are."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REMOVAL_S):
                for attempt in list(self._attempts):
                    await attempt.removed()

    @staticmethod
    def has(home: Path) -> bool:
        """Say whether the attempt of ``home`` was started here."""
        return (home / FOLDER).is_dir()

    async def start(self, task: Task) -> ContainerAttempt:
        """Start ``task`` in a container.

        Raises:
            ExecutionError: home, script, image or engine is not as it must be. Nothing of it runs.
        """
        assert task.container is not None
        check(task)
        home, container = Home(task.home), task.container
        drain = Drain(home, keeps=True)
        record = Record(name=_name(task.home), called=container.called)
        shell = await self._brought()
        try:
            home.run.mkdir(mode=0o700)
            home.own.mkdir(mode=0o700)
            if task.stdin:
                ScriptInput.create(home)
            drain.begin()
            home.write("record", record)
        except OSError as error:
            drain.drop()
            raise ExecutionError(f"cannot start {task.argv[0]}: {error.strerror}") from error
        try:
            await self._begin(task, container, shell, record)
        except (RotaError, asyncio.CancelledError):
            drain.drop()
            await self._drop(record)
            raise
        attempt = self._attempt(task, drain, record, shell)
        try:
            await self._until_begun(attempt, home, record)
        except BaseException:
            drain.drop()
            attempt.forget()
            await self._drop(record)
            raise
        return attempt

    async def adopt(self, task: Task) -> ContainerAttempt:
        """Take over an attempt from its home, whether its container runs or ended meanwhile."""
        home = Home(task.home)
        shell, drain = await self._brought(), Drain(home, keeps=True)
        try:
            drain.adopt()
        except OSError as error:
            raise UnavailableError(f"cannot take over the output: {error.strerror}") from error
        return self._attempt(task, drain, home.record(), shell)

    async def enter(self, task: Task, argv: Sequence[str], tty: Tty | None) -> ContainerSession:
        """Start a program in the task's container; in one like it, if that is gone.

        Raises:
            ExecutionError: it could not be started; nothing of it runs.
        """
        return await enter(self._engine, await self._brought(), task, argv, tty)

    async def _begin(self, task: Task, container: Container, shell: Shell, record: Record) -> None:
        body = await asyncio.to_thread(container_body, task, container, shell)
        home = Home(task.home)
        lease = Lease(home)
        try:
            made = await self._engine.create(body, record.name)
        except ConflictError:
            # of a daemon that was killed before it came to start the script
            await remove(self._engine, record.name)
            made = await self._engine.create(body, record.name)
        except NotFoundError as error:
            raise ExecutionError(
                f"the image {container.called} is not there any more: {error.message}"
            ) from error
        await give(self._engine, made, container.user, task)
        if task.lease_until is not None:
            try:
                words = (str(home.own.absolute()), record.name, str(self._engine.socket))
                await lease.begin(_GUARD, *words, until=task.lease_until)
            except OSError as error:
                raise ExecutionError(f"cannot guard the attempt: {error.strerror}") from error
        try:
            await self._engine.ask("POST", f"containers/{made}/start")
        except (NotFoundError, ConflictError):
            if not lease.has_expired:
                raise

    async def _until_begun(self, attempt: ContainerAttempt, home: Home, record: Record) -> None:
        """Wait until the script runs, which is a matter of milliseconds."""
        while not home.has_begun() and not attempt.has_ended:  # noqa: ASYNC110 - a file appears
            await asyncio.sleep(_LOOK_S)
        lacking = home.refused()
        if lacking:
            await attempt.wait()
            raise ExecutionError(
                f"the image {record.called} has no {lacking}, which runs the script",
                hint="take an image that has it, or change the script's first line",
            )

    async def _drop(self, record: Record) -> None:
        """Remove a container that did not come to begin; what cannot be is found at the next start."""
        with contextlib.suppress(RotaError):
            await asyncio.shield(remove(self._engine, record.name))

    def _attempt(
        self, task: Task, drain: Drain, record: Record | None, shell: Shell
    ) -> ContainerAttempt:
        attempt = ContainerAttempt(
            self._engine,
            Home(task.home),
            drain,
            record,
            shell,
            stdin=task.stdin,
            send_timeout_s=self._send_timeout_s,
            away_s=self._away_s,
            look_s=self._look_s,
        )
        attempt.watch()
        self._attempts.add(attempt)
        return attempt

    async def _brought(self) -> Shell:
        if self._shell is None or not self._shell.folder.exists():
            self._shell = await asyncio.to_thread(bring, self._folder)
        return self._shell


def _name(home: Path) -> str:
    """Return a name that no other attempt's container has, of this agent or another's."""
    told = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()
    return f"rota-{told[:20]}"
