"""One file of ``main``, written or removed by a verb, however often ``main`` moves meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from rota.core.definitions import Definitions
from rota.errors import StaleError, UnavailableError
from rota.ports.store import Author
from rota.service.context import Principal, Service

TRIES = 20


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
    author = Author(name=who.name, email=f"{who.name}@{service.me.name}")
    async with service.turn("main"):
        for _ in range(TRIES):
            definitions = service.world.definitions
            data = change(definitions) if change is not None else None
            if data is None and (change is not None or path not in definitions.files):
                return False
            try:
                await service.main.commit(
                    {path: data},
                    base=service.world.commit,
                    author=author,
                    message=message,
                    by=who.name,
                )
            except StaleError:
                continue
            return True
    raise UnavailableError("main moves too fast; try again")
