"""Revoking an agent: its machine was stolen, or somebody else has its key.

Its pin goes out of the journal, and with it all that it opens, as soon as that is folded: servers of
the engine, REST, git, and what is open already. What it runs is given up. What it *knew* stays
known: secrets are encrypted for a new key at once, and what else has to be done is said.
"""

from __future__ import annotations

import logging

from rota.core.machines import MachineState
from rota.errors import ConflictError, RotaError
from rota.service import messages as m
from rota.service import secrets
from rota.service.agents import find_agent, remove, view
from rota.service.context import Principal, Service

logger = logging.getLogger(__name__)


async def revoke_agent(service: Service, request: m.AgentRequest, who: Principal) -> m.RevokedAgent:
    """Make an agent's key worthless, whether it is up or not."""
    agent = find_agent(service, request.agent)
    cluster = service.world.cluster
    _refuse_self(service, agent.name)
    _refuse_last_quorum(service, agent.name)
    shown = view(service.world, agent)
    given_up = tuple(
        sorted(cluster.picture.builds[it].ref for it in cluster.running.get(agent.name, {}))
    )
    await remove(service, agent.name, who, f"{who.name} revoked its key")
    rotated, todo = await _new_key(service, who)
    hooks = sorted(service.world.definitions.hooks)
    if hooks and not agent.ephemeral:
        todo.append(
            f"{agent.name} knew the secrets of webhooks, new ones for who calls them:"
            + "".join(f" rota hook {hook} --rotate;" for hook in hooks)
        )
    coming = [
        machine.name
        for machine in cluster.picture.machines.values()
        if machine.state in (MachineState.WANTED, MachineState.LAUNCHED)
    ]
    if coming and not agent.ephemeral:
        todo.append(
            f"{agent.name} could join in place of machines that are being launched, if it has seen"
            f" their names; end them: {', '.join(sorted(coming))}"
        )
    return m.RevokedAgent(
        agent=shown,
        given_up=given_up,
        secrets=rotated.secrets if rotated is not None else (),
        recipient=rotated.recipient if rotated is not None else "",
        todo=tuple(todo),
    )


async def _new_key(service: Service, who: Principal) -> tuple[m.Rotated | None, list[str]]:
    """Encrypt all secrets for a key that the revoked agent never had; return what is left to do."""
    definitions = service.world.definitions
    if not (definitions.secrets or definitions.hooks or definitions.recipient):
        return None, []
    try:
        rotated = await secrets.rotate(service, m.RotateSecretsRequest(), who)
    except RotaError as error:
        logger.warning("secrets were not encrypted for a new key: %s", error.told)
        return None, [
            f"the secrets are still encrypted for a key that it has ({error.told}): rota secret rotate"
        ]
    if not rotated.secrets:
        return rotated, []
    names = ", ".join(it.name for it in rotated.secrets)
    return rotated, [f"it knew these values, make new ones where they are from: {names}"]


def _refuse_self(service: Service, name: str) -> None:
    if name == service.me.name:
        raise ConflictError(
            f"{name} cannot revoke its own key: who has it could answer as well",
            hint="ask another agent: rota --at URL agents --revoke " + name,
        )


def _refuse_last_quorum(service: Service, name: str) -> None:
    """Refuse if the journal could not be written without that agent's server.

    Raises:
        ConflictError: what to do about it.
    """
    picture = service.world.cluster.picture
    if name not in picture.voters:
        return
    needed = len(picture.voters) // 2 + 1
    left = [
        voter
        for voter in picture.voters
        if voter != name and (agent := picture.agents.get(voter)) is not None and agent.is_up
    ]
    if len(left) < needed:
        raise ConflictError(
            f"without the engine's server of {name} there is no quorum ({len(left)} of the {needed}"
            " servers that are needed): nothing was changed",
            hint=f"let there be three agents first; or end {name}, then go on without it by"
            f" `rota recover` at a voter, and: rota agents --forget {name}",
        )
