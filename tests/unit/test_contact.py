"""When an agent last had a sign of the voters, and from when on its word is stale."""

from __future__ import annotations

import pytest
from tests.harness.facts import moment

from rota.adapters.clocks import ManualClock
from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex
from rota.core.cluster import Cluster
from rota.core.events import AgentStarted
from rota.core.fold import apply
from rota.service.contact import Contact
from rota.service.world import STALE_S, World


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(moment())


def world(clock: ManualClock, *agents: str) -> World:
    cluster = Cluster()
    for seq, name in enumerate(agents, start=1):
        apply(cluster, seq, AgentStarted(at=moment(), agent=name))
    made = World(MemoryJournal(), MemoryIndex(), cluster)
    made.contact = Contact(clock)
    return made


def test_silence_is_counted_from_the_last_sign(clock: ManualClock) -> None:
    contact = Contact(clock)
    assert contact.silent_s() == 0.0
    clock.advance(3.0)
    assert (contact.silent_s(), contact.at) == (3.0, moment())
    contact.made()
    assert (contact.silent_s(), contact.at) == (0.0, moment(3.0))


def test_a_clock_that_is_set_makes_no_silence(clock: ManualClock) -> None:
    contact = Contact(clock)
    clock.step(3600.0)
    assert contact.silent_s() == 0.0


def test_among_others_an_agent_is_stale_after_a_silence(clock: ManualClock) -> None:
    here = world(clock, "p", "q")
    clock.advance(STALE_S)
    assert here.stale_since is None
    clock.advance(0.1)
    assert here.stale_since == moment()
    here.touch()
    assert here.stale_since is None


def test_an_agent_that_is_alone_is_stale_while_its_engine_is_down(clock: ManualClock) -> None:
    here = world(clock, "p")
    clock.advance(1e6)
    assert here.stale_since is None
    here.troubles["engine"] = "it does not answer"
    assert here.stale_since == moment()


def test_a_world_that_nobody_keeps_in_contact_is_not_stale(clock: ManualClock) -> None:
    here = world(clock, "p", "q")
    here.contact = None
    here.touch()
    assert here.stale_since is None
