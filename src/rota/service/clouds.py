"""Verbs on clouds: what is there, what it may do, and what it does for a build that waits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from rota.core.build import Build
from rota.core.cloud_demand import expected_labels, is_under_way, machines_of
from rota.core.cluster import Cluster
from rota.core.durations import format_duration
from rota.core.events import EPOCH, CloudDraining, CloudPaused
from rota.core.labels import satisfies
from rota.core.machines import CloudRecord, Machine, MachineState
from rota.core.problem import nearest
from rota.core.settings_clouds import Cloud
from rota.errors import NotFoundError
from rota.service import messages as m
from rota.service.context import Principal, Service

#: A provider's words can be long; in a sentence they are not.
MAX_ERROR = 200


async def clouds(service: Service, request: m.Nothing, who: Principal) -> list[m.CloudView]:
    """List the clouds of the settings in their order, then others that have machines still."""
    return [_view(service, name) for name in _names(service)]


async def pause(service: Service, request: m.CloudRequest, who: Principal) -> m.CloudView:
    """Let a cloud launch nothing more, or something again."""
    name = _find(service, request.cloud)
    picture = service.world.cluster.picture
    record = picture.clouds.get(name, CloudRecord())
    if record.paused == request.off or (request.off and record.failures):
        await service.write(
            CloudPaused(
                at=service.clock.now(),
                by=who.name,
                agent=service.me.name,
                cloud=name,
                paused=not request.off,
            )
        )
    return _view(service, name)


async def end(service: Service, request: m.MachineRequest, who: Principal) -> m.MachineView:
    """Let a machine finish what it runs and go; or end it now."""
    machine = _machine(service, request.machine)
    is_asked = machine.is_ending or (machine.state is MachineState.DRAINING and not request.now)
    if not is_asked:
        await service.write(
            CloudDraining(
                at=service.clock.now(),
                by=who.name,
                agent=service.me.name,
                cloud=machine.cloud,
                machine=machine.name,
                why=f"{who.name} ended it",
                now=request.now,
            )
        )
    found = service.world.cluster.picture.machines.get(request.machine, machine)
    return _machine_view(service, found)


# -- views --------------------------------------------------------------------------------------


def _names(service: Service) -> list[str]:
    settings, picture = service.world.definitions.settings, service.world.cluster.picture
    return list(dict.fromkeys([*settings.cloud, *(it.cloud for it in picture.machines.values())]))


def _find(service: Service, name: str) -> str:
    known = _names(service)
    if name not in known:
        raise NotFoundError(
            f"no cloud {name!r}",
            hint=nearest(name, known) or "add it: [cloud.NAME] in settings.toml",
        )
    return name


def _machine(service: Service, name: str) -> Machine:
    known = service.world.cluster.picture.machines
    if name not in known:
        raise NotFoundError(
            f"no machine {name!r} of a cloud", hint=nearest(name, known) or "rota clouds"
        )
    return known[name]


def _view(service: Service, name: str) -> m.CloudView:
    cluster, now = service.world.cluster, service.clock.now()
    cloud = service.world.definitions.settings.cloud.get(name)
    record = cluster.picture.clouds.get(name, CloudRecord())
    machines = tuple(_machine_view(service, it) for it in machines_of(cluster, name))
    wait_s = record.waits_s(now)
    return m.CloudView(
        name=name,
        state=_state(cloud, record, len(machines)),
        provider=cloud.provider if cloud is not None else "",
        size=cloud.size if cloud is not None else "",
        image=cloud.image if cloud is not None else "",
        region=cloud.region if cloud is not None else "",
        labels=expected_labels(name, cloud, record) if cloud is not None else {},
        spot=cloud is not None and cloud.spot,
        slots=cloud.slots if cloud is not None else 0,
        min=cloud.min if cloud is not None else 0,
        max=cloud.max if cloud is not None else 0,
        machines=machines,
        launched=record.launched,
        failed=record.failed,
        machine_s=round(sum(it.age_s for it in machines), 1),
        error=record.error,
        failed_at=record.failed_at if record.failed_at != EPOCH else None,
        next_try_at=now + timedelta(seconds=wait_s) if wait_s else None,
    )


def _state(cloud: Cloud | None, record: CloudRecord, number: int) -> str:
    if cloud is None:
        return "unknown"
    if record.paused:
        return "paused"
    if record.failures:
        return "failing"
    return "full" if number >= cloud.max else "ready"


def _machine_view(service: Service, machine: Machine) -> m.MachineView:
    cluster = service.world.cluster
    agent = cluster.picture.agents.get(machine.name)
    age_s = (service.clock.now() - machine.wanted_at).total_seconds()
    return m.MachineView(
        name=machine.name,
        cloud=machine.cloud,
        state=machine.state,
        since=machine.since,
        wanted_at=machine.wanted_at,
        launched_at=machine.launched_at,
        joined_at=machine.joined_at,
        node=machine.node,
        slots=machine.slots,
        running=len(cluster.running.get(machine.name, {})),
        why=machine.why,
        agent_state=agent.state if agent is not None else "",
        age_s=round(max(age_s, 0.0), 1),
    )


# -- for a build that waits ---------------------------------------------------------------------


def prospect(cluster: Cluster, clouds: Mapping[str, Cloud], build: Build, now: datetime) -> str:
    """Return what clouds do for a build that waits for an agent; empty if none could help."""
    texts = [
        text
        for name, cloud in clouds.items()
        if (text := _prospect(cluster, name, cloud, build, now))
    ]
    # One that works at it says enough; that others are paused is of no interest then.
    return next((it for it in texts if " launches " in it), texts[0] if texts else "")


def _prospect(cluster: Cluster, name: str, cloud: Cloud, build: Build, now: datetime) -> str:
    record = cluster.picture.clouds.get(name, CloudRecord())
    if not satisfies(build.spec.labels, expected_labels(name, cloud, record)):
        return ""
    machines = list(machines_of(cluster, name))
    coming = [it for it in machines if is_under_way(it)]
    own = next((it for it in coming if it.why == build.ref), None)
    of = f"{len(machines)} of max {cloud.max}"
    if own is not None:
        return f"cloud {name} launches a machine for it ({of}): {own.name} is {own.state}"
    if coming:
        what = "a machine" if len(coming) == 1 else f"{len(coming)} machines"
        return f"cloud {name} launches {what} ({of})"
    if record.paused:
        return f"cloud {name} is paused: rota clouds --resume {name}"
    if record.failures:
        wait = format_duration(round(record.waits_s(now)))
        error = record.error if len(record.error) <= MAX_ERROR else record.error[:MAX_ERROR] + "…"
        return f"cloud {name} failed, and is tried again in {wait}: {error}"
    if len(machines) >= cloud.max:
        return f"cloud {name} has {of} machines"
    wait_s = cloud.patience_s - (now - build.requested_at).total_seconds()
    if wait_s > 0 and cluster.fitting(build.spec.labels):
        return f"cloud {name} launches a machine if it still waits in {format_duration(round(wait_s, 1))}"
    return f"cloud {name} could launch a machine ({of})"
