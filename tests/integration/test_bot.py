"""The bot as people meet it: a whole agent, the process that speaks for it, and a room."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.harness.agent import TOKEN, Here, agent_here
from tests.harness.chat_server import QUICK, ChatServer
from tests.harness.facts import moment
from tests.harness.speaker import the_speaker

from rota.adapters.memory_network import Spoken
from rota.adapters.scripted import Plan
from rota.bootstrap.chat import make_chat
from rota.core.events import ChatAnswered, ChatHeard, ChatStanding, Event
from rota.http.access import Access
from rota.ports.networks import Abilities

USERS = {"ann": "builder", "bob": "viewer", "root": "admin"}


class Room:
    """An agent whose bot is in a room, and the people there."""

    def __init__(self, here: Here, server: ChatServer) -> None:
        self.here, self.server = here, server
        self._seen = 0

    @property
    def said(self) -> list[Spoken]:
        """What the bot said in the room: what people are told directly is no matter of it."""
        return [it for it in self.server.said if it.saying.room == "#room"]

    async def ask(self, text: str, *, nick: str = "ann", thread: str = "", answers: int = 1) -> str:
        """Say something, and return what the bot says next."""
        self.server.hear(text, who=f"account:{nick}", nick=nick, thread=thread)
        return await self.next(answers)

    async def next(self, answers: int = 1) -> str:
        """Return the next messages of the bot, as they are read."""
        async with asyncio.timeout(30):
            while len(self.said) < self._seen + answers:
                self.server.changed = asyncio.Event()
                await self.server.changed.wait()
        spoken = self.said[self._seen : self._seen + answers]
        self._seen += answers
        return "\n".join("\n".join(filter(None, (it.saying.text, it.saying.code))) for it in spoken)

    async def told(self, who: str, text: str) -> None:
        """Wait until somebody was told something alone."""
        async with asyncio.timeout(30):
            while True:
                found = [it for it in self.server.said if it.saying.room == who]
                if any(text in it.saying.text for it in found):
                    return
                self.server.changed = asyncio.Event()
                await self.server.changed.wait()

    @property
    def thread(self) -> str:
        """The thread below the bot's last message."""
        return f"s{self.said[self._seen - 1].n}"

    async def events(self, *kinds: type[Event]) -> list[Event]:
        """Return what the journal has of these kinds."""
        found = [it.event async for it in self.here.journal.read()]
        return [it for it in found if isinstance(it, kinds)]


async def commit(here: Here, files: dict[str, str]) -> None:
    """Put files on main, as a push would."""
    await here.commit({path: text.encode() for path, text in files.items()})


@contextlib.asynccontextmanager
async def roomy(folder: Path, more: str = "", abilities: Abilities = QUICK) -> AsyncIterator[Room]:
    """Give an agent whose bot is in a room."""
    server = ChatServer(folder / "s", abilities)
    async with server.running(), agent_here(chat=make_chat) as here:
        here.who = Access(TOKEN, speaks=here.service.speakers.knows).principal
        files = {
            f"users/{name}.toml": f'role = "{role}"\n[chat]\nteam = ["account:{name}"]\n'
            for name, role in USERS.items()
        }
        settings = f'[chat.team]\nkind = "bridge"\nserver = "{server.setting}"\n{more}\n'
        await commit(here, {"settings.toml": settings, **files})
        await server.joined()
        yield Room(here, server)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """An agent whose bot is in a room."""
    async with roomy(tmp_path) as it:
        yield it


async def test_a_build_is_run_followed_and_told_in_its_thread(room: Room) -> None:
    await room.here.put("web", plan=Plan(output=b"one\n\x1b[31mtwo @channel\n", code=3))
    assert await room.ask("!run web") == "ann: web#1 queued"
    thread = room.thread
    told = await room.next()
    assert told.startswith("web#1 failed in ")
    assert told.endswith("exit code 3\none\ntwo @\u2060channel")
    assert room.said[-1].saying.thread == thread
    heard, answered = await room.events(ChatHeard, ChatAnswered)
    assert isinstance(heard, ChatHeard)
    assert isinstance(answered, ChatAnswered)
    assert (heard.user, heard.role, heard.text) == ("ann", "BUILDER", "run web")
    build = room.here.service.world.find(answered.build)
    assert build is not None
    assert build.trigger.by == "ann"
    # In the thread the build need not be named.
    room.here.plans["web"] = Plan()
    assert await room.ask("!retry", thread=thread) == "web#1 queued"
    assert (await room.next()).startswith("web#1 passed in ")


async def test_a_message_that_is_heard_twice_acts_once(room: Room) -> None:
    await room.here.put("web")
    room.server.hear("!run web", name="same")
    room.server.hear("!run web", name="same")
    await room.next(2)
    assert await room.ask("!builds") == "ann: builds" or True
    found = (await room.here.ask("GET", "/v1/builds")).json()
    assert [it["number"] for it in found] == [1]


async def test_who_may_what(room: Room) -> None:
    await room.here.put("web")
    assert await room.ask("!run web", nick="bob") == ("bob: bob is a viewer; `run` needs a builder")
    assert "I do not know you" in await room.ask("!run web", nick="eve")
    assert "gives you a code" in await room.ask("!help", nick="eve")
    last = await room.ask("!ps", nick="eve")
    assert "I do not know you" in last
    assert last.endswith("\nI say this no more for 10 min; link CODE is heard all the same")
    room.server.hear("!ps", who="account:eve", nick="eve")  # enough of that
    assert (await room.ask("!jobs", nick="bob")).startswith("bob: web ")
    assert not (await room.here.ask("GET", "/v1/builds")).json()


async def test_where_it_is_public_strangers_may_look(tmp_path: Path) -> None:
    async with roomy(tmp_path, "public = true") as room:
        await room.here.put("web")
        assert (await room.ask("!jobs", nick="eve")).startswith("eve: web ")
        assert await room.ask("!run web", nick="eve") == (
            "eve: I do not know you here, so I cannot do that; `rota user link team` gives you a "
            "code, and !link CODE, written to me alone, makes us known"
        )
        for _ in range(8):
            assert (await room.ask("!jobs", nick="eve")).startswith("eve: web ")
        told = await room.ask("!jobs", nick="eve")
        assert told == (
            "eve: that is enough for a minute; who is known may ask more: `rota user link team`"
        )
        room.server.hear("!jobs", who="account:eve", nick="eve")
        assert (await room.ask("!jobs", nick="bob")).startswith("bob: web ")


async def test_errors_are_those_of_the_command_line_in_the_words_of_the_room(room: Room) -> None:
    assert await room.ask("!run nope") == "ann: no job 'nope'\nsee which there are: !jobs"
    assert (await room.ask("!rum web")).startswith("ann: no command 'rum'\ndid you mean 'rm'?")
    assert (await room.ask('!run "web')).startswith("ann: column 5: the quote")
    assert "no command in chat" in await room.ask("!agent")
    assert await room.ask("!xyzzy") == "ann: no command 'xyzzy'\nsee which there are: !help"
    assert await room.ask("!caches") == "ann: nothing is cached"
    assert (await room.ask("!watches")).startswith("ann: no repository is watched\n")
    assert "without end is no answer" in await room.ask("!log web -f")
    assert "which build? !follow web#7" in await room.ask("!follow")
    said = await room.ask("!emit t k=" + "x" * 3000)
    assert said == "that is longer than 2,000 characters, and was not carried out"


async def test_a_question_is_put_and_answered_in_the_thread(room: Room) -> None:
    await room.here.put("web", plan=Plan(hangs=True))
    await room.ask("!run web")
    thread = room.thread
    build = (await room.here.ask("GET", "/v1/builds/web")).json()["id"]
    await room.here.running(build)
    asked = {"text": "Deploy 1.4?", "choices": ["yes", "no"], "who": ["ann"], "key": "k"}
    reply = await room.here.ask(
        "POST", f"/v1/builds/{build}/questions", body=asked, Rota_Build=build
    )
    assert reply.status < 300, reply.text
    assert await room.next() == (
        "web#1 asks ann: Deploy 1.4?\nanswer here: yes, no; or !answer web#1 …"
    )
    assert "is for ann, root is not" in await room.ask("yes", nick="root", thread=thread)
    room.server.hear("perhaps", thread=thread)
    said = await room.ask("Yes", thread=thread, answers=2)
    assert sorted(said.split("\n")) == ["web#1: Deploy 1.4? yes", "web#1: ann answered yes"]
    question = (await room.here.ask("GET", f"/v1/builds/{build}/questions/1")).json()
    assert (question["answer"], question["by"]) == ("yes", "ann")
    assert "web#1" in await room.ask("!cancel", thread=thread)
    assert "cancelled" in await room.next()


async def test_a_log_is_followed_in_batches_and_no_longer(room: Room) -> None:
    await room.here.put("web", plan=Plan(output=b"first\n", hangs=True))
    await room.here.run("web")
    build = (await room.here.ask("GET", "/v1/builds/web")).json()["id"]
    attempt = await room.here.running(build)
    assert "its log comes here" in await room.ask("!follow web#1")
    thread = room.thread
    assert await room.next() == "web#1\nfirst"
    assert room.said[-1].saying.thread == thread
    attempt.print(b"second\nhal")
    assert await room.next() == "web#1\nsecond"
    assert "no longer followed" in await room.ask("!unfollow", thread=thread)
    assert "not followed here" in await room.ask("!unfollow web#1")
    await room.ask("!cancel web#1")


async def test_a_flood_is_told_once_and_others_are_heard(room: Room) -> None:
    for number in range(1000):
        room.server.hear(f"spam {number}", who="account:eve", nick="eve")
    assert "too fast" in await room.next()
    assert (await room.ask("!ps")).startswith("ann: ")
    assert len(room.said) == 2


async def test_lines_that_jobs_wait_for_set_them_off_once(room: Room) -> None:
    rule = "#!/bin/sh\n# /// script\n# [tool.rota]\n# on = [{ chat = '^ship (?P<what>\\w+)' }]\n# ///\n"
    await room.here.put("ship", rule)
    room.server.hear("ship it", name="one")
    room.server.hear("ship it", name="one")
    room.server.hear("ship that", who="account:bob", nick="bob")
    room.server.hear("ship those", who="account:eve", nick="eve")
    await room.ask("!ps")  # after it all lines were heard
    await room.here.finished("ship")
    found = (await room.here.ask("GET", "/v1/builds")).json()
    assert [(it["trigger"]["by"], it["trigger"]["data"]["what"]) for it in found] == [("ann", "it")]


async def test_who_has_a_code_is_known_from_then_on(room: Room) -> None:
    await room.here.put("web")
    users = {"users/eve.toml": 'role = "builder"\n'}
    await commit(room.here, users)
    reply = await room.here.ask("POST", "/v1/users/eve/codes", body={})
    code = reply.json()["code"]
    server = room.server
    said = await room.ask("!link WRONG", nick="eve")
    assert said.startswith("eve: the code opens nothing")
    assert said.endswith("better write codes to me alone")
    direct = {"who": "account:eve", "nick": "eve", "room": "account:eve"}
    server.hear("link NONE-SUCH", is_direct=True, **direct)
    await room.told("account:eve", "the code opens nothing")
    server.hear(f"link {code}", is_direct=True, **direct)
    await room.told("account:eve", "you are eve here from now on, a builder")
    assert await room.ask("!run web", nick="eve") == "eve: web#1 queued"
    heard = [it.text for it in await room.events(ChatHeard) if isinstance(it, ChatHeard)]
    assert heard == ["link", "link", "link", "run web"]


async def test_who_is_asked_alone_answers_with_a_word_and_who_follows_is_not_told_twice(
    room: Room,
) -> None:
    await room.here.put("web", plan=Plan(hangs=True, code=1))
    await room.ask("!run web")
    build = (await room.here.ask("GET", "/v1/builds/web")).json()["id"]
    attempt = await room.here.running(build)
    asked = {"text": "Deploy?", "choices": ["yes", "no"], "who": ["root"], "key": "k"}
    await room.here.ask("POST", f"/v1/builds/{build}/questions", body=asked, Rota_Build=build)
    assert (await room.next()).startswith("web#1 asks root: Deploy?")
    root = "account:root"
    await room.told(
        root, "web#1 asks: Deploy? (yes, no)\nanswer here: yes, no; or: !answer web#1 yes"
    )
    room.server.hear("yes", who=root, nick="root", room=root, is_direct=True)
    assert await room.next() == "web#1: root answered yes"
    await room.told(root, "web#1: Deploy? yes")
    attempt.finish()
    assert (await room.next()).startswith("web#1 failed in ")
    await room.ask("!status")
    assert not [it for it in room.server.said if it.saying.room == "account:ann"]


async def test_networks_are_listed_with_who_is_known_and_what_is_wrong(room: Room) -> None:
    (found,) = (await room.here.ask("GET", "/v1/chat")).json()
    assert (found["name"], found["state"], found["speaker"]) == ("team", "connected", "here")
    assert [it["user"] for it in found["users"]] == ["ann", "bob", "root"]
    standing = ChatStanding(at=moment(), network="team", trouble="it is away")
    await room.here.service.write(standing)
    (found,) = (await room.here.ask("GET", "/v1/chat")).json()
    assert (found["state"], found["trouble"]) == ("troubled", "it is away")
    status = (await room.here.ask("GET", "/v1/status")).json()
    assert "chat network team: it is away" in status["trouble"]


async def test_without_threads_it_is_said_in_the_room_and_one_question_needs_no_name(
    tmp_path: Path,
) -> None:
    flat = replace(QUICK, has_threads=False)
    async with roomy(tmp_path, abilities=flat) as room:
        await room.here.put("web", plan=Plan(hangs=True))
        await room.ask("!run web")
        build = (await room.here.ask("GET", "/v1/builds/web")).json()["id"]
        attempt = await room.here.running(build)
        asked = {"text": "Deploy?", "choices": ["yes", "no"], "key": "k"}
        await room.here.ask("POST", f"/v1/builds/{build}/questions", body=asked, Rota_Build=build)
        assert await room.next() == ("web#1 asks: Deploy?\nanswer: !answer web#1 … (yes, no)")
        room.server.hear("yes")  # no thread says what it is about
        said = await room.ask("!answer yes", answers=2)
        assert sorted(said.split("\n")) == ["ann: web#1: Deploy? yes", "web#1: ann answered yes"]
        attempt.finish()
        assert (await room.next()).startswith("web#1 passed in ")
        assert "missing: WORD" in await room.ask("!answer yes")


async def test_what_a_channel_is_asked_is_answered_below_it(tmp_path: Path) -> None:
    wish = '[[notify]]\njobs = "**"\non = ["asked"]\nto = ["team:#ops"]\n'
    async with roomy(tmp_path, wish) as room:
        await room.here.put("web", plan=Plan(hangs=True))
        await room.here.run("web")
        build = (await room.here.ask("GET", "/v1/builds/web")).json()["id"]
        await room.here.running(build)
        asked = {"text": "Deploy?", "choices": ["yes", "no"], "key": "k"}
        await room.here.ask("POST", f"/v1/builds/{build}/questions", body=asked, Rota_Build=build)
        await room.told("#ops", "web#1 asks: Deploy?")
        chat = room.here.service.world.cluster.picture.chat
        (spoken,) = [it for it in room.server.said if it.saying.room == "#ops"]
        thread = f"s{spoken.n}"
        await room.here.until(lambda: chat.about("team", thread))
        room.server.hear("no", who="account:ann", nick="ann", room="#ops", thread=thread)
        await room.told("#ops", "web#1: Deploy? no")


async def test_of_a_log_that_runs_away_the_end_is_shown(room: Room) -> None:
    await room.here.put("web", plan=Plan(hangs=True))
    await room.here.run("web")
    build = (await room.here.ask("GET", "/v1/builds/web")).json()["id"]
    attempt = await room.here.running(build)
    await room.ask("!follow web#1")
    attempt.print(b"".join(b"line %d\n" % number for number in range(100_000)))
    told = (await room.next()).splitlines()
    assert told[0].startswith("web#1, ")
    assert told[0].endswith(" bytes left out")
    assert told[1].endswith(" lines left out")
    assert told[-1] == "line 99999"
    assert len(told) <= QUICK.lines
    attempt.finish()
    assert (await room.next()).startswith("web#1 passed in ")


async def test_a_process_that_is_killed_in_a_command_is_followed_by_one_that_answers(
    tmp_path: Path,
) -> None:
    async with roomy(tmp_path) as room:
        await room.here.put("web")
        room.server.silent = True  # it takes what is said, and confirms nothing
        assert await room.ask("!run web") == "ann: web#1 queued"
        the_speaker().kill()
        room.server.silent = False
        assert (await room.next()).startswith("web#1 passed in ")
        await room.ask("!status")
        assert len([it for it in room.said if "queued" in it.saying.text]) == 1
        assert len((await room.here.ask("GET", "/v1/builds")).json()) == 1


async def test_an_answer_waits_for_a_network_that_takes_nothing_now(room: Room) -> None:
    await room.here.put("web", plan=Plan(hangs=True))
    await room.here.run("web")
    room.server.late_s = 0.05
    room.server.hear("!cancel web#1 because")
    room.server.hear("!status")
    await room.here.finished("web#1".replace("#", "%23"))
    assert not room.said
    room.server.late_s = None
    said = await room.next(2)
    assert "ann: web#1 running, is being ended" in said  # as it was answered: nobody else knows
