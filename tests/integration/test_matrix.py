"""Matrix's own ways, with a real Synapse: transactions, limits, encrypted rooms, invitations, tokens."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from tests.harness.people import connected, until
from tests.harness.synapse import MatrixBench, MatrixPerson, Synapse, synapse

from rota.adapters.matrix import network as adapter
from rota.errors import InputError, LaterError
from rota.ports.networks import Saying

BOT = "@rota:localhost"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synapse]:
    made = synapse(tmp_path_factory.mktemp("synapse"))
    yield made
    made.close()


@pytest.fixture
def bench(server: Synapse) -> MatrixBench:
    made = MatrixBench(server)
    made.prefix = f"m{uuid.uuid4().hex[:6]}-"
    return made


def said(room: str, text: str = "hello", **more: Any) -> Saying:
    return Saying(id=f"t-{uuid.uuid4().hex[:12]}", room=room, text=text, **more)


async def test_the_same_said_again_by_another_process_is_there_once(bench: MatrixBench) -> None:
    async with bench.person() as ann:
        saying = said(ann.room, "once")
        async with connected(bench.network(ann.room)) as bot:
            first = await bot.network.say(saying)
        async with connected(bench.network(ann.room)) as bot:
            again = await bot.network.say(saying)
            await bot.network.say(said(ann.room, "the end"))
        assert again.id == first.id
        assert [each.text for each in await ann.sees(2)] == ["once", "the end"]


async def test_the_server_says_how_long_to_wait(bench: MatrixBench, server: Synapse) -> None:
    async with MatrixPerson(server, "admin") as admin, bench.person() as ann:
        path = f"/_synapse/admin/v1/users/{quote('@limited:localhost')}/override_ratelimit"
        await admin.call("POST", path, messages_per_second=1, burst_count=2)
        network = bench.network(ann.room, account="@limited:localhost", password="pwlimited")
        async with connected(network) as bot:
            late: LaterError | None = None
            for number in range(10):
                try:
                    await bot.network.say(said(ann.room, f"{number}"))
                except LaterError as error:
                    late = error
                    break
            assert late is not None
            assert "takes no more for" in late.message
            assert 0 < late.after_s < 60


async def test_many_messages_that_were_missed(bench: MatrixBench) -> None:
    async with bench.person() as ann:
        async with connected(bench.network(ann.room)) as bot:
            await ann.write(ann.room, "before")
            position = (await bot.hears(1))[0].position
        for number in range(130):
            await ann.write(ann.room, f"{number}")
        async with connected(bench.network(ann.room), position) as bot:
            heard = await bot.hears(130)
            assert [each.text for each in heard] == [str(number) for number in range(130)]


@pytest.mark.parametrize("position", ["s999999999_1_0_1_1_1_1_8_0_1_1_1_1_1", "nonsense"])
async def test_a_position_of_another_life_of_the_server(bench: MatrixBench, position: str) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room), position) as bot:
        await bot.network.say(said(ann.room))
        await ann.write(ann.room, "!status")
        assert (await bot.hears(1))[-1].text == "!status"


async def test_an_encrypted_room_gets_one_clear_line(bench: MatrixBench) -> None:
    encrypted = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    async with bench.person() as ann:
        alias = f"e{uuid.uuid4().hex[:8]}"
        room = await ann.make_room(alias, initial_state=[{**encrypted, "state_key": ""}])
        network = bench.network(room)
        running = asyncio.ensure_future(network.run(""))
        clear = f"{room} is encrypted, and the bot neither reads nor writes encrypted messages"
        await until(lambda: network.trouble == clear, what=lambda: network.trouble)
        with pytest.raises(InputError) as refused:
            await network.say(said(room))
        assert refused.value.message == clear
        assert refused.value.hint == "take a room that is not encrypted"
        running.cancel()
        await asyncio.wait([running])


async def test_who_writes_to_the_bot_encrypted_is_answered_where_it_can_read(
    bench: MatrixBench,
) -> None:
    encrypted = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    async with bench.person("bob") as bob, connected(bench.network(bob.room)) as bot:
        made = await bob.call(
            "POST",
            "/createRoom",
            is_direct=True,
            invite=[BOT],
            initial_state=[{**encrypted, "state_key": ""}],
        )
        room = quote(made["room_id"])
        for _ in range(600):
            members = await bob.call("GET", f"/rooms/{room}/joined_members")
            if len(members["joined"]) == 2:
                break
            await asyncio.sleep(0.05)
        for number in range(3):
            await bob.call("PUT", f"/rooms/{room}/send/m.room.encrypted/x{number}", ciphertext="…")
        [shown] = await bob.sees(1)
        assert shown.text == (
            "That room is encrypted, and the bot neither reads nor writes encrypted messages."
            " Write to me here instead."
        )
        assert shown.room != made["room_id"]
        await bob.write(shown.room, "!status")
        [heard] = await bot.hears(1)
        assert (heard.room, heard.is_direct) == (shown.room, True)


async def test_answers_quote_and_changes_change(bench: MatrixBench) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        await ann.write(ann.room, "hello")
        first = ann.last
        reply: dict[str, Any] = {"m.in_reply_to": {"event_id": first}}
        quoted = "> <@bob:localhost> !cancel web#7\n> more\n\n!status"
        await ann.write(ann.room, quoted, relation=reply)
        change = {"rel_type": "m.replace", "event_id": first}
        await ann.write(ann.room, "* !run web", relation=change)
        await ann.write(ann.room, "I am a bot", msgtype="m.notice")
        await ann.write(ann.room, "waves", msgtype="m.emote")
        await ann.write(ann.room, "odd", relation=["odd"])
        assert [each.text for each in await bot.hears(3)] == ["hello", "!status", "odd"]


async def test_rooms_are_the_settings_to_name(bench: MatrixBench, server: Synapse) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        made = await ann.call("POST", "/createRoom", invite=[BOT])
        await ann.write(bench.to_bot(), "!link 1234")
        [heard] = await bot.hears(1)
        assert heard.is_direct
        members = await ann.call("GET", f"/rooms/{quote(made['room_id'])}/joined_members")
        assert list(members["joined"]) == [ann.who]
        # A third one enters: what is written there is not to the bot alone any more.
        await ann.call("POST", f"/rooms/{quote(heard.room)}/invite", user_id="@mallory:localhost")
        async with MatrixPerson(server, "mallory") as mallory:
            await mallory.enter(heard.room)
            await mallory.write(heard.room, "!link 1234")
            await ann.write(ann.room, "after")
            assert [each.text for each in await bot.hears(2)] == ["!link 1234", "after"]
            with pytest.raises(InputError, match="is neither a room"):
                await bot.network.say(said(heard.room))


async def test_a_token_instead_of_a_password(bench: MatrixBench, server: Synapse) -> None:
    async with bench.person() as ann, MatrixPerson(server, "bob") as bob:
        token = bob._session.headers["Authorization"].removeprefix("Bearer ")
        network = bench.network(ann.room, account=bob.who, password="", token=token)
        async with connected(network) as bot:
            await bot.network.say(said(ann.room))
        with pytest.raises(InputError, match=r"the token of .* is one of @bob:localhost, not of"):
            await bench.network(ann.room, password="", token=token).run("")
        with pytest.raises(InputError, match="does not know the token") as refused:
            await bench.network(ann.room, password="", token="wrong").run("")
        assert refused.value.hint


async def test_two_of_us_say_the_same_once(bench: MatrixBench) -> None:
    async with (
        bench.person() as ann,
        connected(bench.network(ann.room)) as old,
        connected(bench.network(ann.room)) as new,
    ):
        for number in range(5):
            saying = said(ann.room, f"{number}")
            one, other = await asyncio.gather(new.network.say(saying), old.network.say(saying))
            assert one.id == other.id
        assert [each.text for each in await ann.sees(5)] == [str(n) for n in range(5)]
        assert old.heard == new.heard == []


async def test_who_was_logged_out_logs_in_again(
    bench: MatrixBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "REPLACED_S", 0.1)
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        network = bot.network
        assert isinstance(network, adapter.MatrixNetwork)
        token = network._access
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
            session.post(f"{bench.server.url}/_matrix/client/v3/logout") as answer,
        ):
            assert answer.status == 200
        with pytest.raises(LaterError, match="another one logged in as @rota:localhost"):
            await bot.network.say(said(ann.room))
        await until(lambda: not network.trouble and network._access != token)
        await ann.write(ann.room, "!status")
        assert (await bot.hears(1))[0].text == "!status"
        await bot.network.say(said(ann.room))


async def test_who_is_put_out_comes_back_and_who_is_banned_says_so(bench: MatrixBench) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        room = quote((await ann.call("GET", f"/directory/room/{quote(ann.room)}"))["room_id"])
        await ann.call("POST", f"/rooms/{room}/kick", user_id=BOT)
        await until(lambda: "not in" in bot.network.trouble)
        await until(lambda: not bot.network.trouble)
        await ann.call("POST", f"/rooms/{room}/ban", user_id=BOT)
        await until(lambda: "does not let us in" in bot.network.trouble)
        assert ann.room in bot.network.trouble


async def test_a_certificate_of_ones_own(bench: MatrixBench, server: Synapse) -> None:
    async with bench.person() as ann:
        network = bench.network(ann.room, server=server.tls_url, ca=str(server.ca))
        async with connected(network) as bot:
            await bot.network.say(said(ann.room))
            await ann.sees(1)
        stranger = bench.network(ann.room, server=server.tls_url)
        running = asyncio.ensure_future(stranger.run(""))
        await until(lambda: "certificate" in stranger.trouble, what=lambda: stranger.trouble)
        where = f"localhost:{server.tls_port}"
        assert stranger.trouble.startswith(f"{where} has a certificate that we do not trust: ")
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("server", "matrix.example.org", "'matrix.example.org', is no address"),
        ("account", "rota", "'rota', is no user"),
        ("password", "", "has neither a password nor a token"),
        ("rooms", ("web",), "'web' in .* is no room"),
        ("ca", "/nowhere/ca.pem", "cannot read the CA of Matrix, /nowhere/ca.pem"),
    ],
)
def test_settings_that_cannot_be(key: str, value: object, message: str) -> None:
    from rota.adapters.matrix import MatrixNetwork

    values: dict[str, Any] = {"server": "https://m.example.org", "account": BOT, "password": "x"}
    with pytest.raises(InputError, match=message):
        MatrixNetwork("net", **{**values, key: value})


async def test_without_a_server_the_trouble_says_so() -> None:
    network = adapter.MatrixNetwork(
        "net", server="http://127.0.0.1:1", account="@rota:localhost", password="x"
    )
    running = asyncio.ensure_future(network.run(""))
    await until(lambda: "cannot" in network.trouble, what=lambda: network.trouble)
    assert network.trouble == "cannot connect to 127.0.0.1:1: Connection refused"
    running.cancel()
    with pytest.raises(LaterError, match="Connection refused"):
        await network.say(said("@ann:localhost"))
    await asyncio.wait([running])


def test_a_long_text_fits_into_an_event() -> None:
    from rota.adapters.matrix.events import content_of

    for text in ("<" * 100_000, '"' * 100_000, "ä\n" * 50_000, "\x1b" * 100_000, "👩" * 50_000):
        content = content_of(Saying(id="x", room="r", text=text, code=text, link="https://x"))
        assert len(json.dumps(content, ensure_ascii=False).encode()) < 64_000
