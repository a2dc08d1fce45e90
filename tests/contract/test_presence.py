"""What every presence must do, in memory and with a real engine."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from tests.harness.engine import PATIENCE_S

from rota.adapters.memory import MemoryPresence
from rota.adapters.nats import NatsPresence
from rota.ports.presence import Word

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rota.adapters.nats import Client
    from rota.ports.presence import Presence


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
def presence(request: pytest.FixtureRequest, client: Client) -> Presence:
    return MemoryPresence() if request.param == "memory" else NatsPresence(client)


async def hear(heard: AsyncGenerator[Word, None], presence: Presence, *words: Word) -> list[Word]:
    """Return what is heard while ``words`` are said, until the last of them came."""
    got: list[Word] = []

    async def listen() -> None:
        async with aclosing(heard):
            async for word in heard:
                got.append(word)
                if word == words[-1]:
                    return

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        listening = group.create_task(listen())
        while not listening.done():
            # A word that is said before somebody listens is lost: it is said again.
            for word in words:
                await presence.say(word)
            await asyncio.wait([listening], timeout=0.05)
    return got


async def test_what_is_said_is_heard_by_everybody(presence: Presence) -> None:
    word = Word("agent-1", 17)
    async with asyncio.TaskGroup() as group:
        hearing = [group.create_task(hear(presence.hear(), presence, word)) for _ in range(3)]
    for heard in hearing:
        assert heard.result()[-1] == word


async def test_words_of_many_agents_come_in_the_order_they_were_said(presence: Presence) -> None:
    words = [Word(f"a{n}", n) for n in range(5)]
    heard = await hear(presence.hear(), presence, *words)
    start = heard.index(words[0]) if words[0] in heard else 0
    assert [word for word in heard[start:] if word in words][-5:] == words


async def test_a_name_may_have_any_characters(presence: Presence) -> None:
    word = Word("a b.*>ä", 1)
    assert (await hear(presence.hear(), presence, word))[-1] == word


async def test_nobody_needs_to_listen(presence: Presence) -> None:
    for n in range(100):
        await presence.say(Word("a", n))


@pytest.mark.nats
async def test_what_is_no_word_is_passed_over(client: Client) -> None:
    presence = NatsPresence(client)
    words = presence.hear()
    async with asyncio.timeout(PATIENCE_S), aclosing(words), asyncio.TaskGroup() as group:
        first = group.create_task(anext(words))
        while not first.done():
            await client.publish("rota.presence.a", b"nonsense")
            await presence.say(Word("a", 1))
            await asyncio.wait([first], timeout=0.05)
    assert first.result() == Word("a", 1)


@pytest.mark.nats
async def test_without_a_connection_nothing_happens() -> None:
    from rota.adapters.nats import Client, Login

    async with Client(list, Login("rota", "rota")) as client:
        await NatsPresence(client).say(Word("a", 1))


async def test_who_asks_learns_that_the_word_was_heard(presence: Presence) -> None:
    word = Word("a", 7)
    confirmed: list[Word] = []

    async def confirm() -> None:
        async with aclosing(presence.hear()) as words:
            async for heard in words:
                if heard.answer:
                    confirmed.append(heard)
                    await presence.confirm(heard)

    async with asyncio.timeout(PATIENCE_S):
        confirming = asyncio.create_task(confirm())
        # A word that is said before somebody listens is lost: it is said again.
        while not await presence.ask(word, within_s=0.2):
            assert not confirming.done()
            await asyncio.sleep(0.01)
        confirming.cancel()
    assert {(heard.agent, heard.seq) for heard in confirmed} == {("a", 7)}


async def test_a_question_that_nobody_hears_is_not_confirmed(presence: Presence) -> None:
    assert not await presence.ask(Word("a", 1), within_s=0.05)


async def test_a_question_that_is_only_heard_is_not_confirmed(presence: Presence) -> None:
    words = presence.hear()
    async with asyncio.timeout(PATIENCE_S), aclosing(words), asyncio.TaskGroup() as group:
        first = group.create_task(anext(words))
        while not first.done():
            assert not await presence.ask(Word("a", 1), within_s=0.05)
        await first


async def test_a_confirmation_that_comes_late_does_no_harm(presence: Presence) -> None:
    words = presence.hear()
    async with asyncio.timeout(PATIENCE_S), aclosing(words), asyncio.TaskGroup() as group:
        first = group.create_task(anext(words))
        while not first.done():
            assert not await presence.ask(Word("a", 1), within_s=0.05)
        await presence.confirm(await first)
        assert not await presence.ask(Word("a", 2), within_s=0.05)


@pytest.mark.nats
async def test_without_a_connection_nothing_is_confirmed() -> None:
    from rota.adapters.nats import Client, Login

    async with Client(list, Login("rota", "rota")) as client:
        assert not await NatsPresence(client).ask(Word("a", 1), within_s=0.05)
