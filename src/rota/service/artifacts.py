"""Verbs on artifacts: list, read, keep."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from rota.core.build import Artifact
from rota.core.events import ArtifactKept
from rota.core.states import State
from rota.errors import ConflictError, InputError, NotFoundError, StaleError, UnavailableError
from rota.service import messages as m
from rota.service.builds import find_build
from rota.service.context import Principal, Service

MAX_PATH = 500
MAX_ARTIFACTS = 500
TRIES = 20


async def artifacts(service: Service, request: m.BuildRequest, who: Principal) -> list[Artifact]:
    """List what a build left."""
    found = find_build(service.world, request.build)
    return sorted(found.artifacts, key=lambda artifact: artifact.path)


async def artifact(
    service: Service, request: m.ArtifactRequest, who: Principal
) -> tuple[Artifact, AsyncGenerator[bytes]]:
    """Return one artifact and its bytes."""
    found = find_build(service.world, request.build)
    for kept in found.artifacts:
        if kept.path == request.path:
            return kept, service.blobs.get(blob_name(found.id, kept.path))
    raise NotFoundError(
        f"{found.ref} left no {request.path!r}",
        hint=f"see what it left: rota artifacts {found.ref!r}",
    )


async def keep(
    service: Service, request: m.ArtifactRequest, who: Principal, data: AsyncIterator[bytes]
) -> Artifact:
    """Store a file as an artifact of a build that runs."""
    path = check_path(request.path)
    found = find_build(service.world, request.build)
    if found.state is not State.RUNNING:
        raise ConflictError(f"{found.ref} is {found.state}; only a running build keeps artifacts")
    if len(found.artifacts) >= MAX_ARTIFACTS:
        raise ConflictError(
            f"{found.ref} keeps {MAX_ARTIFACTS} artifacts already, which is the limit",
            hint="pack them: tar -czf all.tar.gz … && rota artifacts put all.tar.gz",
        )
    blob = await service.blobs.put(blob_name(found.id, path), data)
    kept = Artifact(path=path, size=blob.size, sha256=blob.sha256)
    for _ in range(TRIES):
        now = service.world.find(found.id) or found
        event = ArtifactKept(
            at=service.clock.now(),
            by=who.name,
            agent=service.me.name,
            build=found.id,
            artifact=kept,
        )
        try:
            await service.write(event, expect=now.last_seq)
        except StaleError:
            await service.world.changed(found.id, 0.2)
            continue
        return kept
    raise UnavailableError(f"{found.ref} changes too fast; try again")


def blob_name(build_id: str, path: str) -> str:
    """Return the name an artifact has among the blobs."""
    return f"{build_id}/{path}"


def check_path(path: str) -> str:
    """Return an artifact's path in its plain form.

    Raises:
        InputError: it is absolute, climbs out, is too long, or has unprintable characters.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    plain = "/".join(parts)
    if not plain or path.startswith("/") or ".." in parts or not plain.isprintable():
        raise InputError(
            f"bad artifact path {path!r}",
            hint="a relative path without .., such as dist/web.tar.gz",
        )
    if len(plain) > MAX_PATH:
        raise InputError(
            f"the artifact's path has {len(plain)} characters, the limit is {MAX_PATH}"
        )
    return plain
