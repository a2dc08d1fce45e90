"""Verbs on caches: what lies on this agent, what all share, and forgetting some of it."""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase

from rota.core.cache_entry import Entry, name_of
from rota.core.caches import blob_of
from rota.core.events import CachesDropped
from rota.errors import NotFoundError
from rota.service import messages as m
from rota.service.context import Principal, Service


async def caches(service: Service, request: m.Nothing, who: Principal) -> list[m.CacheView]:
    """List caches, those used last first: this agent's own, and those that all agents share."""
    shared = service.world.cluster.picture.caches
    found = [_view(it.entry, it.used_at, agent="", where="shared") for it in shared.values()]
    if service.caches is not None:
        for kept in await service.caches.all():
            known = shared.get(name_of(kept.entry.scope, kept.entry.key))
            if known is None or known.entry.sha256 != kept.entry.sha256:
                found.append(_view(kept.entry, kept.used_at, agent=service.me.name, where="agent"))
    if not who.sees_all:
        found = [it for it in found if _is_seen(service, it.build, who)]
    return sorted(found, key=lambda it: it.used_at, reverse=True)


def _is_seen(service: Service, build: str, who: Principal) -> bool:
    saved_by = service.world.find(build)
    return saved_by is not None and who.sees(saved_by.job)


async def remove(service: Service, request: m.RmCachesRequest, who: Principal) -> list[m.CacheView]:
    """Forget caches by their keys: of this agent, and of all what they share."""
    gone = [
        view
        for view in await caches(service, m.Nothing(), who)
        if fnmatchcase(view.key, request.key) and request.scope in ("", view.scope)
    ]
    if not gone:
        raise NotFoundError(
            f"no cache's key matches {request.key!r}",
            hint="see which there are, here and shared by all: rota caches",
        )
    names = {name_of(view.scope, view.key) for view in gone}
    if service.caches is not None:
        for kept in await service.caches.all():
            if name_of(kept.entry.scope, kept.entry.key) in names:
                await service.caches.drop(kept.entry)
    shared = service.world.cluster.picture.caches
    found = tuple(sorted(name for name in names if name in shared))
    for name in found:
        await service.blobs.drop(blob_of(shared[name].entry))
    if found:
        event = CachesDropped(
            at=service.clock.now(),
            by=who.name,
            agent=service.me.name,
            caches=found,
            why="asked for",
        )
        await service.write(event)
    return gone


def _view(entry: Entry, used_at: datetime, *, agent: str, where: str) -> m.CacheView:
    return m.CacheView(
        key=entry.key,
        scope=entry.scope,
        paths=entry.paths,
        size=entry.size,
        saved_at=entry.saved_at,
        used_at=used_at,
        build=entry.build,
        shared=where == "shared",
        agent=agent,
    )
