"""Machines of clouds as the journal knows them, from the intent to launch one to its end."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from rota.core.agents import Agent
from rota.core.events import (
    EPOCH,
    CloudAnswered,
    CloudDraining,
    CloudFailed,
    CloudGone,
    CloudJoined,
    CloudLaunched,
    CloudPaused,
    CloudWanted,
)
from rota.core.instant import Instant
from rota.core.job import Int

#: After the first failure in a row nothing is asked of a cloud for so long; twice that after the next.
BACK_OFF_S = 10.0
MAX_BACK_OFF_S = 900.0


class MachineState(enum.StrEnum):
    """How far a machine is."""

    WANTED = "wanted"  # an intent: the provider may have it, or not
    LAUNCHED = "launched"  # the provider has it
    JOINED = "joined"  # its agent is up, or was
    DRAINING = "draining"  # it takes no more builds


class Machine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A machine that costs money, or may: ``name`` is its agent's, its token's and its tag's.

    ``labels`` and ``slots`` are what it was asked to carry. ``is_ending``: it is not waited for.
    """

    name: str
    cloud: str
    since: Instant
    wanted_at: Instant
    state: MachineState = MachineState.WANTED
    node: str = ""
    launched_at: Instant | None = None
    joined_at: Instant | None = None
    labels: dict[str, str] = {}
    slots: Int = 1
    why: str = ""
    is_ending: bool = False


class CloudRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a cloud so far.

    ``failures`` counts rounds of them in a row, ``what`` failed last, with which ``error``. ``carries``
    is what a machine that was asked to carry ``asked`` carried in fact.
    """

    paused: bool = False
    launched: Int = 0
    failed: Int = 0
    failures: Int = 0
    failed_at: Instant = EPOCH
    what: str = ""
    error: str = ""
    asked: dict[str, str] = {}
    carries: dict[str, str] = {}

    @property
    def back_off_s(self) -> float:
        """How long after the last failure nothing is asked of it; 0 if that was none."""
        if not self.failures:
            return 0.0
        return min(BACK_OFF_S * 2.0 ** min(self.failures - 1, 30), MAX_BACK_OFF_S)

    def waits_s(self, now: Instant) -> float:
        """Return how long nothing is asked of it from ``now`` on; a clock that is set does not matter."""
        left = self.back_off_s - (now - self.failed_at).total_seconds()
        return min(max(left, 0.0), self.back_off_s)


CloudEvent = (
    CloudWanted
    | CloudLaunched
    | CloudJoined
    | CloudDraining
    | CloudGone
    | CloudFailed
    | CloudAnswered
    | CloudPaused
)


def change_machines(
    machines: dict[str, Machine],
    records: dict[str, CloudRecord],
    agents: dict[str, Agent],
    event: CloudEvent,
) -> None:
    """Fold an event, in place. What concerns a machine that nobody knows is dropped.

    A machine's agent is one of ``agents``: it drains and goes with its machine.
    """
    record = records.get(event.cloud, CloudRecord())
    match event:
        case CloudWanted() if event.machine not in machines:
            machines[event.machine] = Machine(
                name=event.machine,
                cloud=event.cloud,
                since=event.at,
                wanted_at=event.at,
                labels=event.labels,
                slots=event.slots,
                why=event.why,
            )
        case CloudLaunched():
            machine = machines.get(event.machine)
            if machine is None or machine.node:
                return
            machines[event.machine] = replace(machine, node=event.node, launched_at=event.at)
            if machine.state is MachineState.WANTED:
                _move(machines, event.machine, MachineState.LAUNCHED, event.at)
            record = replace(record, launched=record.launched + 1)
            records[event.cloud] = _cleared(record) if record.what == "launch" else record
        case CloudJoined():
            machine = machines.get(event.machine)
            if machine is not None and machine.joined_at is None:
                machines[event.machine] = replace(machine, joined_at=event.at)
                if machine.state in (MachineState.WANTED, MachineState.LAUNCHED):
                    _move(machines, event.machine, MachineState.JOINED, event.at)
                if event.cloud in records:
                    records[event.cloud] = _cleared(record)
        case CloudDraining():
            _drain(machines, agents, event.machine, event)
        case CloudGone():
            _forget(machines, agents, event.machine)
            if record.what == "end":
                records[event.cloud] = _cleared(record)
        case CloudFailed():
            if event.over:
                _forget(machines, agents, event.machine)
            elif event.what == "join":
                # It had its time; from now on it is only to be ended.
                _drain(machines, agents, event.machine, event)
            records[event.cloud] = _failed(record, event)
        case CloudAnswered():
            if event.cloud in records:
                records[event.cloud] = _cleared(record)
        case CloudPaused():
            # Who lets it go on wants it tried now.
            record = record if event.paused else _cleared(record)
            records[event.cloud] = replace(record, paused=event.paused)
        case CloudWanted():
            pass


def learn(
    machines: Mapping[str, Machine], records: dict[str, CloudRecord], agent: Agent | None
) -> None:
    """Note what an agent carries, if it is a machine of a cloud: the next one will be like it."""
    machine = machines.get(agent.name) if agent is not None else None
    if machine is None or agent is None or not agent.is_up:
        return
    carries = {name: value for name, value in agent.labels.items() if name != "agent"}
    record = records.get(machine.cloud, CloudRecord())
    records[machine.cloud] = replace(record, asked=machine.labels, carries=carries)


def _move(machines: dict[str, Machine], name: str, state: MachineState, at: Instant) -> None:
    machines[name] = replace(machines[name], state=state, since=at)


def _drain(
    machines: dict[str, Machine],
    agents: dict[str, Agent],
    name: str,
    event: CloudDraining | CloudFailed,
) -> None:
    machine = machines.get(name)
    if machine is None:
        return
    if machine.state is not MachineState.DRAINING:
        _move(machines, name, MachineState.DRAINING, event.at)
    is_now = isinstance(event, CloudFailed) or event.now
    why = event.error if isinstance(event, CloudFailed) else event.why
    machines[name] = replace(
        machines[name], is_ending=machine.is_ending or is_now, why=why or machine.why
    )
    agent = agents.get(name)
    if agent is not None and agent.ephemeral:
        agents[name] = replace(agent, draining=True, leaving=True)


def _forget(machines: dict[str, Machine], agents: dict[str, Agent], name: str) -> None:
    machines.pop(name, None)
    agent = agents.get(name)
    if agent is not None and agent.ephemeral:
        del agents[name]


def _failed(record: CloudRecord, event: CloudFailed) -> CloudRecord:
    # What was under way together fails together, and is one failure.
    is_new = not record.failures or not record.waits_s(event.at)
    return replace(
        record,
        failed=record.failed + 1,
        failures=record.failures + (1 if is_new else 0),
        failed_at=event.at if is_new else record.failed_at,
        what=event.what,
        error=event.error,
    )


def _cleared(record: CloudRecord) -> CloudRecord:
    return replace(record, failures=0, what="", error="")
