"""Another key for an agent: killed at every step it goes on, and nobody else has to be told twice."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_pki import NOW, At

from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex
from rota.adapters.pki import LIFE, TlsKeyring
from rota.agent import keys
from rota.agent.certificates import Certificates
from rota.agent.keys import KeyChange
from rota.core.cluster import Cluster
from rota.core.events import (
    AgentJoined,
    AgentKeyMade,
    AgentKeyTaken,
    AgentLost,
    AgentStarted,
    ClusterRaised,
    Event,
)
from rota.errors import ConflictError, UnavailableError
from rota.ports.credentials import Credentials
from rota.ports.journal import Entry
from rota.ports.peers import Peer
from rota.service.members import member_of
from rota.service.world import World


class Killed(BaseException):
    """The daemon is gone, at this very step."""


class Journal(MemoryJournal):
    """A journal whose events are folded at once."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self, MemoryIndex(), Cluster())
        self.step: Callable[[], None] = lambda: None

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        self.step()
        seq = await super().append(event, expect=expect, fence=fence)
        self.world.fold(Entry(seq, event))
        self.step()  # it is written, and who wrote it never hears that
        return seq


class Agent:
    """An agent with two others; ``dies_at`` counts steps until it is killed, by -1 never."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.folder, self.journal, self.world = folder, journal, journal.world
        self.clock, self.dies_at = At(), -1
        self.shown: list[str] = []
        self.deaf: set[str] = set()
        self.start()

    def start(self) -> None:
        """Begin anew, as a daemon does: all that it knows is on disk and in the journal."""
        self.ring = TlsKeyring(self.folder / "tls", self.clock)
        found = self.ring.found("a", [])
        self.shown.append(found.pin)
        self.change = KeyChange(
            name="a",
            world=self.world,
            journal=self.journal,
            keyring=self.ring,
            clock=self.clock,
            certify=self._certify,
            kept_by=self._kept_by,
            switched=self._switched,
        )

    def step(self) -> None:
        self.dies_at -= 1
        if self.dies_at == -1:
            raise Killed

    async def _certify(self, request: bytes) -> bytes:
        self.step()
        return self.ring.sign(request, "a", [])

    async def _kept_by(self, peer: Peer) -> Collection[str]:
        self.step()
        if peer.name in self.deaf:
            raise UnavailableError("it does not answer")
        # As another daemon does: what it has folded is written down.
        agents = self.world.cluster.picture.agents.values()
        return [pin for it in agents for pin in (it.pin, it.coming) if pin]

    def _switched(self, credentials: Credentials) -> None:
        self.step()
        self.shown.append(credentials.pin)

    @property
    def me(self) -> Any:
        return self.world.cluster.picture.agents["a"]

    def check(self) -> None:
        """Fail unless who starts here now shows a key that all take, with its own certificate."""
        found = TlsKeyring(self.folder / "tls", self.clock).credentials()
        assert found is not None
        assert member_of(self.world, found.pin) == "a"
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(found.cert, found.key)

    async def tell(self, *events: Event) -> None:
        for event in events:
            await self.journal.append(event)


@pytest.fixture
async def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    journal = Journal()
    made = Agent(tmp_path, journal)
    await made.tell(
        ClusterRaised(at=NOW, level=2, members=("a",)),
        AgentJoined(at=NOW, agent="a", name="a", pin=made.shown[0], level=2),
        AgentStarted(at=NOW, agent="a", level=2),
        AgentJoined(at=NOW, agent="a", name="b", pin="b" * 64, level=2),
        AgentStarted(at=NOW, agent="b", level=2),
        AgentJoined(at=NOW, agent="a", name="c", pin="c" * 64, level=2),
        AgentStarted(at=NOW, agent="c", level=2),
    )
    journal.step = made.step
    for name in ("_write", "_rename"):
        monkeypatch.setattr(TlsKeyring, name, _counted(made, getattr(TlsKeyring, name)))
    return made


def _counted(agent: Agent, do: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any) -> Any:
        agent.step()
        done = do(*args)
        agent.step()
        return done

    return counted


async def test_a_key_is_made_told_used_and_the_former_one_dropped(agent: Agent) -> None:
    former = agent.me.pin
    pin = await agent.change.change("ann")
    assert (agent.me.pin, agent.me.coming) == (pin, "")
    assert agent.shown == [former, pin]
    assert member_of(agent.world, former) is None
    assert agent.ring.coming() == ""
    assert agent.ring.present().left(NOW) == LIFE
    said = [entry.event async for entry in agent.journal.read()][-2:]
    assert [(type(it), getattr(it, "pin", ""), it.by) for it in said] == [
        (AgentKeyMade, pin, "ann"),
        (AgentKeyTaken, pin, "a"),
    ]
    agent.check()


async def test_it_is_changed_however_often_its_daemon_is_killed(agent: Agent) -> None:
    """Each step in turn is the last one of a daemon; the next daemon goes on."""
    for number in itertools.count():
        former, agent.dies_at = agent.me.pin, number
        try:
            await agent.change.change()
        except Killed:
            agent.check()
        else:
            break
        agent.dies_at = -1
        agent.start()
        await agent.change.go_on()
        assert agent.me.coming == agent.ring.coming() == ""
        assert agent.me.pin == agent.shown[-1]
        agent.check()
        if agent.me.pin != former:
            assert member_of(agent.world, former) is None
    assert number > 15


async def test_who_goes_on_may_be_killed_as_well(agent: Agent) -> None:
    for first, second in itertools.product(range(3, 22, 3), range(0, 8, 2)):
        for dies_at, do in ((first, agent.change.change), (second, None)):
            agent.dies_at = dies_at
            try:
                await (do() if do is not None else agent.change.go_on())
            except Killed:
                agent.check()
            agent.dies_at = -1
            agent.start()
        await agent.change.go_on()
        assert agent.me.pin == agent.shown[-1]
        agent.check()


async def test_it_is_not_used_before_all_members_know_it(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "KNOWN_S", -1.0)
    former = agent.me.pin
    agent.deaf = {"c"}
    with pytest.raises(UnavailableError) as caught:
        await agent.change.change()
    assert caught.value.message == (
        "the new key of a is announced and not used yet: c did not say that it knows it"
    )
    assert "rota agents --forget NAME" in (caught.value.hint or "")
    assert (agent.me.pin, agent.me.coming) == (former, agent.ring.coming())
    assert agent.shown == [former]
    agent.deaf.clear()
    await agent.change.go_on()
    assert agent.me.pin == agent.shown[-1] != former


async def test_it_stays_while_a_member_is_away_or_does_not_know_of_such_things(
    agent: Agent,
) -> None:
    await agent.tell(AgentLost(at=NOW, agent="b", name="c", silent_s=9.0))
    with pytest.raises(ConflictError) as caught:
        await agent.change.change()
    assert caught.value.message == (
        "the key of a stays: c could not be told of the new key, and would not know a when it is back"
    )
    assert not agent.ring.coming()
    agent.world.cluster.picture.level = 1
    with pytest.raises(ConflictError, match="runs a version that does not know of changed keys"):
        await agent.change.change()


async def test_a_next_key_that_was_lost_is_taken_back(agent: Agent) -> None:
    await agent.tell(AgentKeyMade(at=NOW, agent="a", pin="d" * 64))
    await agent.change.go_on()
    assert agent.me.coming == ""
    assert member_of(agent.world, "d" * 64) is None
    agent.check()


@pytest.mark.parametrize("pin", ["b" * 64, "c" * 64])
async def test_nobody_takes_a_key_that_another_has(agent: Agent, pin: str) -> None:
    await agent.tell(AgentKeyMade(at=NOW, agent="a", pin=pin))
    assert agent.me.coming == ""
    await agent.tell(AgentKeyTaken(at=NOW, agent="a", pin=pin))
    assert agent.me.pin == agent.shown[0]


def kept(agent: Agent, *, key: bool = True) -> Certificates:
    made = Certificates(
        name="a",
        hosts=list,
        world=agent.world,
        keyring=agent.ring,
        clock=agent.clock,
        ask=agent._certify,
        renewed=lambda: None,
    )
    made.keys = agent.change if key else None
    return made


async def test_a_renewal_changes_the_key_as_well(agent: Agent) -> None:
    certificates, former = kept(agent), agent.me.pin
    await certificates.look()
    assert agent.me.pin == former
    agent.clock.time = agent.ring.present().until - LIFE / 4
    await certificates.look()
    assert agent.me.pin != former
    assert agent.ring.present().left(agent.clock.time) == LIFE


async def test_a_renewal_without_all_others_waits_and_then_keeps_the_key(agent: Agent) -> None:
    await agent.tell(AgentLost(at=NOW, agent="b", name="c", silent_s=9.0))
    certificates, former = kept(agent), agent.ring.present()
    agent.clock.time = former.until - LIFE / 4
    await certificates.look()
    assert agent.ring.present() == former
    agent.clock.time = former.until - LIFE / 9
    await certificates.look()
    assert agent.ring.present().left(agent.clock.time) == LIFE
    assert agent.ring.present().pin == former.pin


async def test_one_after_the_other(agent: Agent) -> None:
    await agent.tell(AgentKeyMade(at=NOW, agent="b", pin="d" * 64))
    assert agent.change.is_another_at_it
    certificates, former = kept(agent), agent.ring.present()
    agent.clock.time = former.until - LIFE / 4
    await certificates.look()
    assert agent.ring.present() == former
    await agent.tell(AgentKeyTaken(at=NOW, agent="b", pin="d" * 64))
    await certificates.look()
    assert agent.ring.present().pin != former.pin
