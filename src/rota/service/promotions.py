"""Verbs on promotions: artifacts that were given a name, and stay under it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rota.core.build import Artifact, Build
from rota.core.definitions import Definitions
from rota.core.globs import matches
from rota.core.ids import job_of
from rota.core.promotions import (
    PROMOTED,
    Promotion,
    encode_promotion,
    pinned,
    promotion_name_fault,
)
from rota.core.rights import Role
from rota.core.states import State
from rota.errors import ConflictError, InputError, NotFoundError
from rota.service import messages as m
from rota.service.artifacts import blob_name, is_there
from rota.service.builds import find_build
from rota.service.committing import commit_file
from rota.service.context import Principal, Service

#: A file on `main` is read by every agent at every change of it.
MAX_PROMOTED = 200


async def promotions(service: Service, request: m.Nothing, who: Principal) -> list[m.PromotionView]:
    """List promotions, the newest first."""
    found = service.world.definitions.promoted
    seen = [name for name, it in found.items() if who.sees(job_of(it.ref))]
    names = sorted(seen, key=lambda name: found[name].at, reverse=True)
    return [_view(name, found[name]) for name in names]


async def promotion(
    service: Service, request: m.PromotionRequest, who: Principal
) -> m.PromotionView:
    """Show one promotion."""
    return _view(request.promotion, _seen(service, request.promotion, who))


async def promote(service: Service, request: m.PromoteRequest, who: Principal) -> m.PromotionView:
    """Give files of a finished build a name, under which they stay as they are."""
    if (fault := promotion_name_fault(request.to)) is not None:
        raise InputError(f"bad name {request.to!r} for a promotion", hint=fault)
    build = find_build(service.world, request.build)
    if build.state is not State.FINISHED:
        raise ConflictError(
            f"{build.ref} is {build.state}; only what a finished build left is promoted",
            hint=f"wait for it: rota wait {build.ref!r}",
        )
    chosen = await _chosen(service, build, request.artifacts)
    now = service.clock.now()
    until = now + timedelta(seconds=request.keep_s) if request.keep_s is not None else None
    new = Promotion(
        build=build.id,
        ref=build.ref,
        at=now,
        by=who.name,
        artifacts=chosen,
        why=request.why,
        until=until,
    )

    def change(definitions: Definitions) -> bytes | None:
        known = definitions.promoted.get(request.to)
        if known is None:
            return encode_promotion(new)
        if (known.build, known.artifacts) == (new.build, new.artifacts):
            return None
        if not who.sees(job_of(known.ref)):
            raise ConflictError(f"{request.to} is taken already", hint="take another name")
        raise ConflictError(
            f"{request.to} is {known.ref} already, promoted by {known.by}",
            hint=f"take another name; or end that one: rota artifacts demote {request.to}",
        )

    why = f": {request.why}" if request.why else ""
    await commit_file(
        service,
        f"{PROMOTED}{request.to}.json",
        change,
        f"promote {build.ref} to {request.to}{why}",
        who,
    )
    return _view(request.to, _find(service, request.to))


async def _chosen(service: Service, build: Build, patterns: Sequence[str]) -> tuple[Artifact, ...]:
    left = sorted(build.artifacts, key=lambda it: it.path)
    if not patterns:
        # What rota itself keeps of a build's tests is nothing to be released.
        left = [it for it in left if not it.path.startswith(".rota/")]
    for pattern in patterns:
        if not any(matches(it.path, pattern) for it in left):
            raise NotFoundError(
                f"{build.ref} left nothing that matches {pattern!r}",
                hint=f"see what it left: rota artifacts {build.ref!r}",
            )
    chosen = [it for it in left if not patterns or any(matches(it.path, p) for p in patterns)]
    if not chosen:
        raise NotFoundError(f"{build.ref} left no artifacts")
    if len(chosen) > MAX_PROMOTED:
        raise InputError(
            f"{len(chosen)} files are more than the {MAX_PROMOTED} that are promoted at once",
            hint="name some, or keep them as one: rota artifacts put --tar FOLDER",
        )
    there = await is_there(service, build, chosen)
    for it, is_so in zip(chosen, there, strict=True):
        if not is_so:
            raise NotFoundError(f"{it.path!r} of {build.ref} is there no more")
    return tuple(chosen)


async def demote(service: Service, request: m.DemoteRequest, who: Principal) -> m.PromotionView:
    """End a promotion; its files go as those of any build do."""
    found = _seen(service, request.promotion, who)
    who.require_on(Role.MAINTAINER, job_of(found.ref), "`artifacts demote`")
    why = f": {request.why}" if request.why else ""
    await commit_file(
        service,
        f"{PROMOTED}{request.promotion}.json",
        None,
        f"demote {request.promotion}{why}",
        who,
    )
    await drop_remains(service, found)
    return _view(request.promotion, found)


async def drop_remains(service: Service, former: Promotion) -> None:
    """Drop what only a promotion kept: files of a build whose others were dropped long ago."""
    if service.world.removed(former.build).artifacts_at is None:
        return
    stays = pinned(service.world.definitions.promoted.values())
    for artifact in former.artifacts:
        if (former.build, artifact.path) not in stays:
            await service.blobs.drop(blob_name(former.build, artifact.path))


def _find(service: Service, name: str) -> Promotion:
    found = service.world.definitions.promoted.get(name)
    if found is None:
        raise _unknown(name)
    return found


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(
        f"nothing is promoted as {name!r}", hint="see what is: rota artifacts --promoted"
    )


def _seen(service: Service, name: str, who: Principal) -> Promotion:
    """Return a promotion of a build that somebody sees."""
    found = service.world.definitions.promoted.get(name)
    if found is None or not who.sees(job_of(found.ref)):
        raise _unknown(name)
    return found


def _view(name: str, found: Promotion) -> m.PromotionView:
    return m.PromotionView(
        name=name,
        build=found.build,
        ref=found.ref,
        at=found.at,
        by=found.by,
        why=found.why,
        until=found.until,
        artifacts=found.artifacts,
    )
