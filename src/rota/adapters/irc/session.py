"""One connection's life: from the first line to the last."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from rota.adapters.irc.connection import Connection, LostError
from rota.adapters.irc.ear import Ear, Position
from rota.adapters.irc.handshake import Handshake, Login
from rota.adapters.irc.history import History, news
from rota.adapters.irc.lines import MAX_BYTES, Folding, Line, Source, line_of
from rota.adapters.irc.own_nick import OwnNick, alternatives
from rota.adapters.irc.people import ACCOUNT, SESSION, People, Person
from rota.adapters.irc.rooms import Room, Rooms
from rota.adapters.irc.talk import ID_TAG, Utterance
from rota.adapters.irc.texts import lines_of
from rota.errors import InputError, LaterError, leaves
from rota.ports.networks import Said, Saying

logger = logging.getLogger(__name__)

_NOT_IN_NAMES = set(" ,:\a\r\n\0")
#: After these more may be known of who spoke.
_TELLS_WHO = frozenset({"318", "401", "402", "JOIN", "KICK", "NICK", "PART", "QUIT"})
#: Messages of people of whom it is not known yet who they are; of more nothing is heard.
MAX_WAITING = 2000
#: Until a server that says nothing of use is given up.
HANDSHAKE_S = 60.0
#: Until a room that is joined for a message has let us in, and a person is found: seconds.
WAIT_S = 15.0
TICK_S = 1.0
#: Of one message; more is a flood, by what people think.
MAX_LINES = 8
#: What history is asked for where the server has it: the newest messages of a room.
HISTORY = 100
#: The longest user and host that a server may show with our lines, until we have seen them.
_USER_AND_HOST = 12 + 64


class LoginError(Exception):
    """The network does not take the account and its password."""


class Patience(NamedTuple):
    """How long a silent server is waited for, in seconds; tests are less patient."""

    quiet: float = 60.0  # until it is asked whether it is there
    answer: float = 30.0  # until its answer


class Plan(NamedTuple):
    """What is wanted of every connection."""

    name: str
    login: Login
    rooms: tuple[str, ...]
    prefix: str
    patience: Patience


class _Waiting(NamedTuple):
    """A message; of its writer the server may still be asked."""

    line: Line
    person: Person | None
    room: str
    text: str
    at: datetime
    is_direct: bool
    is_past: bool

    @property
    def is_theirs(self) -> bool:
        """Whether the connection about which the server was asked is the one that spoke.

        Of what was said in the past it is the one whose nick, user and host these are now only if it
        was there already.
        """
        began = self.person.since if self.person is not None else 0
        return not self.is_past or began < int(self.at.timestamp())


class Session:
    """What is known and done on one connection."""

    def __init__(self, plan: Plan, connection: Connection, ear: Ear) -> None:
        self._plan, self._connection, self._ear = plan, connection, ear
        nick = plan.login.nick
        self._fold = Folding()
        self._handshake = Handshake(plan.login, alternatives(nick))
        self.own = OwnNick(nick, self._fold)
        self._rooms = Rooms(plan.rooms, self._fold)
        self._people = People(self._fold)
        self._supports: dict[str, str] = {}
        self._history = History()
        self._since = ear.position  # what came after that is news
        self._held: dict[str, deque[_Waiting]] = {}  # by nick
        self._utterance: Utterance | None = None
        self._changed = asyncio.Event()
        self._mask = len(nick) + _USER_AND_HOST
        self._is_ready = self._has_arrived = False
        self._tell_ready: Callable[[Session], None] = lambda _: None
        self._heard_at = self._ready_at = self._began = self._now()
        self._pinged = False
        self._complaints: set[str] = set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def live(self, ready: Callable[[Session], None]) -> None:
        """Be there until the connection ends; ``ready`` is called when the server has let us in.

        Raises:
            LostError: it ended.
            LoginError: the account or its password is wrong.
            InputError: the server will never take us.
        """
        faults: list[Exception] = []
        self._tell_ready = ready
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._connection.send_all())
                group.create_task(self._tick())
                self._put(self._handshake.begin())
                async for line in self._connection.lines():
                    self._heard_at, self._pinged = self._now(), False
                    self._take(line)
                    self._arrive()
                    if line.command in _TELLS_WHO:
                        self._release()
                    self._changed.set()
        except* (LostError, LoginError, InputError) as several:
            faults.extend(leaves(several))
        raise faults[0]

    def end(self) -> None:
        """Tell who waits for an answer that there will be none."""
        if self._utterance is not None and not self._utterance.outcome.done():
            self._utterance.outcome.set_exception(
                LaterError("the connection was lost before the server took it")
            )

    def _arrive(self) -> None:
        """Tell once that we are where we should be, or that some rooms do not say whether we are."""
        late = self._now() - self._ready_at > WAIT_S
        if self._is_ready and not self._has_arrived and (self._rooms.are_answered or late):
            self._has_arrived = True
            self._tell_ready(self)

    def _put(
        self, lines: Iterable[Line], *, is_urgent: bool = True, is_in_order: bool = False
    ) -> None:
        for line in lines:
            try:
                self._connection.put(line, is_urgent=is_urgent, is_in_order=is_in_order)
            except ValueError:
                # Made of what the server said, which is nonsense then.
                logger.warning("%s: the server speaks of what cannot be: %r", self._plan.name, line)

    async def _tick(self) -> None:
        patience = self._plan.patience
        while True:
            await asyncio.sleep(min(TICK_S, patience.quiet / 4))
            now = self._now()
            if not self._is_ready and now - self._began > HANDSHAKE_S:
                raise LostError("the server does not finish its welcome")
            if now - self._heard_at > patience.quiet + patience.answer:
                raise LostError("the server says nothing any more")
            if now - self._heard_at > patience.quiet and not self._pinged:
                self._pinged = True
                self._put([line_of("PING", "rota")])
            self._put(self._handshake.due(now))
            self._complain()
            if self._is_ready:
                self._put(self._rooms.due(now))
                self._regain(now)
                self._arrive()
                self._release()

    def _complain(self) -> None:
        """Have in the log what is not as it should be although we are connected."""
        account = [self._handshake.no_account] if self._handshake.no_account else []
        complaints = {*account, *self._rooms.troubles}
        for complaint in sorted(complaints - self._complaints):
            logger.warning("%s: %s", self._plan.name, complaint)
        self._complaints = complaints

    def _regain(self, now: float) -> None:
        self._put(
            self.own.due(
                now,
                is_logged_in=bool(self._handshake.account),
                can_monitor="MONITOR" in self._supports,
            )
        )

    # -- what the server says ----------------------------------------------------------------------

    def _take(self, line: Line) -> None:
        handshake, now = self._handshake, self._now()
        if line.command == "PING":
            self._put([line_of("PONG", line.text or "rota")])
            return
        if line.command == "ERROR":
            if "password" in line.text.lower() and not handshake.is_welcome:
                raise InputError(
                    f"server_password is wrong or missing: {line.text}",
                    hint="it is the name of a secret with the server's password",
                )
            raise LostError(f"the server ends it: {line.text}")
        account = handshake.account
        self._put(handshake.take(line))
        if handshake.account != account:
            self.own.hurry()
        if handshake.fault:
            raise InputError(handshake.fault, hint="see nick and server_password of the network")
        if handshake.is_wrong_login and not handshake.is_welcome:
            raise LoginError(handshake.no_account)
        match line.command:
            case "001":
                self.own.current = handshake.nick
                if self._since is None:
                    self._since = self._ear.position = Position(self._ear.when(line))
            case "005":
                self._settle(line)
            case "376" | "422" if not self._is_ready:
                self._begin(now)
            case "BATCH":
                self._replay(self._history.take(line))
            case _:
                pass
        if self._is_ready:
            self._know(line, now)

    def _settle(self, line: Line) -> None:
        for entry in line.params[1:-1]:
            key, _, value = entry.partition("=")
            self._supports[key] = value
            self._rooms.settle(key, value)
            if key == "CASEMAPPING":
                self._fold.settle(value)
                self._rooms.refold()

    def _begin(self, now: float) -> None:
        self._is_ready, self._ready_at = True, now
        self._people.has_account_tags = "account-tag" in self._handshake.enabled
        if bot := self._supports.get("BOT"):
            self._put([line_of("MODE", self.own.current, f"+{bot}")])
        self._put(self._rooms.due(now))
        self._regain(now)

    def _know(self, line: Line, now: float) -> None:
        """Let all that are concerned learn from a line."""
        is_ours = self.own.is_ours(line.source.nick)
        if is_ours and line.source.user:
            self._mask = len(str(line.source).encode())
        if is_ours and line.command == "JOIN":
            self._ask_history(line.param(0))
        for each in self._rooms.take(line, now, is_ours=self.own.is_ours):
            self._put([each], is_urgent=each.command != "MODE", is_in_order=each.command == "PING")
        is_kicked = line.command == "KICK" and self.own.is_ours(line.param(1))
        if is_kicked or (is_ours and line.command == "PART"):
            self._people.left(line.param(0))
        self._people.take(line, lambda room: self._rooms.has_joined(room))
        self._put(self.own.take(line, now))
        if self._utterance is not None:
            self._utterance.take(line, is_ours=self.own.is_ours, fold=self._fold)
        if line.command == "PRIVMSG" and not self._history.holds(line):
            self._message(line, now)

    def _ask_history(self, room: str) -> None:
        if {"draft/chathistory", "batch", "server-time"} <= self._handshake.enabled:
            self._put([line_of("CHATHISTORY", "LATEST", room, "*", str(HISTORY))])

    # -- messages ----------------------------------------------------------------------------------

    def _replay(self, lines: list[Line]) -> None:
        """Hear what was said while we were not there, and learn what of ours was taken."""
        for line in lines:
            if self._is_one_of_us(line.source.nick, is_past=True):
                self._ear.taken.saw(line)
        for line in news(lines, self._since):
            if not self._is_one_of_us(line.source.nick, is_past=True):
                self._message(line, self._now(), is_past=True)

    def _message(self, line: Line, now: float, *, is_past: bool = False) -> None:
        nick, text = line.source.nick, line.text
        if self._is_one_of_us(nick):
            self._ear.taken.saw(line)
            return
        if len(line.params) < 2 or text.startswith("\x01") or not line.source.user:
            return  # ACTION and other CTCP, or a server
        if {"bot", "draft/bot"} & line.tags.keys():
            return  # two bots that answer each other do not stop
        target = line.param(0)
        target = target.lstrip("~&@%+") if self._rooms.is_room(target.lstrip("~&@%+")) else target
        is_direct = self.own.is_ours(target)
        if not is_direct and not self._rooms.is_room(target):
            return
        room = self._rooms.get(target)
        at = self._ear.when(line)
        person = None
        if not line.tags.get("account"):
            # Who spoke in the past need not be in the room now.
            seen_in = "" if is_direct or is_past else target
            person, ask = self._people.meet(line.source, seen_in, now)
            # Who only talks to others is asked about when there is nothing better to say.
            self._put(ask, is_urgent=self._is_for_us(text, is_direct))
        name = "" if is_direct else room.name if room is not None else target
        self._hold(_Waiting(line, person, name, text, at, is_direct, is_past))

    def _is_one_of_us(self, nick: str, *, is_past: bool = False) -> bool:
        """Whether we wrote that, or a former connection of ours."""
        if self.own.is_ours(nick) or not is_past:
            return self.own.is_ours(nick)
        names = alternatives(self._plan.login.nick)
        return self._fold(nick) in {self._fold(next(names)) for _ in range(5)}

    def _is_for_us(self, text: str, is_direct: bool) -> bool:
        prefix = self._plan.prefix
        called = self._fold(text).startswith(self._fold(self.own.current))
        return is_direct or not prefix or called or text.lstrip("\x02\x0f\x1f ").startswith(prefix)

    def _hold(self, it: _Waiting) -> None:
        """Hear a message, after those of the same person that wait until it is known who that is."""
        key = self._fold(it.line.source.nick)
        if key in self._held:
            if sum(map(len, self._held.values())) < MAX_WAITING:
                self._held[key].append(it)
        elif not self._hear(it):
            self._held[key] = deque([it])

    def _release(self) -> None:
        """Hear the messages of those who are known by now, or will not be."""
        for key, held in list(self._held.items()):
            while held and self._hear(held[0]):
                held.popleft()
            if not held:
                del self._held[key]

    def _hear(self, it: _Waiting) -> bool:
        """Hear a message if it is known who wrote it; say whether it is."""
        who = self._people.identity(it.person, it.line, self._now())
        if who is None:
            return False
        who = who if it.is_theirs else ""
        if who:
            self._people.spoke(who, it.line.source.nick)
        self._ear.hear(
            it.line,
            room=it.room or who or it.line.source.nick,
            who=who,
            text=it.text,
            at=it.at,
            is_direct=it.is_direct,
            is_next=self._held.keys() <= {self._fold(it.line.source.nick)},
        )
        return True

    # -- speaking ----------------------------------------------------------------------------------

    async def say(self, saying: Saying) -> Said:
        """Say something; see :meth:`rota.ports.networks.Network.say`."""
        if (its := self._ear.taken.get(saying.id)) is not None:
            return Said(id=its or saying.id)
        target, has_colours = await self._target(saying.room)
        enabled = self._handshake.enabled
        head = len(f":!@ PRIVMSG {target} :\r\n".encode())
        texts = lines_of(
            saying,
            room=MAX_BYTES - head - self._mask,
            most=MAX_LINES,
            has_colours=has_colours,
        )
        utterance = Utterance(
            saying.id,
            target,
            texts or ["…"],
            tagged="message-tags" in enabled and self._takes_tags,
            echoed="echo-message" in enabled,
            taken=self._ear.taken.lines_of(saying.id),
        )
        try:
            self._utterance = utterance
            for line in [*utterance.lines, utterance.ping]:
                self._connection.put(line, is_urgent=False)
            said = await utterance.outcome
        except InputError as error:
            room = self._rooms.get(target)
            if room is not None and not room.is_joined:
                raise LaterError(error.message) from None  # thrown out meanwhile
            raise
        finally:
            self._utterance = None
            self._connection.take_back()
        self._ear.taken.add(saying.id, said.id)
        return said

    @property
    def _takes_tags(self) -> bool:
        """Whether the server hands on tags of clients."""
        denied = self._supports.get("CLIENTTAGDENY", "").split(",")
        return f"-{ID_TAG[1:]}" in denied or not {"*", ID_TAG[1:]} & set(denied)

    async def _target(self, room: str) -> tuple[str, bool]:
        """Return whom to send it to, and whether colours may be."""
        if room.startswith((ACCOUNT, SESSION)):
            return await self._nick(room), True
        if not room or set(room) & _NOT_IN_NAMES:
            raise InputError(f"{room!r} is neither a room nor a person")
        if self._rooms.is_room(room):
            joined = await self._joined(room)
            return joined.name, joined.has_colours
        return room, True

    async def _joined(self, name: str) -> Room:
        room = self._rooms.want(name)
        self._put(self._rooms.due(self._now()))
        deadline = self._now() + WAIT_S
        while not room.is_joined and not room.refusal:
            await self._change(deadline, f"{name}: the server does not let us in")
        if room.is_joined:
            return room
        fault = f"{name}: {room.refusal}"
        raise LaterError(fault) if room.is_passing else InputError(fault)

    async def _nick(self, who: str) -> str:
        """Return the nick of somebody who is there now.

        Raises:
            LaterError: it is not; with an account it may come again.
            InputError: it will never be.
        """
        if nick := self._people.nick_of(who):
            return nick
        for nick in self._people.guesses(who):
            if not set(nick) & _NOT_IN_NAMES and await self._is_named(nick, who):
                return nick
        _, _, name = who.partition(":")
        if who.startswith(ACCOUNT):
            raise LaterError(f"{name} is not there now")
        nick = name.partition("!")[0]
        raise InputError(f"{nick or who} is not there any more, or is somebody else by now")

    async def _is_named(self, nick: str, who: str) -> bool:
        """Ask the server whether that is who has a nick."""
        person, ask = self._people.probe(Source(nick), self._now())
        self._put(ask)
        deadline = self._now() + WAIT_S
        while not person.is_known:
            await self._change(deadline, f"{nick}: the server does not say who that is")
        return person.is_named(who)

    async def _change(self, deadline: float, why_not: str) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout_at(deadline):
                await self._changed.wait()
        except TimeoutError:
            raise LaterError(why_not) from None
