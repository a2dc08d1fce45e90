"""Slack's own ways, against a Slack of our own: what is sent twice, lost answers, limits, people's markup."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tests.harness.fake_slack import BOT, LOST, TEAM, FakeSlack, SlackBench, SlackPerson
from tests.harness.people import connected, until

from rota.adapters.slack import network as adapter
from rota.errors import InputError, LaterError
from rota.ports.networks import Saying


@pytest.fixture(scope="module")
def server() -> Iterator[FakeSlack]:
    made = FakeSlack()
    made.start()
    yield made
    made.close()


@pytest.fixture
def bench(server: FakeSlack) -> Iterator[SlackBench]:
    yield SlackBench(server)
    server.forget()


def said(room: str, text: str = "hello", **more: Any) -> Saying:
    return Saying(id=f"t-{uuid.uuid4().hex[:12]}", room=room, text=text, **more)


def texts(person: SlackPerson) -> list[str]:
    return [shown.text for shown in person.shown]


async def test_slack_says_how_long_to_wait(bench: SlackBench, server: FakeSlack) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        server.refusals["chat.postMessage"] = [7.0]
        saying = said(ann.room)
        with pytest.raises(LaterError, match="takes no more for 7 s") as late:
            await bot.network.say(saying)
        assert late.value.after_s == 7.0
        await bot.network.say(saying)
        assert texts(ann) == ["hello"]


async def test_an_answer_that_is_lost_is_found_again(bench: SlackBench, server: FakeSlack) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        server.refusals["chat.postMessage"] = [LOST]
        saying, other = said(ann.room), said(ann.room)
        with pytest.raises(LaterError, match=r"cannot reach 127\.0\.0\.1"):
            await bot.network.say(saying)
        assert texts(ann) == ["hello"]
        assert await bot.network.was_said(saying) is True
        assert await bot.network.was_said(other) is False


async def test_what_was_said_in_a_thread_is_found(bench: SlackBench) -> None:
    async with bench.person() as ann:
        async with connected(bench.network(ann.room)) as bot:
            first = await bot.network.say(said(ann.room, "web#7"))
            sayings = [said(ann.room, f"{number}", thread=first.thread) for number in range(60)]
            for saying in sayings:
                await bot.network.say(saying)
        async with connected(bench.network(ann.room)) as bot:
            assert await bot.network.was_said(sayings[-1]) is True
            assert await bot.network.was_said(said(ann.room, "x", thread=first.thread)) is False


@pytest.mark.parametrize("reason", ["warning", "refresh_requested", "too_many_websockets"])
async def test_slack_wants_another_connection(
    bench: SlackBench, server: FakeSlack, reason: str
) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        for number in range(5):
            await ann.write(ann.room, f"{number}")
            frame = {"type": "disconnect", "reason": reason}
            await asyncio.to_thread(server.call, server.to_sockets, frame)
        await ann.write(ann.room, "the last")
        heard = await bot.hears(6)
        assert [each.text for each in heard] == ["0", "1", "2", "3", "4", "the last"]
        await bot.network.say(said(ann.room))


async def test_what_is_sent_again_is_heard_once_and_acknowledged(
    bench: SlackBench, server: FakeSlack
) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        await ann.write(ann.room, "!run web")
        [heard] = await bot.hears(1)
        channel, ts = heard.id.split("-")
        event = {"type": "message", "channel": channel, "channel_type": "channel", "ts": ts}
        event |= {"user": ann.user, "text": "!run web", "team": TEAM}
        before = len(server.acknowledged)
        await asyncio.to_thread(server.call, server.event, event)
        await asyncio.to_thread(server.call, server.event, {"type": "reaction_added"})
        await asyncio.to_thread(server.call, server.to_sockets, {"type": "what", "payload": 1})
        await ann.write(ann.room, "after")
        assert [each.text for each in await bot.hears(2)] == ["!run web", "after"]
        await until(lambda: len(server.acknowledged) >= before + 3)


@pytest.mark.parametrize(
    "more",
    [
        {"bot_id": "BOTHER"},
        {"subtype": "bot_message"},
        {"subtype": "message_changed"},
        {"subtype": "channel_join"},
        {"hidden": True},
    ],
)
async def test_bots_and_changes_are_no_commands(bench: SlackBench, more: dict[str, Any]) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        await ann.write(ann.room, "!run web", **more)
        await ann.write(ann.room, "after")
        assert [each.text for each in await bot.hears(1)] == ["after"]


async def test_markup_becomes_what_was_written(bench: SlackBench, server: FakeSlack) -> None:
    raw = {
        f"<@{BOT}> status": "rota: status",
        f"<@{BOT}>: run web": "rota: run web",
        "ask <@UANN> and <@UBOB|bob> in <#C1|web> &lt;now&gt; &amp;": "ask @UANN and @bob in #web <now> &",
        "!run web url=<https://ci.example.org/a?b=1&amp;c=2>": "!run web url=https://ci.example.org/a?b=1&c=2",
        "!send web#7 <http://example.org|example.org> <mailto:a@b.org|a@b.org>": (
            "!send web#7 example.org a@b.org"
        ),
        "<!here> &lt;@UANN&gt;": "@here <@UANN>",
    }
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        [channel] = [
            key for key, each in server.channels.items() if each.get("name") == ann.room[1:]
        ]
        for text in raw:
            await asyncio.to_thread(server.call, server.post, ann.user, channel, text)
        assert [each.text for each in await bot.hears(len(raw))] == list(raw.values())


async def test_answers_in_threads_that_were_missed(bench: SlackBench) -> None:
    async with bench.person() as ann:
        async with connected(bench.network(ann.room)) as bot:
            first = await bot.network.say(said(ann.room, "web#7"))
            await ann.write(ann.room, "before")
            position = (await bot.hears(1))[0].position
        await ann.write(ann.room, "!cancel", thread=first.thread)
        for number in range(120):
            await ann.write(ann.room, f"{number}")
        async with connected(bench.network(ann.room), position) as bot:
            heard = [each for each in await bot.hears(122) if each.text != "before"]
            assert [each.text for each in heard] == ["!cancel", *map(str, range(120))]
            assert heard[0].thread == first.thread


async def test_a_private_channel_needs_an_invitation(
    bench: SlackBench, server: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "SILENT_S", 0.05)
    channel = server.make_channel("secret", is_private=True)
    network = bench.network("#secret")
    async with bench.person():
        running = asyncio.ensure_future(network.run(""))
        await until(lambda: "no channel" in network.trouble)
        assert network.trouble == (
            "there is no channel #secret, or it is private and the app was not invited"
        )
        with pytest.raises(LaterError, match="no channel #secret"):
            await network.say(said("#secret"))
        server.channels[channel]["members"].add(BOT)
        await until(lambda: not network.trouble)
        await network.say(said("#secret"))
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        ("auth.test", "token_revoked", r"Slack refuses the tokens of \[chat.net\]: token_revoked"),
        ("apps.connections.open", "not_allowed_token_type", "Slack refuses the tokens"),
        ("conversations.list", "missing_scope", "missing_scope"),
    ],
)
async def test_what_no_other_try_makes_better(
    bench: SlackBench, server: FakeSlack, method: str, error: str, message: str
) -> None:
    server.refusals[method] = [error]
    with pytest.raises(InputError, match=message) as refused:
        await asyncio.wait_for(bench.network("#web").run(""), 20)
    assert refused.value.hint


async def test_socket_mode_that_is_off(bench: SlackBench, server: FakeSlack) -> None:
    network = bench.network()
    running = asyncio.ensure_future(network.run(""))
    await until(lambda: not network.trouble)
    frame = {"type": "disconnect", "reason": "link_disabled"}
    await asyncio.to_thread(server.call, server.to_sockets, frame)
    with pytest.raises(InputError, match=r"Socket Mode is off in the app of \[chat.net\]"):
        await asyncio.wait_for(running, 20)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("token", "xapp-1", "the token of .* does not begin with xoxb-"),
        ("app_token", "xoxb-1", "the app_token of .* does not begin with xapp-"),
        ("server", "slack.com", "'slack.com', is no address"),
    ],
)
def test_settings_that_cannot_be(bench: SlackBench, key: str, value: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        bench.network(**{key: value})
    assert refused.value.hint


async def test_an_archived_channel_takes_nothing(bench: SlackBench, server: FakeSlack) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        for each in server.channels.values():
            each["is_archived"] = True
        with pytest.raises(InputError, match="is_archived"):
            await bot.network.say(said(ann.room))


async def test_names_are_asked_for_once_and_not_needed(
    bench: SlackBench, server: FakeSlack
) -> None:
    async with bench.person() as ann, connected(bench.network(ann.room)) as bot:
        server.refusals["users.info"] = [5.0, "missing_scope"]
        before = server.calls.count("users.info")
        for number in range(4):
            await ann.write(ann.room, f"{number}")
        assert {each.nick for each in await bot.hears(4)} == {ann.user}
        assert {each.who for each in bot.heard} == {ann.who}
        assert server.calls.count("users.info") == before + 2
    async with bench.person("bob") as bob, connected(bench.network(bob.room)) as bot:
        await bob.write(bob.room, "hello")
        assert (await bot.hears(1))[0].nick == "bob"
