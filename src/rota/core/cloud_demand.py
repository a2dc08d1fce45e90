"""What waits that no agent has room for, and which clouds would have to launch a machine for it.

Demand are the queued builds that may begin now: who waits for a limit, a throttle or a time asks for
no machine. From them goes what the agents that are up have free slots for, then what the machines
under way will have; each machine more stands for a build that is left. So launches never exceed
what waits, however often this is looked at and by whom, as long as each intent is folded before the
next look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice

import msgspec
from msgspec.structs import replace

from rota.core.build import Build
from rota.core.cluster import Cluster
from rota.core.labels import satisfies
from rota.core.machines import CloudRecord, Machine, MachineState
from rota.core.settings_clouds import Cloud
from rota.core.throttles import Throttles
from rota.core.trial import Trial

#: A look goes no further into the queue: it would be too many machines anyway.
MAX_BUILDS = 5000
#: So many intents of a cloud are open at once: what nobody knows for certain after a leader's death.
PARALLEL = 10


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that a cloud is to launch, for the build ``why``, or to keep its minimum."""

    cloud: str
    labels: dict[str, str]
    slots: int
    why: str


class Supply(msgspec.Struct):
    """An agent that is there or will be: its labels, and the slots that are left in this look."""

    name: str
    labels: Mapping[str, str]
    free: int


def expected_labels(name: str, cloud: Cloud, record: CloudRecord) -> dict[str, str]:
    """Return what the next machine of a cloud will carry, as far as that can be known.

    What the last one carried, if it was asked for the same; else what is asked for.
    """
    asked = asked_labels(name, cloud)
    return {**record.carries, **asked} if record.asked == asked else asked


def asked_labels(name: str, cloud: Cloud) -> dict[str, str]:
    """Return what a machine is told to carry: what the settings say, and of which cloud it is."""
    return {**cloud.labels, "cloud": name}


def is_under_way(machine: Machine) -> bool:
    """Whether a machine will be an agent soon."""
    return machine.state in (MachineState.WANTED, MachineState.LAUNCHED)


def machines_of(cluster: Cluster, cloud: str) -> Iterator[Machine]:
    """Yield the machines of a cloud: all that cost money, or may."""
    return (it for it in cluster.picture.machines.values() if it.cloud == cloud)


def wants(
    cluster: Cluster, clouds: Mapping[str, Cloud], able: Sequence[str], now: datetime
) -> Iterator[Want]:
    """Yield the machines to be launched now.

    Args:
        cluster: As it is folded, all intents so far included.
        clouds: By name, in the order in which they are preferred.
        able: Those of them that may launch something now.
        now: By this clock builds have waited or not.

    Cost: the label expressions of what may begin, times agents; and at most ``MAX_BUILDS`` builds.
    """
    if not able:
        return
    room = {name: _room(cluster, name, clouds[name]) for name in able}
    supplies = [*_agents(cluster), *_under_way(cluster, clouds)]
    for name in able:
        for want in _minimum(cluster, name, clouds[name]):
            if room[name] <= 0:
                break
            room[name] -= 1
            supplies.append(
                Supply(name="", labels=_labels(cluster, name, clouds[name]), free=want.slots)
            )
            yield want
    if not any(left > 0 for left in room.values()):
        return
    waiting = _waiting(cluster, now)
    # Who has least choice is served first, so that others do not take what only it could use.
    order = sorted(waiting, key=lambda labels: len(cluster.fitting(labels)))
    for labels in order:
        builds = _left(cluster, labels, waiting[labels], supplies)
        yield from _launches(cluster, clouds, room, labels, builds, supplies, now)


def _launches(
    cluster: Cluster,
    clouds: Mapping[str, Cloud],
    room: dict[str, int],
    labels: str,
    builds: list[Build],
    supplies: list[Supply],
    now: datetime,
) -> Iterator[Want]:
    """Yield machines for builds with these labels that nobody has room for."""
    is_served = bool(cluster.fitting(labels))
    for name, left in room.items():
        cloud = clouds[name]
        carries = _labels(cluster, name, cloud)
        if left <= 0 or not satisfies(labels, carries):
            continue
        slots = min(cloud.slots, _per_agent(cluster, labels, ""))
        patient = cloud.patience_s if is_served else 0.0
        urgent = [it for it in builds if (now - it.requested_at).total_seconds() >= patient]
        while urgent and room[name] > 0 and slots > 0:
            room[name] -= 1
            yield Want(
                cloud=name,
                labels=asked_labels(name, cloud),
                slots=cloud.slots,
                why=urgent[0].ref,
            )
            taken = len(urgent[:slots])
            del urgent[:taken]
            # What is left of its slots is for others in this look.
            supplies.append(Supply(name="", labels=carries, free=cloud.slots - taken))
            del builds[:taken]


def _labels(cluster: Cluster, name: str, cloud: Cloud) -> dict[str, str]:
    return expected_labels(name, cloud, cluster.picture.clouds.get(name, CloudRecord()))


def _room(cluster: Cluster, name: str, cloud: Cloud) -> int:
    """Return how many machines more a cloud may be asked for now."""
    machines = list(machines_of(cluster, name))
    wanted = sum(it.state is MachineState.WANTED for it in machines)
    record = cluster.picture.clouds.get(name, CloudRecord())
    parallel = 1 if record.failures else PARALLEL  # after a failure one tries it for all
    return min(cloud.max - len(machines), parallel - wanted)


def _minimum(cluster: Cluster, name: str, cloud: Cloud) -> Iterator[Want]:
    staying = sum(it.state is not MachineState.DRAINING for it in machines_of(cluster, name))
    for _ in range(cloud.min - staying):
        yield Want(
            cloud=name,
            labels=asked_labels(name, cloud),
            slots=cloud.slots,
            why=f"min = {cloud.min}",
        )


def _agents(cluster: Cluster) -> Iterator[Supply]:
    for agent in cluster.picture.agents.values():
        free = cluster.free_slots(agent.name)
        if agent.is_up and not agent.draining and free > 0:
            yield Supply(name=agent.name, labels=agent.labels, free=free)


def _under_way(cluster: Cluster, clouds: Mapping[str, Cloud]) -> Iterator[Supply]:
    for machine in cluster.picture.machines.values():
        agent = cluster.picture.agents.get(machine.name)
        is_there = agent is not None and agent.is_up
        if not is_under_way(machine) or machine.is_ending or is_there:
            continue
        cloud = clouds.get(machine.cloud)
        labels: Mapping[str, str] = machine.labels
        if cloud is not None and asked_labels(machine.cloud, cloud) == machine.labels:
            labels = _labels(cluster, machine.cloud, cloud)
        yield Supply(name=machine.name, labels=labels, free=machine.slots)


def _left(
    cluster: Cluster, labels: str, builds: list[Build], supplies: list[Supply]
) -> list[Build]:
    """Return the builds that are left when agents have taken what they can."""
    number = 0
    for supply in supplies:
        if number >= len(builds):
            break
        if supply.free > 0 and satisfies(labels, supply.labels):
            taken = min(
                supply.free,
                _per_agent(cluster, labels, supply.name),
                len(builds) - number,
            )
            supply.free -= taken
            number += taken
    return builds[number:]


def _per_agent(cluster: Cluster, labels: str, agent: str) -> int:
    """Return how many builds with these labels throttles let begin on one agent."""
    throttles = cluster.throttles
    rooms = [
        throttle.per_agent - throttles.running[number][agent]
        for number in throttles.which(labels)
        if (throttle := throttles.throttles[number]).per_agent is not None
    ]
    return max(0, min(rooms, default=MAX_BUILDS))


def _waiting(cluster: Cluster, now: datetime) -> dict[str, list[Build]]:
    """Return, by labels, the builds that may begin if there is an agent, in order."""
    cluster.look(now)
    builds, queue = cluster.picture.builds, cluster.queue
    trial: Trial | None = None
    if queue.lines or cluster.throttles.throttles:
        trial = Trial(queue, _totals(cluster.throttles), "", now)
    found: dict[str, list[Build]] = {}
    left = MAX_BUILDS
    for labels, projects in queue.ready.items():
        items = cluster.in_turn(projects, cluster.picture.shares.of(labels))
        taken = [builds[item[2]] for item in islice(items, left)]
        left -= len(taken)
        may_begin = [it for it in taken if trial is None or trial.begins(it)]
        if may_begin:
            found[labels] = may_begin
    return found


def _totals(throttles: Throttles) -> Throttles:
    """Return throttles that count what runs in all, and not where."""
    totals = Throttles(tuple(replace(it, per_agent=None) for it in throttles.throttles))
    totals.totals = list(throttles.totals)
    return totals
