"""``rota exec``: a job's script run here and now, by the same code as in a cluster.

An agent over ports that live in memory takes the one build, so environment, folders, parameters,
limits, masks and result are not like those of a cluster: they are the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from msgspec.structs import replace

from rota.agent.agent import Agent
from rota.agent.group import background
from rota.core.build import Build
from rota.core.states import State
from rota.service import builds, jobs
from rota.service import messages as m
from rota.service.context import Principal
from rota.service.verbs import Role
from rota.service.world import World

PATIENCE_S = 3600.0


async def run_solo(
    agent: Agent,
    name: str,
    script: str,
    params: Mapping[str, str],
    *,
    who: str,
    interrupted: asyncio.Event,
) -> Build:
    """Run one script to its end and return its build; what it needs is not there, and not run.

    Raises:
        InputError: the header or the parameters are wrong; nothing was run.
    """
    service = agent.service
    me = Principal(name=who, role=Role.ADMIN)
    await jobs.put_alone(service, m.PutJobRequest(job=name, script=script), me)
    _leave_out_what_others_share(service.world, name)
    build = await builds.run(service, m.RunRequest(job=name, params=dict(params), only=True), me)
    async with background(_cancel_on(interrupted, agent, build, me)):
        while build.state is not State.FINISHED:
            build = await service.world.finished(build.id, PATIENCE_S)
    return build


def _leave_out_what_others_share(world: World, name: str) -> None:
    """Let the job wait for nobody.

    Limits are a cluster's, who runs it here approves it, and labels choose among agents: what this
    machine lacks is said by whoever looks for it.
    """
    definition = world.definitions.jobs[name]
    spec = replace(definition.job.spec, labels="", limits=(), rate=None, approve=None)
    alone = replace(definition, job=replace(definition.job, spec=spec))
    world.definitions = replace(world.definitions, jobs={name: alone})


async def _cancel_on(interrupted: asyncio.Event, agent: Agent, build: Build, me: Principal) -> None:
    await interrupted.wait()
    await builds.cancel(agent.service, m.CancelRequest(build=build.id, why="interrupted"), me)
