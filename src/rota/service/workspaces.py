"""Verbs on the workspaces that agents keep: which there are, and their end.

What is kept is known to the agent that keeps it, and to nobody else: it is a matter of its disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from rota.core.build import Build
from rota.core.ids import job_of
from rota.core.kept import Kept
from rota.core.states import State
from rota.errors import NotFoundError
from rota.service import members
from rota.service import messages as m
from rota.service.asking import ask_others
from rota.service.builds import find_build
from rota.service.context import Principal, Service

HOW_TO_KEEP = (
    "to keep the next one: rota run {job} --keep-on-failure, or in its header"
    ' workspace = {{ keep = "on-failure" }}'
)


async def workspaces(service: Service, request: m.Nothing, who: Principal) -> m.WorkspacesView:
    """List what all agents keep, the oldest first; an agent that asks is told of ours alone."""
    mine = [_view(service, it) for it in service.workspaces.kept() if who.sees(job_of(it.ref))]
    if who.peer:
        return m.WorkspacesView(workspaces=tuple(mine))
    said, silent = await ask_others(service, "/v1/workspaces", m.WorkspacesView, who)
    theirs = (it for answer in said.values() for it in answer.workspaces)
    found = [*mine, *(it for it in theirs if who.sees(job_of(it.build)))]
    return m.WorkspacesView(
        workspaces=tuple(sorted(found, key=lambda it: (it.kept_at, it.agent, it.id))),
        silent=tuple(m.Silent(agent=agent, why=why) for agent, why in silent.items()),
    )


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
