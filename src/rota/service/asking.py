"""What the other agents say of themselves: all are asked at once, in the name of who asked us."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from rota.errors import OlderError, RotaError
from rota.service import members
from rota.service.context import Principal, Service

T = TypeVar("T")

#: An agent that does not answer holds up the others' answers for so long.
ASK_S = 3.0


async def ask_others(
    service: Service, path: str, kind: type[T], who: Principal
) -> tuple[dict[str, T], dict[str, str]]:
    """Return what all others that are up answer to a GET, by name, and why some do not.

    Nothing where no other is reached. Cost: the slowest answer, at most :data:`ASK_S`.
    """
    if service.peers is None:
        return {}, {}
    agents = service.world.cluster.picture.agents.values()
    names = [agent.name for agent in agents if agent.is_up and agent.name != service.me.name]
    said: dict[str, T] = {}
    silent: dict[str, str] = {}
    answers = await asyncio.gather(*(_ask(service, name, path, kind, who) for name in names))
    for name, (answer, why) in zip(names, answers, strict=True):
        if answer is None:
            silent[name] = why
        else:
            said[name] = answer
    return said, silent


async def _ask(
    service: Service, name: str, path: str, kind: type[T], who: Principal
) -> tuple[T | None, str]:
    assert service.peers is not None
    try:
        raw = await service.peers.request(
            members.peer(service.world, name),
            "GET",
            path,
            headers=members.spoken_for(who),
            within_s=ASK_S,
        )
        return msgspec.json.decode(raw, type=kind), ""
    except OlderError:
        return None, "its rota is an older one, which does not know the question"
    except RotaError as error:
        return None, error.message
    except msgspec.MsgspecError as error:
        return None, str(error)
