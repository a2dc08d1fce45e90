"""Verbs on artifacts: list, read, keep."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from rota.core.build import Artifact, Build
from rota.core.events import ArtifactKept
from rota.core.promotions import promoted_as
from rota.core.retention import by_rule
from rota.core.states import State
from rota.errors import ConflictError, InputError, NotFoundError, StaleError, UnavailableError
from rota.service import messages as m
from rota.service.builds import build, find_build, newer
from rota.service.context import Principal, Service

MAX_PATH = 500
MAX_ARTIFACTS = 500
TRIES = 20
#: Questions to the engine at the same time.
AT_ONCE = 16


async def artifacts(
    service: Service, request: m.BuildRequest, who: Principal
) -> list[m.ArtifactView]:
    """List what a build left; with ``wait``, once it has finished or the time is over.

    Whether each is still there the engine is asked, so that every agent says the same.
    """
    found = await build(service, request, who)
    left = sorted(found.artifacts, key=lambda artifact: artifact.path)
    there = await is_there(service, found, left)
    why = _removal(service, found)
    promoted = service.world.definitions.promoted
    return [
        m.ArtifactView(
            path=it.path,
            size=it.size,
            sha256=it.sha256,
            kept_at=it.kept_at,
            promoted=promoted_as(promoted, found.id, it.path) or "",
            removed="" if is_so else why,
        )
        for it, is_so in zip(left, there, strict=True)
    ]


async def is_there(service: Service, build: Build, left: Sequence[Artifact]) -> list[bool]:
    """Say of each artifact whether its bytes are there. Cost: a round trip for each sixteen."""
    there: list[bool] = []
    for at in range(0, len(left), AT_ONCE):
        some = [blob_name(build.id, artifact.path) for artifact in left[at : at + AT_ONCE]]
        found = await asyncio.gather(*map(service.blobs.find, some))
        there += (blob is not None for blob in found)
    return there


def _holder(service: Service, build: Build) -> str:
    """Return who may have kept a build's artifacts while it was alone; empty if nobody has.

    Until it has handed them over nobody else finds them.
    """
    if service.world.removed(build.id).artifacts_at is not None:
        return ""
    agent = service.world.cluster.picture.agents.get(build.agent or "")
    is_other = agent is not None and agent.is_up and agent.name != service.me.name
    return build.agent or "" if is_other else ""


def _removal(service: Service, build: Build) -> str:
    """Return how artifacts that are not there went, as the end of a sentence."""
    known = service.world.removed(build.id)
    if holder := _holder(service, build):
        return f"on its way from {holder}"
    if known.artifacts_at is None:
        return "removed"
    return f"removed on {known.artifacts_at:%Y-%m-%d} by {by_rule(known.artifacts)}"


async def artifact(
    service: Service, request: m.ArtifactRequest, who: Principal, *, offset: int = 0
) -> tuple[Artifact, AsyncGenerator[bytes]]:
    """Return one artifact and its bytes from ``offset`` on.

    Read as a whole its hash is looked at; who reads a part has to do that with what came before.
    """
    found = find_build(service.world, request.build)
    for kept in found.artifacts:
        if kept.path == request.path:
            name = blob_name(found.id, kept.path)
            blob = await service.blobs.find(name)
            if blob is None and (agent := _holder(service, found)):
                raise UnavailableError(
                    f"{kept.path!r} of {found.ref} is still at {agent} alone, which hands it over",
                    hint="try again in a moment",
                )
            if blob is None:
                raise NotFoundError(f"{kept.path!r} of {found.ref} was {_removal(service, found)}")
            if offset and blob.sha256 == kept.sha256:
                return kept, service.blobs.get(name, offset)
            return kept, _whole(kept, service.blobs.get(name), offset)
    raise NotFoundError(
        f"{found.ref} left no {request.path!r}",
        hint=f"see what it left: rota artifacts {found.ref!r}",
    )


async def _whole(
    kept: Artifact, pieces: AsyncGenerator[bytes], offset: int = 0
) -> AsyncGenerator[bytes]:
    """Yield the bytes of ``kept`` and of no other upload of that path."""
    digest, size, loop = hashlib.sha256(), 0, asyncio.get_running_loop()
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            hashing = loop.run_in_executor(None, digest.update, piece)
            size += len(piece)
            part = piece[max(0, offset - size + len(piece)) :] if offset else piece
            if size < kept.size:
                if part:
                    yield part  # what is sent is hashed meanwhile
                await hashing
                continue
            await hashing
            # The last piece goes out once all is known to be right; what is longer is not.
            if size == kept.size and digest.hexdigest() == kept.sha256:
                if part:
                    yield part
                return
            break
    if size or kept.size:
        raise UnavailableError(f"{kept.path!r} was replaced while it was read; try again")


async def keep(
    service: Service, request: m.ArtifactRequest, who: Principal, data: AsyncIterator[bytes]
) -> Artifact:
    """Store a file as an artifact of a build that runs."""
    path = check_path(request.path)
    found = find_build(service.world, request.build)
    _refuse_unless_room(found, path)
    stays = promoted_as(service.world.definitions.promoted, found.id, path)
    if stays is not None:
        raise ConflictError(
            f"{path!r} of {found.ref} is promoted as {stays}, and stays as it is",
            hint="keep the new one under another name",
        )
    name = blob_name(found.id, path)
    async with service.turn(name):
        blob = await service.blobs.put(name, data)
        kept = Artifact(path=path, size=blob.size, sha256=blob.sha256)
        try:
            await _record(service, found, kept, who)
        except ConflictError:
            if not _has(service.world.find(found.id) or found, path):
                await service.blobs.drop(name)
            raise
    return kept


async def _record(service: Service, build: Build, kept: Artifact, who: Principal) -> None:
    async with service.turn(build.id):
        for _ in range(TRIES):
            build = service.world.find(build.id) or build
            _refuse_unless_room(build, kept.path)
            event = ArtifactKept(
                at=service.clock.now(),
                by=who.name,
                agent=service.me.name,
                build=build.id,
                artifact=kept,
            )
            try:
                await service.write(event, expect=build.last_seq)
            except StaleError:
                build = await newer(service, build)
                continue
            return
    raise UnavailableError(f"{build.ref} changes too fast; try again")


def _refuse_unless_room(build: Build, path: str) -> None:
    if build.state is not State.RUNNING:
        raise ConflictError(
            f"{build.ref} is {build.state}; only a running build keeps artifacts",
            hint="put them from within its script: rota artifacts put FILE",
        )
    if len(build.artifacts) >= MAX_ARTIFACTS and not _has(build, path):
        raise ConflictError(
            f"{build.ref} keeps {MAX_ARTIFACTS} artifacts already, which is the limit",
            hint="pack them: tar -czf all.tar.gz … && rota artifacts put all.tar.gz",
        )


def _has(build: Build, path: str) -> bool:
    return any(artifact.path == path for artifact in build.artifacts)


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
            f"the artifact's path has {len(plain)} characters, the limit is {MAX_PATH}",
            hint="a shorter one",
        )
    return plain
