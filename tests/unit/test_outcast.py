"""An agent that is no member any more ends what it runs and stops; one that may be one goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, cast

import pytest
from tests.harness.facts import moment

from rota.adapters.clocks import SystemClock
from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex
from rota.agent.outcast import Outcast
from rota.core.cluster import Cluster
from rota.core.events import AgentJoined, AgentLeft, AgentStarted
from rota.core.fold import apply
from rota.errors import DeniedError, UnavailableError
from rota.ports.peers import Peer, Peers
from rota.service.contact import Contact
from rota.service.world import World

DENIED = DeniedError("this machine is no member any more")
AWAY = UnavailableError("it waits for a quorum of the voters")


class Others:
    """Peers that answer as they are told to."""

    def __init__(self, answers: Mapping[str, Exception | None]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def request(self, peer: Peer, *_: Any, **__: Any) -> bytes:
        self.asked.append(peer.name)
        if fault := self.answers[peer.name]:
            raise fault
        return b"{}"


def joined(world: World, *names: str) -> None:
    cluster: Cluster = world.cluster
    for name in names:
        pin = name * 64
        events = (
            AgentJoined(at=moment(), agent=name, name=name, pin=pin),
            AgentStarted(at=moment(), agent=name, peer=f"https://{name}:1"),
        )
        for event in events:
            apply(cluster, cluster.picture.seq + 1, event)


class Case:
    """Agent c among others, cut off from the engine."""

    def __init__(self, answers: Mapping[str, Exception | None]) -> None:
        self.world = World(journal=MemoryJournal(), index=MemoryIndex(), cluster=Cluster())
        self.done: list[str] = []
        joined(self.world, "c", *answers)
        self.world.contact = Contact(SystemClock())
        self.others = Others(answers)
        self.outcast = Outcast(
            "c", self.world, cast(Peers, self.others), self._end, lambda: self.done.append("stop")
        )
        self.outcast.look_s = 0.0

    async def _end(self) -> None:
        self.done.append("end")

    async def over(self) -> list[str]:
        async with asyncio.timeout(30):
            await self.outcast.run()
        return self.done

    async def goes_on(self) -> bool:
        """Whether it went on after it had asked everybody twice."""
        task = asyncio.create_task(self.outcast.run())
        async with asyncio.timeout(30):
            while len(self.others.asked) < 2 * len(self.others.answers) and not task.done():
                await asyncio.sleep(0)
        task.cancel()
        return not self.done


async def test_who_is_denied_by_most_ends_its_builds_and_then_stops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        assert await Case({"a": DENIED, "b": DENIED, "d": AWAY}).over() == ["end", "stop"]
    assert caplog.messages[0] == (
        "c is no member of its cluster any more, says a, b: it ends what it runs, and stops; to"
        " join again: empty its data folder, then rota agent --join TOKEN"
    )


@pytest.mark.parametrize(
    "answers",
    [
        {"a": AWAY, "b": AWAY},
        {"a": DENIED, "b": AWAY},
        {"a": DENIED, "b": DENIED, "d": None},
        {"a": None, "b": None},
    ],
    ids=["nobody answers", "one of two", "one takes it", "all take it"],
)
async def test_who_may_be_a_member_goes_on(answers: dict[str, Exception | None]) -> None:
    assert await Case(answers).goes_on()


async def test_nobody_is_asked_while_a_quorum_is_heard() -> None:
    case = Case({"a": DENIED, "b": DENIED})
    case.outcast.look_s = 3600.0
    task = asyncio.create_task(case.outcast.run())
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    assert case.others.asked == []
    assert case.done == []


async def test_who_folds_that_it_left_asks_nobody() -> None:
    case = Case({"a": AWAY})
    task = asyncio.create_task(case.over())
    while not case.others.asked:
        await asyncio.sleep(0)
    left = AgentLeft(at=moment(), agent="a", name="c", why="ann revoked its key")
    apply(case.world.cluster, case.world.cluster.picture.seq + 1, left)
    assert await task == ["end", "stop"]
