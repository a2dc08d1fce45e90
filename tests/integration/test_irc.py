"""The bot's side of IRC, on real servers, with people beside it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.harness import irc
from tests.harness.irc import IrcServer, people, person

from rota.adapters.clocks import SystemClock
from rota.adapters.irc import IrcNetwork, Patience
from rota.errors import InputError, LaterError
from rota.ports.networks import Heard, Saying

pytestmark = pytest.mark.slow


def network(server: IrcServer, **options: Any) -> IrcNetwork:
    settings = {"port": server.port, "tls": "none", "rooms": ["#web"], "every_s": 0.002, **options}
    return IrcNetwork("irc", clock=SystemClock(), server="127.0.0.1", **settings)


@contextlib.asynccontextmanager
async def running(bot: IrcNetwork, position: str = "") -> AsyncIterator[IrcNetwork]:
    task = asyncio.create_task(bot.run(position))
    try:
        yield bot
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def hear(bot: IrcNetwork) -> Heard:
    async with asyncio.timeout(irc.PATIENCE_S):
        return await anext(aiter(bot.heard()))


async def until(bot: IrcNetwork, trouble: str) -> None:
    async with asyncio.timeout(irc.PATIENCE_S):
        while trouble not in bot.trouble if trouble else bot.trouble:
            await asyncio.sleep(0.01)


def saying(number: int, text: str = "", room: str = "#web", **parts: str) -> Saying:
    return Saying(id=f"s-{number}", room=room, text=text or f"message {number}", **parts)


@pytest.fixture(params=["ngircd", "inspircd"])
def server(request: pytest.FixtureRequest) -> IrcServer:
    found: IrcServer = request.getfixturevalue(request.param)
    return found


async def test_a_room_hears_the_bot_and_the_bot_the_room(server: IrcServer) -> None:
    async with running(network(server)) as bot, people(server, "ann") as (ann,):
        await until(bot, "")
        ann.say("#web", "\x02!run web\x0f")
        ann.send("NOTICE #web :a bot's answer", "PRIVMSG #web :\x01ACTION waves\x01")
        ann.say("rota", "help")
        first, second = await hear(bot), await hear(bot)
        assert (first.text, first.room, first.nick) == ("!run web", "#web", "ann")
        assert first.who.startswith("session:ann!")
        assert not first.is_direct
        assert (second.text, second.is_direct, second.who) == ("help", True, first.who)
        assert first.id != second.id
        await bot.say(saying(1, "web#7 failed", code="a\n\tb", link="https://ci/7", tone="bad"))
        await bot.say(saying(2, "to you alone", room=second.room))
        await ann.all()
        assert ann.heard("rota") == [
            "\x0304web#7\x0f failed",
            "| a",
            "|     b",
            "https://ci/7",
            "to you alone",
        ]


async def test_what_will_never_be_taken_is_told_so(server: IrcServer) -> None:
    async with people(server, "ann", room="#closed") as (ann,), running(network(server)) as bot:
        ann.send("MODE #closed +i")
        await until(bot, "")
        with pytest.raises(InputError, match=r"nobody: there is nobody of that name"):
            await bot.say(saying(1, room="nobody"))
        with pytest.raises(InputError, match=r"#closed: only who is invited gets in \(\+i\)"):
            await bot.say(saying(2, room="#closed"))
        with pytest.raises(InputError, match="is neither a room nor a person"):
            await bot.say(saying(3, room="#a b"))
        with pytest.raises(InputError, match="bob is not there any more, or is somebody else"):
            await bot.say(saying(4, room="session:bob!~b@h/12"))
        with pytest.raises(LaterError, match="bob is not there now"):
            await bot.say(saying(5, room="account:bob"))


async def test_a_stolen_nick_is_somebody_else(server: IrcServer) -> None:
    async with running(network(server)) as bot, people(server, "ann") as (ann,):
        await until(bot, "")
        ann.say("#web", "!link 1")
        linked = (await hear(bot)).who
        await ann.quit()
        thief = await person(server, "ann", host="127.0.0.2")
        await thief.join("#web")
        thief.say("#web", "!cancel web#7")
        stolen = (await hear(bot)).who
        assert stolen
        assert stolen != linked
        with pytest.raises(InputError, match="somebody else"):
            await bot.say(saying(1, "for ann alone", room=linked))
        await thief.all()
        assert thief.heard("rota") == []
        thief.vanish()


async def test_who_takes_another_nick_is_asked_about_anew(ngircd: IrcServer) -> None:
    async with running(network(ngircd)) as bot, people(ngircd, "ann", "bob") as (ann, bob):
        await until(bot, "")
        ann.say("#web", "!a")
        before = (await hear(bot)).who
        ann.send("NICK anna")
        await bob.line("NICK")
        bob.send("NICK ann")
        await bob.line("NICK")
        bob.say("#web", "!b")
        assert (await hear(bot)).who not in ("", before)


async def test_a_flood_is_heard_in_order_and_costs_one_question(server: IrcServer) -> None:
    async with running(network(server)) as bot, people(server, "ann", "bob") as (ann, bob):
        await until(bot, "")
        count = 1000 if server.kind == "ngircd" else 500  # of more InspIRCd reads a part, and waits
        for number in range(count):
            ann.say("#web", f"!run {number}")
        bob.say("#web", "!help")
        heard = [await hear(bot) for _ in range(count + 1)]
        told = [it.text for it in heard if it.nick == "ann"]
        assert told == [f"!run {number}" for number in range(count)]
        assert len({it.who for it in heard if it.nick == "ann"}) == 1
        assert len({it.id for it in heard}) == count + 1
        await bot.say(saying(1))  # and it speaks all the same


async def test_who_only_talks_to_others_is_known_as_well(ngircd: IrcServer) -> None:
    bot = network(ngircd, prefix="!")
    async with running(bot), people(ngircd, "ann", "bob") as (ann, bob):
        await until(bot, "")
        ann.say("#web", "hello everybody")
        bob.say("#web", "!help")
        heard = {it.nick: it for it in (await hear(bot), await hear(bot))}
        assert heard["ann"].who.startswith("session:ann!")
        assert heard["bob"].who.startswith("session:bob!")


async def test_ten_rooms_of_which_one_does_not_let_us_in(ngircd: IrcServer) -> None:
    async with people(ngircd, "ann", room="#r0") as (ann,):
        ann.send("MODE #r0 +k sesame", "JOIN #r1,#r2")
        await ann.join("#closed")
        ann.send("MODE #closed +i")
        rooms = ["#r0 sesame", *(f"#r{number}" for number in range(1, 9)), "#closed"]
        async with running(network(ngircd, rooms=rooms)) as bot:
            await ann.line(lambda line: ":rota!" in line and line.endswith("#r2"))
            for number in range(9):
                await bot.say(saying(number, room=f"#R{number}"))
            with pytest.raises(InputError, match=r"#closed: only who is invited gets in"):
                await bot.say(saying(10, room="#closed"))
            ann.send("INVITE rota #closed")
            await ann.line(
                lambda line: ":rota!" in line and line.endswith(("JOIN :#closed", "JOIN #closed"))
            )
            await bot.say(saying(11, room="#closed"))
            await ann.all()
            assert ann.heard("rota") == [f"message {number}" for number in (0, 1, 2, 11)]


async def test_who_is_thrown_out_comes_back(
    server: IrcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.adapters.irc.rooms.FIRST_S", 0.5)
    bot = network(server, patience=Patience(1, 30))
    async with people(server, "ann") as (ann,), running(bot):
        await ann.line(":rota!")
        await until(bot, "")
        ann.send("KICK #web rota :enough")
        await ann.line(" KICK ")
        await settled(bot)
        with pytest.raises(LaterError, match="#web: ann threw us out: enough"):
            await bot.say(saying(1))
        await ann.line(":rota!")
        await until(bot, "")
        await bot.say(saying(2))


async def test_a_room_without_colours_gets_none(server: IrcServer) -> None:
    async with people(server, "ann") as (ann,):
        if server.kind == "ngircd":
            ann.send("MODE #web -n+m", "MODE #web +v rota")
        else:
            ann.send("MODE #web +c")
        await ann.line(" MODE ")
        async with running(network(server)) as bot:
            await ann.line(":rota!")
            await until(bot, "")
            if server.kind == "ngircd":
                with pytest.raises(InputError, match="#web: the room does not let us speak"):
                    await bot.say(saying(1, tone="bad"))
                return
            await settled(bot)
            await bot.say(saying(1, "web#7 failed", tone="bad"))
            await ann.all()
            assert ann.heard("rota") == ["web#7 failed"]


async def test_an_invisible_filter_is_told(inspircd: IrcServer) -> None:
    async with people(inspircd, "ann") as (ann,), running(network(inspircd)) as bot:
        await ann.line(":rota!")
        await until(bot, "")
        ann.send("MODE #web +m")
        await ann.line(" MODE ")
        with pytest.raises(InputError, match=r"#web: the room does not let us speak; the server"):
            await bot.say(saying(1, code="a\nb"))
        await ann.all()
        assert ann.heard("rota") == []


async def settled(bot: IrcNetwork) -> None:
    await until(bot, "")
    await bot.say(saying(99, room="rota"))  # to itself: what it knows then is what it was told


async def test_a_server_that_says_nothing_is_left(inspircd: IrcServer) -> None:
    bot = network(inspircd, patience=Patience(0.2, 0.2))
    async with people(inspircd, "ann") as (ann,), running(bot):
        await ann.line(":rota!")
        await until(bot, "")
        inspircd.freeze()
        try:
            said = asyncio.create_task(bot.say(saying(1)))
            await until(bot, "the server says nothing any more")
            with pytest.raises(LaterError, match="the connection was lost before"):
                await said
            assert await bot.was_said(saying(1)) is None
        finally:
            inspircd.freeze(frozen=False)


async def test_history_tells_what_was_said_and_what_was_missed(inspircd: IrcServer) -> None:
    async with people(inspircd, "ann", "bob") as (ann, bob):
        ann.send("MODE #web +H 50:1h")
        await ann.line(" MODE ")
        async with running(network(inspircd)) as first:
            await ann.line(":rota!")
            await until(first, "")
            ann.say("#web", "!first")
            heard = await hear(first)
            await first.say(saying(1))
        await ann.line(" QUIT ")
        ann.say("#web", "!missed")
        await ann.all()
        bob.say("#web", "!from bob")
        await bob.quit()  # and another one is bob when the bot comes
        thief = await person(inspircd, "bob")
        async with running(network(inspircd), heard.position) as second:
            missed = {it.text: it.who for it in (await hear(second), await hear(second))}
            assert missed == {"!missed": heard.who, "!from bob": ""}
            assert await second.was_said(saying(1)) is True
            assert await second.was_said(saying(2)) is None
            ann.say("#web", "!third")
            assert (await hear(second)).text == "!third"  # and "!first" was not heard again
        thief.vanish()


async def test_who_runs_the_server_renames_us(inspircd: IrcServer) -> None:
    async with running(network(inspircd)) as bot, people(inspircd, "ann") as (ann,):
        await until(bot, "")
        ann.send("OPER oper oper", "SANICK rota guest7")
        await ann.line(lambda line: ":rota!" in line and " NICK " in line)
        ann.say("guest7", "help")
        assert (await hear(bot)).is_direct
        assert bot.nick == "guest7"


async def test_two_at_once_say_one_after_the_other(ngircd: IrcServer) -> None:
    async with running(network(ngircd)) as bot, people(ngircd, "ann") as (ann,):
        await until(bot, "")
        many = (saying(number, f"m{number}", code="a\nb") for number in range(5))
        await asyncio.gather(*(bot.say(it) for it in many))
        await ann.all()
        expected = [[f"m{number}", "| a", "| b"] for number in range(5)]
        assert ann.heard("rota") == [line for lines in expected for line in lines]


async def test_a_message_of_which_half_was_taken_is_completed(inspircd: IrcServer) -> None:
    half = saying(1, "m1", code="a\nb\nc")
    async with people(inspircd, "ann") as (ann,):
        ann.send("MODE #web +H 50:1h")
        await ann.line(" MODE ")
        slow = network(inspircd, every_s=600.0, burst=6)  # NICK, MODE, JOIN, MODE, two lines
        async with running(slow):
            await until(slow, "")
            said = asyncio.create_task(slow.say(half))
            await ann.line("| a")
        with pytest.raises(LaterError, match="the connection was lost before the server took it"):
            await said
        async with running(network(inspircd)) as second:
            await until(second, "")  # and knows by then what the room's history tells
            assert await second.was_said(half) is None
            await second.say(half)
            await ann.all()
            assert ann.heard("rota") == ["m1", "| a", "| b", "| c"]
