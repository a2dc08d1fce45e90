"""A Slack of our own for tests: the Web API's methods that we use, and Socket Mode, as slack-sdk speaks them.

It runs in a thread, so that it outlives the loops of tests; killed, it drops all connections and keeps
what was said. It holds callers to what the real one refuses: tokens, scopes of tokens, unknown
channels, channels they are not in, blocks that are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import WSMsgType, web
from tests.harness.people import Shown

from rota.adapters.slack import SlackNetwork

BOT, TEAM = "UBOT", "T1"
TOKEN, APP_TOKEN = "xoxb-good", "xapp-good"
PEOPLE = {"ann": "UANN", "bob": "UBOB", "mallory": "UMALLORY"}
JSON = dict[str, Any]
#: Instead of a refusal: it is done, and the answer does not arrive.
LOST = "lost"


class RefusedError(Exception):
    """What a method answers that does not do it."""


class FakeSlack:
    """One workspace with one app in it."""

    def __init__(self) -> None:
        self.channels: dict[str, JSON] = {}
        self.messages: dict[str, list[JSON]] = {}
        self.acknowledged: list[str] = []
        self.calls: list[str] = []
        #: Answered to the next calls of a method: seconds to wait, or an error.
        self.refusals: dict[str, list[float | str]] = {}
        self.is_on = True  # Socket Mode
        self._unacknowledged: dict[str, JSON] = {}
        self._sockets: list[web.WebSocketResponse] = []
        self._last_ts = 0.0
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """What takes the place of https://slack.com/api/."""
        return f"http://127.0.0.1:{self.port}/api/"

    # -- its life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(20)

    def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.new_event_loop()

        async def serve() -> None:
            app = web.Application()
            app.router.add_route("*", "/api/{method}", self._api)
            app.router.add_get("/link", self._link)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            self._over = asyncio.Event()
            ready.set()
            await self._over.wait()
            for each in self._sockets:
                if each._req is not None and each._req.transport is not None:
                    each._req.transport.abort()
            self._sockets.clear()
            await runner.cleanup()

        self._loop.run_until_complete(serve())
        self._loop.close()

    def kill(self) -> None:
        """Drop everything."""
        if self._thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(20)
            self._thread = None

    def close(self) -> None:
        """End it."""
        self.kill()

    def forget(self) -> None:
        """Have nothing any more."""
        for each in (self.channels, self.messages, self.refusals, self._unacknowledged):
            each.clear()

    def call(self, act: Callable[..., Any], *args: Any) -> Any:
        """Do something in the server's thread, and return what came of it."""
        assert self._loop is not None

        async def do() -> Any:
            found = act(*args)
            return await found if asyncio.iscoroutine(found) else found

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(20)

    # -- people -----------------------------------------------------------------------------------

    def make_channel(self, name: str, *, is_private: bool = False) -> str:
        """Make a channel with people in it, but not the bot."""
        channel = f"C{next(self._numbers):04}"
        self.channels[channel] = {"id": channel, "name": name, "members": set(PEOPLE.values())}
        self.channels[channel] |= {"is_private": is_private, "is_archived": False}
        self.messages[channel] = []
        return channel

    def alone(self, user: str) -> str:
        """Return the channel of a user with the bot."""
        channel = f"D{user}"
        if channel not in self.channels:
            self.channels[channel] = {
                "id": channel,
                "is_im": True,
                "user": user,
                "members": {user, BOT},
            }
            self.messages[channel] = []
        return channel

    async def post(self, user: str, channel: str, text: str, thread: str = "", **more: Any) -> JSON:
        """Let somebody write."""
        message = {"type": "message", "user": user, "text": text, "team": TEAM, "ts": self._ts()}
        message |= {"client_msg_id": str(uuid.uuid4()), **more}
        return await self._add(channel, message, thread)

    def _ts(self) -> str:
        self._last_ts = max(time.time(), self._last_ts + 0.000001)
        return f"{self._last_ts:.6f}"

    async def _add(self, channel: str, message: JSON, thread: str) -> JSON:
        if thread:
            message["thread_ts"] = thread
            for parent in self.messages[channel]:
                if parent["ts"] == thread:
                    parent["latest_reply"] = message["ts"]
        self.messages[channel].append(message)
        if BOT in self.channels[channel]["members"]:
            kind = "im" if channel.startswith("D") else "channel"
            await self.event({**message, "channel": channel, "channel_type": kind})
        with self._changed:
            self._changed.notify_all()
        return message

    async def event(self, event: JSON) -> None:
        """Send an event to one of the app's connections, now or when there is one."""
        envelope: JSON = {
            "type": "events_api",
            "envelope_id": str(uuid.uuid4()),
            "accepts_response_payload": False,
            "payload": {
                "team_id": TEAM,
                "type": "event_callback",
                "event_id": f"Ev{uuid.uuid4().hex[:8]}",
                "event": event,
            },
        }
        self._unacknowledged[envelope["envelope_id"]] = envelope
        await self._deliver(envelope)

    async def _deliver(self, envelope: JSON) -> None:
        for each in self._sockets:
            if not each.closed:
                with contextlib.suppress(ConnectionError):
                    await each.send_json(envelope)
                return

    async def to_sockets(self, frame: JSON) -> None:
        """Send something to all connections."""
        for each in list(self._sockets):
            await each.send_json(frame)

    # -- Socket Mode ------------------------------------------------------------------------------

    async def _link(self, request: web.Request) -> web.WebSocketResponse:
        link = web.WebSocketResponse()
        await link.prepare(request)
        await link.send_json({"type": "hello", "num_connections": 1, "connection_info": {}})
        sent: set[str] = set()
        while waiting := [each for name, each in self._unacknowledged.items() if name not in sent]:
            await link.send_json(waiting[0])
            sent.add(waiting[0]["envelope_id"])
        self._sockets.insert(0, link)
        try:
            async for frame in link:
                if frame.type is WSMsgType.TEXT:
                    name = json.loads(frame.data)["envelope_id"]
                    self.acknowledged.append(name)
                    self._unacknowledged.pop(name, None)
        finally:
            if link in self._sockets:
                self._sockets.remove(link)
        return link

    # -- the Web API ------------------------------------------------------------------------------

    async def _api(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        self.calls.append(method)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if request.content_type == "application/json":
            body = await request.json()
        else:
            body = dict((await request.post()) or request.query)
        refusals = self.refusals.get(method)
        refusal = refusals.pop(0) if refusals else None
        if refusal is not None and refusal != LOST:
            if isinstance(refusal, float):
                error = {"ok": False, "error": "ratelimited"}
                headers = {"Retry-After": f"{refusal:g}"}
                return web.json_response(error, status=429, headers=headers)
            return web.json_response({"ok": False, "error": refusal})
        wanted = APP_TOKEN if method == "apps.connections.open" else TOKEN
        if token != wanted:
            return web.json_response({"ok": False, "error": "invalid_auth"})
        try:
            answer = await getattr(self, "_" + method.replace(".", "_"))(body)
        except RefusedError as error:
            return web.json_response({"ok": False, "error": str(error)})
        if refusal == LOST and request.transport is not None:
            request.transport.abort()
        return web.json_response({"ok": True, **answer})

    async def _auth_test(self, _: JSON) -> JSON:
        return {"user_id": BOT, "bot_id": "BBOT", "team_id": TEAM, "user": "rota"}

    async def _apps_connections_open(self, _: JSON) -> JSON:
        return {"url": f"ws://127.0.0.1:{self.port}/link?ticket={uuid.uuid4()}"}

    async def _conversations_list(self, body: JSON) -> JSON:
        kinds = str(body.get("types", "public_channel")).split(",")
        found = [
            {
                **{key: value for key, value in each.items() if key != "members"},
                "is_member": BOT in each["members"],
            }
            for each in self.channels.values()
            if ("im" in kinds if each.get("is_im") else _fits(each, kinds))
        ]
        # Pages are small here: who does not turn them finds half of it.
        start = int(body.get("cursor") or 0)
        more = str(start + 2) if len(found) > start + 2 else ""
        return {"channels": found[start : start + 2], "response_metadata": {"next_cursor": more}}

    async def _conversations_join(self, body: JSON) -> JSON:
        channel = self._channel(body)
        if channel.get("is_private"):
            raise RefusedError("method_not_supported_for_channel_type")
        channel["members"].add(BOT)
        return {"channel": {"id": channel["id"]}}

    async def _users_info(self, body: JSON) -> JSON:
        names = {user: name for name, user in PEOPLE.items()}
        if body["user"] not in names:
            raise RefusedError("user_not_found")
        return {"user": {"name": names[body["user"]], "profile": {"display_name": ""}}}

    async def _conversations_open(self, body: JSON) -> JSON:
        if body["users"] not in PEOPLE.values():
            raise RefusedError("user_not_found")
        return {"channel": {"id": self.alone(body["users"])}}

    async def _conversations_history(self, body: JSON) -> JSON:
        channel = self._channel(body)
        oldest = float(body.get("oldest") or 0)
        found = [
            each
            for each in reversed(self.messages[channel["id"]])
            if float(each["ts"]) > oldest and each.get("thread_ts", each["ts"]) == each["ts"]
        ]
        return self._page(found, body)

    async def _conversations_replies(self, body: JSON) -> JSON:
        channel = self._channel(body)
        oldest = float(body.get("oldest") or 0)
        found = [
            each
            for each in self.messages[channel["id"]]
            if each["ts"] == body["ts"]
            or (each.get("thread_ts") == body["ts"] and float(each["ts"]) > oldest)
        ]
        return self._page(found, body)

    def _page(self, found: list[JSON], body: JSON) -> JSON:
        start, limit = int(body.get("cursor") or 0), min(int(body.get("limit") or 100), 50)
        more = str(start + limit) if len(found) > start + limit else ""
        page = found[start : start + limit]
        if not _true(body.get("include_all_metadata")):
            page = [
                {key: value for key, value in each.items() if key != "metadata"} for each in page
            ]
        return {"messages": page, "response_metadata": {"next_cursor": more}}

    async def _chat_postMessage(self, body: JSON) -> JSON:  # noqa: N802 - Slack's name
        channel = self._channel(body)
        if channel.get("is_archived"):
            raise RefusedError("is_archived")
        blocks = _json(body.get("blocks")) or []
        _check(blocks)
        message = {
            "type": "message",
            "user": BOT,
            "bot_id": "BBOT",
            "ts": self._ts(),
            "blocks": blocks,
        }
        message |= {"text": body["text"], "metadata": _json(body.get("metadata"))}
        await self._add(channel["id"], message, str(body.get("thread_ts") or ""))
        return {"ts": message["ts"], "channel": channel["id"]}

    def _channel(self, body: JSON) -> JSON:
        channel = self.channels.get(str(body.get("channel")))
        if channel is None or (channel.get("is_private") and BOT not in channel["members"]):
            raise RefusedError("channel_not_found")
        return channel

    def wait(self, holds: Callable[[], bool], within_s: float) -> None:
        """Block until something holds of what was said."""
        with self._changed:
            assert self._changed.wait_for(holds, within_s)


def _fits(channel: JSON, kinds: list[str]) -> bool:
    if channel.get("is_private"):
        return "private_channel" in kinds and BOT in channel["members"]
    return "public_channel" in kinds


def _true(value: object) -> bool:
    return str(value).lower() in {"1", "true"}


def _json(value: object) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _check(blocks: Any) -> None:
    """Hold blocks to what Slack takes: texts have a length, and elements a type."""
    for block in blocks:
        for part in block["elements"]:
            if part["type"] not in {"rich_text_section", "rich_text_preformatted"}:
                raise RefusedError("invalid_blocks")
            for element in part["elements"]:
                if element["type"] == "text" and not 0 < len(element["text"]) <= 4000:
                    raise RefusedError("invalid_blocks")


def shown_text(message: JSON) -> str:
    """Return what a client shows of a message's blocks."""
    lines = []
    for block in message.get("blocks") or ():
        for part in block["elements"]:
            texts = [
                each.get("text") or each.get("url") or f":{each.get('name')}:"
                for each in part["elements"]
            ]
            lines.append("".join(texts))
    return "\n".join(lines) if lines else str(message["text"])


class SlackPerson:
    """A person in the workspace."""

    def __init__(self, server: FakeSlack, name: str, room: str) -> None:
        self.name, self.user = name, PEOPLE[name]
        self.who, self.room = f"{TEAM}/{self.user}", room
        self._server = server
        self._begun = time.time()
        self.last = ""

    @property
    def shown(self) -> list[Shown]:
        """What others wrote since this client is there."""
        found = []
        for channel, messages in self._server.messages.items():
            mine = self._server.channels[channel]
            if self.user not in mine["members"] or (
                mine.get("name") != self.room.lstrip("#") and not mine.get("is_im")
            ):
                continue
            found += [(channel, each) for each in messages if each["user"] != self.user]
        found = [pair for pair in found if float(pair[1]["ts"]) > self._begun]
        found.sort(key=lambda pair: float(pair[1]["ts"]))
        return [
            Shown(
                by=each["user"],
                room=channel,
                text=shown_text(each),
                raw=json.dumps(each, ensure_ascii=False),
                thread=each.get("thread_ts", ""),
                id=each["ts"],
            )
            for channel, each in found
        ]

    async def enter(self, room: str) -> None:
        """Look at another channel."""
        self.room = room

    async def write(self, to: str, text: str, *, thread: str = "", **more: Any) -> None:
        """Write into a channel or to the bot."""
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        if to == BOT:
            channel = self._server.alone(self.user)
        else:
            [channel] = [
                key for key, each in self._server.channels.items() if each.get("name") == to[1:]
            ]
        post = self._server.post
        act = lambda: post(self.user, channel, escaped, thread, **more)  # noqa: E731
        self.last = (await asyncio.to_thread(self._server.call, act))["ts"]

    async def sees(self, count: int, *, within_s: float = 20.0) -> list[Shown]:
        """Return what others wrote, once there are ``count`` messages."""
        await asyncio.to_thread(self._server.wait, lambda: len(self.shown) >= count, within_s)
        return self.shown


class SlackBench:
    """What the tests of all networks need of this one."""

    kind = "slack"
    nowhere = "#nowhere"
    nobody = "T1/UNOBODY"
    refused = "Slack refuses the tokens of [chat.net]: invalid_auth"
    remembers = True
    knows = True

    def __init__(self, server: FakeSlack) -> None:
        self.server = server
        self._numbers = itertools.count()

    @contextlib.asynccontextmanager
    async def person(self, name: str = "ann") -> AsyncIterator[SlackPerson]:
        """A person's client, in a new channel of its own."""
        room = f"r{next(self._numbers)}"
        self.server.make_channel(room)
        yield SlackPerson(self.server, name, f"#{room}")

    def network(self, *rooms: str, **changes: Any) -> SlackNetwork:
        """The bot, not connected yet."""
        values: dict[str, Any] = {
            "token": TOKEN,
            "app_token": APP_TOKEN,
            "server": self.server.url,
            "rooms": rooms,
        }
        return SlackNetwork("net", **{**values, **changes})

    def impostor(self) -> SlackNetwork:
        """The bot with a wrong token."""
        return self.network(token="xoxb-wrong")

    def to_bot(self) -> str:
        """Where a person writes to the bot alone."""
        return BOT

    def check_literal(self, shown: Shown) -> None:
        """Text is in elements of text, and what clients show in their notices is escaped."""
        message = json.loads(shown.raw)
        kinds = {
            element["type"]
            for block in message["blocks"]
            for part in block["elements"]
            for element in part["elements"]
        }
        assert kinds == {"text", "link"}
        assert message["text"] == "/me *web#7* &lt;script&gt;&amp;amp; @everyone `x`\ttab"
