"""XMPP's own ways, with a real Prosody: names that are taken, rooms that hide who is who, forged writers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta

import pytest
from slixmpp import JID
from tests.harness.certificates import authority
from tests.harness.people import connected, until
from tests.harness.prosody import FORGETFUL, HIDDEN, ROOMS, Prosody, XmppBench, XmppPerson, prosody

from rota.adapters.clocks import SystemClock
from rota.adapters.xmpp import XmppNetwork
from rota.adapters.xmpp.network import MANY
from rota.errors import InputError, LaterError
from rota.ports.networks import Heard, Saying

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Prosody]:
    made = prosody()
    yield made
    made.close()


@pytest.fixture
def bench(server: Prosody) -> XmppBench:
    return XmppBench(server)


@contextlib.asynccontextmanager
async def person(server: Prosody, name: str, service: str = ROOMS) -> AsyncIterator[XmppPerson]:
    async with XmppPerson(server, name, f"x{next(_numbers)}@{service}") as made:
        yield made


def said(room: str, text: str = "hello") -> Saying:
    return Saying(id=f"t-{uuid.uuid4().hex[:12]}", room=room, text=text)


@pytest.mark.parametrize(
    ("tls", "at"), [("direct", "tls_port"), ("direct", "port"), ("starttls", "port")]
)
async def test_both_ways_to_encrypt(bench: XmppBench, server: Prosody, tls: str, at: str) -> None:
    async with person(server, "ann") as ann:
        network = bench.network(ann.room, tls=tls, port=getattr(server, at))
        async with connected(network) as bot:
            await ann.write(ann.room, "!status")
            await bot.hears(1)


@pytest.mark.parametrize(("tls", "at"), [("direct", "tls_port"), ("starttls", "port")])
async def test_a_certificate_that_is_not_trusted(
    bench: XmppBench, server: Prosody, tls: str, at: str
) -> None:
    other = server.folder / "other.pem"
    other.write_text(authority().pem)
    network = bench.network(tls=tls, port=getattr(server, at), ca=str(other))
    running = asyncio.ensure_future(network.run(""))
    await until(lambda: "certificate" in network.trouble, what=lambda: network.trouble)
    assert "has a certificate that we do not trust" in network.trouble
    running.cancel()
    with pytest.raises(LaterError, match="do not trust"):
        await network.say(said("ann@localhost"))
    await asyncio.wait([running])


async def test_without_a_server_the_trouble_says_so(bench: XmppBench) -> None:
    network = bench.network(port=1)
    running = asyncio.ensure_future(network.run(""))
    await until(lambda: "cannot connect" in network.trouble, what=lambda: network.trouble)
    assert network.trouble == "cannot connect to 127.0.0.1:1: Connection refused"
    running.cancel()
    await asyncio.wait([running])


def test_settings_that_cannot_be(bench: XmppBench) -> None:
    with pytest.raises(InputError, match=r"the account of \[chat.net\], 'rota' is no XMPP address"):
        bench.network(account="rota")
    with pytest.raises(InputError, match="'#web' is no XMPP address"):
        bench.network("#web")


async def test_a_name_that_another_one_has_is_taken_when_it_is_free(
    bench: XmppBench, server: Prosody
) -> None:
    async with (
        person(server, "ann") as ann,
        XmppPerson(server, "bob", ann.room, nick="rota") as bob,
        connected(bench.network(ann.room)) as bot,
    ):
        await bob.write(ann.room, "I am not the bot")
        [heard] = await bot.hears(1)
        assert (heard.nick, heard.who) == ("rota", "bob@localhost")
        await bot.network.say(said(ann.room, "one"))
        await bob.leave()
        await until(lambda: "rota" in ann.nicks and "rota_" not in ann.nicks)
        await bot.network.say(said(ann.room, "two"))
        shown = [(each.by, each.text) for each in await ann.sees(3)]
        assert shown[1:] == [("rota_", "one"), ("rota", "two")]
        assert len(bot.heard) == 1


async def test_who_is_put_out_comes_back_and_who_is_banned_says_so(
    bench: XmppBench, server: Prosody
) -> None:
    async with person(server, "ann") as ann, connected(bench.network(ann.room)) as bot:
        muc = ann.client.plugin["xep_0045"]
        await muc.set_role(JID(ann.room), "rota", "none")
        await until(lambda: "kicked" in bot.network.trouble)
        await until(lambda: not bot.network.trouble)
        await bot.network.say(said(ann.room, "back"))
        await ann.sees(1)
        await muc.set_affiliation(JID(ann.room), "outcast", jid="rota@localhost")
        await until(lambda: "does not let us in: we are banned" in bot.network.trouble)
        with pytest.raises(LaterError, match="does not let us in"):
            await bot.network.say(said(ann.room))
        await bot.network.say(said("ann@localhost", "alone it works"))
        await ann.sees(2)


async def test_a_room_with_a_password(bench: XmppBench, server: Prosody) -> None:
    async with person(server, "ann") as ann:
        muc = ann.client.plugin["xep_0045"]
        form = await muc.get_room_config(JID(ann.room))
        values = {**form["values"], "muc#roomconfig_roomsecret": "open sesame"}
        form["type"] = "submit"
        form["values"] = values
        await muc.set_room_config(JID(ann.room), form)
        async with connected(bench.network(f"{ann.room} open sesame")) as bot:
            await bot.network.say(said(ann.room))
            await ann.sees(1)
        network = bench.network(ann.room)
        running = asyncio.ensure_future(network.run(""))
        await until(lambda: "does not let us in" in network.trouble)
        assert network.trouble.endswith("it has a password, or another one")
        running.cancel()
        await asyncio.wait([running])


async def test_a_room_that_is_destroyed(bench: XmppBench, server: Prosody) -> None:
    async with person(server, "ann") as ann, connected(bench.network(ann.room)) as bot:
        await ann.client.plugin["xep_0045"].destroy(JID(ann.room))
        gone = f"{ann.room} does not let us in: it was destroyed"
        await until(lambda: bot.network.trouble == gone, what=lambda: bot.network.trouble)
        with pytest.raises(LaterError, match="it was destroyed"):
            await bot.network.say(said(ann.room))


async def test_a_room_that_there_is_not_keeps_nobody_from_the_others(
    bench: XmppBench, server: Prosody
) -> None:
    async with person(server, "ann") as ann:
        network = bench.network(ann.room, f"none@{ROOMS}")
        running = asyncio.ensure_future(network.run(""))
        await until(lambda: network.trouble == f"there is no room none@{ROOMS}")
        await network.say(said(ann.room, "here"))
        await ann.sees(1)
        async with XmppPerson(server, "bob", f"none@{ROOMS}") as bob:
            await bob.write(bob.room, "!status")  # the bot is not in yet
            listening = asyncio.ensure_future(anext(network.heard()))
            await until(lambda: not network.trouble)
            assert (await asyncio.wait_for(listening, 30)).text == "!status"
        running.cancel()
        await asyncio.wait([running])


async def test_a_room_that_hides_addresses_vouches_for_nobody(
    bench: XmppBench, server: Prosody
) -> None:
    async with person(server, "ann", HIDDEN) as ann, connected(bench.network(ann.room)) as bot:
        await ann.write(ann.room, "!run web")
        [heard] = await bot.hears(1)
        assert (heard.who, heard.nick) == ("", "ann")
        ann.whisper(f"{ann.room}/rota", "psst")
        await ann.write(ann.room, "after")
        assert [each.text for each in await bot.hears(2)] == ["!run web", "after"]


async def test_whispered_in_an_open_room_is_to_the_bot_alone(
    bench: XmppBench, server: Prosody
) -> None:
    async with person(server, "ann") as ann, connected(bench.network(ann.room)) as bot:
        ann.whisper(f"{ann.room}/rota", "!link 1234")
        [heard] = await bot.hears(1)
        assert (heard.text, heard.who, heard.room, heard.is_direct) == (
            "!link 1234",
            "ann@localhost",
            "ann@localhost",
            True,
        )


@pytest.mark.parametrize("jid", ["ann@localhost", "admin@localhost/x"])
async def test_nobody_is_believed_to_be_another_one(
    bench: XmppBench, server: Prosody, jid: str
) -> None:
    """A writer puts into a message what rooms put there; the archive adds its own."""
    async with person(server, "ann") as ann, XmppPerson(server, "mallory", ann.room) as mallory:
        async with connected(bench.network(ann.room)) as bot:
            await ann.write(ann.room, "before")
            position = (await bot.hears(1))[0].position
        forged = ET.Element("{http://jabber.org/protocol/muc#user}x")
        ET.SubElement(forged, "{http://jabber.org/protocol/muc#user}item", {"jid": jid})
        await mallory.write(ann.room, "!deploy", inject=(forged,))
        stanza = ET.Element("{urn:xmpp:sid:0}stanza-id", {"by": ann.room, "id": "chosen"})
        await mallory.write(ann.room, "!deploy again", inject=(stanza,))
        await ann.sees(2)
        await ann.write(ann.room, "mine")
        async with connected(bench.network(ann.room), position) as bot:
            await until(lambda: "mine" in [each.text for each in bot.heard])
            heard = [each for each in bot.heard if each.room == ann.room][1:]
            who = [(each.text, each.who) for each in heard]
            assert who == [
                ("!deploy", ""),
                ("!deploy again", "mallory@localhost"),
                ("mine", "ann@localhost"),
            ]
            await mallory.write(ann.room, "!deploy live", inject=(forged,))
            await until(lambda: bot.heard[-1].text == "!deploy live")
            assert bot.heard[-1].who == "mallory@localhost"


@pytest.mark.parametrize("service", [ROOMS, FORGETFUL])
async def test_nobody_is_believed_that_it_is_late(
    bench: XmppBench, server: Prosody, service: str
) -> None:
    """What comes late is vouched for by archives alone: a writer can say of anything that it is late."""
    async with (
        person(server, "ann", service) as ann,
        XmppPerson(server, "mallory", ann.room) as mallory,
        connected(bench.network(ann.room)) as bot,
    ):
        stamps = ("1970-01-01T00:00:00Z", "2199-01-01T00:00:00Z", "yesterday", "")
        for number, stamp in enumerate(stamps):
            late = ET.Element("{urn:xmpp:delay}delay", {"from": ann.room, "stamp": stamp})
            forged = ET.Element("{http://jabber.org/protocol/muc#user}x")
            ET.SubElement(
                forged, "{http://jabber.org/protocol/muc#user}item", {"jid": "ann@localhost"}
            )
            await mallory.write(ann.room, f"!deploy {number}", inject=(late, forged))
            await mallory.write("rota@localhost", f"!link {number}", inject=(late,))
        heard = await bot.hears(2 * len(stamps))
        assert {each.who for each in heard} == {"mallory@localhost"}
        now = SystemClock().now()
        assert all(abs(each.at - now) < timedelta(minutes=5) for each in heard)
        assert all(each.position == each.at.isoformat() for each in heard)


async def test_the_past_of_a_room_without_an_archive_vouches_for_nobody(
    bench: XmppBench, server: Prosody
) -> None:
    async with (
        person(server, "ann", FORGETFUL) as ann,
        XmppPerson(server, "mallory", ann.room) as mallory,
    ):
        async with connected(bench.network(ann.room)) as bot:
            await ann.write(ann.room, "before")
            position = (await bot.hears(1))[0].position
        forged = ET.Element("{http://jabber.org/protocol/muc#user}x")
        ET.SubElement(forged, "{http://jabber.org/protocol/muc#user}item", {"jid": ann.who})
        await mallory.write(ann.room, "!deploy", inject=(forged,))
        await ann.sees(1)
        async with connected(bench.network(ann.room), position) as bot:
            await until(lambda: "!deploy" in [each.text for each in bot.heard])
            assert {each.who for each in bot.heard if each.room == ann.room} == {""}


async def test_a_room_without_an_archive(bench: XmppBench, server: Prosody) -> None:
    async with person(server, "ann", FORGETFUL) as ann:
        async with connected(bench.network(ann.room)) as bot:
            await ann.write(ann.room, "before")
            before = (await bot.hears(1))[0]
            mine = said(ann.room, "mine")
            await bot.network.say(mine)
            assert await bot.network.was_said(mine) is True
        await ann.write(ann.room, "missed")
        async with connected(bench.network(ann.room), before.position) as bot:
            await until(lambda: "missed" in [each.text for each in bot.heard])
            heard = [each for each in bot.heard if each.room == ann.room]
            assert [each.text for each in heard] == ["before", "missed"]
            assert heard[0].id == before.id
            # Its history came as we entered, and our own was in it.
            assert await bot.network.was_said(mine) is True
            assert await bot.network.was_said(said(ann.room)) is None


async def test_two_of_us_do_not_put_each_other_out(bench: XmppBench, server: Prosody) -> None:
    async with (
        person(server, "ann") as ann,
        connected(bench.network(ann.room)) as old,
        connected(bench.network(ann.room)) as new,
    ):
        await until(lambda: "another one logged in under our name" in old.network.trouble)
        for number in range(20):
            await new.network.say(said(ann.room, f"{number}"))
        assert not new.network.trouble
        assert old.network.trouble
        assert [each.text for each in await ann.sees(20)] == [str(n) for n in range(20)]


class _Slow:
    """A clock that is an hour behind."""

    def now(self) -> datetime:
        return SystemClock().now() - timedelta(hours=1)

    def monotonic(self) -> float:
        return SystemClock().monotonic()


async def test_clocks_that_differ_lose_nothing(bench: XmppBench, server: Prosody) -> None:
    async with person(server, "ann") as ann:
        async with connected(bench.network(ann.room, clock=_Slow())) as bot:
            await ann.write(ann.room, "before")
            position = (await bot.hears(1))[0].position
        await ann.write(ann.room, "missed")
        async with connected(bench.network(ann.room), position) as bot:
            await until(lambda: "missed" in [each.text for each in bot.heard])
            assert len([each for each in bot.heard if each.room == ann.room]) <= 2


async def test_who_does_not_listen_is_not_buried(bench: XmppBench, server: Prosody) -> None:
    async with person(server, "ann") as ann:
        network = bench.network(ann.room)
        running = asyncio.ensure_future(network.run(""))
        await until(lambda: not network.trouble, what=lambda: network.trouble)
        count = MANY * 3
        for number in range(count):
            await ann.write(ann.room, f"{number} " + "x" * 1000)
        assert network._link is not None
        wire = network._link.client.transport
        assert wire is not None
        await until(lambda: not wire.is_reading())
        assert MANY < network._heard.qsize() < count
        heard = [each async for each in _first(network, count)]
        assert [each.text.split()[0] for each in heard] == [str(n) for n in range(count)]
        running.cancel()
        await asyncio.wait([running])


async def _first(network: XmppNetwork, count: int) -> AsyncIterator[Heard]:
    async for each in network.heard():
        yield each
        count -= 1
        if not count:
            return
