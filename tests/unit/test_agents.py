"""Agents as the journal knows them, one fact a test."""

from __future__ import annotations

import pytest
from tests.harness.facts import moment

from rota.core.agents import Agent, AgentEvent, AgentState, change, edited
from rota.core.events import (
    AgentDrained,
    AgentJoined,
    AgentLabelled,
    AgentLeft,
    AgentLost,
    AgentStarted,
    AgentStopped,
)


def after(*events: AgentEvent) -> dict[str, Agent]:
    agents: dict[str, Agent] = {}
    for event in events:
        change(agents, event)
    return agents


def up(**labels: str) -> AgentStarted:
    return AgentStarted(at=moment(1), agent="p", labels=labels, slots=3, peer="https://h:1")


JOINED = AgentJoined(at=moment(), agent="x", name="p", pin="f00d")


def test_an_agent_is_what_it_said_when_it_started() -> None:
    event = AgentStarted(
        at=moment(1),
        agent="p",
        labels={"linux": ""},
        slots=3,
        url="http://h:2",
        peer="https://h:1",
        token="cafe",
        version="1.2",
    )
    assert after(JOINED, event)["p"] == Agent(
        name="p",
        since=moment(1),
        state=AgentState.UP,
        labels={"linux": ""},
        given={"linux": ""},
        slots=3,
        url="http://h:2",
        peer="https://h:1",
        version="1.2",
        pin="f00d",
        token="cafe",
    )


def test_edits_of_labels_hold_over_restarts_above_what_is_given() -> None:
    edit = AgentLabelled(at=moment(), name="p", labels={"big": "", "java": "21", "old": None})
    agents = after(up(java="17", old="", linux=""), edit)
    assert agents["p"].labels == {"java": "21", "linux": "", "big": ""}
    change(agents, up(java="11", old="1", arm=""))
    assert agents["p"].labels == {"java": "21", "arm": "", "big": ""}
    change(agents, AgentLabelled(at=moment(), name="p", labels={"big": None, "old": "2"}))
    assert agents["p"].labels == {"java": "21", "arm": "", "old": "2"}
    change(agents, up(big="", old="1"))
    assert agents["p"].labels == {"java": "21", "old": "2"}


def test_edits_change_a_copy() -> None:
    labels = {"a": "1"}
    assert edited(labels, {"a": None, "b": "2"}) == {"b": "2"}
    assert labels == {"a": "1"}


def test_draining_holds_over_restarts_until_it_is_over() -> None:
    drained = AgentDrained(at=moment(), name="p")
    agents = after(up(), drained, AgentStopped(at=moment(), agent="p"), up())
    assert (agents["p"].draining, agents["p"].leaving) == (True, False)
    change(agents, AgentDrained(at=moment(), name="p", draining=False))
    assert not agents["p"].draining


def test_who_leaves_drains_and_who_takes_builds_again_does_not_leave() -> None:
    agents = after(up(), AgentDrained(at=moment(), name="p", leaving=True))
    assert (agents["p"].draining, agents["p"].leaving) == (True, True)
    change(agents, AgentDrained(at=moment(), name="p", draining=False, leaving=True))
    assert (agents["p"].draining, agents["p"].leaving) == (False, False)


def test_who_left_is_gone_and_comes_back_as_a_new_one() -> None:
    edit = AgentLabelled(at=moment(), name="p", labels={"big": ""})
    agents = after(JOINED, up(), edit, AgentLeft(at=moment(), name="p"))
    assert agents == {}
    change(agents, AgentJoined(at=moment(9), name="p", pin="beef"))
    assert agents["p"] == Agent(name="p", since=moment(9), pin="beef")


def test_an_agent_that_joins_again_has_a_new_key_and_neither_drains_nor_leaves() -> None:
    leaving = AgentDrained(at=moment(), name="p", leaving=True)
    again = AgentJoined(at=moment(9), name="p", pin="beef")
    agent = after(JOINED, up(linux=""), leaving, again)["p"]
    assert (agent.pin, agent.draining, agent.leaving) == ("beef", False, False)
    assert agent.labels == {"linux": ""}


@pytest.mark.parametrize(
    "event",
    [
        AgentStopped(at=moment(), agent="p"),
        AgentLost(at=moment(), name="p"),
        AgentDrained(at=moment(), name="p"),
        AgentLabelled(at=moment(), name="p", labels={"a": ""}),
        AgentLeft(at=moment(), name="p"),
    ],
)
def test_what_concerns_an_agent_that_nobody_knows_is_dropped(event: AgentEvent) -> None:
    assert after(event) == {}


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("", ""),
        ("https://10.0.0.1:7400", "10.0.0.1"),
        ("https://ci.example:7400", "ci.example"),
        ("https://[fd00::1]:7400", "fd00::1"),
    ],
)
def test_the_host_of_an_agent_is_that_of_its_address_for_peers(peer: str, host: str) -> None:
    assert Agent(name="p", since=moment(), peer=peer).host == host
