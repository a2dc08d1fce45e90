"""The hub: each network by itself, at its own pace; what is heard is bounded, a fault stays where it is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest
from tests.harness.facts import moment

from rota.adapters.memory_network import MemoryNetwork, MemoryServer
from rota.chat import hub as module
from rota.chat.hub import Hub, bounded
from rota.errors import InputError, LaterError
from rota.ports.chat_wire import HeardThat, Report, Standing
from rota.ports.networks import Abilities, Heard, Network, Saying


class Ears:
    """What the daemon would be told."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    async def __call__(self, report: Report) -> None:
        self.reports.append(report)

    @property
    def heard(self) -> list[str]:
        return [it.heard.text for it in self.reports if isinstance(it, HeardThat)]

    def trouble(self, network: str) -> str | None:
        """Return the last word on a network."""
        found = [it for it in self.reports if isinstance(it, Standing) and it.network == network]
        return found[-1].trouble if found else None

    async def until(self, network: str, trouble: str) -> None:
        """Wait until that is the last word on a network."""
        async with asyncio.timeout(30):
            while self.trouble(network) != trouble:
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def running(ears: Ears, *networks: Network, **faults: str) -> AsyncIterator[Hub]:
    """Give a hub that is on networks."""
    hub = Hub(networks, faults, ears)
    task = asyncio.create_task(hub.run({}))
    for network in networks:
        async with asyncio.timeout(30):
            while network.trouble:
                await asyncio.sleep(0)
    try:
        yield hub
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def saying(name: str = "x", room: str = "#r") -> Saying:
    """Return a message of ours."""
    return Saying(id=name, room=room, text="hello")


class Faulty(MemoryNetwork):
    """One with a fault in what reads it."""

    async def heard(self) -> AsyncIterator[Heard]:
        async for heard in super().heard():
            if heard.text == "poison":
                raise KeyError(heard.text)
            yield heard


async def test_a_fault_in_one_network_is_its_own(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FAULT_S", 0.01)
    ears, bad, good = Ears(), Faulty("bad"), MemoryNetwork("good")
    async with running(ears, bad, good) as hub:
        with caplog.at_level(logging.CRITICAL, logger="rota.chat.hub"):
            bad.server.hear("poison")
            await ears.until("bad", "a fault of the bot, see the log of the agent")
            good.server.hear("fine")
            await hub.say("good", saying())
            await ears.until("bad", "")
        bad.server.hear("and on")
        async with asyncio.timeout(30):
            while "and on" not in ears.heard:
                await asyncio.sleep(0.001)
    assert "fine" in ears.heard


async def test_who_is_not_connected_is_told_later_and_who_is_not_there_never() -> None:
    ears, network = Ears(), MemoryNetwork("team")
    async with running(ears, network, missing="token: no secret x") as hub:
        network.server.is_down = True
        with pytest.raises(LaterError, match="team: the server is down"):
            await hub.say("team", saying())
        with pytest.raises(LaterError, match="missing: token: no secret x"):
            await hub.say("missing", saying())
        with pytest.raises(InputError, match="no network 'other'") as wrong:
            await hub.was_said("other", saying())
        assert wrong.value.hint == "known: team"


async def test_a_network_is_spoken_on_at_its_own_pace() -> None:
    slow = MemoryNetwork("slow", abilities=Abilities(every_s=100.0, burst=2))
    quick = MemoryNetwork("quick", abilities=Abilities(every_s=0.02, burst=1))
    async with running(Ears(), slow, quick) as hub:
        await hub.say("slow", saying("1"))
        await hub.say("slow", saying("2"))
        for _ in range(3):  # to ask again makes it no later
            with pytest.raises(LaterError, match="slow is told too much at once") as late:
                await hub.say("slow", saying("3"))
            assert 60 < late.value.after_s <= 100
        begun = asyncio.get_running_loop().time()
        for number in range(4):
            await hub.say("quick", saying(str(number)))
        assert asyncio.get_running_loop().time() - begun >= 0.05
    assert [it.saying.id for it in slow.server.said] == ["1", "2"]


async def test_a_network_that_refuses_the_account_says_why_and_the_rest_goes_on() -> None:
    class Refused(MemoryNetwork):
        async def run(self, position: str) -> None:
            raise InputError("the password is wrong", hint="the secret chat-irc")

    ears, good, server = Ears(), MemoryNetwork("good"), MemoryServer()
    hub = Hub([Refused("bad", server=server), good], {}, ears)
    task = asyncio.create_task(hub.run({}))
    await ears.until("bad", "the password is wrong (the secret chat-irc)")
    await ears.until("good", "")
    await hub.say("good", saying())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_what_is_heard_is_bounded_and_a_nick_is_one_line() -> None:
    heard = Heard(
        id="i" * 1000,
        room="#r",
        who="w" * 1000,
        nick="a\n!run\x02 b",
        text="t" * 100_000,
        at=moment(),
    )
    done = bounded(heard)
    assert (len(done.id), len(done.who), len(done.text)) == (64, 300, 8000)
    assert done.nick == "a !run b"
    assert bounded(heard).id == done.id


class _OneRoomIsGone(MemoryNetwork):
    """Connected; one of its rooms does not let it in."""

    @property
    def trouble(self) -> str:
        return "there is no room #gone"

    def _refuse(self) -> None:
        return


async def _untold(_: Report) -> None:
    return


async def test_a_room_that_does_not_let_us_in_keeps_nobody_from_the_others() -> None:
    server = MemoryServer()
    server.refused["#gone"] = "no such room"
    hub = Hub([_OneRoomIsGone("net", server=server)], {}, _untold)
    await hub.say("net", Saying(id="a", room="#web", text="hello"))
    assert server.texts() == ["hello"]
    assert await hub.was_said("net", Saying(id="a", room="#web", text="hello")) is True
    with pytest.raises(InputError, match="no such room"):
        await hub.say("net", Saying(id="b", room="#gone", text="hello"))


async def test_who_was_never_connected_says_nothing() -> None:
    hub = Hub([MemoryNetwork("net")], {}, _untold)
    with pytest.raises(LaterError, match="net: not connected yet"):
        await hub.say("net", Saying(id="a", room="#web", text="hello"))
