"""Which builds of a pipeline come back with one that is tried again, and in which order."""

from __future__ import annotations

from collections.abc import Iterable

from rota.core.build import Build
from rota.core.job import Reason
from rota.core.states import Result, State


def revival(build: Build, pipeline: Iterable[Build]) -> tuple[Build, ...]:
    """Return the finished builds to try again with ``build``, what is needed before what needs it.

    These are: what it needs and did not end as it should have, or what of a group did not pass; the
    build itself; and what waited for one of these in vain, or is its group.

    Args:
        build: It has finished.
        pipeline: All builds of its tree, wherever they are.
    """
    known = {it.id: it for it in pipeline}
    known[build.id] = build
    found: dict[str, Build] = {}
    _add_with_needs(build, known, found)
    _add_followers(known, found)
    return tuple(found.values())


def _add_with_needs(build: Build, known: dict[str, Build], found: dict[str, Build]) -> None:
    """Add what a build waits for and that must come again, then the build itself."""
    # Needs have no circles, and a stack of our own no limit.
    todo = [(build, False)]
    seen: set[str] = set()
    while todo:
        this, is_ready = todo.pop()
        if is_ready:
            found.setdefault(this.id, this)
            continue
        if this.id in seen:
            continue
        seen.add(this.id)
        todo.append((this, True))
        cells = {edge.build for edge in this.group.cells} if this.group is not None else set()
        for edge in this.edges:
            other = known.get(edge.build)
            if other is None or other.state is not State.FINISHED:
                continue
            wanted = (Result.PASSED,) if edge.build in cells else edge.results
            if wanted and other.result not in wanted:
                todo.append((other, False))


def _add_followers(known: dict[str, Build], found: dict[str, Build]) -> None:
    """Add what did not run because of those found, and the groups that they are cells of."""
    is_growing = True
    while is_growing:
        is_growing = False
        for other in known.values():
            if other.id in found or other.state is not State.FINISHED:
                continue
            is_unmet = other.reason is Reason.UNMET
            edges = other.group.cells if other.group is not None else other.needs
            if (is_unmet or other.group is not None) and any(edge.build in found for edge in edges):
                found[other.id] = other
                is_growing = True
