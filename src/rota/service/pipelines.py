"""Asking for builds that belong together: for one cause all of them, or none."""

from __future__ import annotations

from collections.abc import Sequence

from rota.core.build import Build
from rota.core.events import BuildRequested, PipelineRequested, Wanted
from rota.core.pipelines import Plan, Wish, plan
from rota.errors import InputError, UnavailableError
from rota.service.context import Service

TRIES = 20
#: Builds that ask for builds that ask for builds: more than so many are a job that runs itself.
MAX_DEPTH = 32


async def request(
    service: Service,
    wishes: Sequence[Wish],
    *,
    by: str,
    pipeline: str = "",
    fence: int | None = None,
) -> list[Build]:
    """Ask for builds and all that they need, as one pipeline; return those that were wished for.

    A wish whose build is there already is met by that, so that asking twice is asking once.

    Args:
        service: Of the agent that took the trigger.
        wishes: With ids that are hashes of what asks, or fresh ones.
        by: The principal, for the record.
        pipeline: The id of the tree's root: of a build that is there, of a wish, or of the cause
            that several wishes share. The first wish by default.
        fence: For what only a leader may ask: the election that it leads by.

    Raises:
        NotFoundError: a job that is wished for or needed is not there.
        ConflictError: one that is needed is paused.
        InputError: parameters do not fit, needs go in a circle, or it is too much.
        StaleError: somebody else was first with the same root, or ``fence`` counts no more.
        UnavailableError: it was not confirmed.
    """
    root = pipeline or wishes[0].id
    for _ in range(TRIES):
        world = service.world
        found = [world.find(wish.id) for wish in wishes]
        there = [build for build in found if build is not None]
        if len(there) == len(wishes):
            return there
        planned = plan(world.definitions, root, wishes, world.find)
        event = event_for(service, planned, root, by)
        is_new = any(wanted.build == root for wanted in planned.builds)
        expect = 0 if fence is None and (is_new or isinstance(event, BuildRequested)) else None
        await service.write(event, expect=expect, fence=fence)
        # Where a seal came in between, the event may have changed nothing: then once more.
    raise UnavailableError("the history grows too fast; try again")


def depth_of(service: Service, build: Build) -> int:
    """Return how many builds stand above one, up to the limit.

    Raises:
        InputError: so many that it is a job which runs itself.
    """
    names = [build.job]
    above = service.world.find(build.parent) if build.parent else None
    while above is not None:
        names.append(above.job)
        if len(names) >= MAX_DEPTH:
            raise InputError(
                f"{build.ref} is {MAX_DEPTH} builds deep: {' ← '.join(names[:4])} ← …",
                hint="does a job run itself?",
            )
        above = service.world.find(above.parent) if above.parent else None
    return len(names)


def event_for(
    service: Service, planned: Plan, root: str, by: str
) -> BuildRequested | PipelineRequested:
    """Return the one event that asks for all of a plan."""
    builds = planned.builds
    if len(builds) == 1 and not builds[0].needs:
        return _single(service, builds[0], planned, root, by)
    return PipelineRequested(
        at=service.clock.now(),
        by=by,
        agent=service.me.name,
        pipeline=root,
        builds=builds,
        specs=planned.specs,
        commit=service.world.commit,
        seen=service.world.seq,
    )


def _single(service: Service, wanted: Wanted, planned: Plan, root: str, by: str) -> BuildRequested:
    return BuildRequested(
        at=service.clock.now(),
        by=by,
        agent=service.me.name,
        build=wanted.build,
        job=wanted.job,
        spec=planned.specs[wanted.spec],
        params=wanted.params,
        trigger=wanted.trigger,
        commit=service.world.commit,
        script=wanted.script,
        held=wanted.held,
        pipeline="" if wanted.build == root else root,
        parent=wanted.parent,
        lane=wanted.lane,
    )
