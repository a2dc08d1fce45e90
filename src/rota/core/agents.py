"""Agents as the journal knows them: how they are, what they carry, by which key they are known."""

from __future__ import annotations

import enum

import msgspec
from msgspec.structs import replace

from rota.core.events import (
    AgentDrained,
    AgentFound,
    AgentJoined,
    AgentKeyMade,
    AgentKeyTaken,
    AgentLabelled,
    AgentLeft,
    AgentLost,
    AgentStarted,
    AgentStopped,
)
from rota.core.instant import Instant
from rota.core.job import Int


class AgentState(enum.StrEnum):
    """How an agent is."""

    JOINED = "joined"  # a member that has not been up yet
    UP = "up"
    STOPPED = "stopped"  # by plan
    LOST = "lost"  # nobody hears it


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon as the journal knows it. ``since`` is when it came to its state.

    ``labels`` are what it carries now: what it started with (``given``), changed by ``edits``. One
    that is ``ephemeral`` never leads or votes, and is forgotten when it is gone.
    """

    name: str
    since: Instant
    state: AgentState = AgentState.JOINED
    labels: dict[str, str] = {}
    slots: Int = 0
    url: str = ""
    peer: str = ""
    version: str = ""
    draining: bool = False
    leaving: bool = False
    pin: str = ""
    coming: str = ""  # the pin of its next key, which is taken as well
    token: str = ""
    given: dict[str, str] = {}
    edits: dict[str, str | None] = {}
    ephemeral: bool = False
    level: Int = 0  # what it said that it can

    def has_key(self, pin: str) -> bool:
        """Whether who shows a key of that pin is this agent."""
        return bool(pin) and pin in (self.pin, self.coming)

    @property
    def is_up(self) -> bool:
        """Whether it is there, as far as the journal knows."""
        return self.state is AgentState.UP

    @property
    def host(self) -> str:
        """The host of its address for peers; empty if it has none."""
        return self.peer.partition("://")[2].rpartition(":")[0].strip("[]")


AgentEvent = (
    AgentJoined
    | AgentStarted
    | AgentStopped
    | AgentLost
    | AgentDrained
    | AgentFound
    | AgentLabelled
    | AgentKeyMade
    | AgentKeyTaken
    | AgentLeft
)


def subject(event: AgentEvent) -> str:
    """Return the name of the agent that an event is about."""
    match event:
        case AgentStarted() | AgentStopped() | AgentFound() | AgentKeyMade() | AgentKeyTaken():
            return event.agent
        case AgentJoined() | AgentLost() | AgentDrained() | AgentLabelled() | AgentLeft():
            return event.name


def change(agents: dict[str, Agent], event: AgentEvent) -> None:
    """Fold an event into ``agents``, in place. What concerns an agent nobody knows is dropped."""
    match event:
        case AgentJoined():
            fresh = agents.get(event.name) or Agent(name=event.name, since=event.at)
            agents[event.name] = replace(
                fresh,
                pin=event.pin,
                coming="",
                leaving=False,
                draining=False,
                ephemeral=event.ephemeral,
            )
        case AgentStarted():
            known = agents.get(event.agent)
            # Who left, or was removed, does not come back by saying that it is up.
            if known is not None or not any(agent.pin for agent in agents.values()):
                agents[event.agent] = _started(known, event)
        case AgentKeyMade():
            agent = agents.get(event.agent)
            taken = any(it.has_key(event.pin) for it in agents.values())
            if agent is not None and not taken:
                agents[event.agent] = replace(agent, coming=event.pin)
        case AgentKeyTaken():
            agent = agents.get(event.agent)
            if agent is not None and event.pin and event.pin == agent.coming:
                agents[event.agent] = replace(agent, pin=event.pin, coming="")
        case AgentLeft():
            agents.pop(event.name, None)
        case AgentStopped():
            _alter(agents, event.agent, state=AgentState.STOPPED, since=event.at)
        case AgentLost():
            _alter(agents, event.name, state=AgentState.LOST, since=event.at)
        case AgentDrained():
            leaving = event.leaving and event.draining
            _alter(agents, event.name, draining=event.draining, leaving=leaving)
        case AgentFound():
            if (agent := agents.get(event.agent)) is not None:
                labels = edited(event.labels, agent.edits)
                agents[event.agent] = replace(agent, given=event.labels, labels=labels)
        case AgentLabelled():
            if (agent := agents.get(event.name)) is not None:
                edits = {**agent.edits, **event.labels}
                agents[event.name] = replace(agent, edits=edits, labels=edited(agent.given, edits))


def edited(labels: dict[str, str], edits: dict[str, str | None]) -> dict[str, str]:
    """Return ``labels`` as ``edits`` change them: ``None`` takes one away."""
    both = {**labels, **edits}
    return {name: value for name, value in both.items() if value is not None}


def _started(known: Agent | None, event: AgentStarted) -> Agent:
    known = known or Agent(name=event.agent, since=event.at)
    return replace(
        known,
        state=AgentState.UP,
        since=event.at,
        given=event.labels,
        labels=edited(event.labels, known.edits),
        slots=event.slots,
        url=event.url,
        peer=event.peer,
        token=event.token,
        version=event.version,
        level=event.level,
        ephemeral=known.ephemeral or event.ephemeral,
    )


def _alter(agents: dict[str, Agent], name: str, **changes: object) -> None:
    agent = agents.get(name)
    if agent is not None:
        agents[name] = replace(agent, **changes)
