"""What any network does, with a real server where there is one, and a person's client beside the bot."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.fake_slack import FakeSlack, SlackBench
from tests.harness.irc import irc_bench
from tests.harness.people import Bench, connected, until
from tests.harness.prosody import XmppBench, prosody
from tests.harness.synapse import MatrixBench, synapse

from rota.errors import InputError, LaterError
from rota.ports.networks import Saying


def _xmpp(_: Path) -> Bench:
    return XmppBench(prosody())


def _matrix(folder: Path) -> Bench:
    return MatrixBench(synapse(folder))


def _slack(_: Path) -> Bench:
    server = FakeSlack()
    server.start()
    return SlackBench(server)


def _irc(_: Path) -> Bench:
    return irc_bench()


BENCHES: dict[str, Callable[[Path], Bench]] = {
    "irc": _irc,
    "matrix": _matrix,
    "slack": _slack,
    "xmpp": _xmpp,
}


@pytest.fixture(scope="module", params=sorted(BENCHES))
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """A server that runs, for all tests of a network."""
    made = BENCHES[request.param](tmp_path_factory.mktemp(request.param))
    try:
        yield made
    finally:
        made.server.close()


def said(room: str, text: str, **more: Any) -> Saying:
    return Saying(id=f"t-{uuid.uuid4().hex[:12]}", room=room, text=text, **more)


async def test_what_is_said_is_shown_once_and_in_order(bench: Bench) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        sayings = [said(ann.room, f"line {number}") for number in range(5)]
        taken = [await bot.network.say(saying) for saying in sayings]
        again = await bot.network.say(sayings[2])
        await bot.network.say(said(ann.room, "the end"))
        shown = [each.text for each in await ann.sees(6)]
        assert shown == ["line 0", "line 1", "line 2", "line 3", "line 4", "the end"]
        assert len({each.id for each in taken}) == 5
        assert again.id == taken[2].id
        assert bot.heard == []


async def test_what_people_write_is_heard_once_with_who_wrote_it(bench: Bench) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        await bot.network.say(said(ann.room, "not to be heard"))
        texts = ["!run web", "!run web", 'say "Grüße, 世界 👩‍👩‍👧"', "<b>&amp; *bold*"]
        for text in texts:
            await ann.write(ann.room, text)
        heard = await bot.hears(4)
        assert [each.text for each in heard] == texts
        assert {(each.room, each.who, each.is_direct) for each in heard} == {
            (ann.room, ann.who, False)
        }
        assert len({each.id for each in heard}) == 4
        assert heard[0].nick == ann.name
        assert heard[0].at.tzinfo is not None


async def test_what_was_written_before_the_bot_came_is_past(bench: Bench) -> None:
    async with bench.person() as ann:
        for number in range(3):
            await ann.write(ann.room, f"!deploy {number}")
        if bench.kind in {"slack", "xmpp"}:  # what they tell of the time are whole seconds
            await asyncio.sleep(1.1)
        async with connected(bench.network(ann.room)) as bot:
            await ann.write(ann.room, "!status")
            await until(lambda: "!status" in [each.text for each in bot.heard])
            assert [each.text for each in bot.heard if each.room == ann.room] == ["!status"]


async def test_to_the_bot_alone_and_to_a_person_alone(bench: Bench) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        await ann.write(bench.to_bot(), "!link 1234")
        heard = (await bot.hears(1))[0]
        assert bot.heard == [heard]
        assert (heard.text, heard.who, heard.is_direct) == ("!link 1234", ann.who, True)
        await bot.network.say(said(heard.room, "an answer"))
        await bot.network.say(said(ann.who, "to you alone"))
        shown = await ann.sees(2)
        assert [each.text for each in shown] == ["an answer", "to you alone"]
        assert ann.room not in {each.room for each in shown}


async def test_what_was_missed_is_heard_from_a_position_on(bench: Bench) -> None:
    if not bench.remembers:
        pytest.skip("this network keeps no history")
    async with bench.person() as ann:
        async with connected(bench.network(ann.room)) as bot:
            await ann.write(ann.room, "before")
            await ann.write(bench.to_bot(), "before, alone")
            before = list(await bot.hears(2))
            position = before[-1].position
        await ann.write(ann.room, "missed")
        await ann.write(ann.room, "missed too")
        await ann.write(bench.to_bot(), "missed, alone")
        async with connected(bench.network(ann.room), position) as bot:
            await ann.write(ann.room, "after")
            await until(lambda: "after" in [heard.text for heard in bot.heard])
            await until(lambda: "missed, alone" in [heard.text for heard in bot.heard])
            # What came shortly before may come again: its id tells.
            known = {heard.id for heard in before}
            news = [
                heard
                for heard in bot.heard
                if heard.id not in known and heard.text.startswith(("missed", "after"))
            ]
            in_room = [heard.text for heard in news if not heard.is_direct]
            assert in_room == ["missed", "missed too", "after"]
            assert [heard.text for heard in news if heard.is_direct] == ["missed, alone"]
            assert {heard.who for heard in news} == {ann.who}
            assert len({heard.id for heard in bot.heard}) == len(bot.heard)


async def test_a_server_that_is_killed_and_comes_back(bench: Bench) -> None:
    async with bench.person() as ann:
        room = ann.room
        async with connected(bench.network(room)) as bot:
            await ann.write(room, "before")
            await until(lambda: "before" in [heard.text for heard in bot.heard])
            bench.server.kill()
            try:
                await until(lambda: bool(bot.network.trouble))
                with pytest.raises(LaterError):
                    await bot.network.say(said(room, "into the void"))
            finally:
                bench.server.start()
            async with bench.person() as back:
                await back.enter(room)
                await until(lambda: not bot.network.trouble, what=lambda: bot.network.trouble)
                await back.write(room, "after")
                await until(lambda: "after" in [heard.text for heard in bot.heard])
                in_room = [heard.text for heard in bot.heard if heard.room == room]
                assert in_room == ["before", "after"]
                await bot.network.say(said(room, "here I am"))
                while "here I am" not in [shown.text for shown in back.shown]:
                    await back.sees(len(back.shown) + 1)


async def test_wrong_credentials_are_named_and_not_tried_again(bench: Bench) -> None:
    network = bench.impostor()
    with pytest.raises(InputError) as refused:
        await asyncio.wait_for(network.run(""), 30)
    assert bench.refused in refused.value.message
    assert refused.value.hint


async def test_rooms_and_people_that_there_are_not(bench: Bench) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        for nowhere in (bench.nowhere, bench.nobody, "", "no address\n"):
            with pytest.raises(InputError) as refused:
                await bot.network.say(said(nowhere, "hello"))
            assert nowhere in refused.value.message or repr(nowhere) in refused.value.message
        await bot.network.say(said(ann.room, "still there"))
        await ann.sees(1)


async def test_whether_something_was_said(bench: Bench) -> None:
    async with bench.person() as ann:
        mine, other = said(ann.room, "mine"), said(ann.room, "never said")
        alone, other_alone = said(ann.who, "mine, alone"), said(ann.who, "never said")
        async with connected(bench.network(ann.room)) as bot:
            await bot.network.say(mine)
            await bot.network.say(alone)
            for number in range(3):
                await bot.network.say(said(ann.room, f"line {number}"))
        async with connected(bench.network(ann.room)) as bot:
            found = [await bot.network.was_said(each) for each in (mine, other, alone, other_alone)]
            assert found == ([True, False, True, False] if bench.knows else [None] * 4)


async def test_threads(bench: Bench) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        if not bot.network.abilities.has_threads:
            pytest.skip("this network has no threads")
        first = await bot.network.say(said(ann.room, "web#7 begins"))
        assert first.thread
        below = await bot.network.say(said(ann.room, "step 1", thread=first.thread))
        shown = await ann.sees(2)
        assert [each.thread for each in shown] == ["", first.thread]
        assert below.thread == first.thread
        await ann.write(ann.room, "!cancel", thread=first.thread)
        await ann.write(ann.room, "!status")
        heard = await bot.hears(2)
        assert [each.thread for each in heard] == [first.thread, ""]


async def test_columns_are_kept_and_nothing_in_them_means_anything(bench: Bench) -> None:
    code = "a   b\n```\n<b>x</b> & *y* _z_ @room <!here> <@U1>\n\x1b[31mred\x07\x00 \u202etxt"
    text = "/me *web#7* <script>&amp; @everyone `x`\ttab"
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        await bot.network.say(said(ann.room, text, code=code, link="https://ci.example.org/b/7"))
        [shown] = await ann.sees(1)
        assert "a   b\n" in shown.text
        assert "␛[31mred␇␀ \ufffdtxt" in shown.text
        assert "\x1b" not in shown.raw
        assert "https://ci.example.org/b/7" in shown.text
        bench.check_literal(shown)


async def test_a_long_text(bench: Bench) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        most = bot.network.abilities.characters
        text = "ä" * (most // 2 - 20)
        await bot.network.say(said(ann.room, text, code="x" * (most // 2)))
        await bot.network.say(said(ann.room, "y" * 200_000, code="z\n" * 100_000))
        await bot.network.say(said(ann.room, "still there"))
        shown = await ann.sees(3)
        assert text in shown[0].text
        assert shown[-1].text == "still there"


async def test_a_flood_is_heard_whole_and_in_order(bench: Bench) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        for number in range(150):
            await ann.write(ann.room, f"{number}")
        heard = await bot.hears(150)
        assert [each.text for each in heard] == [str(number) for number in range(150)]
        await bot.network.say(said(ann.room, "phew"))
        await ann.sees(1)
