"""What waits for the cluster's level: it is refused in words until all agents know it."""

from __future__ import annotations

from rota.core.levels import FIRST, NEEDED
from rota.errors import ConflictError
from rota.service.world import World

HINT = "it can be done once they run a newer one: docs/upgrade.md"


def refuse_early(world: World, kind: str) -> None:
    """Do nothing if an event of that kind may be written now.

    Raises:
        ConflictError: some agent does not know what it means.
    """
    needed = NEEDED.get(kind, FIRST)
    picture = world.cluster.picture
    if needed <= picture.level:
        return
    behind = [it for it in picture.agents.values() if world.level_of(it) < needed]
    names = ", ".join(f"{it.name} (rota {it.version or 'unknown'})" for it in behind)
    waits = (
        f"waits for agents whose rota does not know it: {names}"
        if names
        else "waits for the leader"
    )
    raise ConflictError(
        f"{kind} needs level {needed}, and the cluster is at {picture.level}; it {waits}", hint=HINT
    )
