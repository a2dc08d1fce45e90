"""What surrounds each script of an agent: its stages, made of its ports."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rota.agent.caching import Caching
from rota.agent.contained import Contained
from rota.agent.leftovers import Leftovers
from rota.agent.needed import Needed
from rota.agent.ports import Ports
from rota.agent.reports import Reporting
from rota.agent.secrets import SecretStage
from rota.agent.stages import Stage
from rota.core.settings import Settings
from rota.service.context import Service


def stages_of(
    service: Service,
    ports: Ports,
    giving: SecretStage | None,
    contained: Contained | None,
    limited: Callable[[Settings], Settings],
) -> tuple[Stage, ...]:
    """Return what surrounds a script, from the outermost to the innermost."""
    reporting = () if ports.reports is None else (Reporting(service, ports.reports),)
    secrets = () if giving is None else (giving,)
    return (
        Needed(service),
        *secrets,
        *_caching(service, ports, limited),
        Leftovers(service),
        *reporting,
        *(() if contained is None else (contained,)),
    )


def giving_of(service: Service, ports: Ports) -> SecretStage | None:
    """Return what gives scripts their secrets; nothing where there are none."""
    if service.secrets is None or ports.private_files is None:
        return None
    return SecretStage(service.secrets, ports.safe, ports.private_files)


def contained_of(service: Service, ports: Ports) -> Contained | None:
    """Return what runs scripts in containers; nothing where there is no way to."""
    if ports.containers is None:
        return None
    world = service.world
    return Contained(
        ports.containers,
        lambda: world.definitions.settings,
        data=service.me.data,
        secrets=service.secrets,
    )


def _caching(
    service: Service, ports: Ports, limited: Callable[[Settings], Settings]
) -> tuple[Stage, ...]:
    if ports.caches is None:
        return ()
    name, world = service.me.name, service.world

    def labels() -> Mapping[str, str]:
        myself = world.cluster.picture.agents.get(name)
        return service.me.labels if myself is None else myself.labels

    caching = Caching(
        service,
        ports.caches,
        ports.clock,
        labels=labels,
        settings=lambda: limited(world.definitions.settings),
    )
    return (caching,)
