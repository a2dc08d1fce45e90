"""What a leader does about machines of clouds: decisions as data, carried out by its duty.

Each machine goes from an intent in the journal to its end, and at every point another leader may
have to go on. What is certain is what is folded; what a provider says is as old as its last answer,
and a machine that was just launched may be missing in it. So:

* a call that launches is made once, by the leader that wrote the intent, right after it was folded.
  Any other leader, or one whose call got no answer, looks for the machine by its tag. Found, it is
  recorded; missing for ``SETTLE_S``, the intent is given up, and whoever still waits gets another
  one. Where the provider knows a repeated call by its token, the call is repeated instead;
* a node with this cluster's tag and no machine in the journal is an orphan, for ever: intents come
  before nodes, and no name is used twice. It is ended;
* a machine is ended when its agent has left, or is lost, or never came. To end is to ask again until
  the provider says that it is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import datetime

import msgspec

from rota.core.agents import Agent
from rota.core.cloud_demand import Want, machines_of, wants
from rota.core.cluster import Cluster
from rota.core.durations import format_duration
from rota.core.machines import CloudRecord, Machine, MachineState
from rota.core.settings_clouds import Cloud

#: So long a machine may be missing in what a provider lists though it is there.
SETTLE_S = 60.0
#: An agent that is lost or was stopped may come back within this: a network heals, a daemon restarts.
RETURN_S = 60.0


class Node(msgspec.Struct, frozen=True):
    """What a provider lists. ``machine`` is the tag; ``is_over``: it is ended, or about to be."""

    id: str
    machine: str
    is_over: bool = False


class Launch(msgspec.Struct, frozen=True):
    """Call the provider to launch a machine, by its token."""

    cloud: str
    machine: str


class Found(msgspec.Struct, frozen=True):
    """Record that the provider has a machine."""

    cloud: str
    machine: str
    node: str


class Joined(msgspec.Struct, frozen=True):
    """Record that a machine's agent is up."""

    cloud: str
    machine: str


class Late(msgspec.Struct, frozen=True):
    """Record that a machine did not join in time."""

    cloud: str
    machine: str
    error: str


class Drain(msgspec.Struct, frozen=True):
    """Record that a machine is to take no more builds."""

    cloud: str
    machine: str
    why: str


class Gone(msgspec.Struct, frozen=True):
    """Record that a machine is no more."""

    cloud: str
    machine: str
    node: str
    why: str


class End(msgspec.Struct, frozen=True):
    """Call the provider to end a node; then it is gone. Without a machine it is an orphan."""

    cloud: str
    machine: str
    node: str
    why: str


Step = Want | Launch | Found | Joined | Late | Drain | Gone | End


class CloudView(msgspec.Struct, frozen=True, kw_only=True):
    """What a leader knows besides what is folded. Seconds are by its own clock.

    Args:
        clouds: As the settings have them, in order.
        nodes: By cloud, what its provider last listed; absent while it has not answered this leader.
        fresh: Machines whose intent this leader wrote, and that it has not called for yet.
        busy: Machines and nodes about which a call is under way.
        missing_s: For how long listings have lacked a machine.
        idle_s: For how long a machine's agent has run nothing.
        knows_tokens: The clouds whose provider knows a repeated call by its token.
    """

    clouds: Mapping[str, Cloud]
    nodes: Mapping[str, Sequence[Node]] = {}
    fresh: Set[str] = frozenset()
    busy: Set[str] = frozenset()
    missing_s: Mapping[str, float] = {}
    idle_s: Mapping[str, float] = {}
    knows_tokens: Set[str] = frozenset()


def steps(cluster: Cluster, view: CloudView, now: datetime) -> list[Step]:
    """Return what to do at ``now``; what is recorded first is to be folded before the next look.

    Cost: the machines, what the providers list, and what waits.
    """
    found: list[Step] = []
    for machine in cluster.picture.machines.values():
        if machine.name not in view.busy:
            step = _care(cluster, view, machine, now)
            if step is not None:
                found.append(step)
    going = {it.machine for it in found if isinstance(it, Gone | Late | Drain | End)}
    found.extend(_idle(cluster, view, going))
    found.extend(_orphans(cluster, view))
    found.extend(wants(cluster, view.clouds, able(cluster, view, now), now))
    return found


def able(cluster: Cluster, view: CloudView, now: datetime) -> list[str]:
    """Return the clouds that may launch something now, in order."""
    records = cluster.picture.clouds
    return [
        name
        for name in view.clouds
        if name in view.nodes
        and not (record := records.get(name, CloudRecord())).paused
        and not record.waits_s(now)
    ]


def _care(cluster: Cluster, view: CloudView, machine: Machine, now: datetime) -> Step | None:
    """Return the next step of one machine."""
    agent = cluster.picture.agents.get(machine.name)
    is_up = agent is not None and agent.is_up
    if machine.joined_at is None and is_up:
        return Joined(machine.cloud, machine.name)
    cloud = view.clouds.get(machine.cloud)
    if cloud is None or machine.cloud not in view.nodes:
        return None
    node = _node(view.nodes[machine.cloud], machine)
    if node is not None and node.is_over:
        return Gone(machine.cloud, machine.name, node.id, _lost(machine))
    if not machine.node:
        return _intent(cluster, view, machine, node, now, is_up=is_up)
    if node is None and view.missing_s.get(machine.name, 0.0) >= SETTLE_S and not is_up:
        return Gone(machine.cloud, machine.name, machine.node, _lost(machine))
    why = _end(machine, agent, now)
    if why:
        return End(machine.cloud, machine.name, machine.node, why)
    took_s = (now - machine.wanted_at).total_seconds()
    if machine.state is MachineState.LAUNCHED and took_s > cloud.join_within_s:
        error = f"{machine.name} did not join within {format_duration(cloud.join_within_s)}"
        return Late(machine.cloud, machine.name, error)
    return None


def _intent(
    cluster: Cluster,
    view: CloudView,
    machine: Machine,
    node: Node | None,
    now: datetime,
    *,
    is_up: bool,
) -> Step | None:
    """Return the step of a machine of which nobody has recorded that it was launched."""
    if node is not None:
        return Found(machine.cloud, machine.name, node.id)
    if machine.name in view.fresh:
        if machine.is_ending:
            return Gone(machine.cloud, machine.name, "", machine.why)
        return Launch(machine.cloud, machine.name)
    if is_up:
        return None  # it is there, whatever the provider lists
    record = cluster.picture.clouds.get(machine.cloud, CloudRecord())
    if view.missing_s.get(machine.name, 0.0) >= SETTLE_S:
        why = f"nobody knows whether it was launched, and it is not there {SETTLE_S:.0f} s later"
        return Gone(machine.cloud, machine.name, "", why)
    is_known = machine.cloud in view.knows_tokens and machine.name in view.missing_s
    if is_known and not machine.is_ending and not record.waits_s(now):
        return Launch(machine.cloud, machine.name)
    return None


def _node(nodes: Sequence[Node], machine: Machine) -> Node | None:
    """Return a machine's node. Of several one that lives is preferred; the others are orphans."""
    mine = [
        it
        for it in nodes
        if it.id == machine.node or (not machine.node and it.machine == machine.name)
    ]
    return min(mine, key=lambda it: it.is_over, default=None)


def _lost(machine: Machine) -> str:
    if machine.state is MachineState.DRAINING:
        return machine.why
    return "the provider has ended it"


def _end(machine: Machine, agent: Agent | None, now: datetime) -> str:
    """Return why a machine is to be ended now; empty if it is not."""
    if machine.is_ending:
        return machine.why
    if machine.state is MachineState.DRAINING:
        return machine.why if agent is None or not agent.is_up else ""
    if machine.state is not MachineState.JOINED:
        return ""
    if agent is None:
        return "its agent left the cluster"
    if not agent.is_up and (now - agent.since).total_seconds() > RETURN_S:
        return f"its agent is {agent.state}"
    return ""


def _idle(cluster: Cluster, view: CloudView, going: Set[str]) -> Iterator[Step]:
    """Yield the machines that have had nothing to do for too long, but for the least of them."""
    for name, cloud in view.clouds.items():
        staying = [
            it
            for it in machines_of(cluster, name)
            if it.state is not MachineState.DRAINING and it.name not in going
        ]
        spare = len(staying) - cloud.min
        idle = [
            it
            for it in staying
            if it.state is MachineState.JOINED
            and it.name not in view.busy
            and view.idle_s.get(it.name, -1.0) >= cloud.idle_s
        ]
        idle.sort(key=lambda it: (-view.idle_s[it.name], it.name))
        for machine in idle[: max(spare, 0)]:
            why = f"it had nothing to do for {format_duration(cloud.idle_s)}"
            yield Drain(name, machine.name, why)


def _orphans(cluster: Cluster, view: CloudView) -> Iterator[Step]:
    """Yield the nodes that carry this cluster's tag and belong to nothing in the journal."""
    machines, agents = cluster.picture.machines, cluster.picture.agents
    ended: set[str] = set()
    for name, nodes in view.nodes.items():
        for node in nodes:
            if node.is_over or node.id in view.busy or node.id in ended:
                continue
            machine = machines.get(node.machine)
            if machine is not None and (machine.node == node.id or not machine.node):
                continue
            agent = agents.get(node.machine)
            if machine is None and agent is not None and agent.is_up:
                continue  # the journal was lost and begun anew: it is of use
            ended.add(node.id)
            yield End(name, "", node.id, f"{node.machine or 'it'} is unknown here")
