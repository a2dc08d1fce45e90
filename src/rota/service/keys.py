"""The verb that gives an agent another key, at whichever agent it is asked."""

from __future__ import annotations

import msgspec

from rota.errors import ConflictError
from rota.service import members
from rota.service import messages as m
from rota.service.agents import find_agent, view
from rota.service.context import Principal, Service

#: Others may take that long to say that they know the new key, and a bit.
WITHIN_S = 40.0


async def rotate_key(service: Service, request: m.AgentRequest, who: Principal) -> m.AgentView:
    """Give an agent another key; return once the former one opens nothing any more."""
    agent = find_agent(service, request.agent)
    if agent.name != service.me.name and service.peers is not None:
        raw = await service.peers.request(
            members.peer(service.world, agent.name),
            "POST",
            f"/v1/agents/{agent.name}/rotate",
            headers=members.spoken_for(who),
            within_s=WITHIN_S,
        )
        return msgspec.json.decode(raw, type=m.AgentView)
    if service.keys is None:
        raise ConflictError(f"{agent.name} shows no key to anybody")
    await service.keys.change(who.name)
    return view(service.world, find_agent(service, agent.name))
