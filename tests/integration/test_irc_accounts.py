"""The bot's account on IRC, and those of people, with real services; and TLS."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from tests.harness.irc import PATIENCE_S, IrcServer, Person, people, person, register
from tests.integration.test_irc import hear, network, running, saying, until

from rota.adapters.clocks import SystemClock
from rota.adapters.irc import IrcNetwork
from rota.errors import InputError, LaterError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def accounts(with_services: IrcServer) -> IrcServer:
    async def prepare() -> None:
        for name in ("rota", "ann"):
            await register(with_services, name, f"pw-{name}")

    asyncio.run(prepare())
    return with_services


async def until_named(bot: IrcNetwork, nick: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while bot.nick != nick:
            await asyncio.sleep(0.01)


async def test_who_is_logged_in_is_the_account_whatever_the_nick(accounts: IrcServer) -> None:
    bot = network(accounts, account="rota", password="pw-rota")
    async with people(accounts, "annie") as (ann,), running(bot):
        await until(bot, "")
        ann.say("#web", "!a")
        assert (await hear(bot)).who.startswith("session:annie!")
        ann.say("NickServ", "IDENTIFY ann pw-ann")
        await ann.line(" 900 ")
        ann.say("rota", "b")
        heard = await hear(bot)
        assert heard.who == "account:ann"
        await bot.say(saying(1, room="account:ann"))
        await bot.say(saying(2, room="account:Ann"))
        ann.send("PART #web")  # out of sight, and under a nick that is not the account's
        ann.say("rota", "c")
        await bot.say(saying(3, room=(await hear(bot)).room))
        await ann.all()
        assert ann.heard("rota") == ["message 1", "message 2", "message 3"]
        await ann.join("#web")
        ann.say("NickServ", "LOGOUT")
        await ann.line(" 901 ")
        ann.say("#web", "!c")
        assert (await hear(bot)).who.startswith("session:annie!")


async def test_a_wrong_password_is_told_once_it_is_certain(
    accounts: IrcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.adapters.irc.network.FIRST_RETRY_S", 0.01)
    bot = network(accounts, account="rota", password="wrong")
    with pytest.raises(InputError, match="irc: the server refuses the login: SASL auth") as caught:
        await bot.run("")
    assert caught.value.hint == "see account and password (a secret's name) of the network"
    assert "wrong" not in str(caught.value)


async def test_the_nick_is_taken_back_by_services(accounts: IrcServer) -> None:
    async with people(accounts, "rota", "ann") as (holder, ann):
        bot = network(accounts, account="rota", password="pw-rota")
        async with running(bot):
            joined = await ann.line(" JOIN ")
            assert ":rota-2!" in joined or ":rota!" in joined
            with contextlib.suppress(EOFError):
                await holder.line(lambda line: "NICK" in line or "ERROR" in line)
            await ann.line(lambda line: line.endswith((" NICK :rota", " NICK rota")))
            await until_named(bot, "rota")


async def test_a_nick_is_taken_back_when_it_is_free(inspircd: IrcServer, ngircd: IrcServer) -> None:
    for server in (inspircd, ngircd):
        async with people(server, "rota", "ann") as (holder, ann), running(network(server)) as bot:
            assert ":rota-2!" in await ann.line(" JOIN ")
            ann.say("rota-2", "!x")
            assert (await hear(bot)).is_direct
            await holder.quit()
            await ann.line(lambda line: ":rota-2!" in line and " NICK " in line)
            ann.say("rota", "!y")
            assert (await hear(bot)).is_direct


async def test_services_that_come_later_are_logged_in_to(
    accounts: IrcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.adapters.irc.handshake.AGAIN_S", 0.2)
    bot = network(accounts, account="rota", password="pw-rota")
    async with people(accounts, "bob") as (bob,):
        accounts.stop_services()
        # The server may notice late; who runs it makes it look.
        bob.send("OPER oper oper", "SQUIT services.test.local")
        while "sasl" in await _abilities(bob):
            await asyncio.sleep(0.01)
        await _logs_in_later(accounts, bot, bob)


async def _logs_in_later(accounts: IrcServer, bot: IrcNetwork, bob: Person) -> None:
    async with running(bot):
        await bob.line(" JOIN ")  # without its account it is there all the same
        accounts.start_services()
        await until_whois(bot, bob, " 330 ")


async def until_whois(bot: IrcNetwork, one: Person, code: str) -> None:
    """Wait until the server says that of the bot, whose nick may change meanwhile."""
    async with asyncio.timeout(PATIENCE_S):
        while not [line for line in await one.all() if code in line]:
            one.send(f"WHOIS {bot.nick or 'rota'}")
            await asyncio.sleep(0.05)


async def _abilities(one: Person) -> str:
    one.send("CAP LS 302")
    return await one.line(" LS ")


async def test_tls_with_an_own_ca_and_a_certificate_for_a_password(accounts: IrcServer) -> None:
    key = accounts.client("rota")
    async with people(accounts, "ann") as (ann,):
        await _add_certificate(accounts, key.fingerprint)
        bot = network(
            accounts,
            port=accounts.tls_port,
            tls="direct",
            ca=accounts.ca_file,
            account="rota",
            certificate=key.pem,
        )
        async with running(bot):
            await ann.line(" JOIN ")
            await until_whois(bot, ann, " 330 ")
        bot = network(accounts, port=accounts.port, tls="starttls", ca=accounts.ca_file)
        async with running(bot):
            await ann.line(" JOIN ")
            await until_whois(bot, ann, " 671 ")


async def _add_certificate(server: IrcServer, fingerprint: str) -> None:
    one = await person(server, "adder")
    one.say("NickServ", "IDENTIFY rota pw-rota")
    await one.line(" 900 ")
    one.say("NickServ", f"CERT ADD {fingerprint}")
    await one.line("NickServ!")
    await one.quit()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"tls": "direct"}, "its certificate is not good: .*; set ca, or server"),
        ({"tls": "none", "port": 1}, "127.0.0.1:1 cannot be reached: "),
    ],
)
async def test_a_server_that_is_not_who_it_should_be(
    inspircd: IrcServer, options: dict[str, Any], why: str
) -> None:
    bot = network(inspircd, **{"port": inspircd.tls_port, **options})
    async with running(bot):
        await until(bot, "127.0.0.1:")
        assert bot.trouble
        with pytest.raises(LaterError, match=why):
            await bot.say(saying(1))


async def test_a_port_without_tls_is_told_so() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b":irc NOTICE * :*** Looking up your hostname\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        bot = IrcNetwork("irc", clock=SystemClock(), server="127.0.0.1", port=port)
        async with running(bot):
            await until(bot, f"127.0.0.1:{port}: no TLS there: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ca": "/nonexistent"}, "ca /nonexistent: No such file or directory"),
        ({"certificate": "nonsense"}, "certificate: it has no key and certificate in PEM"),
        ({"nick": "1rota"}, "irc: '1rota' cannot be a nick"),
        ({"nick": "ro ta"}, "irc: 'ro ta' cannot be a nick"),
        ({"rooms": ["web"]}, "irc: 'web' cannot be a room"),
        ({"rooms": ["#web,#ops"]}, "irc: '#web,#ops' cannot be a room"),
        ({"server_password": "a\nb"}, "irc: server_password has more than one line"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        IrcNetwork("irc", clock=SystemClock(), server="x", **options)


async def test_a_server_with_a_password() -> None:
    server = IrcServer("ngircd", password="sesame")
    try:
        async with running(network(server, server_password="sesame")) as bot:
            await until(bot, "")
        bot = network(server)
        with pytest.raises(InputError, match="irc: server_password is wrong or missing: Acc") as no:
            await bot.run("")
        assert no.value.hint == "it is the name of a secret with the server's password"
    finally:
        server.close()
