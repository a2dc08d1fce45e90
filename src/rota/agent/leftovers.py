"""Stores the files that a job's header names as artifacts, once its script has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rota.agent.matching import bytes_of, is_inside, matching_files
from rota.agent.stages import NOTHING, Ending, Left, Underway
from rota.core.build import Build
from rota.core.masks import Masks
from rota.errors import RotaError
from rota.ports.executor import Task
from rota.service import artifacts
from rota.service.context import Principal, Service
from rota.service.messages import ArtifactRequest
from rota.service.verbs import Role

#: So many faults are told one by one.
MAX_FAULTS = 5


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
    root, found = await asyncio.to_thread(_found, workspace, build.spec.artifacts)
    faults = [f"artifacts: nothing matches {glob!r}" for glob, paths in found.items() if not paths]
    chosen = list(dict.fromkeys(path for paths in found.values() for path in paths))
    if len(chosen) > artifacts.MAX_ARTIFACTS:
        count, limit = len(chosen), artifacts.MAX_ARTIFACTS
        faults.append(f"artifacts: {count} files match, the first {limit} are kept; pack them")
        del chosen[limit:]
    failed: list[str] = []
    for path in chosen:
        if masks.text(path) != path:
            failed.append(f"artifact {masks.text(path)}: a secret is in its name")
            continue
        request = ArtifactRequest(build=build.id, path=path)
        try:
            await artifacts.keep(service, request, me, bytes_of(workspace / path, root))
        except RotaError as error:
            name = path if path.isprintable() else ascii(path)
            failed.append(f"artifact {name}: {error.message}")
    if len(failed) > MAX_FAULTS:
        failed[MAX_FAULTS:] = [f"and {len(failed) - MAX_FAULTS} more"]
    return faults + failed


def _found(workspace: Path, globs: Sequence[str]) -> tuple[Path, dict[str, list[str]]]:
    """Return the resolved workspace, and what matches and is in it, whatever links there are."""
    root = workspace.resolve()
    found = matching_files(workspace, globs)
    return root, {
        glob: [path for path in paths if is_inside(workspace / path, root)]
        for glob, paths in found.items()
    }
