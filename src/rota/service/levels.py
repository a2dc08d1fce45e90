"""What waits for the cluster's level: it is refused in words until all agents know it."""

from __future__ import annotations

from collections.abc import Mapping

from rota.core.file_levels import too_new_in
from rota.core.levels import FIRST, LEVEL, NEEDED
from rota.errors import ConflictError
from rota.ports.store import Store
from rota.service.world import World

HINT = "it can be done once they run a newer one: docs/upgrade.md"


def refuse_early(world: World, kind: str) -> None:
    """Do nothing if an event of that kind may be written now.

    Raises:
        ConflictError: some agent does not know what it means.
    """
    needed = NEEDED.get(kind, FIRST)
    if needed > world.cluster.picture.level:
        raise _waits(world, kind, needed)


async def refuse_unread(world: World, store: Store, old: str, changes: Mapping[str, bytes]) -> None:
    """Do nothing if all agents can read what files on ``main`` are to be, as far as the level tells.

    Cost: nothing once the cluster has the level of this program.

    Args:
        world: What is known of the cluster.
        store: Has the commit that ``main`` is at.
        old: That commit; empty for none.
        changes: Path -> bytes of what changes.

    Raises:
        ConflictError: a file has what some agent does not know; the message names both.
    """
    level = world.cluster.picture.level
    if level >= LEVEL:
        return
    before = await store.tree(old) if old else {}
    formers = await store.blobs({before[path] for path in changes if path in before})
    for path, data in sorted(changes.items()):
        former = formers[before[path]] if path in before else b""
        for what, needed in too_new_in(path, data, former, level).items():
            raise _waits(world, f"{path}: {what}", needed)


def _waits(world: World, what: str, needed: int) -> ConflictError:
    """Return what says that something waits for a level, and for whom that waits."""
    picture = world.cluster.picture
    behind = [it for it in picture.agents.values() if world.level_of(it) < needed]
    names = ", ".join(f"{it.name} (rota {it.version or 'unknown'})" for it in behind)
    waits = (
        f"waits for agents whose rota does not know it: {names}"
        if names
        else "waits for the leader"
    )
    return ConflictError(
        f"{what} needs level {needed}, and the cluster is at {picture.level}; it {waits}", hint=HINT
    )
