"""A real homeserver for tests: Synapse, on loopback, in a virtual environment of its own.

It is 240 MB, so it is no dependency: it is installed where ``ROTA_TEST_SYNAPSE=1`` asks for it, once,
into the user's cache; where it is there, it is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from tests.harness.certificates import authority
from tests.harness.people import Shown

from rota.adapters.matrix import MatrixNetwork

WANTED = "ROTA_TEST_SYNAPSE"
PEOPLE = ("rota", "ann", "bob", "mallory", "limited", "admin")
_FREE = "{per_second: 100000, burst_count: 100000}"
_CONFIG = """
server_name: localhost
pid_file: {folder}/homeserver.pid
listeners:
  - port: {port}
    tls: false
    type: http
    bind_addresses: ['127.0.0.1']
    resources: [{{names: [client], compress: false}}]
  - port: {tls_port}
    tls: true
    type: http
    bind_addresses: ['127.0.0.1']
    resources: [{{names: [client], compress: false}}]
tls_certificate_path: {folder}/certificate.pem
tls_private_key_path: {folder}/key.pem
database: {{name: sqlite3, args: {{database: {folder}/homeserver.db}}}}
log_config: {folder}/log.yaml
media_store_path: {folder}/media
signing_key_path: {folder}/signing.key
report_stats: false
trusted_key_servers: []
suppress_key_server_warning: true
federation_domain_whitelist: []
presence: {{enabled: false}}
registration_shared_secret: test-only
macaroon_secret_key: test-only-mac
form_secret: test-only-form
rc_message: {messages}
rc_login: {{address: {free}, account: {free}, failed_attempts: {free}}}
rc_joins: {{local: {free}, remote: {free}}}
rc_invites: {{per_room: {free}, per_user: {free}, per_issuer: {free}}}
rc_room_creation: {free}
"""
_LOGS = """
version: 1
handlers: {console: {class: logging.StreamHandler}}
root: {level: WARNING, handlers: [console]}
"""


class Synapse:
    """One server; killed and started again it has what it had."""

    def __init__(self, folder: Path, python: Path, *, messages: str = _FREE) -> None:
        self.folder, self._python = folder, python
        self.port, self.tls_port = _free_port(), _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.tls_url = f"https://localhost:{self.tls_port}"
        made = authority()
        self.ca = folder / "ca.pem"
        self.ca.write_text(made.pem)
        for name, data in zip(("key", "certificate"), made.pems("localhost"), strict=True):
            (folder / f"{name}.pem").write_bytes(data)
        self._process: subprocess.Popen[bytes] | None = None
        values = {"folder": folder, "port": self.port, "tls_port": self.tls_port}
        values |= {"messages": messages, "free": _FREE}
        (folder / "log.yaml").write_text(_LOGS)
        self._config = folder / "homeserver.yaml"
        self._config.write_text(_CONFIG.format(**values))
        self._run("-m", "synapse.app.homeserver", "--generate-keys", "-c", str(self._config))

    def _run(self, *argv: str) -> None:
        done = subprocess.run(
            [self._python, *argv], capture_output=True, cwd=self.folder, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()[-2000:]

    def start(self) -> None:
        """Start it, and return when it listens."""
        argv = [str(self._python), "-m", "synapse.app.homeserver", "-c", str(self._config)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"it does not listen: {(self.folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it."""
        self.kill()

    def register(self) -> None:
        """Make the test's people."""
        script = (
            "import sys; from synapse._scripts.register_new_matrix_user import request_registration\n"
            "for name in sys.argv[2:]:\n"
            "    request_registration(name, 'pw' + name, sys.argv[1], 'test-only',\n"
            "        admin=name == 'admin', _print=lambda *_: None)\n"
        )
        self._run("-c", script, self.url, *PEOPLE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def synapse(folder: Path) -> Synapse:
    """Return a server that runs, or skip the test."""
    python = _environment()
    made = Synapse(folder, python)
    made.start()
    made.register()
    return made


def _environment() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "rota-tests" / "synapse"
    python, done = home / "bin" / "python", home / "installed"
    if done.exists():
        return python
    if os.environ.get(WANTED) != "1":
        pytest.skip(f"no Synapse in {home}; {WANTED}=1 installs it there (240 MB)")
    home.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", "matrix-synapse"], check=True)
    done.touch()
    return python


class MatrixPerson:
    """A person's client, by plain requests: what it shows, and what it is told to write."""

    def __init__(self, server: Synapse, name: str) -> None:
        self.name, self.who = name, f"@{name}:localhost"
        self._server = server
        self.room = ""
        self.shown: list[Shown] = []
        self._rooms: set[str] = set()
        self._since = ""
        self._bots: dict[str, str] = {}
        self.last = ""

    async def __aenter__(self) -> MatrixPerson:
        self._session = aiohttp.ClientSession()
        answer = await self.call(
            "POST",
            "/login",
            type="m.login.password",
            identifier={"type": "m.id.user", "user": self.name},
            password=f"pw{self.name}",
        )
        self._session.headers["Authorization"] = f"Bearer {answer['access_token']}"
        self._since = (await self._sync(0))["next_batch"]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, **body: Any) -> Any:
        """Ask the server for something, and return its answer."""
        url = self._server.url + (path if path.startswith("/_") else f"/_matrix/client/v3{path}")
        data = json.dumps(body) if method != "GET" else None
        headers = {"Content-Type": "application/json"}
        async with self._session.request(method, url, data=data, headers=headers) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return answer

    async def make_room(self, alias: str = "", **more: Any) -> str:
        """Make a room that anybody may enter, and return its alias."""
        body: dict[str, Any] = {"preset": "public_chat", **more}
        if alias:
            body["room_alias_name"] = alias
        room = str((await self.call("POST", "/createRoom", **body))["room_id"])
        self._rooms.add(room)
        return f"#{alias}:localhost" if alias else room

    async def enter(self, room: str) -> None:
        """Enter a room that there is."""
        answer = await self.call("POST", f"/join/{quote(room)}")
        self._rooms.add(answer["room_id"])

    async def write(
        self, to: str, text: str, *, thread: str = "", relation: Any = None, **more: Any
    ) -> None:
        """Write into a room, or to somebody in a room of their own."""
        if to.startswith("#"):
            to = (await self.call("GET", f"/directory/room/{quote(to)}"))["room_id"]
        if to.startswith("@"):
            if to not in self._bots:
                made = await self.call("POST", "/createRoom", is_direct=True, invite=[to])
                self._bots[to] = made["room_id"]
                while len(await self._joined(self._bots[to])) < 2:
                    await asyncio.sleep(0.05)
            to = self._bots[to]
        content = {"msgtype": "m.text", "body": text, **more}
        if relation is not None:
            content["m.relates_to"] = relation
        if thread:
            content["m.relates_to"] = {"rel_type": "m.thread", "event_id": thread}
        path = f"/rooms/{quote(to)}/send/m.room.message/{secrets.token_hex(8)}"
        self.last = (await self.call("PUT", path, **content))["event_id"]

    async def _joined(self, room: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.call("GET", f"/rooms/{quote(room)}/joined_members"))[
            "joined"
        ]
        return found

    async def _sync(self, timeout_ms: int) -> Any:
        since = f"&since={self._since}" if self._since else ""
        limit = quote('{"room":{"timeline":{"limit":1000}}}')
        return await self.call("GET", f"/sync?timeout={timeout_ms}&filter={limit}{since}")

    async def sees(self, count: int, *, within_s: float = 20.0) -> list[Shown]:
        """Return what others wrote, once there are ``count`` messages."""
        async with asyncio.timeout(within_s):
            while len(self.shown) < count:
                answer = await self._sync(1000)
                self._since = answer["next_batch"]
                for room in answer["rooms"].get("invite", {}) if "rooms" in answer else ():
                    await self.enter(room)
                for room, info in answer.get("rooms", {}).get("join", {}).items():
                    for event in info["timeline"]["events"]:
                        self._show(room, event)
        return self.shown

    async def shows(self, fits: Callable[[str], bool], *, within_s: float = 30.0) -> Shown:
        """Return the first message that fits, once there is one."""
        async with asyncio.timeout(within_s):
            while True:
                for shown in self.shown:
                    if fits(shown.text):
                        return shown
                await self.sees(len(self.shown) + 1, within_s=within_s)

    def _show(self, room: str, event: Any) -> None:
        content = event["content"]
        if event["type"] != "m.room.message" or event["sender"] == self.who:
            return
        relation = content.get("m.relates_to", {})
        shown = Shown(
            by=event["sender"],
            room=room,
            text=content["body"],
            raw=json.dumps(event, ensure_ascii=False),
            thread=relation.get("event_id", ""),
            html=content.get("formatted_body", ""),
            id=event["event_id"],
        )
        if shown.id not in {each.id for each in self.shown}:
            self.shown.append(shown)


class MatrixBench:
    """What the tests of all networks need of this one."""

    kind = "matrix"
    nowhere = "#nowhere:localhost"
    nobody = "@nobody:localhost"
    remembers = True
    knows = True

    def __init__(self, server: Synapse) -> None:
        self.server = server
        self.refused = f"127.0.0.1:{server.port} refuses @rota:localhost"
        self._numbers = itertools.count()
        self.prefix = "r"

    @contextlib.asynccontextmanager
    async def person(self, name: str = "ann") -> AsyncIterator[MatrixPerson]:
        """A person's client, in a new room of its own."""
        async with MatrixPerson(self.server, name) as person:
            person.room = await person.make_room(f"{self.prefix}{next(self._numbers)}")
            yield person

    def network(self, *rooms: str, **changes: Any) -> MatrixNetwork:
        """The bot, not connected yet."""
        values: dict[str, Any] = {
            "server": self.server.url,
            "account": "@rota:localhost",
            "password": "pwrota",
            "rooms": rooms,
        }
        return MatrixNetwork("net", **{**values, **changes})

    def impostor(self) -> MatrixNetwork:
        """The bot with a wrong password."""
        return self.network(password="wrong")

    def to_bot(self) -> str:
        """Where a person writes to the bot alone."""
        return "@rota:localhost"

    def check_literal(self, shown: Shown) -> None:
        """What clients show as HTML has only our own elements in it, and mentions nobody."""
        event = json.loads(shown.raw)
        assert event["content"]["m.mentions"] == {}
        assert "@room" not in shown.raw
        html = shown.html
        assert html.startswith("<p>/me *web#7* &lt;script&gt;&amp;amp; @everyone `x`\ttab</p><pre>")
        assert "&lt;b&gt;x&lt;/b&gt; &amp; *y*" in html
        assert html.count("<pre>") == html.count("</pre>") == 1
