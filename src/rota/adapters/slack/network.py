"""One app in a workspace: it hears by a WebSocket that it opens (Socket Mode), and speaks by the Web API.

What is heard is acknowledged once it is handed over: what is not, Slack sends again. The library's
own reader of the socket acknowledges and dispatches each envelope in a task of its own; here their
order counts, so the socket is read here (ADR 44).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from rota.adapters.slack import messages
from rota.adapters.slack.messages import Message
from rota.core.backoff import Backoff
from rota.core.literal import literal
from rota.core.recent import Recent
from rota.errors import InputError, LaterError, UnavailableError
from rota.ports.networks import Abilities, Heard, Said, Saying

SLACK = "https://slack.com/api/"
ANSWER_S = 30
SILENT_S = 60.0  # Slack pings several times a minute
PAGE = 200
LOOK_BACK = 100  # messages that are looked through for one of ours: it was said a moment ago
MOST_MISSED = 1000
#: Threads are asked for answers that were missed if they began in so long …
THREADS_S = 86400.0
#: … and so many rooms with one person each are looked into.
MOST_ALONE = 30
#: A name is not waited for longer: it is there to be read.
NICK_S = 3.0
MOST_NICKS = 2000
#: Messages of different channels may come a little out of order.
OVERLAP_S = 5.0

#: A token is wrong, or for something else.
_NO_TOKEN = frozenset(
    {
        "account_inactive",
        "invalid_auth",
        "not_allowed_token_type",
        "not_authed",
        "token_expired",
        "token_revoked",
    }
)
#: It will never be taken.
_NEVER = frozenset(
    {
        "channel_not_found",
        "is_archived",
        "invalid_arguments",
        "invalid_blocks",
        "metadata_too_large",
        "missing_scope",
        "msg_blocks_too_long",
        "msg_too_long",
        "no_text",
        "not_in_channel",
        "restricted_action",
        "restricted_action_read_only_channel",
        "user_disabled",
        "user_not_found",
        "cannot_dm_bot",
        "invalid_user_combination",
    }
)
_HINTS = {
    "channel_not_found": "is it spelled right, and was the app invited? `/invite` it there",
    "missing_scope": "add the scope to the app, and install it again",
    "not_in_channel": "invite the app: `/invite` it there",
}

logging.getLogger("slack_sdk").setLevel(logging.CRITICAL)  # what matters of it is in the trouble


class _LostError(UnavailableError):
    """Slack is not there, or does not answer as it should."""


class SlackNetwork:
    """See :class:`rota.ports.networks.Network`; ``who`` is TEAM/USER, a position the time of a message."""

    def __init__(
        self,
        name: str,
        *,
        token: str,
        app_token: str,
        server: str = "",
        nick: str = "rota",
        rooms: Sequence[str] = (),
    ) -> None:
        """Settle which app it is: the bot's token (xoxb-…) speaks, the app's (xapp-…) listens.

        Raises:
            InputError: a setting is wrong.
        """
        where = f"[chat.{name}]"
        for key, value, prefix in (("token", token, "xoxb-"), ("app_token", app_token, "xapp-")):
            if not value.startswith(prefix):
                raise InputError(
                    f"the {key} of {where} does not begin with {prefix}",
                    hint="the bot's token begins with xoxb-, the app's with xapp-",
                )
        if server and urlsplit(server).scheme not in {"http", "https"}:
            raise InputError(
                f"the server of {where}, {server!r}, is no address", hint=f"as {SLACK}"
            )
        self._name = name
        self._nick = nick
        self._app_token = app_token
        self._token = token
        self._server = server or SLACK
        self._rooms = {room: _Room(room) for room in rooms}
        self._web: AsyncWebClient | None = None
        self._me, self._team = "", ""
        self._trouble = "not connected yet"
        self._heard: asyncio.Queue[Heard] = asyncio.Queue(maxsize=500)
        self._known = Recent(5000)
        self._taken: dict[str, Said] = {}
        self._since = ""  # what came later was not heard yet
        self._floor = ""  # what is older is not heard
        self._alone: dict[str, str] = {}
        self._nicks: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Its name in the settings."""
        return self._name

    @property
    def abilities(self) -> Abilities:
        """What it can: one message a second in a channel, and a few more at once."""
        return Abilities(characters=2900, lines=50, every_s=1.0, burst=3, has_threads=True)

    @property
    def trouble(self) -> str:
        """Why it is not connected, or not in some channel; empty while all is well."""
        if self._trouble:
            return self._trouble
        return "; ".join(room.trouble for room in self._rooms.values() if room.trouble)

    # -- connected --------------------------------------------------------------------------------

    async def run(self, position: str) -> None:
        """Be connected until cancelled; see the port."""
        self._since = position
        backoff = Backoff()
        while True:
            async with aiohttp.ClientSession() as session:
                try:
                    await self._connected(session, backoff)
                    continue  # told to connect anew
                except UnavailableError as error:
                    self._trouble = error.message
                finally:
                    self._web = None
            await asyncio.sleep(backoff.failed())

    async def _connected(self, session: aiohttp.ClientSession, backoff: Backoff) -> None:
        web = AsyncWebClient(
            token=self._token,
            base_url=self._server,
            timeout=ANSWER_S,
            session=session,
            retry_handlers=[],  # a message that is sent again may be there twice
        )
        answer = await self._open(web.auth_test())
        self._me, self._team = str(answer["user_id"]), str(answer["team_id"])
        if not self._since:
            self._since = self._floor = _now(answer.headers)
        opened = await self._open(web.apps_connections_open(app_token=self._app_token))
        async with contextlib.AsyncExitStack() as stack:
            try:
                socket = await stack.enter_async_context(
                    session.ws_connect(
                        opened["url"],
                        heartbeat=SILENT_S,
                        max_msg_size=2**22,
                        timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
                    )
                )
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _LostError(f"cannot connect to Slack's socket: {error}") from error
            await self._greeted(socket)
            self._web = web
            async with asyncio.TaskGroup() as tasks:
                finding = tasks.create_task(self._enter_all(web), name="channels")
                lost = await self._caught_up_and_read(web, socket, finding, backoff)
                finding.cancel()
        if lost is not None:
            raise lost

    async def _caught_up_and_read(
        self,
        web: AsyncWebClient,
        socket: aiohttp.ClientWebSocketResponse,
        finding: asyncio.Task[None],
        backoff: Backoff,
    ) -> UnavailableError | InputError | None:
        """Return why it ended; ``None`` if Slack wants us to connect anew."""
        try:
            await self._find_rooms(web)
            await self._catch_up(web)
            self._trouble = ""
            await self._read(socket, backoff)
        except (InputError, UnavailableError) as error:
            return error
        return None

    async def _greeted(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            greeting = await socket.receive_json(timeout=ANSWER_S)
        except (TypeError, ValueError, TimeoutError, aiohttp.ClientError) as error:
            raise _LostError("Slack's socket does not say hello") from error
        if not isinstance(greeting, dict) or greeting.get("type") != "hello":
            raise _LostError("Slack's socket does not say hello")

    async def _read(self, socket: aiohttp.ClientWebSocketResponse, backoff: Backoff) -> None:
        async for frame in socket:
            if frame.type is not aiohttp.WSMsgType.TEXT:
                continue
            try:
                envelope = frame.json()
            except ValueError:
                continue
            if not isinstance(envelope, dict):
                continue
            backoff.went_well()
            if envelope.get("type") == "disconnect":
                if envelope.get("reason") == "link_disabled":
                    raise InputError(
                        f"Socket Mode is off in the app of [chat.{self._name}]",
                        hint="turn it on: api.slack.com/apps, the app, Socket Mode",
                    )
                return
            await self._take(envelope)
            if isinstance(envelope.get("envelope_id"), str):
                with contextlib.suppress(ConnectionError):
                    await socket.send_json({"envelope_id": envelope["envelope_id"]})
        raise _LostError("Slack closed the socket")

    async def _take(self, envelope: dict[str, Any]) -> None:
        payload = envelope.get("payload")
        if envelope.get("type") != "events_api" or not isinstance(payload, dict):
            return
        event = payload.get("event")
        if isinstance(event, dict) and isinstance(event.get("channel"), str):
            channel = event["channel"]
            is_direct = event.get("channel_type") == "im"
            team = str(payload.get("team_id") or self._team)
            await self._hear(channel, event, is_direct=is_direct, team=team)

    async def _hear(self, channel: str, message: Message, *, is_direct: bool, team: str) -> None:
        ts = message.get("ts")
        text = messages.text_of(message, self._me, self._nick)
        room = self._named(channel)
        if text is None or not isinstance(ts, str) or not (room or is_direct):
            return
        if not self._known.add(f"{channel}-{ts}"):
            return
        user = str(message["user"])
        who = f"{message.get('user_team') or message.get('team') or team}/{user}"
        if is_direct:
            self._alone[who] = channel
        self._since = max(self._since, ts, key=_seconds)
        await self._heard.put(
            Heard(
                id=f"{channel}-{ts}",
                room=room or who,
                thread=messages.thread_of(message),
                who=who,
                nick=await self._name_of(user),
                text=text,
                at=messages.instant(ts),
                is_direct=is_direct,
                position=self._since,
            )
        )

    async def _name_of(self, user: str) -> str:
        """Return what people call a user, asked once; the id where Slack does not say."""
        if user in self._nicks:
            return self._nicks[user]
        nick = ""
        if self._web is not None:
            try:
                async with asyncio.timeout(NICK_S):
                    answer = await self._ask(self._web.users_info(user=user))
                nick = messages.nick_of(answer["user"])
            except (TimeoutError, LaterError):
                return user
            except InputError:
                pass  # the scope is missing: it will be the next time, too
        if len(self._nicks) > MOST_NICKS:
            self._nicks.clear()
        self._nicks[user] = nick or user
        return self._nicks[user]

    def _named(self, channel: str) -> str:
        """Return the name in the settings of a channel; empty if it is none of them."""
        return next((room.name for room in self._rooms.values() if room.id == channel), "")

    async def heard(self) -> AsyncIterator[Heard]:
        """Yield what people write; see the port."""
        while True:
            yield await self._heard.get()

    # -- channels ---------------------------------------------------------------------------------

    async def _find_rooms(self, web: AsyncWebClient) -> None:
        """Learn the ids of the channels in the settings."""
        wanted = {room.name.lstrip("#"): room for room in self._rooms.values()}
        cursor = ""
        while wanted:
            answer = await self._ask(
                web.conversations_list(
                    types="public_channel,private_channel",
                    exclude_archived=True,
                    limit=1000,
                    cursor=cursor,
                )
            )
            for channel in answer["channels"]:
                for key in (channel.get("name"), channel["id"]):
                    if (room := wanted.pop(key, None)) is not None:
                        room.id, room.is_in = channel["id"], bool(channel.get("is_member"))
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                break
        for room in wanted.values():
            room.id, room.is_in = "", False
        for room in self._rooms.values():
            await self._enter(web, room)

    async def _enter(self, web: AsyncWebClient, room: _Room) -> None:
        if not room.id:
            room.trouble = (
                f"there is no channel {room.name}, or it is private and the app was not invited"
            )
            return
        room.trouble = ""
        if room.is_in:
            return
        try:
            await self._ask(web.conversations_join(channel=room.id))
        except InputError as error:
            room.trouble = f"not in {room.name}: {error.message}; `/invite` the app there"
        else:
            room.is_in = True

    async def _enter_all(self, web: AsyncWebClient) -> None:
        """Look now and then whether channels that we are not in can be entered."""
        while True:
            await asyncio.sleep(SILENT_S)
            if any(room.trouble for room in self._rooms.values()):
                with contextlib.suppress(InputError, LaterError):
                    await self._find_rooms(web)

    # -- what was missed --------------------------------------------------------------------------

    async def _catch_up(self, web: AsyncWebClient) -> None:
        if not self._since:
            return
        since = f"{max(_seconds(self._floor), _seconds(self._since) - OVERLAP_S):.6f}"
        found: list[tuple[str, Message, bool]] = []
        try:
            for room in self._rooms.values():
                if room.id and room.is_in:
                    found += [
                        (room.id, message, False)
                        for message in await self._missed(web, room.id, since)
                    ]
            alone = await self._ask(web.conversations_list(types="im", limit=PAGE))
            for channel in alone["channels"][:MOST_ALONE]:
                found += [
                    (channel["id"], message, True)
                    for message in await self._missed(web, channel["id"], since)
                ]
        except InputError as error:
            self._trouble = f"what was missed cannot be read: {error.message}"
        found.sort(key=lambda each: _seconds(str(each[1].get("ts"))))
        for channel_id, message, is_direct in found:
            await self._hear(channel_id, message, is_direct=is_direct, team=self._team)

    async def _missed(self, web: AsyncWebClient, channel: str, since: str) -> list[Message]:
        """Return the messages of a channel after an instant, and answers in its threads."""
        begun = f"{max(0.0, _seconds(since) - THREADS_S):.6f}"
        found: list[Message] = []
        cursor = ""
        while len(found) < MOST_MISSED:
            answer = await self._ask(
                web.conversations_history(channel=channel, oldest=begun, limit=PAGE, cursor=cursor)
            )
            for message in answer["messages"]:
                if _seconds(str(message.get("ts"))) > _seconds(since):
                    found.append(message)
                if _seconds(str(message.get("latest_reply") or "0")) > _seconds(since):
                    found += await self._replies(web, channel, message["ts"], since)
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                break
        return found

    async def _replies(
        self, web: AsyncWebClient, channel: str, thread: str, since: str
    ) -> list[Message]:
        answer = await self._ask(
            web.conversations_replies(channel=channel, ts=thread, oldest=since, limit=PAGE)
        )
        return [
            message
            for message in answer["messages"]
            if message.get("ts") != thread and _seconds(str(message.get("ts"))) > _seconds(since)
        ]

    # -- what is said -----------------------------------------------------------------------------

    async def say(self, saying: Saying) -> Said:
        """Post it, and return when Slack has it; see the port."""
        if saying.id in self._taken:
            return self._taken[saying.id]
        web = self._ready()
        channel = await self._channel(web, saying.room)
        answer = await self._ask(
            web.chat_postMessage(
                channel=channel, thread_ts=saying.thread or None, **messages.body_of(saying)
            )
        )
        ts = str(answer["ts"])
        said = Said(id=f"{channel}-{ts}", thread=saying.thread or ts)
        self._keep(saying.id, said)
        return said

    def _keep(self, name: str, said: Said) -> None:
        self._taken[name] = said
        if len(self._taken) > 2000:
            del self._taken[next(iter(self._taken))]

    async def was_said(self, saying: Saying) -> bool | None:
        """Look through the last messages of the channel, or of the thread."""
        if saying.id in self._taken:
            return True
        web = self._ready()
        channel = await self._channel(web, saying.room)
        if saying.thread:
            return await self._is_in_thread(web, channel, saying)
        answer = await self._ask(
            web.conversations_history(channel=channel, limit=LOOK_BACK, include_all_metadata=True)
        )
        return self._has(answer["messages"], saying)

    async def _is_in_thread(self, web: AsyncWebClient, channel: str, saying: Saying) -> bool:
        cursor = ""
        while True:
            answer = await self._ask(
                web.conversations_replies(
                    channel=channel,
                    ts=saying.thread,
                    limit=PAGE,
                    cursor=cursor,
                    include_all_metadata=True,
                )
            )
            if self._has(answer["messages"], saying):
                return True
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return False

    def _has(self, found: Sequence[Message], saying: Saying) -> bool:
        return any(
            messages.said_id(message) == saying.id and message.get("user") == self._me
            for message in found
        )

    def _ready(self) -> AsyncWebClient:
        if self._web is None or self._trouble:
            raise LaterError(self._trouble or "not connected")
        return self._web

    async def _channel(self, web: AsyncWebClient, target: str) -> str:
        """Return the id of the channel that a target means: one of the settings, or one with a person."""
        room = self._rooms.get(target)
        if room is not None:
            if not room.id or not room.is_in:
                raise LaterError(room.trouble or f"not in {target} yet")
            return room.id
        if target in self._alone:
            return self._alone[target]
        _, slash, user = target.partition("/")
        if not slash or not user.isalnum():
            raise InputError(
                f"{target!r} is neither a channel of [chat.{self._name}] nor a user",
                hint=f"channels there are: {', '.join(self._rooms) or 'none'}",
            )
        try:
            answer = await self._ask(web.conversations_open(users=user))
        except InputError as error:
            raise InputError(f"{target} cannot be written to: {error.message}") from error
        self._alone[target] = str(answer["channel"]["id"])
        return self._alone[target]

    # -- answers ----------------------------------------------------------------------------------

    async def _ask(self, question: Any) -> Any:
        """Return a good answer.

        Raises:
            LaterError: there is none now, or it is not known.
            InputError: there will be none.
        """
        try:
            return await question
        except SlackApiError as error:
            response = error.response
            code = literal(str(response.get("error") or "")) or f"status {response.status_code}"
            if code == "ratelimited" or response.status_code == 429:
                after_s = _retry_after(response.headers)
                raise LaterError(
                    f"Slack takes no more for {after_s:g} s", after_s=after_s
                ) from error
            if code in _NO_TOKEN:
                raise LaterError(f"Slack does not take our token any more: {code}") from error
            if code in _NEVER:
                needed = response.get("needed")
                text = f"{code} ({literal(str(needed))})" if needed else code
                raise InputError(text, hint=_HINTS.get(code)) from error
            raise LaterError(f"Slack says {code}") from error
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            why = literal(str(error)) or "no answer in time"
            raise LaterError(f"cannot reach {urlsplit(self._server).netloc}: {why}") from error

    async def _open(self, question: Any) -> Any:
        """Return an answer to a question of connecting, where a wrong token is final."""
        try:
            return await self._ask(question)
        except LaterError as error:
            cause = error.__cause__
            code = cause.response.get("error") if isinstance(cause, SlackApiError) else ""
            if code in _NO_TOKEN:
                raise InputError(
                    f"Slack refuses the tokens of [chat.{self._name}]: {code}",
                    hint="was the app removed, or a token revoked? Put new ones into the secrets",
                ) from error
            raise


class _Room:
    """A channel of the settings."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = ""
        self.is_in = False
        self.trouble = f"not in {name} yet"


def _seconds(ts: str) -> float:
    try:
        return float(ts or 0)
    except ValueError:
        return 0.0


def _now(headers: Any) -> str:
    """Return the next full second at Slack; empty if it does not say what time it is."""
    date = next((value for key, value in dict(headers or {}).items() if key.lower() == "date"), "")
    try:
        return f"{parsedate_to_datetime(date).timestamp() + 1:.6f}"
    except (TypeError, ValueError):
        return ""


def _retry_after(headers: Any) -> float:
    for key, value in dict(headers or {}).items():
        if key.lower() == "retry-after":
            return max(1.0, _seconds(value if isinstance(value, str) else value[0]))
    return 30.0
