"""A leader's duty: what people say on chat networks is heard, recorded, carried out and answered.

A command is in the journal before anything is done, and its answer is after it was given: so a new
leader carries on where the former one stopped (:mod:`rota.agent.answering`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence, Set
from fnmatch import fnmatchcase

from rota.agent.answering import Answers, is_public, user_of
from rota.agent.following import Followers
from rota.agent.patience import DELAYS_S
from rota.core.build import Build
from rota.core.chat import SAID, message_key
from rota.core.chat_text import leads_text, saying_id
from rota.core.chat_words import LINK, MAX_COMMAND, command_in, first_word, reply_in
from rota.core.events import ChatHeard, ChatStanding, Emitted
from rota.core.fold import Change
from rota.core.patterns import groups
from rota.core.people import open_questions, resolved, wants_approval
from rota.core.settings_chat import ChatNetwork
from rota.errors import InputError, LaterError
from rota.ports.chat import Chat, Reported
from rota.ports.clock import Clock
from rota.ports.journal import Entry
from rota.ports.networks import Heard, Saying
from rota.service.ticks import tick
from rota.service.verbs import Role
from rota.service.world import World

#: A network is in trouble once it has been for so long; most troubles are over before.
TROUBLE_S = 10.0
#: After so many messages that are none of its business, how far it heard is written down.
POSITION_EVERY = 200
LOOK_S = 1.0
#: The same while there is no network, and none was in trouble.
REST_S = 5.0


class Bot:
    """Of one agent: :meth:`folded` is for its loop, :meth:`run` a duty, :meth:`changed` a follower."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        clock: Clock,
        chat: Chat,
        answers: Answers,
        followers: Followers,
    ) -> None:
        """Make one.

        Args:
            name: This agent's.
            world: Who is who, and what was heard before.
            clock: For the time of events, and how long strangers and troubles last.
            chat: The networks.
            answers: Carries commands out, once they are written down.
            followers: Say what becomes of builds.
        """
        self._name, self._world, self._clock = name, world, clock
        self._chat, self._answers, self._followers = chat, answers, followers
        self._passed_by: dict[str, int] = {}
        self._settings = world.definitions.settings
        self._fence: Callable[[], int] = lambda: 0
        self._is_leading = False

    @property
    def fence(self) -> Callable[[], int]:
        """What writes are fenced by; set by who makes this agent one among others."""
        return self._fence

    @fence.setter
    def fence(self, fence: Callable[[], int]) -> None:
        self._fence = self._answers.fence = self._followers.fence = fence

    # -- every agent --------------------------------------------------------------------------------

    def folded(self, entry: Entry, change: Change) -> None:
        """Note what is to be done; returns at once. For the agent's loop."""
        if not self._is_leading:
            return
        if isinstance(entry.event, ChatHeard):
            self._answers.heard(message_key(entry.event.network, entry.event.message))
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
        self._answers.begin()
        chat = self._world.cluster.picture.chat
        self._is_leading = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._chat.run(dict(chat.positions)), name="chat")
                group.create_task(self._listen(), name="chat heard")
                group.create_task(self._answers.run(), name="chat commands")
                group.create_task(self._followers.run(), name="chat followers")
                group.create_task(self._watch(), name="chat troubles")
                group.create_task(self._announce(), name="chat leader")
        finally:
            self._is_leading = False

    async def _listen(self) -> None:
        async for reported in self._chat.reports():
            await self._hear(reported)

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
        user, role = user_of(self._world, network, heard.who)
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
            self._answers.note_code(event.message, line)
        await self._answers.write(event)

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
        await self._answers.write(event)
        return True

    async def _note_position(self, network: str, heard: Heard) -> None:
        """Write down, now and then, up to where a network was heard: what comes after is not missed."""
        chat = self._world.cluster.picture.chat
        count = self._passed_by.get(network, 0) + 1
        if heard.position and (count >= POSITION_EVERY or network not in chat.positions):
            trouble = chat.troubles.get(network, "")
            await self._answers.write(self._standing(network, trouble, heard.position))
            count = 0
        self._passed_by[network] = count

    def _bears(self, network: str, heard: Heard) -> bool:
        """Whether a stranger is answered once more."""
        may_look = is_public(self._world, network)
        person = heard.who or heard.nick
        return self._answers.strangers.bears(network, person, may_look=may_look)

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
                    await self._answers.write(self._standing(name, lasting.get(name, "")))
            await tick(LOOK_S if troubles or known or self._settings.chat else REST_S)

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
        text = leads_text(self._name, picture.leader_why)
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
