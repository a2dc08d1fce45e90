"""A leader's duty: what people say on chat networks is heard, recorded, carried out and answered.

A command is in the journal before anything is done, and its answer is after it was given: so a new
leader carries on where the former one stopped. Where nothing tells whether a command was carried out
it is asked: the journal (events say by ``via`` what they come of), and the network whether the
answer was said. What can be done twice without harm is; what cannot is left, and that is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Set
from fnmatch import fnmatchcase
from typing import Protocol

from rota.agent.following import Followers
from rota.agent.patience import DELAYS_S, persist
from rota.core.build import Build
from rota.core.chat import SAID, Waiting
from rota.core.chat_text import answer_id, leads_text, saying_id
from rota.core.chat_words import (
    ANSWER,
    BEGIN_BUILDS,
    FOLLOW,
    HELP,
    LINK,
    MAX_COMMAND,
    REPEATABLE,
    UNFOLLOW,
    UNSURE,
    WORDS,
    command_in,
    first_word,
    reply_in,
)
from rota.core.durations import format_duration
from rota.core.events import ChatAnswered, ChatHeard, ChatStanding, Emitted, Event
from rota.core.fold import Change
from rota.core.patterns import groups
from rota.core.people import open_questions, resolved, wants_approval
from rota.core.settings_chat import ChatNetwork
from rota.core.states import State
from rota.errors import InputError, RotaError, StaleError, UnavailableError
from rota.ports.chat import Chat, Command, Reported
from rota.ports.clock import Clock
from rota.ports.journal import Entry, Journal
from rota.ports.networks import Heard, LaterError, Said, Saying
from rota.service.builds import find_build
from rota.service.context import VIA
from rota.service.linking import known_as, role_of
from rota.service.verbs import Role
from rota.service.world import World

logger = logging.getLogger(__name__)

#: Commands that are carried out at the same time.
AT_ONCE = 8
#: A command that is older is not carried out: who gave it has gone on by now.
MAX_AGE_S = 600.0
#: A stranger is answered so often, and then no more for a while: two bots must not talk for ever.
STRANGER_TIMES, STRANGER_S = 3, 600.0
#: All strangers of a network together; who says a code to the bot alone is always answered.
STRANGERS_TIMES = 30
MAX_STRANGERS = 1000
#: A network is in trouble once it has been for so long; most troubles are over before.
TROUBLE_S = 10.0
#: After so many messages that are none of its business, how far it heard is written down.
POSITION_EVERY = 200
LOOK_S = 1.0


class Linker(Protocol):
    """Links an identity of a network to the user who was given a code."""

    async def __call__(self, network: str, who: str, nick: str, code: str) -> str:
        """Return what is to be answered.

        Raises:
            RotaError: it was not linked, and why.
        """
        ...


async def nobody_links(network: str, who: str, nick: str, code: str) -> str:
    """Link nobody.

    Raises:
        InputError: always.
    """
    raise InputError("this agent links nobody")


class Bot:
    """Of one agent: :meth:`folded` is for its loop, :meth:`run` a duty, :meth:`changed` a follower."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        journal: Journal,
        clock: Clock,
        chat: Chat,
        followers: Followers,
        link: Linker = nobody_links,
    ) -> None:
        """Make one.

        Args:
            name: This agent's.
            world: Who is who, and what was heard and answered.
            journal: What is heard is written there before it is acted upon.
            clock: For the time of events, and the age of what is heard.
            chat: The networks.
            followers: Say what becomes of builds.
            link: Links identities to users.
        """
        self._name, self._world, self._journal = name, world, journal
        self._clock, self._chat, self._followers = clock, chat, followers
        self._link = link
        self._passed_by: dict[str, int] = {}
        self._codes: dict[str, str] = {}
        self._settings = world.definitions.settings
        self._fence: Callable[[], int] = lambda: 0
        self._todo: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self._is_leading = False
        self._turns: dict[str, asyncio.Lock] = {}
        self._strangers: OrderedDict[str, list[float]] = OrderedDict()

    @property
    def fence(self) -> Callable[[], int]:
        """What writes are fenced by; set by who makes this agent one among others."""
        return self._fence

    @fence.setter
    def fence(self, fence: Callable[[], int]) -> None:
        self._fence = self._followers.fence = fence

    # -- every agent --------------------------------------------------------------------------------

    def folded(self, entry: Entry, change: Change) -> None:
        """Note what is to be done; returns at once. For the agent's loop."""
        if not self._is_leading:
            return
        if isinstance(entry.event, ChatHeard):
            event = entry.event
            self._todo.put_nowait((f"{event.network}:{event.message}", False))
        self._followers.folded(entry, change)

    def changed(self) -> None:
        """Look at the settings anew."""
        settings = self._world.definitions.settings
        if settings != self._settings:
            self._settings = settings
            self._chat.changed()

    # -- the leader ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Listen and answer while this agent leads, for ever."""
        self._todo, self._turns = asyncio.Queue(), {}
        self._codes.clear()
        chat = self._world.cluster.picture.chat
        for key in chat.waiting:
            self._todo.put_nowait((key, True))
        self._is_leading = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._chat.run(dict(chat.positions)), name="chat")
                group.create_task(self._listen(), name="chat heard")
                group.create_task(self._work(group), name="chat commands")
                group.create_task(self._followers.run(), name="chat followers")
                group.create_task(self._watch(), name="chat troubles")
                group.create_task(self._announce(), name="chat leader")
        finally:
            self._is_leading = False

    async def _listen(self) -> None:
        async for reported in self._chat.reports():
            try:
                await self._hear(reported)
            except StaleError:
                return  # another agent leads, and hears it

    async def _hear(self, reported: Reported) -> None:
        """Write down what is a command, or sets a rule off; pass over all else."""
        network, heard = reported.network, reported.heard
        settings = self._world.definitions.settings.chat.get(network)
        chat = self._world.cluster.picture.chat
        if settings is None or chat.is_known(network, heard.id):
            return
        line = command_in(
            heard.text, prefix=settings.prefix, nick=settings.nick, is_direct=heard.is_direct
        )
        about = chat.about(network, heard.thread)
        if line is None and (build := self._world.find(about) if about else None) is not None:
            line = reply_in(heard.text, build)
        user, role = self._user(network, heard.who)
        if user and heard.is_direct and line is not None:
            line = self._asked(user, heard.text) or line
        if line is None:
            if not await self._hear_line(network, heard, user, role):
                await self._note_position(network, heard)
            return
        is_code = heard.is_direct and first_word(line) == LINK
        if not user and not is_code and not self._bears(network, heard):
            return
        event = ChatHeard(
            at=self._clock.now(),
            by=user or f"{network}:{heard.nick}"[:200],
            agent=self._name,
            network=network,
            message=heard.id,
            room=heard.room,
            thread=heard.thread,
            who=heard.who[:300],
            nick=heard.nick[:100],
            text=_recorded(line),
            user=user,
            role=role.name if role is not None else "",
            is_direct=heard.is_direct,
            build=about,
            position=heard.position,
            said_at=heard.at,
        )
        if first_word(line) == LINK:
            self._codes[event.message] = line
        await self._folded(event)

    async def _hear_line(self, network: str, heard: Heard, user: str, role: Role | None) -> bool:
        """Write down a line that jobs wait for, and say whether it was; strangers set nothing off."""
        rules = self._world.rules.chat
        if not rules or heard.is_direct or role is None or role < Role.BUILDER:
            return False
        text = heard.text.strip()
        if len(text) > MAX_COMMAND:
            return False
        channels = (heard.room, f"{network}:{heard.room}")
        if not any(
            any(fnmatchcase(it, rule.channel) for it in channels)
            and groups(rule.chat, text) is not None
            for _, rule in rules
        ):
            return False
        data: dict[str, object] = {
            "channel": heard.room,
            "network": network,
            "who": user,
            "text": text,
            "message": heard.id,
            "position": heard.position,
        }
        event = Emitted(at=self._clock.now(), by=user, agent=self._name, type=SAID, data=data)
        await self._folded(event)
        return True

    async def _note_position(self, network: str, heard: Heard) -> None:
        """Write down, now and then, up to where a network was heard: what comes after is not missed."""
        chat = self._world.cluster.picture.chat
        count = self._passed_by.get(network, 0) + 1
        if heard.position and (count >= POSITION_EVERY or network not in chat.positions):
            trouble = chat.troubles.get(network, "")
            await self._folded(self._standing(network, trouble, heard.position))
            count = 0
        self._passed_by[network] = count

    def _user(self, network: str, who: str) -> tuple[str, Role | None]:
        """Return the user whom a network knows as ``who``, and what they may."""
        name = known_as(self._world, network, who) if who else ""
        return (name, role_of(self._world, name)) if name else ("", None)

    def _bears(self, network: str, heard: Heard) -> bool:
        """Whether a stranger is answered once more."""
        one = self._takes(f"{network} {heard.who or heard.nick}", STRANGER_TIMES)
        return one and self._takes(network, STRANGERS_TIMES)

    def _takes(self, key: str, most: int) -> bool:
        now = self._clock.monotonic()
        times = [at for at in self._strangers.pop(key, []) if now - at < STRANGER_S]
        is_borne = len(times) < most
        self._strangers[key] = [*times, now] if is_borne else times
        while len(self._strangers) > MAX_STRANGERS:
            self._strangers.popitem(last=False)
        return is_borne

    # -- commands -----------------------------------------------------------------------------------

    async def _work(self, group: asyncio.TaskGroup) -> None:
        room = asyncio.Semaphore(AT_ONCE)
        while True:
            key, is_inherited = await self._todo.get()
            note = self._world.cluster.picture.chat.waiting.get(key)
            if note is None:
                continue
            await room.acquire()
            group.create_task(self._carry(room, note, is_inherited), name=f"chat {key}"[:100])

    async def _carry(self, room: asyncio.Semaphore, note: Waiting, is_inherited: bool) -> None:
        """Bring one command to its end, whatever happens to it."""
        person = f"{note.network} {note.who or note.nick}"
        turn = self._turns.setdefault(person, asyncio.Lock())
        # What one person says is done in order; it need not be answered before the next is done.
        await turn.acquire()
        over = contextlib.ExitStack()
        over.callback(turn.release)
        try:
            with over:
                answer = await self._answered(note, over.close, is_inherited=is_inherited)
                await self._folded(answer)
        except StaleError:
            pass  # whoever leads now carries on
        finally:
            room.release()
            self._codes.pop(note.message, None)

    async def _answered(
        self, note: Waiting, carried: Callable[[], None], *, is_inherited: bool
    ) -> ChatAnswered:
        """Carry a command out and answer it, as often as it takes; return what is to be written."""
        tries, is_unsure = 0, is_inherited
        while True:
            try:
                return await self._once(note, carried, is_unsure=is_unsure)
            except InputError as error:
                logger.warning("%s cannot be answered: %s", note.key, error.message)
                return self._answer(note, why=error.message)
            except UnavailableError as error:
                if self._age_s(note) > MAX_AGE_S:
                    return self._answer(note, why=f"given up: {error.message}")
                after_s = error.after_s if isinstance(error, LaterError) else 0.0
                delay = max(after_s, DELAYS_S[min(tries, len(DELAYS_S) - 1)])
                logger.info("%s is not answered yet: %s", note.key, error.message)
            tries, is_unsure = tries + 1, True
            await asyncio.sleep(delay)
            note = self._world.cluster.picture.chat.waiting.get(note.key, note)

    async def _once(
        self, note: Waiting, carried: Callable[[], None], *, is_unsure: bool
    ) -> ChatAnswered:
        verb = first_word(note.text)
        if is_unsure and await self._chat.was_said(note.network, self._saying(note, "")):
            return self._finished(note, None)
        if is_unsure and self._age_s(note) > MAX_AGE_S:
            age = format_duration(self._age_s(note))
            said = await self._say(note, f"that was {age} ago: say it again if it still matters")
            return self._finished(note, said)
        user, role = self._user(note.network, note.who)
        if user != note.user:
            user, role = "", None  # somebody else by now, or nobody: no right outlives its user
        if not user and not self._may_look(note):
            return await self._to_stranger(note, verb)
        if len(note.text) > MAX_COMMAND:
            text = f"that is longer than {MAX_COMMAND:,} characters, and was not carried out"
            return self._finished(note, await self._say(note, text))
        if verb == LINK:
            return await self._to_link(note)
        if verb in (FOLLOW, UNFOLLOW):
            return await self._to_follower(note, verb)
        if is_unsure and verb not in REPEATABLE:
            if note.acted:
                text = "that was done; what it answered was lost on the way here"
                return self._finished(note, await self._say(note, text))
            if verb in UNSURE:
                text = "I do not know whether that was sent: see, and say it again if it was not"
                return self._finished(note, await self._say(note, text))
        command = self._command(note, user, role or Role.VIEWER)
        said_all = await self._chat.perform(command, carried)
        return self._finished(note, said_all[-1] if said_all else None)

    def _command(self, note: Waiting, user: str, role: Role) -> Command:
        about = self._world.find(note.build) if note.build else self._asking(note)
        return Command(
            key=note.key,
            network=note.network,
            heard=_heard(note),
            line=note.text,
            build=about.ref if about is not None else "",
            user=user or f"{note.network}:{note.nick}",
            role=role.name,
        )

    def _asking(self, note: Waiting) -> Build | None:
        """Return the one build followed in the room that waits for such a word; else none."""
        verb = first_word(note.text)
        if verb not in WORDS:
            return None
        near = (
            self._world.find(build)
            for build in self._world.cluster.picture.chat.in_room(note.network, note.room)
        )
        waiting = [
            build
            for build in near
            if build is not None
            and (open_questions(build) if verb == ANSWER else wants_approval(build))
        ]
        return waiting[0] if len(waiting) == 1 else None

    def _asked(self, user: str, text: str) -> str | None:
        """Return what a plain word stands for that a user writes to the bot alone.

        That is where one build alone waits for such a word of theirs.
        """
        groups_of = self._world.definitions.settings.groups
        found = []
        for build in self._world.live():
            if not (wants_approval(build) or open_questions(build)):
                continue
            reply = reply_in(text, build)
            if reply is not None and user in _wanted(build, groups_of, user):
                found.append(reply)
        return found[0] if len(found) == 1 else None

    def _may_look(self, note: Waiting) -> bool:
        """Whether a stranger may ask more than for help: what any viewer may."""
        settings = self._world.definitions.settings.chat.get(note.network)
        is_public = settings is not None and settings.public
        return is_public and first_word(note.text) not in (LINK, FOLLOW, UNFOLLOW)

    async def _to_stranger(self, note: Waiting, verb: str) -> ChatAnswered:
        if verb == LINK:
            return await self._to_link(note)
        prefix = self._prefix(note.network)
        if verb in (HELP, "?"):
            text = (
                f"I am rota, and build things for those who are known here. Are you? `rota user link "
                f"{note.network}` gives you a code; then write to me alone: {prefix}link CODE"
            )
        else:
            text = (
                f"{note.nick}: I do not know you here, so I cannot do that; `rota user link "
                f"{note.network}` gives you a code, and {prefix}link CODE, written to me alone, "
                "makes us known"
            )
        return self._finished(note, await self._say(note, text))

    async def _to_link(self, note: Waiting) -> ChatAnswered:
        line = self._codes.get(note.message, "")
        if not line:
            text = "the leader changed just then: please give me the code again"
        else:
            via = VIA.set(note.key)
            try:
                code = " ".join(line.split()[1:])
                text = await self._link(note.network, note.who, note.nick, code)
            except RotaError as error:
                text = error.message + (f" ({error.hint})" if error.hint else "")
            finally:
                VIA.reset(via)
        if not note.is_direct:
            # Used at once, it is of no use to those who read it here.
            text = f"{note.nick}: {text}; better write codes to me alone"
        return self._finished(note, await self._say(note, text))

    async def _to_follower(self, note: Waiting, verb: str) -> ChatAnswered:
        words = note.text.split()[1:]
        chat = self._world.cluster.picture.chat
        near = chat.in_room(note.network, note.room)
        wanted = (
            words[0] if words else note.build or (near[-1] if verb == UNFOLLOW and near else "")
        )
        try:
            if not wanted:
                raise InputError(f"which build? {self._prefix(note.network)}{verb} web#7")
            build = find_build(self._world, wanted)
        except RotaError as error:
            text = error.message + (f" ({error.hint})" if error.hint else "")
            return self._finished(note, await self._say(note, text))
        if verb == UNFOLLOW:
            is_followed = any(
                (it.network, it.room) == (note.network, note.room)
                for it in chat.following(build.id)
            )
            text = f"{build.ref} is {'no longer' if is_followed else 'not'} followed here"
            said = await self._say(note, text)
            return self._answer(note, said=said, build=build.id, unfollow=True)
        text, offset = await self._followers.begun(build)
        said = await self._say(note, text)
        if build.state is State.FINISHED:
            return self._answer(note, said=said, build=build.id)
        return self._answer(note, said=said, build=build.id, follow="log", offset=offset)

    # -- answers ------------------------------------------------------------------------------------

    def _saying(self, note: Waiting, text: str) -> Saying:
        return Saying(id=answer_id(note.key), room=note.room, thread=note.thread, text=text)

    async def _say(self, note: Waiting, text: str) -> Said:
        return await self._chat.say(note.network, self._saying(note, text))

    def _finished(self, note: Waiting, said: Said | None) -> ChatAnswered:
        """Return that a command is answered; a build that it brought about is followed there."""
        now = self._world.cluster.picture.chat.waiting.get(note.key, note)
        begins = first_word(note.text) in BEGIN_BUILDS
        return self._answer(now, said=said, build=now.made, follow="end" if begins else "")

    def _answer(
        self,
        note: Waiting,
        *,
        said: Said | None = None,
        build: str = "",
        follow: str = "",
        unfollow: bool = False,
        offset: int = 0,
        why: str = "",
    ) -> ChatAnswered:
        return ChatAnswered(
            at=self._clock.now(),
            by=self._name,
            agent=self._name,
            network=note.network,
            message=note.message,
            room=note.room,
            thread=(said.thread if said is not None else "") or note.thread,
            build=build,
            follow=follow,
            unfollow=unfollow,
            offset=offset,
            why=why[:300],
        )

    def _age_s(self, note: Waiting) -> float:
        return (self._clock.now() - note.at).total_seconds()

    def _prefix(self, network: str) -> str:
        settings = self._world.definitions.settings.chat.get(network)
        return settings.prefix if settings is not None else "!"

    async def _folded(self, event: Event) -> None:
        """Write an event while this agent leads, and return once it is folded here.

        Raises:
            StaleError: another agent leads.
        """
        seq = await persist("chat", lambda: self._journal.append(event, fence=self.fence()))
        with contextlib.suppress(TimeoutError):
            await self._world.reached(seq, 10.0)

    # -- what is around it --------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Write down which networks are in trouble, once they have been for a while."""
        since: dict[str, float] = {}
        while True:
            now, troubles = self._clock.monotonic(), dict(self._chat.troubles())
            since = {name: since.get(name, now) for name in troubles}
            known = self._world.cluster.picture.chat.troubles
            lasting = {
                name: text
                for name, text in troubles.items()
                if name in known or now - since[name] >= TROUBLE_S
            }
            for name in known.keys() | lasting.keys():
                if bool(lasting.get(name)) != bool(known.get(name)):
                    with contextlib.suppress(StaleError):
                        await self._folded(self._standing(name, lasting.get(name, "")))
            await asyncio.sleep(LOOK_S)

    def _standing(self, network: str, trouble: str, position: str = "") -> ChatStanding:
        return ChatStanding(
            at=self._clock.now(),
            by=self._name,
            agent=self._name,
            network=network,
            trouble=trouble[:300],
            position=position,
        )

    async def _announce(self) -> None:
        """Say in the rooms that ask for it that another agent speaks now."""
        picture = self._world.cluster.picture
        text = leads_text(self._name, "", picture.leader_why)
        settings = self._world.definitions.settings.chat
        await asyncio.gather(
            *(
                self._announce_in(name, room, text)
                for name, it in settings.items()
                if it.announces
                for room in _rooms(it)
            )
        )

    async def _announce_in(self, network: str, room: str, text: str) -> None:
        name = saying_id("leads", self._world.cluster.picture.leader_seq, network, room)
        saying = Saying(id=name, room=room, text=text)
        for delay in DELAYS_S:
            try:
                await self._chat.say(network, saying)
            except LaterError:
                await asyncio.sleep(delay)
            except InputError:
                return
            else:
                return


def _wanted(build: Build, known: Mapping[str, Sequence[str]], user: str) -> Set[str]:
    """Return who is asked by a build; the user too where anybody is."""
    approve = build.spec.approve
    waiting = open_questions(build)
    who = waiting[0].who if waiting else approve.who if approve is not None else ()
    return resolved(who, known) if who else {user}


def _rooms(network: ChatNetwork) -> Sequence[str]:
    """Return the rooms of a network, without their keys."""
    return [room.split()[0] for room in network.rooms]


def _recorded(line: str) -> str:
    """Return what the journal has of a command: no code that opens something."""
    return LINK if first_word(line) == LINK else line[: MAX_COMMAND + 1]


def _heard(note: Waiting) -> Heard:
    """Return what was heard, as far as it is needed to answer."""
    return Heard(
        id=note.message,
        room=note.room,
        thread=note.thread,
        who=note.who,
        nick=note.nick,
        text=note.text,
        at=note.at,
        is_direct=note.is_direct,
    )
