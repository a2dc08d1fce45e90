"""Leaders die between all steps of a command: it acts once, and is answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from msgspec.structs import replace
from tests.harness.facts import moment

from rota.adapters.clocks import ManualClock
from rota.adapters.memory import MemoryJournal, MemoryLogs
from rota.adapters.memory_chat import MemoryChat
from rota.adapters.memory_network import MemoryNetwork, MemoryServer
from rota.adapters.memory_store import MemoryIndex
from rota.agent.answering import Answers
from rota.agent.bot import Bot
from rota.agent.following import Followers
from rota.core.chat_text import answer_id
from rota.core.cluster import Cluster
from rota.core.definitions import Definitions
from rota.core.events import (
    BuildCancelled,
    BuildFinished,
    BuildRequested,
    BuildStarted,
    ChatAnswered,
    ChatHeard,
    ChatTold,
    Emitted,
    Event,
    LeaderElected,
)
from rota.core.ids import derived_id
from rota.core.job import Reason, Spec
from rota.core.settings import Settings
from rota.core.settings_chat import ChatNetwork
from rota.core.users import User, Users
from rota.errors import StaleError
from rota.ports.chat import Command, Reported
from rota.ports.journal import Entry
from rota.ports.networks import Heard, Said, Saying
from rota.service.world import World

POINTS = ("heard", "recorded", "begun", "acted", "said", "returned", "answered")


class Death:
    """Where the leader of the moment stops, for ever."""

    def __init__(self, point: str) -> None:
        self.point, self.came = point, asyncio.Event()

    async def __call__(self, point: str) -> None:
        # Who is dead does nothing else either.
        if point and (point == self.point or self.came.is_set()):
            self.came.set()
            await asyncio.get_running_loop().create_future()


class DyingJournal(MemoryJournal):
    """One whose writer stops before or after some events."""

    death = Death("")

    async def append(
        self, event: Event, *, expect: int | None = None, fence: int | None = None
    ) -> int:
        before = {ChatHeard: "heard", ChatAnswered: "returned", ChatTold: "telling"}
        after = {ChatHeard: "recorded", ChatAnswered: "answered", ChatTold: "told"}
        await self.death(before.get(type(event), ""))
        seq = await super().append(event, expect=expect, fence=fence)
        await self.death(after.get(type(event), ""))
        return seq


class DyingNetwork(MemoryNetwork):
    """One whose speaker stops when something was said."""

    death = Death("")

    async def say(self, saying: Saying) -> Said:
        said = await super().say(saying)
        await self.death("said")
        return said


class Story:
    """A journal, a room, and what commands did."""

    def __init__(self) -> None:
        self.journal, self.server = DyingJournal(), MemoryServer()
        self.clock = ManualClock(moment())
        self.server.now = self.clock.now
        self.acts: list[str] = []
        self.world: World
        self.death = Death("")

    def die_at(self, point: str) -> None:
        """Let the leader stop there."""
        self.death = self.journal.death = Death(point)

    async def carry(self, command: Command) -> Sequence[Saying]:
        """Do what a command says, as a service would."""
        await self.death("begun")
        verb = command.line.split()[0]
        match verb:
            case "run":
                request = BuildRequested(
                    at=moment(),
                    by=command.user,
                    build=derived_id(command.key),
                    job="web",
                    spec=Spec(),
                    via=command.key,
                )
                with contextlib.suppress(StaleError):
                    seq = await self.journal.append(request, expect=0)
                    self.acts.append(verb)
                    await self.world.reached(seq, 5.0)  # as any service does before it answers
            case "pause":
                self.acts.append(verb)
                await self.journal.append(Emitted(at=moment(), type="x", via=command.key))
            case _:
                self.acts.append(verb)
        await self.death("acted")
        heard = command.heard
        return [Saying(id=answer_id(command.key), room=heard.room, text=f"{verb}: done")]


class Leader:
    """An agent that leads."""

    def __init__(self, story: Story, name: str) -> None:
        self.story, self.name = story, name
        self.world = story.world = World(story.journal, MemoryIndex(), Cluster())
        settings = Settings(chat={"team": ChatNetwork(kind="bridge", server="unix:/x")})
        users = Users({"ann": (User(chat={"team": ("account:ann",)}), ())})
        users._owners[("team", "account:ann")] = "ann"
        self.world.definitions = Definitions(settings=settings, users=users)
        network = DyingNetwork("team", server=story.server)
        network.death = story.death
        self.chat = MemoryChat(network, carry=story.carry)
        followers = Followers(
            name=name,
            world=self.world,
            journal=story.journal,
            logs=MemoryLogs(),
            clock=story.clock,
            chat=self.chat,
        )
        answers = Answers(
            name=name,
            world=self.world,
            journal=story.journal,
            clock=story.clock,
            chat=self.chat,
            followers=followers,
        )
        self.bot = Bot(
            name=name,
            world=self.world,
            clock=story.clock,
            chat=self.chat,
            answers=answers,
            followers=followers,
        )

    @contextlib.asynccontextmanager
    async def leading(self) -> AsyncIterator[Leader]:
        """Fold, and lead, until the context ends: then it is dead, at once."""
        folding = asyncio.create_task(self._fold())
        fence = await self.story.journal.append(LeaderElected(at=moment(), agent=self.name))
        await self.world.reached(fence, 5.0)
        self.bot.fence = lambda: fence
        duty = asyncio.create_task(self.bot.run())
        while not self.story.server.ears:
            await asyncio.sleep(0)
        try:
            yield self
        finally:
            for task in (duty, folding):
                task.cancel()
            await asyncio.gather(duty, folding, return_exceptions=True)

    async def _fold(self) -> None:
        async with contextlib.aclosing(self.story.journal.read(follow=True)) as entries:
            async for entry in entries:
                change = self.world.fold(Entry(entry.seq, entry.event))
                self.bot.folded(entry, change)

    async def settled(self, message: str) -> None:
        """Wait until a command is dealt with."""
        chat = self.world.cluster.picture.chat
        async with asyncio.timeout(30):
            while message not in chat.answered.get("team", {}):
                await asyncio.sleep(0)


@pytest.mark.parametrize("forgets", [False, True], ids=["knows", "forgets"])
@pytest.mark.parametrize("verb", ["run", "pause", "send"])
@pytest.mark.parametrize("point", POINTS)
async def test_a_command_acts_once_wherever_its_leader_dies(
    point: str, verb: str, forgets: bool
) -> None:
    story = Story()
    async with Leader(story, "a").leading():
        story.server.hear("good morning")
        while not story.journal._raw[1:]:
            await asyncio.sleep(0)
    story.die_at(point)
    async with Leader(story, "a").leading():
        heard = story.server.hear(f"!{verb} web")
        async with asyncio.timeout(30):
            await story.death.came.wait()
    story.death = story.journal.death = Death("")
    story.server.forgets = forgets
    async with Leader(story, "b").leading() as leader:
        await leader.settled(heard.id)
        assert not leader.world.cluster.picture.chat.waiting
    answers = [
        it.saying for it in story.server.said if it.saying.id == answer_id(f"team:{heard.id}")
    ]
    may_double = forgets and point in ("said", "returned")
    assert len(answers) == 1 or (may_double and len(answers) == 2), story.server.texts()
    if verb == "send":
        # Nothing tells whether it went: rather not at all than twice, and that is said.
        assert len(story.acts) <= 1
        assert story.acts or "do not know whether" in answers[0].text
    else:
        assert story.acts == [verb]


@pytest.mark.parametrize("forgets", [False, True], ids=["knows", "forgets"])
@pytest.mark.parametrize("point", ["said", "telling", "told"])
async def test_the_end_of_a_build_is_told_once_wherever_its_leader_dies(
    point: str, forgets: bool
) -> None:
    story = Story()
    async with Leader(story, "a").leading() as leader:
        heard = story.server.hear("!run web")
        await leader.settled(heard.id)
    build = derived_id(f"team:{heard.id}")
    await story.journal.append(BuildStarted(at=moment(), agent="x", build=build, attempt=1))
    story.die_at(point)
    async with Leader(story, "a").leading():
        ended = BuildFinished(
            at=moment(), agent="x", build=build, attempt=1, reason=Reason.SCRIPT, exit_code=0
        )
        await story.journal.append(ended)
        async with asyncio.timeout(30):
            await story.death.came.wait()
    story.death = story.journal.death = Death("")
    story.server.forgets = forgets
    async with Leader(story, "b").leading() as leader:
        async with asyncio.timeout(30):
            while leader.world.cluster.picture.chat.followed:
                await asyncio.sleep(0)
    ends = [text for text in story.server.texts() if text.startswith("web#1 passed")]
    assert len(ends) == 1 or (forgets and point in ("said", "telling") and len(ends) == 2)


async def test_a_command_of_long_ago_is_not_carried_out() -> None:
    story = Story()
    story.die_at("recorded")
    async with Leader(story, "a").leading():
        heard = story.server.hear("!pause web")
        await story.death.came.wait()
    story.death = story.journal.death = Death("")
    story.clock.advance(3600)
    async with Leader(story, "b").leading() as leader:
        await leader.settled(heard.id)
    assert not story.acts
    assert story.server.texts() == ["that was 1h ago: say it again if it still matters"]


async def test_a_leader_that_is_none_any_more_says_and_does_nothing() -> None:
    story = Story()
    async with Leader(story, "a").leading() as leader:
        await story.journal.append(LeaderElected(at=moment(), agent="b"))
        story.server.hear("!run web")
        for _ in range(200):
            await asyncio.sleep(0)
        assert not leader.chat.performed
    assert not story.server.said


async def test_a_network_that_is_away_keeps_an_answer_waiting_and_doubles_nothing() -> None:
    story = Story()
    async with Leader(story, "a").leading() as leader:
        story.server.late_s = 0.01
        heard = story.server.hear("!pause web")
        while not story.acts:
            await asyncio.sleep(0)
        story.server.late_s = None
        await leader.settled(heard.id)
    assert story.acts == ["pause"]
    assert len(story.server.said) == 1


def test_events_of_a_command_are_known_by_it() -> None:
    event = BuildCancelled(at=moment(), build="x", via="team:m1")
    assert event.via == "team:m1"


async def test_no_right_outlives_its_user() -> None:
    story = Story()
    story.die_at("recorded")
    async with Leader(story, "a").leading():
        heard = story.server.hear("!run web")
        await story.death.came.wait()
    story.death = story.journal.death = Death("")
    next_one = Leader(story, "b")
    definitions = next_one.world.definitions
    next_one.world.definitions = Definitions(settings=definitions.settings)
    async with next_one.leading() as leader:
        await leader.settled(heard.id)
    assert not story.acts
    assert "I do not know you here" in story.server.texts()[0]


async def test_a_room_that_wants_to_know_is_told_once_who_leads() -> None:
    story = Story()
    for name in ("a", "b"):
        leader = Leader(story, name)
        settings = Settings(
            chat={
                "team": ChatNetwork(
                    kind="bridge", server="unix:/x", rooms=("#web", "#ops key"), announces=True
                )
            }
        )
        leader.world.definitions = Definitions(settings=settings)
        async with leader.leading():
            async with asyncio.timeout(30):
                await story.server.until(2 if name == "a" else 4)
    said = [(it.saying.room, it.saying.text) for it in story.server.said]
    assert said == [
        (room, f"{name} speaks for the cluster now") for name in "ab" for room in ("#web", "#ops")
    ]


async def test_what_a_slow_network_has_still_to_say_holds_up_no_next_command() -> None:
    story = Story()
    async with Leader(story, "a").leading() as leader:
        story.server.late_s = 0.01
        first = story.server.hear("!pause web")
        second = story.server.hear("!run web")
        async with asyncio.timeout(30):
            while len(story.acts) < 2:
                await asyncio.sleep(0)
        assert story.acts == ["pause", "run"]
        story.server.late_s = None
        await leader.settled(first.id)
        await leader.settled(second.id)
    lost = "that was done; what it answered was lost on the way here"
    assert sorted(story.server.texts()) == ["run: done", lost]


async def test_what_a_history_brings_too_late_is_not_carried_out() -> None:
    story = Story()
    async with Leader(story, "a").leading():
        story.server.hear("good morning")
        while not story.journal._raw[1:]:
            await asyncio.sleep(0)
    heard = story.server.hear("!run web")  # while nobody is there
    story.clock.advance(3600)
    async with Leader(story, "b").leading() as leader:
        await leader.settled(heard.id)
    assert not story.acts
    assert story.server.texts() == ["that was 1h ago: say it again if it still matters"]


async def test_a_network_that_is_away_holds_up_no_other() -> None:
    story = Story()
    async with Leader(story, "a").leading() as leader:
        settings = Settings(
            chat={it: ChatNetwork(kind="bridge", server="unix:/x") for it in ("team", "away")}
        )
        leader.world.definitions = Definitions(
            settings=settings, users=leader.world.definitions.users
        )
        away = Heard(
            id="x", room="#r", who="w", nick="w", text="!ps", at=story.clock.now(), position="1"
        )
        away_network = MemoryNetwork("away")  # which nobody runs
        leader.chat._networks["away"] = away_network
        for number in range(20):
            event = replace(away, id=f"x{number}", who=f"w{number}")
            await leader.bot._hear(Reported(network="away", heard=event))
        heard = story.server.hear("!run web")
        await leader.settled(heard.id)
    assert story.acts == ["run"]
