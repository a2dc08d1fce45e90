"""Whether somebody may push what changes certain files of ``main``."""

from __future__ import annotations

from rota.core.pushed_paths import changed_paths, needed_for
from rota.core.rights import Role
from rota.errors import DeniedError
from rota.service.context import Principal, Service

#: So many files are named in an answer of one line.
MAX_NAMED = 3


async def refuse_push(service: Service, who: Principal, old: str, new: str) -> None:
    """Do nothing if somebody may move ``main`` from a commit to another.

    Cost: nothing for an admin; else a list of both trees.

    Raises:
        DeniedError: a file needs more than they are; the message names it, and what is needed.
    """
    if who.role >= Role.ADMIN:
        return
    before = await service.store.tree(old) if old else {}
    after = await service.store.tree(new)
    faults = []
    for path in changed_paths(before, after):
        needed = needed_for(path)
        has = who.on(needed.job) if needed.job else who.role
        if has < needed.role:
            faults.append(f"{path} needs {needed}")
    if faults:
        more = len(faults) - MAX_NAMED
        rest = f"; and {more} more" if more > 0 else ""
        raise DeniedError(f"{who.name} may not: {'; '.join(faults[:MAX_NAMED])}{rest}", known=True)
