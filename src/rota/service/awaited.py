"""What a held build waits for, in words."""

from __future__ import annotations

from rota.core import gates
from rota.core.build import Build
from rota.core.people import APPROVAL
from rota.core.states import State
from rota.service.messages import Awaited
from rota.service.sight import Sees, everything
from rota.service.world import World

#: So many builds are named in one sentence.
MAX_NAMED = 5


def awaited_by(world: World, build: Build, sees: Sees = everything) -> tuple[Awaited, ...]:
    """Return the builds that a held one waits for; of those that are not seen only the job."""
    found = []
    for edge in gates.pending(build):
        other = world.find(edge.build) if sees(edge.job) else None
        found.append(
            Awaited(
                build=other.ref if other is not None else edge.job,
                id=edge.build,
                state=other.state if other is not None else "unknown",
                agent=other.agent if other is not None else None,
            )
        )
    return tuple(found)


def held_text(world: World, build: Build, awaited: tuple[Awaited, ...]) -> str:
    """Return one sentence on why a build is held."""
    if build.group is not None:
        count = len(build.group.cells)
        text = f"a group of {count}, of which {count - len(awaited)} ended; waits for "
        return text + _named(awaited) if awaited else text.removesuffix("; waits for ")
    parts = [f"waits for {_named(awaited)}"] if awaited else []
    held = [it for it in build.held if it != APPROVAL]
    parts += [f"held: {', '.join(held)}"] if held else []
    if not parts:
        group = world.find(build.parent)
        if group is not None and group.group is not None and group.held:
            parts.append(f"its group {group.ref} is held: {', '.join(group.held)}")
        elif group is not None and group.state is State.FINISHED:
            parts.append(f"waits for its group {group.ref}, which has ended: retry that")
        elif group is not None and group.group is not None:
            most = group.group.max_parallel
            parts.append(f"waits for room in its group {group.ref}: max_parallel is {most}")
    return "; ".join(parts) or "held"


def _named(awaited: tuple[Awaited, ...]) -> str:
    # What runs says more than what waits itself.
    first = sorted(awaited, key=lambda it: it.state != State.RUNNING)[:MAX_NAMED]
    names = [f"{it.build} ({it.state}{f' on {it.agent}' if it.agent else ''})" for it in first]
    more = len(awaited) - len(first)
    return ", ".join(names) + (f" and {more} more" if more else "")
