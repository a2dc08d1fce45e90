"""Whether somebody may clone the store, and push what changes certain files of ``main``."""

from __future__ import annotations

from collections.abc import Mapping

from rota.core.definition_file import JOBS, parse_file
from rota.core.job import Job
from rota.core.levels import LEVEL
from rota.core.pushed_paths import changed_paths, needed_for
from rota.core.reach import reach_faults
from rota.core.rights import Role
from rota.errors import DeniedError
from rota.service.context import Principal, Service
from rota.service.levels import refuse_unread

#: So many files are named in an answer of one line.
MAX_NAMED = 3


def refuse_clone(who: Principal) -> None:
    """Do nothing if somebody may have all that the store has, as a clone does (ADR 60).

    Raises:
        DeniedError: they may not; where they may look at some jobs, the hint says how these are had.
    """
    try:
        who.require(Role.VIEWER, "`git clone`, which gives all jobs and their history,")
    except DeniedError as error:
        if who.rights is not None and who.rights.anywhere > Role.NONE:
            error.hint = (
                "what you may see: rota jobs, rota show JOB --script; rota edit JOB changes it"
            )
        raise


async def refuse_push(service: Service, who: Principal, old: str, new: str) -> None:
    """Do nothing if somebody may move ``main`` from a commit to another.

    Cost: nothing for an admin of a cluster whose agents are all of this version; else a list of both
    trees.

    Raises:
        ConflictError: an agent of an older version could not read a file.
        DeniedError: a file needs more than they are; the message names it, and what is needed.
    """
    is_mixed = service.world.cluster.picture.level < LEVEL
    if who.role >= Role.ADMIN and not is_mixed:
        return
    before = await service.store.tree(old) if old else {}
    after = await service.store.tree(new)
    if who.role < Role.ADMIN:
        await _refuse_more(service, who, before, after)
    if is_mixed:
        changed = {path: after[path] for path in changed_paths(before, after) if path in after}
        blobs = await service.store.blobs(set(changed.values()))
        files = {path: blobs[blob] for path, blob in changed.items()}
        await refuse_unread(service.world, service.store, old, files)


async def _refuse_more(
    service: Service, who: Principal, before: Mapping[str, str], after: Mapping[str, str]
) -> None:
    """Do nothing if somebody may make those files of these.

    Raises:
        DeniedError: as for :func:`refuse_push`.
    """
    faults: list[str] = []
    for path in changed_paths(before, after):
        needed = needed_for(path)
        has = who.on(needed.job) if needed.job else who.role
        if has < needed.role:
            faults.append(f"{path} needs {needed}")
    if who.role < Role.BUILDER and not faults:
        faults = await _reach_faults(service, who, before, after)
    if faults:
        more = len(faults) - MAX_NAMED
        rest = f"; and {more} more" if more > 0 else ""
        raise DeniedError(f"{who.name} may not: {'; '.join(faults[:MAX_NAMED])}{rest}", known=True)


async def _reach_faults(
    service: Service, who: Principal, before: Mapping[str, str], after: Mapping[str, str]
) -> list[str]:
    """Return what the headers of changed jobs reach that somebody may not."""
    changed = [it for it in changed_paths(before, after) if it.startswith(JOBS) and it in after]
    blobs = await service.store.blobs([after[path] for path in changed])
    faults = []
    for path in changed:
        job = parse_file(path, after[path], blobs[after[path]]).value
        if isinstance(job, Job):
            faults += [f"{path} {fault}" for fault in reach_faults(job, who.on)]
    return faults
