"""Verbs on the workspaces that agents keep: which there are, and their end.

What is kept is known to the agent that keeps it, and to nobody else: it is a matter of its disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from rota.core.build import Build
from rota.core.ids import job_of
from rota.core.kept import Kept
from rota.core.states import State
from rota.errors import NotFoundError, RotaError
from rota.service import members
from rota.service import messages as m
from rota.service.builds import find_build
from rota.service.context import Principal, Service

#: An agent that does not answer holds up the list for so long.
ASK_S = 3.0
HOW_TO_KEEP = (
    "to keep the next one: rota run {job} --keep-on-failure, or in its header"
    ' workspace = {{ keep = "on-failure" }}'
)


async def workspaces(service: Service, request: m.Nothing, who: Principal) -> m.WorkspacesView:
    """List what all agents keep, the oldest first; an agent that asks is told of ours alone."""
    mine = [_view(service, it) for it in service.workspaces.kept() if who.sees(job_of(it.ref))]
    if who.peer or service.peers is None:
        return m.WorkspacesView(workspaces=tuple(mine))
    agents = service.world.cluster.picture.agents.values()
    others = [agent.name for agent in agents if agent.is_up and agent.name != service.me.name]
    answers = await asyncio.gather(*(_ask(service, name, who) for name in others))
    theirs = (it for answer in answers for it in answer.workspaces)
    found = [*mine, *(it for it in theirs if who.sees(job_of(it.build)))]
    return m.WorkspacesView(
        workspaces=tuple(sorted(found, key=lambda it: (it.kept_at, it.agent, it.id))),
        silent=tuple(it for answer in answers for it in answer.silent),
    )


async def _ask(service: Service, agent: str, who: Principal) -> m.WorkspacesView:
    assert service.peers is not None
    try:
        answer = await service.peers.request(
            members.peer(service.world, agent),
            "GET",
            "/v1/workspaces",
            headers=members.spoken_for(who),
            within_s=ASK_S,
        )
        return msgspec.json.decode(answer, type=m.WorkspacesView)
    except (RotaError, msgspec.MsgspecError) as error:
        why = error.message if isinstance(error, RotaError) else str(error)
        return m.WorkspacesView(silent=(m.Silent(agent=agent, why=why),))


def _view(service: Service, kept: Kept) -> m.WorkspaceView:
    return m.WorkspaceView(
        id=kept.build,
        build=kept.ref,
        attempt=kept.attempt,
        agent=service.me.name,
        result=str(kept.result) if kept.result is not None else None,
        kept_at=kept.kept_at,
        until=kept.until,
        bytes=kept.bytes,
        asked=kept.is_asked,
        shells=service.workspaces.entered(kept),
        path=str(service.workspaces.home(kept) / "work"),
    )


async def remove(
    service: Service, request: m.WorkspaceRequest, who: Principal
) -> list[m.WorkspaceView]:
    """Remove what is kept of a build, on each agent that keeps something of it.

    Raises:
        NotFoundError: nothing is kept.
        ConflictError: somebody is in it.
    """
    build = find_build(service.world, request.build)
    shown = {it.key: _view(service, it) for it in service.workspaces.kept()}
    gone = [shown[it.key] for it in service.workspaces.remove(build.id, build.ref)]
    if not who.peer:
        for agent in agents_of(build):
            if agent != service.me.name:
                gone += await _remove_there(service, build, agent, who)
    if not gone:
        raise not_kept(build)
    return gone


async def _remove_there(
    service: Service, build: Build, agent: str, who: Principal
) -> Sequence[m.WorkspaceView]:
    if service.peers is None:
        return ()
    try:
        answer = await service.peers.request(
            members.peer(service.world, agent),
            "DELETE",
            f"/v1/builds/{quote(build.id, safe='')}/workspace",
            headers=members.spoken_for(who),
        )
    except NotFoundError:
        return ()  # nothing of it there, or no such agent any more
    return msgspec.json.decode(answer, type=list[m.WorkspaceView])


def agents_of(build: Build) -> list[str]:
    """Return the agents that ran a build, the last one first."""
    names = [build.agent, *(former.agent for former in reversed(build.former))]
    return list(dict.fromkeys(name for name in names if name))


def not_kept(build: Build) -> NotFoundError:
    """Return the error that says why there is no workspace, and how there is one next time."""
    hint = HOW_TO_KEEP.format(job=build.job)
    if build.group is not None:
        return NotFoundError(
            f"{build.ref} is a matrix: its cells have workspaces, it has none",
            hint=f"see them: rota show {build.ref!r}",
        )
    if build.state is State.RUNNING:
        return NotFoundError(
            f"{build.ref} runs, and of a former attempt nothing is kept", hint=hint
        )
    if not build.attempt:
        text = "has not begun" if build.state is not State.FINISHED else "never began"
        return NotFoundError(f"{build.ref} {text}: it has no workspace", hint=hint)
    return NotFoundError(f"the workspace of {build.ref} is not kept", hint=hint)
