"""The workspaces on this agent that people may enter: of attempts that run, and those that are kept."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec.structs import replace

from rota.agent.caching import HOME, in_home
from rota.agent.runner import Active, Runner
from rota.agent.stages import Stage, Underway
from rota.agent.workspaces import Workspaces
from rota.core.build import Build
from rota.core.kept import Kept
from rota.core.masks import Masks
from rota.errors import ConflictError, ExecutionError, RotaError
from rota.ports.containers import Containers
from rota.ports.executor import Executor, Task
from rota.ports.session import Session, Tty

logger = logging.getLogger(__name__)

#: In the environment of all that runs in shells of one agent: by it, what a killed daemon left is found.
MARKER = "ROTA_SHELL_OF"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """See :class:`rota.service.context.Place`."""

    task: Task
    executor: Executor
    workspaces: Workspaces
    containers: Containers | None = None
    kept: Kept | None = None
    active: Active | None = None
    missing: tuple[str, ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether its attempt runs."""
        return self.active is not None

    @property
    def is_over(self) -> bool:
        """Whether its attempt has ended meanwhile."""
        active = self.active
        return active is not None and (active.is_script_over or active.stopped_for is not None)

    @contextlib.asynccontextmanager
    async def inside(self, argv: tuple[str, ...], tty: Tty | None) -> AsyncIterator[Session]:
        """Run a program there for as long as the context is open."""
        with self.workspaces.inside(self.kept) if self.kept else contextlib.nullcontext():
            session = await self.executor.enter(self.task, argv, tty)
            try:
                yield session
            finally:
                try:
                    await session.end()
                    if self.kept is not None and self.task.container and self.containers:
                        # What the container's user made would be in the way of its removal.
                        await self.containers.reclaim([self.task.home])
                except RotaError as error:
                    logger.warning("a shell is not ended: %s", error.message)


@dataclasses.dataclass(kw_only=True)
class Entrance:
    """See :class:`rota.service.context.Entrance`."""

    runner: Runner
    workspaces: Workspaces
    executor: Executor
    data: Path
    contained: Stage | None = None
    containers: Containers | None = None

    async def place(self, build: Build, attempt: int) -> Place | None:
        """Return the workspace of an attempt; ``None`` if there is none here.

        Raises:
            ConflictError: it is being made ready.
        """
        active = self.runner.active.get(build.id)
        if active is not None and active.build.attempt == attempt:
            if active.task is None or active.running is None:
                raise ConflictError(
                    f"the workspace of {build.ref} is being made ready",
                    hint="try again in a moment; what is done: rota log -f " + repr(build.ref),
                )
            return self._made(active.build, active.task, active=active)
        kept = self.workspaces.find(build.id, attempt)
        if kept is None:
            return None
        home = self.workspaces.home(kept)
        task = self.runner.task_of(replace(build, attempt=attempt), home)
        if build.spec.container is not None:
            task = await self._contained(replace(build, attempt=attempt), home, task)
        elif (home / HOME).is_dir():
            task = replace(task, env=in_home(task.env, home / HOME))
        return self._made(build, task, kept=kept)

    async def _contained(self, build: Build, home: Path, task: Task) -> Task:
        """Return the task of a build that ran in a container, as far as that can be made again.

        Its services are gone, and the network that it shared with them.
        """
        if self.contained is None or self.containers is None:
            raise ExecutionError(f"{build.ref} ran in a container, and there is no engine here now")
        under = Underway(build=build, home=home, masks=Masks())
        task = await self.contained.resume(under, task)
        if build.spec.services and task.container is not None:
            settings = self.runner.world.definitions.settings
            is_cut = "none" in (build.spec.network, settings.isolation.network)
            container = replace(task.container, network="none" if is_cut else "bridge", aliases=())
            task = replace(task, container=container)
        return task

    def _made(
        self, build: Build, task: Task, *, kept: Kept | None = None, active: Active | None = None
    ) -> Place:
        name, _, value = self._marker.partition("=")
        secret = tuple(sorted({use.env for use in build.spec.secrets if use.env}))
        env = {it: text for it, text in task.env.items() if it not in secret}
        return Place(
            task=replace(task, env={**env, name: value}),
            executor=self.executor,
            workspaces=self.workspaces,
            containers=self.containers,
            kept=kept,
            active=active,
            missing=secret,
        )

    async def end_left(self) -> None:
        """End what a former daemon, which was killed, left running of shells."""
        home = self.data / "builds" / ".shells"  # there is none: it is known by its marker alone
        task = Task(home=home, argv=(), cwd=home, env={}, marker=self._marker)
        try:
            running = await self.executor.adopt(task)
            await running.terminate(0)
        except RotaError as error:
            logger.warning("cannot end what is left of shells: %s", error.message)

    @property
    def _marker(self) -> str:
        return f"{MARKER}={hashlib.sha256(str(self.data).encode()).hexdigest()[:24]}"
