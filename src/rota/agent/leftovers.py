"""Stores the files that a job's header names as artifacts, once its script has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from rota.agent.stages import NOTHING, Ending, Left, Underway
from rota.core.build import Build
from rota.core.masks import Masks
from rota.errors import RotaError
from rota.ports.executor import Task
from rota.service import artifacts
from rota.service.context import Principal, Service
from rota.service.messages import ArtifactRequest
from rota.service.verbs import Role

PIECE = 512 * 1024


class Leftovers:
    """The stage that stores artifacts, whatever became of the script."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def concerns(self, build: Build) -> bool:
        """Whether its header names artifacts."""
        return bool(build.spec.artifacts)

    async def before(self, under: Underway, task: Task) -> Task:
        """Do nothing."""
        return task

    async def resume(self, under: Underway, task: Task) -> Task:
        """Do nothing."""
        return task

    async def after(self, under: Underway, ending: Ending) -> Left:
        """Store them, if there was a script that could leave some."""
        if ending.exit is None:
            return NOTHING
        return Left(
            faults=tuple(await keep_artifacts(self._service, under.build, under.work, under.masks))
        )


async def keep_artifacts(
    service: Service, build: Build, workspace: Path, masks: Masks
) -> list[str]:
    """Store what matches the header's globs; return what could not be stored, in words."""
    me = Principal(name=service.me.name, role=Role.ADMIN, build=build.id)
    faults: list[str] = []
    for pattern in build.spec.artifacts:
        found = await asyncio.to_thread(_files, workspace, pattern)
        if not found:
            faults.append(f"artifacts: nothing matches {pattern!r}")
        for path in found:
            request = ArtifactRequest(build=build.id, path=str(path.relative_to(workspace)))
            if masks.text(request.path) != request.path:
                faults.append(f"artifact {masks.text(request.path)}: a secret is in its name")
                continue
            try:
                await artifacts.keep(service, request, me, _bytes(path))
            except (RotaError, OSError) as error:
                faults.append(f"artifact {request.path}: {error}")
    return faults


def _files(workspace: Path, pattern: str) -> list[Path]:
    """Return the regular files that match; a link that leads out of the workspace is none of ours."""
    root = workspace.resolve()
    return sorted(
        path
        for path in workspace.glob(pattern)
        if path.is_file() and path.resolve().is_relative_to(root)
    )


async def _bytes(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
