"""Verbs on watches: repositories whose own jobs are adopted."""

from __future__ import annotations

from rota.core.definitions import Definitions
from rota.core.scm import shown, url_fault
from rota.core.watches import (
    WATCHES,
    Adopted,
    WatchFile,
    encode_watch,
    parse_watch,
    watch_name_fault,
)
from rota.errors import ConflictError, InputError, NotFoundError
from rota.service import messages as m
from rota.service.committing import commit_file
from rota.service.context import Principal, Service


async def watches(service: Service, request: m.Nothing, who: Principal) -> list[m.WatchView]:
    """List watches by name, with what was adopted of each."""
    found = service.world.definitions.watches
    return [_view(service, name, found[name]) for name in sorted(found)]


async def watch(service: Service, request: m.WatchRequest, who: Principal) -> m.WatchView:
    """Watch a repository, or change how; nothing is committed where it is so already."""
    name = request.watch
    if (fault := watch_name_fault(name)) is not None:
        raise InputError(f"bad watch name {name!r}", hint=fault)
    if (fault := url_fault(request.git)) is not None:
        raise InputError(f"the URL {shown(request.git)!r} {fault}")
    new = WatchFile(
        git=request.git,
        branches=tuple(request.branches) or ("*",),
        pull_requests=request.pull_requests,
        poll_s=request.poll_s,
    )
    data = encode_watch(new)
    _, problems = parse_watch(data.decode(), f"{WATCHES}{name}.toml")
    if problems:
        raise InputError(f"{name} cannot be watched so", problems=problems)

    def change(definitions: Definitions) -> bytes | None:
        known = definitions.watches.get(name)
        if known is not None and known.git != new.git:
            raise ConflictError(
                f"the watch {name} is of {shown(known.git)}",
                hint="take another --name, or end that one: rota unwatch " + name,
            )
        is_taken = any(
            job.startswith(f"{name}/") and it.adopted is None
            for job, it in definitions.jobs.items()
        )
        if known is None and (is_taken or name in definitions.jobs):
            raise ConflictError(
                f"there are jobs below {name} already", hint="take another --name for the watch"
            )
        return None if known == new else data

    changed = await commit_file(service, f"{WATCHES}{name}.toml", change, f"watch {name}", who)
    return _view(service, name, new, changed=changed)


async def unwatch(service: Service, request: m.UnwatchRequest, who: Principal) -> m.WatchView:
    """Watch a repository no longer; its jobs go, what they ran stays in the history."""
    found = service.world.definitions.watches.get(request.watch)
    if found is None:
        raise NotFoundError(f"no watch {request.watch!r}", hint="see which there are: rota watches")
    view = _view(service, request.watch, found, changed=True)
    await commit_file(
        service, f"{WATCHES}{request.watch}.toml", None, f"unwatch {request.watch}", who
    )
    return view


def _view(service: Service, name: str, found: WatchFile, *, changed: bool = False) -> m.WatchView:
    adopted = service.world.definitions.adopted.get(name, Adopted())
    return m.WatchView(
        name=name,
        git=found.git,
        branches=found.branches,
        pull_requests=found.pull_requests,
        poll_s=found.poll_s,
        adopted=tuple(
            m.AdoptedView(
                folder=f"{name}/{folder}",
                ref=entry.ref,
                commit=entry.commit,
                jobs=entry.jobs,
                faults=entry.faults,
            )
            for folder, entry in adopted.entries.items()
        ),
        trouble=service.world.troubles.get(f"watch {name}", ""),
        changed=changed,
    )
