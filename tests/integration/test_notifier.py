"""People are told: agents that lead one after the other, networks that fail, hang and forget."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
import pytest
from tests.harness.facts import moment

from rota.adapters.clocks import ManualClock
from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_chat import MemoryChat
from rota.adapters.memory_network import MemoryNetwork, MemoryServer
from rota.adapters.memory_store import MemoryIndex
from rota.agent import lookout, notifier
from rota.agent.lookout import Lookout
from rota.agent.notifier import Notifier
from rota.core.backoff import Backoff
from rota.core.build import Build, Trigger
from rota.core.cases import Failure, Tally
from rota.core.cluster import Cluster, decode_picture, encode_picture
from rota.core.definitions import Definitions
from rota.core.events import (
    AgentJoined,
    BuildAnswered,
    BuildAsked,
    BuildFinished,
    BuildRequested,
    BuildRetried,
    BuildStarted,
    ChatAnswered,
    ChatHeard,
    ChatTold,
    Event,
    HistorySealed,
    LeaderElected,
    NoticesQueued,
    NoticesSending,
    kind_of,
)
from rota.core.fold import Change
from rota.core.job import Reason, Spec
from rota.core.preferences import Preference
from rota.core.questions import Question
from rota.core.quiet import Quiet
from rota.core.settings import Settings
from rota.core.settings_chat import ChatNetwork
from rota.core.settings_notify import Mail
from rota.core.targets import Target
from rota.core.users import Claim, User, Users
from rota.errors import StaleError, UnavailableError
from rota.ports.journal import Entry
from rota.ports.networks import Said, Saying
from rota.service.world import World

CHANNEL = Preference(to=(Target("room", "#web"),), on=("failed", "fixed", "asked"), whose="all")
ANN = User(emails=("ann@example.org",))


async def no_flaky(build: Build) -> bool:
    return False


class Chat(MemoryChat):
    """As the twin; ``before`` and ``after`` say are a test's to use."""

    before: Callable[[Saying], Any] | None = None
    after: Callable[[Saying], Any] | None = None

    async def say(self, network: str, saying: Saying) -> Said:
        if self.before is not None:
            await self.before(saying)
        said = await super().say(network, saying)
        if self.after is not None:
            await self.after(saying)
        return said


class Here:
    """Agents over one journal in memory, and two networks: rooms, and mail."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.clock = ManualClock(moment())
        self.rooms, self.mails = MemoryServer(), MemoryServer()
        self.mails.forgets = True
        self.agents: list[Agent] = []
        self.settings = Settings(
            chat={"room": ChatNetwork(kind="irc")},
            mail=Mail(server="smtp://x", sender="rota@x"),
            notify=(CHANNEL,),
        )
        self.users: Mapping[str, User] = {"ann": ANN}

    def definitions(self) -> Definitions:
        claims = {
            name: tuple(Claim("mail", it) for it in u.emails) for name, u in self.users.items()
        }
        users = Users({name: (user, claims[name]) for name, user in self.users.items()})
        return Definitions(settings=self.settings, users=users)

    async def __call__(self, event: Event) -> None:
        seq = await self.journal.append(event)
        for agent in self.agents:
            await agent.world.reached(seq, 5.0)

    async def ends(self, build: str, code: int = 1, job: str = "web", by: str = "ann") -> None:
        await self.begins(build, job, by)
        await self(
            BuildFinished(
                at=moment(), agent="a", build=build, attempt=1, reason=Reason.SCRIPT, exit_code=code
            )
        )

    async def begins(self, build: str, job: str = "web", by: str = "ann") -> None:
        trigger = Trigger(by=by)
        await self(BuildRequested(at=moment(), build=build, job=job, spec=Spec(), trigger=trigger))
        await self(BuildStarted(at=moment(), agent="a", build=build, attempt=1))

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not is_so():
                await asyncio.sleep(0.002)

    def quiet_hour(self) -> Quiet:
        """Return the hour from now on."""
        now = self.clock.now()
        minute = now.hour * 60 + now.minute
        return Quiet(minute, (minute + 60) % 1440)

    async def events(self, kind: type[Event]) -> list[Any]:
        return [it.event async for it in self.journal.read() if isinstance(it.event, kind)]


class Agent:
    """An agent that folds, looks, and tells while it leads."""

    def __init__(self, here: Here, name: str) -> None:
        self.here, self.name, self.fence = here, name, 0
        self.world = World(here.journal, MemoryIndex(), Cluster())
        self.world.definitions = here.definitions()
        self.chat = Chat(
            MemoryNetwork("room", server=here.rooms), MemoryNetwork("mail", server=here.mails)
        )
        self.flaky: Callable[[Build], Awaitable[bool]] = no_flaky
        self.lookout = Lookout(
            name=name,
            world=self.world,
            journal=here.journal,
            clock=here.clock,
            advanced=lambda: None,
            is_flaky=self._flaky,
        )
        self.notifier = Notifier(
            name=name,
            world=self.world,
            journal=here.journal,
            clock=here.clock,
            chat=self.chat,
            tail=self._tail,
            base=lambda: "https://ci.example",
            audience=lambda: self.lookout.audience,
        )
        self.lookout.fence = self.notifier.fence = lambda: self.fence
        self.lookout.begin()
        self.tasks: list[asyncio.Task[None]] = []
        self.folding = asyncio.create_task(self._fold())
        here.agents.append(self)

    @property
    def outbox(self) -> Any:
        return self.world.cluster.picture.outbox

    async def _flaky(self, build: Build) -> bool:
        return await self.flaky(build)

    async def _tail(self, build: Build, attempt: int) -> str:
        return f"the end of {build.ref}\n"

    async def _fold(self) -> None:
        async with contextlib.aclosing(self.here.journal.read(follow=True)) as entries:
            async for entry in entries:
                change: Change = self.world.fold(Entry(entry.seq, entry.event))
                self.lookout.folded(entry, change)
                self.notifier.folded(entry, change)

    async def lead(self) -> None:
        self.fence = await self.here.journal.append(LeaderElected(at=moment(), agent=self.name))
        await self.world.reached(self.fence, 5.0)
        duties = (self.chat.run({}), self.lookout.run(), self.notifier.run())
        self.tasks = [asyncio.create_task(duty) for duty in duties]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []


@pytest.fixture
async def here(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    monkeypatch.setattr(notifier, "Backoff", partial(Backoff, 0.01, 0.02))
    monkeypatch.setattr(lookout, "GATHER_S", 0.01)
    found = Here()
    await found(AgentJoined(at=moment(), name="a", pin="p"))
    for name in ("a", "b"):
        Agent(found, name)
    yield found
    for agent in found.agents:
        await agent.stop()
        agent.folding.cancel()
        await asyncio.gather(agent.folding, return_exceptions=True)


async def test_a_build_that_fails_is_told_and_the_next_failure_and_that_it_is_fixed(
    here: Here,
) -> None:
    first = here.agents[0]
    await first.lead()
    await here.ends("b1")
    await here.until(lambda: here.rooms.said and here.mails.said)
    [mail] = here.mails.said
    assert mail.saying.room == "ann@example.org"
    assert mail.saying.subject == "web#1 failed: exit code 1"
    assert mail.saying.code == "the end of web#1"
    assert mail.saying.link == "https://ci.example/v1/builds/b1"
    assert "again: rota retry web#1" in mail.saying.text
    [said] = here.rooms.said
    assert (said.saying.room, said.saying.text) == ("#web", "web#1 failed: exit code 1")
    await here.ends("b2")
    await here.ends("b3", code=0)
    await here.until(lambda: len(here.rooms.said) == 3 and len(here.mails.said) == 2)
    assert here.rooms.texts() == [
        "web#1 failed: exit code 1",
        "web#2 failed again, since web#1: exit code 1",
        "web#3 is fixed: web#1 had failed",
    ]
    await here.until(lambda: not first.outbox.queues)
    assert first.world.find("b1").told == ("mail:@ann", "room:#web")  # type: ignore[union-attr]
    assert not first.outbox.broken


async def test_nothing_is_sealed_before_it_was_looked_at_and_nobody_is_told_of_nothing(
    here: Here,
) -> None:
    first, second = here.agents
    await here.ends("b1", code=0)
    seq = first.world.seq
    assert first.lookout.settled == second.lookout.settled < seq
    await first.lead()
    await here.until(lambda: first.lookout.settled == first.world.seq)
    assert not await here.events(NoticesQueued)
    assert second.lookout.settled < seq, "that is for who leads to say"
    await here(HistorySealed(at=moment(), agent="a", through=seq))
    assert second.lookout.settled == second.world.seq


async def test_where_nothing_is_set_up_nothing_is_kept(here: Here) -> None:
    here.settings = Settings(notify=(CHANNEL,))
    first = here.agents[0]
    first.world.definitions = here.definitions()
    await here.ends("b1")
    assert first.lookout.settled == first.world.seq


async def test_a_new_leader_goes_on_and_says_nothing_twice(here: Here) -> None:
    first, second = here.agents
    reached, never = asyncio.Event(), asyncio.Event()

    async def stand_still(saying: Saying) -> None:
        reached.set()
        await never.wait()

    first.chat.after = stand_still
    await first.lead()
    await here.ends("b1", by="nobody")
    await reached.wait()
    assert len(here.rooms.said) == 1
    await second.lead()
    await here.until(lambda: not second.outbox.queues)
    assert len(here.rooms.said) == 1, "the network knew it"
    never.set()
    await here.ends("b2", by="nobody")
    await here.until(lambda: len(here.rooms.said) == 2)
    await first.stop()


class Fatal:
    """Lets whoever leads first stand still for ever at the ``number``-th point that it comes to."""

    def __init__(self, first: Agent, number: int) -> None:
        self.first, self.left = first, number
        self.reached, self.never = asyncio.Event(), asyncio.Event()
        append = first.here.journal.append

        async def appending(event: Event, **more: Any) -> int:
            is_ours = getattr(event, "agent", "") == first.name and kind_of(event)[:7] == "notices"
            if is_ours:
                await self.pass_by()
            seq = await append(event, **more)
            if is_ours:
                await self.pass_by()
            return seq

        async def saying(_: Saying) -> None:
            await self.pass_by()

        first.here.journal.append = appending  # type: ignore[method-assign]
        first.chat.before = first.chat.after = saying

    async def pass_by(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.reached.set()
            await self.never.wait()


@pytest.mark.parametrize("number", range(1, 31))
async def test_a_leader_may_die_at_any_point(here: Here, number: int) -> None:
    first, second = here.agents
    fatal = Fatal(first, number)
    await first.lead()
    await here.ends("b1", job="web")
    await here.ends("b2", job="app")
    await here.ends("b3", job="web", code=0)
    idle = asyncio.create_task(here.until(lambda: not first.outbox.queues and first.outbox.done))
    dead = asyncio.create_task(fatal.reached.wait())
    await asyncio.wait([idle, dead], return_when=asyncio.FIRST_COMPLETED)
    for task in (idle, dead):
        task.cancel()
    await first.stop()
    await second.lead()
    await here.until(lambda: second.lookout.settled == second.world.seq)
    await here.until(lambda: len(second.outbox.done) == 6 and not second.outbox.queues)
    assert sorted(here.rooms.texts()) == [
        "app#1 failed: exit code 1",
        "web#1 failed: exit code 1",
        "web#2 is fixed: web#1 had failed",
    ]
    assert here.rooms.texts().index("web#1 failed: exit code 1") < here.rooms.texts().index(
        "web#2 is fixed: web#1 had failed"
    )
    # Of mail nobody can know: what was under way is said again, under the same id.
    assert len({it.saying.id for it in here.mails.said}) == 3
    assert len(here.mails.said) <= 4


async def test_where_nobody_can_know_it_is_said_again_under_the_same_id(here: Here) -> None:
    first, second = here.agents
    reached, never = asyncio.Event(), asyncio.Event()

    async def stand_still(saying: Saying) -> None:
        if saying.room == "ann@example.org":
            reached.set()
            await never.wait()

    first.chat.after = stand_still
    await first.lead()
    await here.ends("b1")
    await reached.wait()
    await first.stop()
    await second.lead()
    await here.until(lambda: not second.outbox.queues)
    assert len(here.mails.said) == 2
    assert len({it.saying.id for it in here.mails.said}) == 1


async def test_who_leads_no_more_says_no_more(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "STALE_S", 0.01)
    first, second = here.agents
    await first.lead()
    await second.lead()
    await second.stop()
    refused = 0
    append = here.journal.append

    async def counting(event: Event, **more: Any) -> int:
        nonlocal refused
        try:
            return await append(event, **more)
        except StaleError:
            refused += 1
            raise

    here.journal.append = counting  # type: ignore[method-assign]
    await here.ends("b1")
    # Only the fence keeps the former leader quiet.
    await here.until(lambda: refused >= 3)
    assert not here.rooms.said
    assert not await here.events(NoticesQueued)


async def test_what_was_looked_at_is_not_looked_at_anew_when_things_have_changed(
    here: Here,
) -> None:
    first, second = here.agents
    await first.lead()
    await here.ends("b1")
    await here.ends("b2")
    await here.ends("b3", code=0)
    await here.until(lambda: len(here.rooms.said) == 3 and not first.outbox.queues)
    told = len(here.mails.said)
    await second.lead()
    restored = decode_picture(encode_picture(second.world.cluster))
    assert restored is not None
    third = Agent(here, "c")
    third.world.cluster = restored
    third.lookout.begin()
    await third.lead()
    await here.until(lambda: third.lookout.settled == third.world.seq)
    assert len(here.rooms.said) == 3
    assert len(here.mails.said) == told


async def test_a_build_that_was_retried_may_fail_again(here: Here) -> None:
    first = here.agents[0]
    await first.lead()
    await here.ends("b1")
    await here.until(lambda: len(here.rooms.said) == 1)
    build = first.world.find("b1")
    assert build is not None
    await here(BuildRetried(at=moment(), build="b1", record=build))
    await here(BuildStarted(at=moment(), agent="a", build="b1", attempt=2))
    await here(
        BuildFinished(
            at=moment(1), agent="a", build="b1", attempt=2, reason=Reason.SCRIPT, exit_code=0
        )
    )
    await here.until(lambda: len(here.rooms.said) == 2)
    assert here.rooms.texts()[-1] == "web#1 is fixed"


async def test_a_target_that_takes_nothing_holds_up_no_other_and_gets_one_message(
    here: Here,
) -> None:
    first = here.agents[0]
    never = asyncio.Event()

    async def hang(saying: Saying) -> None:
        if saying.room == "#web":
            await never.wait()

    first.chat.before = hang
    await first.lead()
    for number in range(20):
        await here.ends(f"b{number}", job=f"web{number}")
    await here.until(
        lambda: (
            list(first.outbox.queues) == ["room:#web"]
            and len(first.outbox.queues["room:#web"].notices) == 20
        )
    )
    assert len(here.mails.said) >= 2
    never.set()
    await here.until(lambda: not first.outbox.queues)
    assert len(here.rooms.said) == 2
    assert here.rooms.texts()[1].startswith("19 builds failed\n- web1#1 failed: exit code 1\n")


async def test_later_means_again_and_no_means_no(here: Here) -> None:
    first = here.agents[0]
    here.rooms.late_s = 0.0
    here.mails.refused["ann@example.org"] = "550 nobody of that name"
    await first.lead()
    await here.ends("b1")
    await here.until(lambda: list(first.outbox.queues) == ["room:#web"])
    [done] = first.outbox.done.values()
    assert (done.notice.target, done.said.why) == ("mail:@ann", "550 nobody of that name")
    await here.until(
        lambda: first.world.troubles.get("notices room:#web") == "room:#web: room: slow down"
    )
    here.rooms.late_s = None
    await here.until(lambda: not first.outbox.queues)
    assert "notices room:#web" not in first.world.troubles
    assert len(here.rooms.said) == 1


async def test_after_a_day_it_is_given_up(here: Here) -> None:
    first = here.agents[0]
    here.rooms.is_down = True
    await first.lead()
    await here.ends("b1", by="nobody")
    await here.until(lambda: "notices room:#web" in first.world.troubles)
    here.clock.advance(notifier.GIVE_UP_S + 60)
    await here.until(lambda: not first.outbox.queues)
    [done] = first.outbox.done.values()
    assert done.said.why == "given up after a day: room: the server is down"


async def test_a_question_is_asked_and_not_any_more_once_it_is_answered(here: Here) -> None:
    first = here.agents[0]
    here.rooms.is_down = True
    await first.lead()
    await here.begins("b1")
    asked = Question(number=0, attempt=1, text="Deploy?", choices=("yes", "no"), at=moment())
    await here(BuildAsked(at=moment(), build="b1", question=asked))
    await here.until(lambda: here.mails.said)
    assert here.mails.texts()[0].split("\n")[:2] == [
        "web#1 asks: Deploy? (yes, no)",
        "answer: rota answer web#1 yes",
    ]
    await here(BuildAnswered(at=moment(), build="b1", question=1, answer="yes", by="ann"))
    here.rooms.is_down = False
    await here.until(lambda: not first.outbox.queues)
    # The message was under way when it was answered: it is said, and says what is so by then.
    assert len(here.rooms.said) + len(here.mails.said) == 2


async def test_a_question_of_the_night_that_needs_no_answer_in_the_morning_is_not_asked(
    here: Here,
) -> None:
    first = here.agents[0]
    here.settings = msgspec.structs.replace(here.settings, notify=())
    here.users = {"ann": User(emails=("ann@example.org",), quiet=here.quiet_hour())}
    first.world.definitions = here.definitions()
    await first.lead()
    await here.begins("b1")
    asked = Question(number=0, attempt=1, text="Deploy?", at=moment())
    await here(BuildAsked(at=moment(), build="b1", question=asked))
    await here.until(lambda: first.outbox.queues)
    await here(BuildAnswered(at=moment(), build="b1", question=1, timed_out=True))
    here.clock.advance(timedelta(hours=1).total_seconds())
    await here.ends("b2", job="other")
    await here.until(lambda: not first.outbox.queues)
    assert [it.said.why for it in first.outbox.done.values()] == ["it needs no answer any more", ""]
    assert [it.saying.subject for it in here.mails.said] == ["other#1 failed: exit code 1"]


async def test_quiet_hours_end_with_a_digest(here: Here) -> None:
    first = here.agents[0]
    here.users = {"ann": User(emails=("ann@example.org",), quiet=here.quiet_hour())}
    first.world.definitions = here.definitions()
    await first.lead()
    for number in range(3):
        await here.ends(f"b{number}", job=f"web{number}")
    await here.until(lambda: len(here.rooms.said) == 3)
    assert not here.mails.said
    assert len(first.outbox.queues["mail:@ann"].notices) == 3
    here.clock.advance(timedelta(hours=1).total_seconds())
    await here.ends("b9", job="other")
    await here.until(lambda: len(here.mails.said) == 2)
    assert here.mails.texts()[0].startswith("3 builds failed\n- web0#1 failed")
    assert here.mails.texts()[1].startswith("other#1 failed")


async def test_quiet_hours_that_are_taken_back_end_at_once(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "LOOK_S", 0.05)
    first = here.agents[0]
    here.users = {"ann": User(emails=("ann@example.org",), quiet=here.quiet_hour())}
    first.world.definitions = here.definitions()
    await first.lead()
    await here.ends("b1")
    await here.until(lambda: here.rooms.said)
    assert len(first.outbox.queues["mail:@ann"].notices) == 1
    here.users = {"ann": ANN}
    first.world.definitions = here.definitions()
    await here.until(lambda: here.mails.said)
    assert here.mails.texts()[0].startswith("web#1 failed: exit code 1\n")


async def test_who_knows_what_is_flaky_is_asked_and_not_waited_for(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "FLAKY_S", 0.05)
    first = here.agents[0]
    asked: list[str] = []
    never = asyncio.Event()

    async def hang(build: Build) -> bool:
        asked.append(build.id)
        await never.wait()
        return True

    first.flaky = hang
    await first.lead()
    for number in range(3):
        await here.begins(f"b{number}", job=f"web{number}")
        failed = BuildFinished(
            at=moment(),
            agent="a",
            build=f"b{number}",
            attempt=1,
            reason=Reason.SCRIPT,
            exit_code=1,
            tests=Tally(failed=1, failures=(Failure(test="t"),)),
        )
        await here(failed)
        async with asyncio.timeout(20):
            await here.rooms.until(number + 1)
    assert asked == ["b0"], "once it was too slow"


async def test_an_intent_comes_before_each_message(here: Here) -> None:
    first = here.agents[0]
    seen: list[int] = []

    async def count(saying: Saying) -> None:
        seen.append(
            len([it for it in await here.events(NoticesSending) if it.message == saying.id])
        )

    first.chat.before = count
    await first.lead()
    await here.ends("b1")
    await here.until(lambda: not first.outbox.queues and len(seen) == 2)
    assert seen == [1, 1]


async def test_an_engine_that_is_away_for_a_while_changes_nothing(here: Here) -> None:
    first = here.agents[0]
    append, failures = here.journal.append, 3

    async def sometimes(event: Event, **more: Any) -> int:
        nonlocal failures
        if isinstance(event, NoticesQueued | NoticesSending) and failures:
            failures -= 1
            raise UnavailableError("no quorum")
        return await append(event, **more)

    here.journal.append = sometimes  # type: ignore[method-assign]
    await first.lead()
    await here.ends("b1")
    await here.until(lambda: here.rooms.said and here.mails.said)
    assert len(here.rooms.said) == len(here.mails.said) == 1
    with pytest.raises(StaleError):
        await here.journal.append(LeaderElected(at=moment(), agent="b"), fence=1)


async def test_a_room_where_the_bot_tells_who_asked_is_not_told_once_more(here: Here) -> None:
    first = here.agents[0]
    await first.lead()
    asked: dict[str, Any] = {"network": "room", "message": "m1", "room": "#web"}
    await here(ChatHeard(at=moment(), by="eve", text="run web", user="eve", **asked))
    trigger = Trigger(by="eve")
    await here(
        BuildRequested(
            at=moment(), build="b1", job="web", spec=Spec(), trigger=trigger, via="room:m1"
        )
    )
    await here(BuildStarted(at=moment(), agent="a", build="b1", attempt=1))
    end = BuildFinished(
        at=moment(), agent="a", build="b1", attempt=1, reason=Reason.SCRIPT, exit_code=1
    )
    await here(end)
    await here(ChatAnswered(at=moment(), build="b1", follow="end", **asked))
    await here(ChatTold(at=moment(), network="room", room="#web", build="b1", mark="end"))
    await here.ends("b2", by="ci")  # nobody asked for this one there
    await here.until(lambda: here.rooms.said)
    assert here.rooms.texts() == ["web#2 failed again, since web#1: exit code 1"]


async def test_who_asked_for_a_build_in_a_room_is_asked_there_and_not_directly_as_well(
    here: Here,
) -> None:
    first = here.agents[0]
    await first.lead()
    heard: dict[str, Any] = {"network": "mail", "message": "m1", "room": "#web"}
    await here(ChatHeard(at=moment(), by="ann", text="run web", user="ann", **heard))
    trigger = Trigger(by="ann")
    await here(
        BuildRequested(
            at=moment(), build="b1", job="web", spec=Spec(), trigger=trigger, via="mail:m1"
        )
    )
    await here(BuildStarted(at=moment(), agent="a", build="b1", attempt=1))
    await here(ChatAnswered(at=moment(), build="b1", follow="end", **heard))
    asked = Question(number=0, attempt=1, text="Deploy?", choices=("yes", "no"), at=moment())
    await here(BuildAsked(at=moment(), build="b1", question=asked))
    await here.begins("b2", by="ann")  # nobody is in a room with this one
    await here(BuildAsked(at=moment(), build="b2", question=asked))
    await here.until(lambda: here.mails.said)
    assert [it.split("\n")[0] for it in here.mails.texts()] == ["web#2 asks: Deploy? (yes, no)"]
