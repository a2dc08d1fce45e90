"""What was heard is carried out and answered, whichever agent leads: part of the bot's duty.

Where nothing tells whether a command was carried out it is asked: the journal (events say by ``via``
what they come of), and the network whether the answer was said. What can be done twice without harm
is; what cannot is left, and that is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from rota.agent.following import Followers
from rota.agent.patience import DELAYS_S, persist_leading
from rota.agent.strangers import WITHIN_S, Strangers
from rota.core.build import Build
from rota.core.chat import Waiting
from rota.core.chat_text import answer_id, stranger_text
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
    first_word,
)
from rota.core.durations import format_duration
from rota.core.events import ChatAnswered, Event
from rota.core.people import open_questions, wants_approval
from rota.core.rights import Rights, Role
from rota.core.states import State
from rota.errors import InputError, LaterError, RotaError, UnavailableError
from rota.ports.chat import Chat, Command
from rota.ports.clock import Clock
from rota.ports.journal import Journal
from rota.ports.networks import Heard, Said, Saying
from rota.service.builds import find_build
from rota.service.context import VIA
from rota.service.linking import known_as, role_of
from rota.service.sight import everything
from rota.service.world import World

logger = logging.getLogger(__name__)

#: Commands of one network that are carried out at the same time.
AT_ONCE = 8
#: A command that is older is not carried out: who gave it has gone on by now.
MAX_AGE_S = 600.0


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


class Answers:
    """Carries commands out while this agent leads: :meth:`run` is a task of the duty."""

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
            journal: What was answered is written there.
            clock: For the time of events, and the age of what was heard.
            chat: The networks.
            followers: Say what becomes of builds.
            link: Links identities to users.
        """
        self._name, self._world, self._journal = name, world, journal
        self._clock, self._chat, self._followers = clock, chat, followers
        self._link = link
        self.fence: Callable[[], int] = lambda: 0  # set by who makes this agent one among others
        self.strangers = Strangers(clock)
        self._codes: dict[str, str] = {}
        self._todo: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self._turns: dict[str, asyncio.Lock] = {}
        self._rooms: dict[str, asyncio.Semaphore] = {}

    def begin(self) -> None:
        """Take over what is not answered; for the duty, as it begins."""
        self._todo, self._turns, self._rooms = asyncio.Queue(), {}, {}
        self._codes.clear()
        for key in self._world.cluster.picture.chat.waiting:
            self._todo.put_nowait((key, True))

    def heard(self, key: str) -> None:
        """Carry out a command that was written down now."""
        self._todo.put_nowait((key, False))

    def note_code(self, message: str, line: str) -> None:
        """Keep a line with a code until it is used: the journal does not have it."""
        self._codes[message] = line

    async def run(self) -> None:
        """Carry out what there is, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                key, is_inherited = await self._todo.get()
                note = self._world.cluster.picture.chat.waiting.get(key)
                if note is not None:
                    group.create_task(self._carry(note, is_inherited), name=f"chat {key}"[:100])

    async def _carry(self, note: Waiting, is_inherited: bool) -> None:
        """Bring one command to its end, whatever happens to it."""
        person = f"{note.network} {note.who or note.nick}"
        turn = self._turns.setdefault(person, asyncio.Lock())
        room = self._rooms.setdefault(note.network, asyncio.Semaphore(AT_ONCE))
        # What one person says is done in order; it need not be answered before the next is done.
        await turn.acquire()
        over = contextlib.ExitStack()
        over.callback(turn.release)
        try:
            with over:
                async with room:
                    answer = await self._answered(note, over.close, is_inherited=is_inherited)
                    await self.write(answer)
        finally:
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
        if is_unsure and note.acted and verb not in REPEATABLE:
            text = "that was done; what it answered was lost on the way here"
            return self._finished(note, await self._say(note, text))
        if self._age_s(note) > MAX_AGE_S:
            age = format_duration(self._age_s(note))
            said = await self._say(note, f"that was {age} ago: say it again if it still matters")
            return self._finished(note, said)
        user, role = user_of(self._world, note.network, note.who)
        if user != note.user:
            user, role = "", None  # somebody else by now, or nobody: no right outlives its user
        if not user and not self._may_look(note):
            return await self._to_stranger(note, verb)
        if not user and self._is_last(note):
            text = (
                f"{note.nick}: that is enough for a minute; who is known may ask more: "
                f"`rota user link {note.network}`"
            )
            return self._finished(note, await self._say(note, text))
        if len(note.text) > MAX_COMMAND:
            text = f"that is longer than {MAX_COMMAND:,} characters, and was not carried out"
            return self._finished(note, await self._say(note, text))
        if verb == LINK:
            return await self._to_link(note)
        if verb in (FOLLOW, UNFOLLOW):
            return await self._to_follower(note, verb, self._world.judge.user(user))
        if is_unsure and verb in UNSURE:
            text = "I do not know whether that was sent: see, and say it again if it was not"
            return self._finished(note, await self._say(note, text))
        command = self._command(note, user, Role.VIEWER if role is None else role)
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

    def _may_look(self, note: Waiting) -> bool:
        """Whether a stranger may ask more than for help: what any viewer may."""
        verb = first_word(note.text)
        return is_public(self._world, note.network) and verb not in (LINK, FOLLOW, UNFOLLOW)

    def _is_last(self, note: Waiting) -> bool:
        """Whether a stranger is not answered any more after this, for a while."""
        may_look = is_public(self._world, note.network)
        return self.strangers.is_last(note.network, note.who or note.nick, may_look=may_look)

    async def _to_stranger(self, note: Waiting, verb: str) -> ChatAnswered:
        if verb == LINK:
            return await self._to_link(note)
        prefix = prefix_of(self._world, note.network)
        if verb in (HELP, "?"):
            text = (
                f"I am rota, and build things for those who are known here. Are you? `rota user link "
                f"{note.network}` gives you a code; then write to me alone: {prefix}link CODE"
            )
        else:
            text = f"{note.nick}: {stranger_text(note.network, prefix)}"
        if self._is_last(note):
            text += (
                f"\nI say this no more for {WITHIN_S / 60:.0f} min; link CODE is heard all the same"
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
                text = error.told
            finally:
                VIA.reset(via)
        if not note.is_direct:
            # Used at once, it is of no use to those who read it here.
            text = f"{note.nick}: {text}; better write codes to me alone"
        return self._finished(note, await self._say(note, text))

    async def _to_follower(self, note: Waiting, verb: str, rights: Rights) -> ChatAnswered:
        words = note.text.split()[1:]
        chat = self._world.cluster.picture.chat
        near = chat.in_room(note.network, note.room)
        wanted = (
            words[0] if words else note.build or (near[-1] if verb == UNFOLLOW and near else "")
        )
        try:
            if not wanted:
                raise InputError(f"which build? {prefix_of(self._world, note.network)}{verb} web#7")
            # What is told there is read by all in the room: whoever asks for it has to see it.
            sees = everything if rights.sees_all else rights.sees
            build = find_build(self._world, wanted, sees)
        except RotaError as error:
            text = error.told
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

    async def write(self, event: Event) -> None:
        """Write an event while this agent leads, and return once it is folded here."""
        seq = await persist_leading("chat", lambda: self._journal.append(event, fence=self.fence()))
        with contextlib.suppress(TimeoutError):
            await self._world.reached(seq, 10.0)


def user_of(world: World, network: str, who: str) -> tuple[str, Role | None]:
    """Return the user whom a network knows as ``who``, and what they may; no name for a stranger."""
    name = known_as(world, network, who) if who else ""
    return (name, role_of(world, name)) if name else ("", None)


def is_public(world: World, network: str) -> bool:
    """Whether strangers may look on a network."""
    settings = world.definitions.settings.chat.get(network)
    return settings is not None and settings.public


def prefix_of(world: World, network: str) -> str:
    """Return what commands begin with on a network."""
    settings = world.definitions.settings.chat.get(network)
    return settings.prefix if settings is not None else "!"


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
