"""Brings what needed builds left into the workspace of the build that needs it, before its script."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from rota.agent.patience import DELAYS_S
from rota.agent.stages import NOTHING, Ending, Left, Underway
from rota.core.build import Artifact, Build, Edge
from rota.core.cases import OWN
from rota.core.gates import name
from rota.core.globs import matches
from rota.errors import ExecutionError, NotFoundError, UnavailableError
from rota.ports.executor import Task
from rota.service import artifacts
from rota.service.context import Principal, Service
from rota.service.messages import ArtifactRequest
from rota.service.verbs import Role
from rota.service.world import World


class Needed:
    """The stage that brings them."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def concerns(self, build: Build) -> bool:
        """Whether it takes anything of what it needs."""
        return any(edge.artifacts for edge in build.needs)

    async def before(self, under: Underway, task: Task) -> Task:
        """Bring them.

        Raises:
            ExecutionError: as :func:`bring_artifacts`.
        """
        await bring_artifacts(self._service, under.build, under.work)
        return task

    async def resume(self, under: Underway, task: Task) -> Task:
        """Do nothing: they are there."""
        return task

    async def after(self, under: Underway, ending: Ending) -> Left:
        """Do nothing: they are part of the workspace."""
        return NOTHING


async def bring_artifacts(service: Service, build: Build, workspace: Path) -> None:
    """Write what the needs of ``build`` name below ``workspace``; each file is whole, or not there.

    Raises:
        ExecutionError: nothing matches, two builds left different files of one name, one is no
            longer kept, or the disk cannot take it.
    """
    brought: dict[str, tuple[str, Artifact]] = {}
    for edge in build.needs:
        for pattern in edge.artifacts:
            found = list(_matching(service.world, edge, pattern))
            if not found:
                raise ExecutionError(f"{name(edge)} left nothing that matches {pattern!r}")
            for left, artifact in found:
                there = brought.setdefault(artifact.path, (left.ref, artifact))
                if there[1].sha256 != artifact.sha256:
                    raise ExecutionError(
                        f"{there[0]} and {left.ref} both left {artifact.path!r}, and not the same"
                    )
                if there[0] == left.ref:
                    await _bring(service, left, artifact, workspace)


def _matching(world: World, edge: Edge, pattern: str) -> Iterator[tuple[Build, Artifact]]:
    """Yield what a needed build left, or the builds of a needed group."""
    found = world.find(edge.build)
    if found is None:
        return
    cells = found.group.cells if found.group is not None else ()
    for each in [found, *(it for cell in cells if (it := world.find(cell.build)) is not None)]:
        for artifact in each.artifacts:
            if _is_meant(artifact.path, pattern):
                yield each, artifact


def _is_meant(path: str, pattern: str) -> bool:
    """Whether a glob means an artifact: `**` means what the build left, not what rota keeps of it."""
    return matches(path, pattern) and (not path.startswith(OWN) or pattern.startswith(OWN))


async def _bring(service: Service, left: Build, artifact: Artifact, workspace: Path) -> None:
    target = workspace / artifact.path
    me = Principal(name=service.me.name, role=Role.ADMIN)
    request = ArtifactRequest(build=left.id, path=artifact.path)

    async def write() -> None:
        _, pieces = await artifacts.artifact(service, request, me)
        # Its hash is looked at on the way, and its last piece held back until that is right.
        async with contextlib.aclosing(pieces):
            with target.open("wb") as file:
                async for piece in pieces:
                    file.write(piece)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for delay_s in DELAYS_S:
            with contextlib.suppress(UnavailableError):
                return await write()
            await asyncio.sleep(delay_s)
        await write()
    except OSError as error:
        raise ExecutionError(f"cannot write {artifact.path!r}: {error.strerror}") from error
    except (NotFoundError, UnavailableError) as error:
        raise ExecutionError(
            f"cannot bring {artifact.path!r} of {left.ref}: {error.message}"
        ) from error
