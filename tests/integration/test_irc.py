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
from rota.adapters.irc import IrcNetwork
from rota.errors import InputError
from rota.ports.networks import Heard, LaterError, Saying

pytestmark = pytest.mark.slow


def network(server: IrcServer, **options: Any) -> IrcNetwork:
    settings = {"port": server.port, "tls": "none", "rooms": ["#web"], "every_s": 0.002, **options}
    return IrcNetwork("irc", clock=SystemClock(), server="127.0.0.1", **settings)


@contextlib.asynccontextmanager
async def running(
    bot: IrcNetwork, position: str = "", *, listens_only: bool = False
) -> AsyncIterator[IrcNetwork]:
    task = asyncio.create_task(bot.run(position, listens_only=listens_only))
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
    async with people(server, "ann") as (ann,), running(network(server)) as bot:
        await ann.line("JOIN")
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
    async with people(server, "ann") as (ann,), running(network(server)) as bot:
        await ann.line("JOIN")
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


async def test_who_takes_another_nick_is_asked_about_anew(server: IrcServer) -> None:
    async with people(server, "ann", "bob") as (ann, bob), running(network(server)) as bot:
        await ann.line("JOIN")
        await bob.line("JOIN")
        ann.say("#web", "!a")
        before = (await hear(bot)).who
        ann.send("NICK anna")
        await bob.line("NICK")
        bob.send("NICK ann")
        await bob.line("NICK")
        bob.say("#web", "!b")
        assert (await hear(bot)).who not in ("", before)
