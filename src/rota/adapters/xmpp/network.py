"""One account on XMPP, in its rooms and for whoever writes to it directly.

What is said in a room is confirmed by its reflection, what is said to a person by the answer to a
ping after it: servers deal with what one connection sends in order (RFC 6120, 10.1). What was
missed is had from the archives (XEP-0313), or from what the room sends to who enters. Streams
are not resumed (XEP-0198): the next leader speaks from another process, and finds in the
archive what a stream that waits for its owner would keep from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from slixmpp import JID, Message
from slixmpp.exceptions import IqError, IqTimeout, XMPPError
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath

from rota.adapters.xmpp import archive, stanzas
from rota.adapters.xmpp.link import ANSWER_S, PING_S, Account, Link, LostError
from rota.core.backoff import Backoff
from rota.core.literal import literal
from rota.core.recent import Recent
from rota.errors import InputError, LaterError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.networks import Abilities, Heard, Said, Saying

RESOURCE = "rota"
#: Archives are read from a little before the position on: their times are of whole seconds …
OVERLAP = timedelta(seconds=2)
#: … and clocks differ, where the server does not tell its own. What is heard twice is known by its id.
UNSURE = timedelta(seconds=60)
#: Messages of an archive that are looked through for one of ours: it was said a moment ago.
LOOK_BACK = 300
MANY = 500  # waiting to be dealt with: more is left to the server's patience
NICKS = 3


class XmppNetwork:
    """See :class:`rota.ports.networks.Network`; ``who`` is a bare address, and so is a room."""

    def __init__(
        self,
        name: str,
        *,
        account: str,
        password: str,
        clock: Clock,
        server: str = "",
        port: int = 0,
        tls: str = "starttls",
        ca: str = "",
        nick: str = "rota",
        rooms: Sequence[str] = (),
    ) -> None:
        """Settle what to connect to; ``server`` and ``port`` are found by DNS where they are left out.

        Raises:
            InputError: the account or a room is no address.
        """
        self._name = name
        self._clock = clock
        self._nick = nick
        self._account = Account(
            jid=stanzas.address(account, f"the account of [chat.{name}],"),
            password=password,
            server=server,
            port=port,
            tls=tls,
            ca=ca,
        )
        self._rooms: dict[str, _Room] = {}
        for room in rooms:
            address, _, password_of_room = room.partition(" ")
            jid = stanzas.address(address, f"a room of [chat.{name}],")
            self._rooms[jid.bare] = _Room(jid, password_of_room.strip())
        self._direct = _Place(self._account.jid)
        self._link: Link | None = None
        self._trouble = "not connected yet"
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()
        self._drained = asyncio.Event()
        self._known = Recent(5000)
        self._taken = Recent(2000)
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._since: datetime | None = None  # what came later was not heard yet
        self._floor: datetime | None = None  # what is older is not heard, whatever clocks say
        self._from: datetime | None = None  # where the past is read from, this time
        self._skew, self._overlap = timedelta(), UNSURE
        self._has_position = False

    @property
    def name(self) -> str:
        """Its name in the settings."""
        return self._name

    @property
    def abilities(self) -> Abilities:
        """What servers put up with: their limits are of bytes, a few kilobytes a second."""
        return Abilities(characters=4000, lines=40, every_s=1.0, burst=5)

    @property
    def trouble(self) -> str:
        """Why it is not connected, or not in some room; empty while all is well."""
        if self._trouble:
            return self._trouble
        return "; ".join(room.trouble for room in self._rooms.values() if room.trouble)

    # -- connected --------------------------------------------------------------------------------

    async def run(self, position: str) -> None:
        """Be connected until cancelled; see the port. A position is an instant."""
        self._since = _instant(position)
        self._has_position = self._since is not None
        backoff = Backoff()
        while True:
            link = Link(self._account, RESOURCE)
            try:
                await self._connected(link, backoff)
            except LostError as error:
                self._trouble = error.message
                if link.is_replaced:  # by the next leader, who must not be put out in turn
                    for _ in range(5):
                        backoff.failed()
            finally:
                self._link = None
                for room in self._rooms.values():
                    room.nick, room.trouble = "", f"not in {room.jid} yet"
                self._fail_waiting()
                await link.close()
            await asyncio.sleep(backoff.failed())

    async def _connected(self, link: Link, backoff: Backoff) -> None:
        client = link.client
        client.register_handler(Callback("rota-in", StanzaPath("message"), self._on_message))
        client.register_handler(Callback("rota-who", StanzaPath("presence"), self._on_presence))
        self._direct.held = []
        for room in self._rooms.values():
            room.held = []
        await link.open()
        self._link = link
        theirs = await link.time()
        self._skew = timedelta() if theirs is None else theirs - self._clock.now()
        self._overlap = UNSURE if theirs is None else OVERLAP
        is_new = self._since is None
        # Archives know seconds: what was written in this one is heard.
        self._floor = self._floor or self._since or self._now().replace(microsecond=0)
        self._since = self._since or self._floor
        self._from = max(self._since - self._overlap, self._oldest)
        client.send_presence(ppriority=5)
        async with asyncio.TaskGroup() as tasks:
            direct = self._read_direct(link, is_new=is_new)
            inside = [tasks.create_task(direct, name="direct messages")]
            inside += [
                tasks.create_task(self._stay(link, room), name=f"room {room.jid}")
                for room in self._rooms.values()
            ]
            self._trouble = ""
            backoff.went_well()
            why = await link.watch()
            for task in inside:
                task.cancel()
        raise LostError(why)

    async def _stay(self, link: Link, room: _Room) -> None:
        backoff = Backoff()
        while True:
            room.trouble = await self._enter(link, room)
            if not room.trouble:
                room.trouble = await self._inside(link, room, backoff)
            room.nick = ""
            room.held, room.told = [], None
            await asyncio.sleep(backoff.failed())

    async def _inside(self, link: Link, room: _Room, backoff: Backoff) -> str:
        """Return why we are not in the room any more."""
        while True:
            try:
                await asyncio.wait_for(room.out.wait(), PING_S)
            except TimeoutError:
                answer = await link.ping(room.me)  # XEP-0410
                if answer in {"not-acceptable", "silent"} or answer.startswith("remote-server"):
                    return f"not in {room.jid} any more: {answer}"
                backoff.went_well()
            else:
                return room.why

    async def _enter(self, link: Link, room: _Room) -> str:
        """Return why we are not in the room; empty if we are, and have read what we missed."""
        room.out.clear()
        try:
            features = await _features(link, room.jid)
            room.is_open = "muc_nonanonymous" in features
            room.has_archive = archive.FEATURE in features
            if 201 in await self._join(link, room):
                # It was made this moment, by our entering, and goes with us.
                link.client.send_presence(ptype="unavailable", pto=room.me)
                return f"there is no room {room.jid}"
            if room.has_archive:
                await self._catch_up(link, room)
            self._release(room)
        except _NotLetInError as error:
            return f"{room.jid} does not let us in: {error.message}"
        except IqError as error:
            if error.condition == "item-not-found":
                return f"there is no room {room.jid}"
            return f"{room.jid} does not let us in: {_why(error)}"
        except (IqTimeout, TimeoutError):
            return f"{room.jid} does not answer within {ANSWER_S:g} s"
        return ""

    async def _join(self, link: Link, room: _Room) -> set[int]:
        """Enter under our name, or one like it, and return what the room says of our entering.

        Raises:
            _NotLetInError: it refuses.
            TimeoutError: it does not answer.
        """
        wanted = self._nick
        since = None if room.has_archive else self._from
        for taken in range(NICKS):
            room.occupants.clear()
            entering = room.entering = asyncio.get_running_loop().create_future()
            told = room.told = asyncio.get_running_loop().create_future()
            link.plugin("xep_0045").make_join_stanza(
                room.jid,
                wanted + "_" * taken,
                password=room.password or None,
                maxstanzas=None if since else 0,
                since=since,
            ).send()
            try:
                codes: set[int] = await asyncio.wait_for(asyncio.shield(entering), ANSWER_S)
                # The subject is the last that who enters is sent: after what was said before.
                await asyncio.wait_for(asyncio.shield(told), ANSWER_S)
            except _NotLetInError as error:
                if error.condition != "conflict" or taken == NICKS - 1:
                    raise
            else:
                return codes
        raise AssertionError

    async def _read_direct(self, link: Link, *, is_new: bool) -> None:
        """Read what was written to us alone; who is new here has no past."""
        try:
            me = self._account.jid
            self._direct.has_archive = archive.FEATURE in await _features(link, me)
            if self._direct.has_archive and not is_new:
                await self._catch_up(link, self._direct)
        except (IqError, IqTimeout):
            pass  # without an archive, what came while nobody was there is sent by itself
        self._release(self._direct)

    async def _catch_up(self, link: Link, place: _Place) -> None:
        after = ""
        while self._from is not None:
            page = await archive.read_page(link, place.jid, start=self._from, after=after)
            for past in page.past:
                if past.message["body"] and past.message["type"] != "error":
                    who = self._archived_writer(place, past.message)
                    self._take(place, _Came(past.message, who, past.at, past.name))
            while self._heard.qsize() > MANY:
                self._drained.clear()
                await self._drained.wait()
            if page.is_last or not page.last or page.last == after:
                return
            after = page.last

    def _archived_writer(self, place: _Place, message: Message) -> str:
        if isinstance(place, _Room):
            return stanzas.archived_writer(message) if place.is_open else ""
        # An answer to a whisper could reach another one who has the name by now.
        return "" if stanzas.is_whispered(message) else self._person_of(message)

    def _release(self, place: _Place) -> None:
        held, place.held = place.held or (), None
        for came in held:
            self._take(place, came)

    # -- what comes ------------------------------------------------------------------------------

    def _on_message(self, message: Any) -> None:
        kind, sender = message["type"], message["from"]
        if kind == "error":
            self._refused(message)
        elif not message["body"]:
            if kind == "groupchat" and sender.bare in self._rooms:
                self._told(self._rooms[sender.bare], message)
        elif kind == "groupchat":
            room = self._rooms.get(sender.bare)
            if room is not None and sender.resource:
                self._come(room, message)
        else:
            self._come(self._direct, message)
        if self._heard.qsize() > MANY and self._link and self._link.client.transport:
            self._link.client.transport.pause_reading()

    def _told(self, room: _Room, message: Any) -> None:
        is_subject = message.xml.find("{jabber:client}subject") is not None
        if is_subject and room.told is not None and not room.told.done():
            room.told.set_result(None)

    def _come(self, place: _Place, message: Message) -> None:
        came = self._came(place, message)
        if place.held is None:
            self._take(place, came)
            return
        place.held.append(came)
        # Ours are known at once: somebody waits for them.
        if isinstance(place, _Room) and self._is_ours(place, message, came.who):
            self._confirm(message["id"])

    def _came(self, place: _Place, message: Message) -> _Came:
        """Return a message with what is known of it now; by when it is told, nicks may have changed.

        What stands in a message about who wrote it, and when, may be its writer's invention. Who
        wrote is believed of presence and of archives; when, of nobody beyond what can be.
        """
        now = self._now()
        late = min(max(stanzas.delayed(message) or now, self._oldest), now)
        if not isinstance(place, _Room):
            return _Came(message, self._person_of(message), late)
        if place.told is not None and not place.told.done():  # the past, of who enters
            return _Came(message, "", late)
        return _Came(message, place.occupants.get(message["from"].resource, ""), now)

    def _person_of(self, message: Message) -> str:
        """Return who writes to us alone; empty if nobody does who could be answered."""
        sender = message["from"]
        if sender.bare not in self._rooms and not stanzas.is_whispered(message):
            return str(sender.bare) if sender.user else ""
        room = self._rooms.get(sender.bare)
        return room.occupants.get(sender.resource, "") if room is not None else ""

    def _take(self, place: _Place, came: _Came) -> None:
        """Tell of a message that a room or a person sent, unless it is known or ours."""
        if isinstance(place, _Room):
            heard = self._from_room(place, came)
        else:
            heard = self._from_person(came)
        if heard is None or (came.archived and came.at < self._oldest):
            return
        if self._known.add(heard.id):
            self._since = max(came.at, self._since or came.at)
            self._heard.put_nowait(heard)

    def _now(self) -> datetime:
        """Return what time it is by the server's clock, as far as we know."""
        return self._clock.now() + self._skew

    @property
    def _oldest(self) -> datetime:
        assert self._floor is not None, "known from the first connection on"
        return self._floor - self._overlap * self._has_position

    def _from_room(self, room: _Room, came: _Came) -> Heard | None:
        message, at = came.message, came.at
        if self._is_ours(room, message, came.who):
            self._confirm(message["id"])
            return None
        return Heard(
            id=_name(came, room.jid),
            room=room.jid.bare,
            who=came.who,
            nick=literal(message["from"].resource),
            text=message["body"],
            at=at,
            position=at.isoformat(),
        )

    def _from_person(self, came: _Came) -> Heard | None:
        message, at, who = came.message, came.at, came.who
        own = self._account.jid
        if message["from"].bare == own.bare:
            self._confirm(message["id"])
            return None
        if not who:
            return None
        return Heard(
            id=_name(came, own),
            room=who,
            who=who,
            nick=who.partition("@")[0],
            text=message["body"],
            at=at,
            is_direct=True,
            position=at.isoformat(),
        )

    def _is_ours(self, room: _Room, message: Message, who: str) -> bool:
        nick = message["from"].resource
        who = who or ("" if nick == room.nick else room.occupants.get(nick, ""))
        return who == self._account.jid.bare if who else nick in {room.nick, self._nick}

    def _on_presence(self, presence: Any) -> None:
        room = self._rooms.get(presence["from"].bare)
        if room is None:
            return
        nick, item = presence["from"].resource, presence["muc"]
        if presence["type"] == "error":
            error = presence["error"]
            text = stanzas.reason(error["condition"], error["text"])
            if room.entering is not None and not room.entering.done():
                room.entering.set_exception(_NotLetInError(text, error["condition"]))
                room.entering.exception()
        elif presence["type"] == "unavailable":
            room.occupants.pop(nick, None)
            self._left(room, nick, item)
        else:
            jid = item["jid"]
            room.occupants[nick] = str(jid.bare) if jid else ""
            if 110 in item["status_codes"]:
                room.nick = nick
                if room.entering is not None and not room.entering.done():
                    room.entering.set_result(item["status_codes"])

    def _left(self, room: _Room, nick: str, item: Any) -> None:
        codes = item["status_codes"]
        if not room.nick:
            return
        if nick == room.nick or 110 in codes:
            if 303 in codes and item["item_nick"]:
                room.nick = str(item["item_nick"])
            else:
                room.why = f"not in {room.jid} any more: {_leaving(codes)}"
                room.out.set()
        elif nick == self._nick and self._link is not None:
            me = JID(room.jid)  # whoever had our name is gone
            me.resource = self._nick
            self._link.client.send_presence(pto=me)

    async def heard(self) -> AsyncIterator[Heard]:
        """Yield what people write; see the port."""
        while True:
            yield await self._heard.get()
            if self._heard.qsize() < MANY // 2:
                self._drained.set()
                transport = self._link.client.transport if self._link is not None else None
                if transport is not None and not transport.is_closing():
                    transport.resume_reading()

    # -- what is said ------------------------------------------------------------------------------

    async def say(self, saying: Saying) -> Said:
        """Say it, and wait until the room shows it, or the server has it; see the port."""
        if saying.id in self._taken:
            return Said(id=saying.id)
        link = self._ready()
        room = self._rooms.get(saying.room)
        to = room.jid if room is not None else self._person(saying.room)
        if room is not None and not room.nick:
            raise LaterError(room.trouble or f"not in {room.jid} yet")
        message = link.client.make_message(
            to, stanzas.body_of(saying), mtype="chat" if room is None else "groupchat"
        )
        message["id"] = saying.id
        if not saying.code:
            stanzas.leave_unstyled(message)
        waiting = self._waiting.get(saying.id)
        if waiting is None:
            waiting = self._waiting[saying.id] = asyncio.get_running_loop().create_future()
            message.send()
        try:
            if room is None:
                await self._passed(link, waiting, saying.room)
            else:
                await self._shown(waiting, saying.room)
        finally:
            self._waiting.pop(saying.id, None)
        self._taken.add(saying.id)
        return Said(id=saying.id)

    async def _shown(self, waiting: asyncio.Future[None], room: str) -> None:
        try:
            await asyncio.wait_for(asyncio.shield(waiting), ANSWER_S)
        except TimeoutError as error:
            raise LaterError(f"{room} has not shown it within {ANSWER_S:g} s") from error

    async def _passed(self, link: Link, waiting: asyncio.Future[None], person: str) -> None:
        answer = link.plugin("xep_0199").send_ping(JID(self._account.jid.domain), timeout=ANSWER_S)
        await asyncio.wait({answer, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            answer.cancel()
            waiting.result()
            return
        try:
            answer.result()
        except IqTimeout as error:
            raise LaterError(f"the server does not say whether it took it for {person}") from error
        except IqError:
            pass  # it knows no pings: an answer all the same

    async def was_said(self, saying: Saying) -> bool | None:
        """Look for it in the archive of the room or the own one; without one nobody knows."""
        if saying.id in self._taken:
            return True
        link = self._ready()
        place = self._rooms.get(saying.room, self._direct)
        if isinstance(place, _Room) and not place.nick:
            raise LaterError(place.trouble or f"not in {place.jid} yet")
        if not place.has_archive:
            return None
        person = None if isinstance(place, _Room) else self._person(saying.room)
        before = ""
        try:
            for _ in range(LOOK_BACK // archive.PAGE):
                page = await archive.read_page(link, place.jid, before=before, person=person)
                if any(self._is_that(past.message, saying, place) for past in page.past):
                    self._taken.add(saying.id)
                    return True
                if page.is_last or not page.first:
                    return False
                before = page.first
        except (IqError, IqTimeout) as error:
            raise LaterError(
                f"the archive of {place.jid} cannot be read: {error.condition}"
            ) from error
        return False

    def _is_that(self, message: Message, saying: Saying, place: _Place) -> bool:
        if message["id"] != saying.id:
            return False
        if isinstance(place, _Room):  # anybody may have sent a message with that id
            return self._is_ours(place, message, stanzas.archived_writer(message))
        return bool(message["from"].bare == self._account.jid.bare)

    def _ready(self) -> Link:
        if self._link is None:
            raise LaterError(self._trouble or "not connected")
        return self._link

    def _person(self, text: str) -> JID:
        try:
            return stanzas.address(text, "")
        except InputError as error:
            raise InputError(
                f"{text!r} is neither a room of [chat.{self._name}] nor an address",
                hint=f"rooms there are: {', '.join(self._rooms) or 'none'}",
            ) from error

    def _confirm(self, message_id: str) -> None:
        if not message_id:
            return
        self._taken.add(message_id)
        waiting = self._waiting.get(message_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _refused(self, message: Message) -> None:
        waiting = self._waiting.get(message["id"])
        if waiting is None or waiting.done():
            return
        error = message["error"]
        sender = message["from"].bare
        reason = stanzas.refusal(sender, error["condition"], error["type"], error["text"])
        if error["condition"] == "not-acceptable" and sender in self._rooms:
            self._rooms[sender].why = f"not in {sender} any more"
            self._rooms[sender].out.set()
        waiting.set_exception(reason)
        waiting.exception()

    def _fail_waiting(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(LaterError("the connection was lost before it was confirmed"))
                waiting.exception()


class _Came(NamedTuple):
    """A message, with who wrote it and when as far as that is certain."""

    message: Message
    who: str
    at: datetime
    archived: str = ""  # how an archive calls it, if it comes from one


def _name(came: _Came, place: JID) -> str:
    if came.archived:
        return stanzas.archived(place, came.archived)
    return stanzas.id_of(came.message, place)


class _Place:
    """The own account, or a room; ``held`` is what comes while the past is read."""

    def __init__(self, jid: JID) -> None:
        self.jid = jid
        self.has_archive = False
        self.held: list[_Came] | None = []


class _Room(_Place):
    def __init__(self, jid: JID, password: str) -> None:
        super().__init__(jid)
        self.password = password
        self.nick = ""  # ours in it, while we are in
        self.occupants: dict[str, str] = {}  # nicks, and addresses where the room tells them
        self.entering: asyncio.Future[set[int]] | None = None
        self.told: asyncio.Future[None] | None = None
        self.is_open = False  # whether everybody sees addresses
        self.trouble = f"not in {jid} yet"
        self.out = asyncio.Event()
        self.why = ""

    @property
    def me(self) -> JID:
        """Ourselves in it."""
        jid = JID(self.jid)
        jid.resource = self.nick
        return jid


class _NotLetInError(UnavailableError):
    """A room does not let us in, as things are."""

    def __init__(self, message: str, condition: str) -> None:
        super().__init__(message)
        self.condition = condition


async def _features(link: Link, jid: JID) -> set[str]:
    answer = await link.plugin("xep_0030").get_info(jid, timeout=ANSWER_S)
    return set(answer["disco_info"]["features"])


def _why(error: XMPPError) -> str:
    return stanzas.reason(str(error.condition), error.text or "")


def _leaving(codes: set[int]) -> str:
    for code, why in (
        (301, "banned"),
        (307, "kicked"),
        (321, "not a member"),
        (322, "for members only now"),
        (332, "its server goes down"),
    ):
        if code in codes:
            return why
    return "it is gone, or we were put out"


def _instant(position: str) -> datetime | None:
    try:
        return datetime.fromisoformat(position) if position else None
    except ValueError:
        return None
