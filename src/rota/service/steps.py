"""The steps of a build: of a finished one as they were recorded, of a running one as they are now."""

from __future__ import annotations

import msgspec

from rota.core.states import State
from rota.core.steps import Step
from rota.errors import RotaError
from rota.service import members
from rota.service import messages as m
from rota.service.builds import find_build
from rota.service.context import Principal, Service


async def steps(service: Service, request: m.StepsRequest, who: Principal) -> list[Step]:
    """List the steps of a build's last attempt.

    Those of a running one are known to the agent that reads its log; where that cannot be asked,
    there are none.
    """
    found = find_build(service.world, request.build)
    live = service.world.live_logs.get((found.id, found.attempt))
    if live is not None:
        return list(live.scanner.shown_steps())
    is_elsewhere = found.state is State.RUNNING and found.agent not in (None, service.me.name)
    if not is_elsewhere or service.peers is None or who.peer:
        return list(found.steps)
    try:
        answer = await service.peers.request(
            members.peer(service.world, found.agent or ""),
            "GET",
            f"/v1/builds/{found.id}/steps",
            headers=members.spoken_for(who),
        )
    except RotaError:
        return []
    return msgspec.json.decode(answer, type=list[Step])
