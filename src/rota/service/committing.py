"""What verbs commit to ``main``, however often it moves meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from rota.core.definitions import Definitions
from rota.errors import StaleError, UnavailableError
from rota.ports.store import Author
from rota.service.context import Principal, Service
from rota.service.levels import refuse_unread

#: A commit that lost the race to another one is made anew, this often at most.
TRIES = 20
Changes = Mapping[str, bytes | None]
_T = TypeVar("_T")


async def until_first(service: Service, attempt: Callable[[str], Awaitable[_T | None]]) -> _T:
    """Return what ``attempt`` does, which is given the commit that ``main`` is at.

    It returns None where somebody else was first there, and is asked again: this agent has followed
    them. Those who do such things on this agent take turns.

    Raises:
        UnavailableError: ``main`` moved each time.
    """
    async with service.turn("main"):
        for _ in range(TRIES):
            made = await attempt(service.world.commit)
            if made is not None:
                return made
    raise UnavailableError("main moves too fast; try again")


async def commit(
    service: Service, base: str, changes: Changes, message: str, who: Principal, *, email: str = ""
) -> str | None:
    """Commit files (``None`` deletes) at ``base``; return the commit, or None if that is too late.

    Raises:
        ConflictError: not all agents could read it, as the cluster's level is.
        UnavailableError: ``main`` cannot be written to now.
    """
    written = {path: data for path, data in changes.items() if data is not None}
    await refuse_unread(service.world, service.store, base, written)
    author = Author(name=who.name, email=email or f"{who.name}@{service.me.name}")
    try:
        return await service.main.commit(
            changes, base=base, author=author, message=message, by=who.name
        )
    except StaleError:
        return None


async def commit_file(
    service: Service,
    path: str,
    change: Callable[[Definitions], bytes | None] | None,
    message: str,
    who: Principal,
) -> bool:
    """Commit what ``change`` makes of a file, or remove it; return whether that made a commit.

    ``change`` is asked again whenever somebody else was first; None from it is no change. Without it
    the file goes, if it is there.

    Raises:
        UnavailableError: ``main`` moved each time, or cannot be written to now.
    """

    async def attempt(base: str) -> bool | None:
        definitions = service.world.definitions
        data = change(definitions) if change is not None else None
        if data is None and (change is not None or path not in definitions.files):
            return False
        return True if await commit(service, base, {path: data}, message, who) else None

    return await until_first(service, attempt)
