"""One account on a homeserver, in its rooms and in rooms with one person each.

A message is sent under its own id as a transaction of one device, so the server takes it once however
often it is sent. All that is heard comes by one feed; a position is a token of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from msgspec.structs import replace
from nio import AsyncClient, AsyncClientConfig
from nio.exceptions import ProtocolError
from nio.responses import ErrorResponse, SyncResponse

from rota.adapters.matrix import events
from rota.adapters.matrix.events import Event
from rota.core.backoff import Backoff
from rota.core.literal import literal
from rota.core.recent import Recent
from rota.errors import InputError, LaterError, UnavailableError
from rota.ports.networks import Abilities, Heard, Said, Saying

WAIT_S = 30.0  # so long the server may keep a question open
ANSWER_S = 30
PAGE = 100
#: Messages of a room that were missed: more are not heard.
MOST_MISSED = 1000
REPLACED_S = 30.0

_FEED_KINDS = ["m.room.message", "m.room.encrypted", "m.room.member"]
_NOTHING: dict[str, list[str]] = {"types": []}
_MEMBERS = {"types": ["m.room.encryption"], "lazy_load_members": True}
_FEED = {
    "presence": _NOTHING,
    "account_data": _NOTHING,
    "room": {
        # Without members, a room that we were put out of is not told of.
        "timeline": {"limit": 50, "types": _FEED_KINDS},
        "state": _MEMBERS,
        "ephemeral": _NOTHING,
        "account_data": _NOTHING,
    },
}
#: What no other try makes better.
_FINAL = frozenset({"M_FORBIDDEN", "M_USER_DEACTIVATED", "M_INVALID_USERNAME", "M_UNRECOGNIZED"})
#: It will never be taken.
_NEVER = frozenset(
    {
        "M_BAD_JSON",
        "M_BAD_STATE",
        "M_FORBIDDEN",
        "M_INVALID_PARAM",
        "M_NOT_FOUND",
        "M_TOO_LARGE",
    }
)
_ENCRYPTED = "is encrypted, and the bot neither reads nor writes encrypted messages"

logging.getLogger("nio").setLevel(logging.CRITICAL)  # what matters of it is in the trouble


class _LostError(UnavailableError):
    """The server is not there, or does not answer as it should."""


class _StrangerError(UnavailableError):
    """The server does not know our token any more."""


class MatrixNetwork:
    """See :class:`rota.ports.networks.Network`; ``who`` is a user's id, as @ann:example.org."""

    def __init__(
        self,
        name: str,
        *,
        server: str,
        account: str,
        password: str = "",
        token: str = "",
        device: str = "rota",
        rooms: Sequence[str] = (),
        ca: str = "",
    ) -> None:
        """Settle what to connect to, with a password or an access token.

        Raises:
            InputError: a setting is wrong.
        """
        where = f"[chat.{name}]"
        if urlsplit(server).scheme not in {"https", "http"} or not urlsplit(server).netloc:
            raise InputError(
                f"the server of {where}, {server!r}, is no address",
                hint="such as https://matrix.example.org",
            )
        if not _is_user(account):
            raise InputError(
                f"the account of {where}, {account!r}, is no user", hint="such as @rota:example.org"
            )
        if not password and not token:
            raise InputError(
                f"{where} has neither a password nor a token", hint="name the secret of either"
            )
        for room in rooms:
            if room[:1] not in {"#", "!"} or ":" not in room:
                raise InputError(f"{room!r} in {where} is no room", hint="such as #web:example.org")
        self._name = name
        self._server = server.rstrip("/")
        self._account = account
        self._password, self._token = password, token
        self._device = device
        self._trust = _trust(ca)
        self._rooms = {room: _Room(room) for room in rooms}
        self._client: AsyncClient | None = None
        self._access = ""
        self._trouble = "not connected yet"
        self._heard: asyncio.Queue[Heard] = asyncio.Queue(maxsize=500)
        self._known = Recent(5000)
        self._taken = Recent(2000)
        self._told = Recent(1000)
        self._encrypted: set[str] = set()
        self._alone: dict[str, str] = {}  # the room with each person

    @property
    def name(self) -> str:
        """Its name in the settings."""
        return self._name

    @property
    def abilities(self) -> Abilities:
        """What it can; Synapse takes ten at once, then one in five seconds, and says how long to wait."""
        return Abilities(characters=8000, lines=60, every_s=2.0, burst=8, has_threads=True)

    @property
    def trouble(self) -> str:
        """Why it is not connected, or not in some room; empty while all is well."""
        if self._trouble:
            return self._trouble
        return "; ".join(room.trouble for room in self._rooms.values() if room.trouble)

    # -- connected --------------------------------------------------------------------------------

    async def run(self, position: str) -> None:
        """Be connected until cancelled; see the port. A position is a token of the feed."""
        backoff = Backoff()
        feed = _Position(position)
        while True:
            client = self._new_client()
            wait_s = 0.0
            try:
                await self._connected(client, feed, backoff)
            except _StrangerError as error:
                self._trouble = error.message
                wait_s = REPLACED_S  # by the next leader, who must not be put out in turn
            except UnavailableError as error:
                self._trouble = error.message
            finally:
                self._client = None
                await client.close()
            await asyncio.sleep(max(wait_s, backoff.failed()))

    def _new_client(self) -> AsyncClient:
        return AsyncClient(
            self._server,
            self._account,
            device_id=self._device,
            ssl=self._trust,
            config=AsyncClientConfig(
                max_limit_exceeded=0,
                max_timeouts=0,
                request_timeout=ANSWER_S,
                encryption_enabled=False,
            ),
        )

    async def _connected(self, client: AsyncClient, feed: _Position, backoff: Backoff) -> None:
        lost: InputError | UnavailableError
        await self._log_in(client)
        self._client = client
        if not feed.token:
            answer = await self._ask(client.sync(timeout=0, sync_filter=_now()))
            feed.token = answer.next_batch
        for room in self._rooms.values():
            with contextlib.suppress(InputError, LaterError):  # told by who tries to enter
                room.id = room.id or await self._id_of(client, room.name)
        async with asyncio.TaskGroup() as tasks:
            staying = [
                tasks.create_task(self._stay(client, room), name=f"room {room.name}")
                for room in self._rooms.values()
            ]
            try:
                self._trouble = ""
                while True:
                    await self._listen(client, feed)
                    backoff.went_well()
            except (InputError, UnavailableError) as error:
                lost = error  # raised outside of the group, so that it comes as it is
            for task in staying:
                task.cancel()
        raise lost

    async def _log_in(self, client: AsyncClient) -> None:
        token = self._token or self._access
        if token:
            client.restore_login(self._account, self._device, token)
            answer = await self._try(client.whoami())
            if not isinstance(answer, ErrorResponse):
                if answer.user_id != self._account:
                    raise InputError(
                        f"the token of [chat.{self._name}] is one of {answer.user_id},"
                        f" not of {self._account}"
                    )
                # Transactions are known by device: with a token it is the token's.
                client.device_id = answer.device_id or self._device
                return
            if self._token and answer.status_code == "M_UNKNOWN_TOKEN":
                raise InputError(
                    f"{self._where} does not know the token of [chat.{self._name}]",
                    hint="make another one; who logs out, or logs in with the same device, ends it",
                )
            self._access = ""
            self._check(answer)
        answer = await self._try(client.login(password=self._password, device_name="rota"))
        if isinstance(answer, ErrorResponse):
            if answer.status_code in _FINAL:
                raise InputError(
                    f"{self._where} refuses {self._account}: {literal(answer.message)}",
                    hint="is the password right, and is there such an account?",
                )
            self._check(answer)
        self._access = answer.access_token

    @property
    def _where(self) -> str:
        return urlsplit(self._server).netloc

    async def _stay(self, client: AsyncClient, room: _Room) -> None:
        """Enter a room, and enter it again whenever we are out."""
        backoff = Backoff()
        while True:
            try:
                if not room.id:  # known before we are in: what comes from there has a name
                    room.id = await self._id_of(client, room.name)
                room.out.clear()
                await self._ask(client.join(room.id))
                await self._look_at(client, room.id)
                is_closed = room.id in self._encrypted
                room.trouble = f"{room.name} {_ENCRYPTED}" if is_closed else ""
                await room.out.wait()
                room.trouble = f"not in {room.name} any more"
            except InputError as error:
                room.trouble = f"{room.name} does not let us in: {error.message}"
            except UnavailableError as error:
                room.trouble = f"not in {room.name} yet: {error.message}"
            await asyncio.sleep(backoff.failed())

    async def _look_at(self, client: AsyncClient, room_id: str) -> None:
        """Learn whether a room is encrypted, which it never ceases to be."""
        answer = await self._try(client.room_get_state_event(room_id, "m.room.encryption"))
        if not isinstance(answer, ErrorResponse):
            self._encrypted.add(room_id)

    async def _id_of(self, client: AsyncClient, name: str) -> str:
        if name.startswith("!"):
            return name
        answer = await self._ask(client.room_resolve_alias(name))
        return str(answer.room_id)

    # -- what comes -------------------------------------------------------------------------------

    async def _listen(self, client: AsyncClient, feed: _Position) -> None:
        answer = await self._sync(client, feed)
        batch: list[tuple[str, Event]] = []
        for room_id, info in answer.rooms.join.items():
            for state in info.state:
                if state.source.get("type") == "m.room.encryption":
                    self._encrypted.add(room_id)
            past = await self._missed(client, room_id, info.timeline, feed.token)
            found = past + [event.source for event in info.timeline.events]
            found = events.since_entering(found, self._account)
            batch += [(room_id, event) for event in found]
        batch.sort(key=lambda pair: events.instant(pair[1]))  # stable: a room's order is kept
        heard = [each for each in await self._all(client, batch) if each is not None]
        for number, each in enumerate(heard):
            # Begun again in the middle of these, they are all had again, and known by their ids.
            after = answer.next_batch if number == len(heard) - 1 else feed.token
            await self._heard.put(_at(each, after))
        feed.token = answer.next_batch
        for room_id in answer.rooms.leave:
            self._forget(room_id)
        for room_id, invite in answer.rooms.invite.items():
            await self._invited(client, room_id, invite.invite_state)
        for room_id, event in batch:
            if events.is_encrypted(event) and event.get("sender") != self._account:
                await self._say_it_is_encrypted(client, room_id, str(event.get("sender")))

    async def _sync(self, client: AsyncClient, feed: _Position) -> SyncResponse:
        question = client.sync(timeout=int(WAIT_S * 1000), sync_filter=_FEED, since=feed.token)
        answer = await self._try(question)
        if isinstance(answer, SyncResponse):
            return answer
        if isinstance(answer, ErrorResponse) and answer.status_code in {
            "M_UNKNOWN",
            "M_INVALID_PARAM",
        }:
            feed.token = ""  # of another life of the server: what was missed is not to be had
        self._check(answer)
        raise _LostError(f"{self._where} answers what we do not understand")

    async def _missed(
        self, client: AsyncClient, room_id: str, timeline: Any, since: str
    ) -> list[Event]:
        """Return what came after ``since`` and before a timeline that begins in the middle."""
        found: list[Event] = []
        start = timeline.prev_batch
        while timeline.limited and start and len(found) < MOST_MISSED:
            question = client.room_messages(
                room_id, start, since, limit=PAGE, message_filter={"types": _FEED_KINDS}
            )
            try:
                page = await self._ask(question)
            except InputError:
                break  # we are not in it any more
            found += [event.source for event in page.chunk]
            if not page.chunk or page.end == start:
                break
            start = page.end
        return found[::-1]

    async def _all(
        self, client: AsyncClient, batch: Sequence[tuple[str, Event]]
    ) -> list[Heard | None]:
        alone: dict[str, bool] = {}
        for room_id, _ in batch:
            if room_id not in alone:
                named = bool(self._named(room_id))
                alone[room_id] = not named and len(await self._inside(client, room_id)) == 2
        return [self._from(room_id, event, alone[room_id]) for room_id, event in batch]

    async def _inside(self, client: AsyncClient, room_id: str) -> set[str]:
        """Return who is in a room now: who writes there says it to all of them."""
        try:
            answer = await self._ask(client.joined_members(room_id))
        except InputError:
            return set()  # we are not in it any more
        return {member.user_id for member in answer.members}

    def _from(self, room_id: str, event: Event, is_direct: bool) -> Heard | None:
        sender, name = event.get("sender"), event.get("event_id")
        if not isinstance(sender, str) or not isinstance(name, str):
            return None
        if sender == self._account:
            if mark := events.mark_of(event):
                self._taken.add(mark)
            return None
        text = events.text_of(event)
        room = self._named(room_id)
        if text is None or not (room or is_direct) or not self._known.add(name):
            return None
        return Heard(
            id=name,
            room=room or room_id,
            thread=events.thread_of(event),
            who=sender,
            nick=literal(sender[1:].partition(":")[0]),
            text=text,
            at=events.instant(event),
            is_direct=is_direct,
        )

    def _named(self, room_id: str) -> str:
        """Return the name in the settings of a room; empty if it is none of them."""
        return next((room.name for room in self._rooms.values() if room.id == room_id), "")

    def _forget(self, room_id: str) -> None:
        self._encrypted.discard(room_id)
        for room in self._rooms.values():
            if room.id == room_id:
                room.out.set()
        for person in [person for person, room in self._alone.items() if room == room_id]:
            del self._alone[person]

    async def _invited(self, client: AsyncClient, room_id: str, state: Sequence[Any]) -> None:
        """Enter where one person wants to talk to us alone; rooms are the settings' to name."""
        for event in state:
            content = getattr(event, "content", None) or {}
            if getattr(event, "state_key", "") == self._account and content.get("is_direct"):
                with contextlib.suppress(InputError, LaterError):
                    await self._ask(client.join(room_id))

    async def _say_it_is_encrypted(self, client: AsyncClient, room_id: str, sender: str) -> None:
        """Tell who writes what we cannot read, once, where we can be read."""
        self._encrypted.add(room_id)
        if self._named(room_id) or not self._told.add(f"{room_id} {sender}"):
            return
        with contextlib.suppress(InputError, LaterError):
            alone = await self._room_with(client, sender)
            text = f"That room {_ENCRYPTED}. Write to me here instead."
            content = {"msgtype": "m.notice", "body": text, "m.mentions": {}}
            await self._ask(client.room_send(alone, "m.room.message", content))

    async def heard(self) -> AsyncIterator[Heard]:
        """Yield what people write; see the port."""
        while True:
            yield await self._heard.get()

    # -- what is said -----------------------------------------------------------------------------

    async def say(self, saying: Saying) -> Said:
        """Send it under its own id; see the port."""
        client = self._ready()
        room_id = await self._place(client, saying.room)
        if room_id in self._encrypted:
            raise InputError(
                f"{saying.room} {_ENCRYPTED}", hint="take a room that is not encrypted"
            )
        answer = await self._ask(
            client.room_send(room_id, "m.room.message", events.content_of(saying), tx_id=saying.id)
        )
        self._taken.add(saying.id)
        return Said(id=answer.event_id, thread=saying.thread or answer.event_id)

    async def was_said(self, saying: Saying) -> bool | None:
        """Look through the last of our own messages in that room."""
        if saying.id in self._taken:
            return True
        client = self._ready()
        room_id = await self._place(client, saying.room)
        mine = {"types": ["m.room.message"], "senders": [self._account]}
        page = await self._ask(client.room_messages(room_id, limit=PAGE, message_filter=mine))
        return any(events.mark_of(event.source) == saying.id for event in page.chunk)

    def _ready(self) -> AsyncClient:
        if self._client is None or self._trouble:
            raise LaterError(self._trouble or "not connected")
        return self._client

    async def _place(self, client: AsyncClient, target: str) -> str:
        """Return the id of the room that a target means: one of the settings, or one with a person."""
        room = self._rooms.get(target) or next(
            (room for room in self._rooms.values() if room.id == target), None
        )
        if room is not None:
            if room.trouble and room.id not in self._encrypted:
                raise LaterError(room.trouble)
            return room.id
        if _is_user(target):
            return await self._room_with(client, target)
        if target.startswith("!") and 0 < len(await self._inside(client, target)) <= 2:
            return target
        raise InputError(
            f"{target!r} is neither a room of [chat.{self._name}] nor a user",
            hint=f"rooms there are: {', '.join(self._rooms) or 'none'}",
        )

    async def _room_with(self, client: AsyncClient, person: str) -> str:
        """Return the room with one person: the one there is, or a new one."""
        if person in self._alone:
            return self._alone[person]
        known = await self._direct_rooms(client)
        for room_id in known.get(person, ()):
            members = await self._inside(client, room_id)
            if members:
                await self._look_at(client, room_id)
            if room_id not in self._encrypted and members and members <= {person, self._account}:
                self._alone[person] = room_id
                return room_id
        profile = await self._try(client.get_profile(person))
        if isinstance(profile, ErrorResponse) and profile.transport_response.status == 404:
            raise InputError(f"there is nobody called {person}")
        made = await self._ask(client.room_create(is_direct=True, invite=[person]))
        room_id = str(made.room_id)
        self._alone[person] = room_id
        known.setdefault(person, []).append(room_id)
        await self._keep_direct_rooms(client, known)
        return room_id

    async def _direct_rooms(self, client: AsyncClient) -> dict[str, list[str]]:
        answer = await self._try(client.list_direct_rooms())
        if isinstance(answer, ErrorResponse):
            if answer.status_code == "M_NOT_FOUND":
                return {}
            self._check(answer)
        return {person: list(rooms) for person, rooms in answer.rooms.items()}

    async def _keep_direct_rooms(self, client: AsyncClient, rooms: dict[str, list[str]]) -> None:
        path = f"/_matrix/client/v3/user/{quote(self._account)}/account_data/m.direct"
        headers = {
            "Authorization": f"Bearer {client.access_token}",
            "Content-Type": "application/json",
        }
        response = await self._try(client.send("PUT", path, json.dumps(rooms), headers))
        response.release()

    # -- answers ----------------------------------------------------------------------------------

    async def _try(self, question: Any) -> Any:
        """Return an answer, an error of the server's too.

        Raises:
            _LostError: there is none.
        """
        try:
            return await question
        except TimeoutError as error:
            raise _LostError(f"{self._where} does not answer within {ANSWER_S} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise _LostError(
                f"{self._where} has a certificate that we do not trust: {error.certificate_error}"
            ) from error
        except aiohttp.ClientConnectionError as error:
            number = getattr(getattr(error, "os_error", None), "errno", None)
            text = str(error) or "it was closed"
            if isinstance(number, int) and number > 0:
                text = os.strerror(number)
            raise _LostError(f"cannot connect to {self._where}: {text}") from error
        except (aiohttp.ClientError, ProtocolError, ValueError, KeyError) as error:
            raise _LostError(f"{self._where} answers what is no Matrix: {error}") from error

    async def _ask(self, question: Any) -> Any:
        """Return a good answer.

        Raises:
            LaterError: there is none now.
            InputError: there will be none.
        """
        try:
            answer = await self._try(question)
        except _LostError as error:
            raise LaterError(error.message) from error
        if not isinstance(answer, ErrorResponse):
            return answer
        code, text = answer.status_code or "", literal(answer.message)
        if code == "M_UNKNOWN_TOKEN":
            raise LaterError(_stranger(self._account))
        if code == "M_LIMIT_EXCEEDED":
            after_s = (answer.retry_after_ms or 5000) / 1000
            raise LaterError(f"{self._where} takes no more for {after_s:g} s", after_s=after_s)
        if code in _NEVER:
            raise InputError(text)
        raise LaterError(f"{self._where} says {code} {text}".rstrip())

    def _check(self, answer: Any) -> None:
        """Raise what an error means for the connection."""
        if not isinstance(answer, ErrorResponse):
            return
        if answer.status_code == "M_UNKNOWN_TOKEN":
            self._access = ""
            if self._token:
                raise InputError(
                    f"{self._where} does not know the token of [chat.{self._name}] any more"
                )
            raise _StrangerError(_stranger(self._account))
        raise _LostError(f"{self._where} says {answer.status_code or ''} {literal(answer.message)}")


class _Room:
    """A room of the settings; ``id`` while we are in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = ""
        self.trouble = f"not in {name} yet"
        self.out = asyncio.Event()


class _Position:
    """Up to where the feed was read."""

    def __init__(self, token: str) -> None:
        self.token = token


def _now() -> dict[str, object]:
    # Servers answer the same question with the same answer for minutes, which would be the past.
    nothing = {"types": [], "limit": 1 + secrets.randbelow(1_000_000)}
    return {"presence": _NOTHING, "account_data": _NOTHING, "room": {"timeline": nothing}}


def _at(heard: Heard, position: str) -> Heard:
    return replace(heard, position=position)


def _stranger(account: str) -> str:
    return f"another one logged in as {account} with our device, or we were logged out"


def _is_user(text: str) -> bool:
    local, colon, domain = text[1:].partition(":")
    return (
        text.startswith("@") and bool(local and colon and domain) and not set(text) & set(" \n\t/")
    )


def _trust(ca: str) -> ssl.SSLContext | None:
    if not ca:
        return None
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"cannot read the CA of Matrix, {ca}: {error}") from error
