"""A build's tree: what it needs, its cells, what its script asked for."""

from __future__ import annotations

import asyncio

from rota.core.build import Build
from rota.core.states import State
from rota.service import messages as m
from rota.service.builds import find_build
from rota.service.context import Principal, Service
from rota.service.sight import Sees, everything
from rota.service.world import World

#: So many builds of a tree are told; a script may have asked for more.
MAX_BRANCHES = 2000
#: In a busy journal a tree is looked at this often, at most.
LOOK_S = 0.1


async def tree(service: Service, request: m.TreeRequest, who: Principal) -> m.Tree:
    """Show a build's tree; with ``wait``, once more have finished, or the build, or time is over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + request.wait
    build_id = find_build(service.world, request.build).id
    async with service.waits.of(who.build if request.wait else "", build_id):
        while True:
            found = find_build(service.world, build_id)
            known = tree_of(service.world, found, who.sees)
            left = until - loop.time()
            is_over = found.state is State.FINISHED or known.finished > request.finished
            if left <= 0 or is_over:
                return known
            await asyncio.sleep(min(LOOK_S, left))


def tree_of(world: World, root: Build, sees: Sees = everything) -> m.Tree:
    """Return a build with all below it that is seen, each once, below the first that asked for it."""
    children: dict[str, list[Build]] = {}
    for build in sorted(world.pipeline(root.root), key=lambda it: (it.requested_seq, it.number)):
        if build.parent:
            children.setdefault(build.parent, []).append(build)
    branches: list[m.Branch] = []
    finished = 0
    todo: list[tuple[Build, int, str]] = [(root, 0, "root")]
    seen = {root.id}
    while todo and len(branches) < MAX_BRANCHES:
        build, depth, kind = todo.pop()
        branches.append(_branch(build, depth, kind))
        finished += build.state is State.FINISHED
        below: list[tuple[Build, int, str]] = []
        for edge in build.edges:
            other = world.find(edge.build)
            if other is not None and other.id not in seen and sees(other.job):
                seen.add(other.id)
                below.append((other, depth + 1, "cell" if other.cell else "need"))
        for other in children.get(build.id, ()):
            if other.id not in seen and sees(other.job):
                seen.add(other.id)
                below.append((other, depth + 1, "child"))
        todo += reversed(below)
    return m.Tree(builds=tuple(branches), finished=finished)


def _branch(build: Build, depth: int, kind: str) -> m.Branch:
    return m.Branch(
        id=build.id,
        job=build.job,
        number=build.number,
        depth=depth,
        kind=kind,
        cell=build.cell,
        state=build.state,
        result=build.result,
        reason=build.reason,
        message=build.message,
        started_at=build.started_at,
        finished_at=build.finished_at,
        agent=build.agent,
    )
