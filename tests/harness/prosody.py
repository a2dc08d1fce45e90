"""A real XMPP server for tests: Prosody, on loopback, with rooms and archives."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from slixmpp import JID, ClientXMPP
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath
from tests.harness.certificates import authority
from tests.harness.people import Shown

from rota.adapters.clocks import SystemClock
from rota.adapters.xmpp import XmppNetwork

#: The test's own people, each with the password pw + name.
PEOPLE = ("rota", "ann", "bob", "mallory")
DOMAIN = "localhost"
ROOMS = f"conference.{DOMAIN}"
#: Rooms where only moderators see who is who.
HIDDEN = f"hidden.{DOMAIN}"
#: Rooms without an archive.
FORGETFUL = f"forgetful.{DOMAIN}"

_CONFIG = """
daemonize = false
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
admin_socket = "{folder}/admin.sock"
log = {{ info = "*console" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}; c2s_direct_tls_ports = {{ {tls_port} }}; legacy_ssl_ports = {{ {tls_port} }}
component_ports = {{}}; http_ports = {{}}; https_ports = {{}}; s2s_ports = {{}}
modules_enabled = {{ "roster"; "saslauth"; "disco"; "posix"; "ping"; "mam"; "tls"; "c2s"; "time" }}
modules_disabled = {{ "s2s" }}
c2s_require_encryption = true
authentication = "internal_plain"
ssl = {{ key = "{folder}/key.pem"; certificate = "{folder}/certificate.pem" }}
muc_room_locking = false
muc_room_default_persistent = true
VirtualHost "{domain}"
Component "conference.{domain}" "muc"
  modules_enabled = {{ "muc_mam" }}
  muc_room_default_public_jids = true
  restrict_room_creation = false
Component "hidden.{domain}" "muc"
  modules_enabled = {{ "muc_mam" }}
Component "forgetful.{domain}" "muc"
  muc_room_default_public_jids = true
"""


class Prosody:
    """One server; killed and started again it has what it had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.tls_port = _free_port(), _free_port()
        self.ca = folder / "ca.pem"
        self._process: subprocess.Popen[bytes] | None = None
        accounts = folder / "data" / DOMAIN / "accounts"
        accounts.mkdir(parents=True)
        for person in PEOPLE:
            (accounts / f"{person}.dat").write_text(f'return {{ ["password"] = "pw{person}"; }};\n')
        made = authority()
        self.ca.write_text(made.pem)
        names = (DOMAIN, ROOMS, HIDDEN, FORGETFUL)
        key, certificate = made.pems(*names)
        (folder / "key.pem").write_bytes(key)
        (folder / "certificate.pem").write_bytes(certificate)
        (folder / "prosody.cfg.lua").write_text(
            _CONFIG.format(folder=folder, port=self.port, tls_port=self.tls_port, domain=DOMAIN)
        )

    def start(self) -> None:
        """Start it, and return when it listens."""
        argv = ["prosody", "-F", "--config", str(self.folder / "prosody.cfg.lua")]
        if os.geteuid() == 0:  # it refuses to be root
            subprocess.run(["chown", "-R", "prosody", str(self.folder)], check=True)
            as_prosody = ["--reuid", "prosody", "--regid", "prosody", "--clear-groups"]
            argv = ["setpriv", "--pdeathsig", "KILL", *as_prosody, *argv]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.folder)
        for port in (self.port, self.tls_port):
            _until_it_listens(self._process, port, self.folder / "log")

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it, and leave nothing."""
        self.kill()
        shutil.rmtree(self.folder)


def prosody() -> Prosody:
    """Return a server that runs, or skip the test; :meth:`Prosody.close` it."""
    if shutil.which("prosody") is None or (os.geteuid() == 0 and shutil.which("setpriv") is None):
        pytest.skip("prosody is not installed (Debian: prosody)")
    # Another user's, where we are root: pytest's folders are closed to it.
    folder = Path(tempfile.mkdtemp(prefix="rota-prosody-"))
    folder.chmod(0o755)
    made = Prosody(folder)
    made.start()
    return made


def _until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on {port}: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class XmppPerson:
    """A person's client: what it shows, and what it is told to write."""

    def __init__(self, server: Prosody, name: str, room: str, *, nick: str = "") -> None:
        self.name, self.who, self.room = name, f"{name}@{DOMAIN}", room
        self._nick = nick or name
        self._server = server
        self.shown: list[Shown] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> XmppPerson:
        self.client = ClientXMPP(
            f"{self.who}/home",
            f"pw{self.name}",
            ssl_context=ssl.create_default_context(cafile=self._server.ca),
        )
        self.client.enable_direct_tls = False
        self.client.register_plugin("xep_0045")
        self.client.register_plugin("xep_0203")
        started = asyncio.get_running_loop().create_future()
        self.client.add_event_handler("session_start", started.set_result)
        self.client.register_handler(Callback("shown", StanzaPath("message"), self._on_message))
        _ = self.client.connect("127.0.0.1", self._server.port)
        await asyncio.wait_for(started, 20)
        self.client.send_presence()
        await self.enter(self.room)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.client.cancel_connection_attempt()
        gone = asyncio.Event()
        self.client.add_event_handler("disconnected", lambda _: gone.set())
        if self.client.transport is not None:
            self.client.abort()
            await asyncio.wait_for(gone.wait(), 5)
        sending = self.client._run_out_filters
        assert sending is not None
        sending.cancel()

    async def enter(self, room: str) -> None:
        """Enter a room, which makes it."""
        muc = self.client.plugin["xep_0045"]
        await muc.join_muc_wait(JID(room), self._nick, maxstanzas=0, timeout=20)

    async def leave(self) -> None:
        """Leave the room."""
        self.client.plugin["xep_0045"].leave_muc(JID(self.room), self._nick)

    @property
    def nicks(self) -> set[str]:
        """Who is in the room."""
        return set(self.client.plugin["xep_0045"].rooms[None][JID(self.room)])

    def whisper(self, to: str, text: str) -> None:
        """Send a message to one of the room."""
        self.client.send_message(JID(to), text, mtype="chat")

    async def write(
        self, to: str, text: str, *, thread: str = "", inject: Sequence[ET.Element] = ()
    ) -> None:
        """Send a message to a room or a person."""
        assert not thread
        kind: Literal["groupchat", "chat"] = (
            "chat" if to.partition("@")[2] == DOMAIN else "groupchat"
        )
        message = self.client.make_message(JID(to), text, mtype=kind)
        for element in inject:
            message.xml.append(element)
        message.send()

    async def sees(self, count: int, *, within_s: float = 20.0) -> list[Shown]:
        """Return what others wrote, once there are ``count`` messages."""
        async with asyncio.timeout(within_s):
            while len(self.shown) < count:
                self._news.clear()
                await self._news.wait()
        return self.shown

    async def shows(self, fits: Callable[[str], bool], *, within_s: float = 30.0) -> Shown:
        """Return the first message that fits, once there is one."""
        async with asyncio.timeout(within_s):
            while True:
                for shown in self.shown:
                    if fits(shown.text):
                        return shown
                self._news.clear()
                await self._news.wait()

    def _on_message(self, message: Any) -> None:
        sender = message["from"]
        if not message["body"] or sender.resource == self._nick:
            return
        nick = sender.resource if message["type"] == "groupchat" else sender.user
        self.shown.append(
            Shown(
                by=nick,
                room=sender.bare,
                text=message["body"],
                raw=str(message),
                id=message["id"],
            )
        )
        self._news.set()


class XmppBench:
    """What the tests of all networks need of this one."""

    kind = "xmpp"
    #: What the network says of credentials that are none, of rooms that are none.
    refused = "127.0.0.1:{port} refuses rota@localhost: not-authorized"
    nowhere = "nowhere@conference.localhost"
    nobody = "nobody@localhost"
    remembers = True
    knows = True

    def __init__(self, server: Prosody) -> None:
        self.server = server
        self.refused = self.refused.format(port=server.port)
        self._numbers = itertools.count()

    @contextlib.asynccontextmanager
    async def person(self, name: str = "ann") -> AsyncIterator[XmppPerson]:
        """A person's client, in a new room of its own: :attr:`XmppPerson.room`."""
        room = f"r{next(self._numbers)}@{ROOMS}"
        async with XmppPerson(self.server, name, room) as person:
            yield person

    def network(self, *rooms: str, **changes: Any) -> XmppNetwork:
        """The bot, not connected yet."""
        values: dict[str, Any] = {
            "account": f"rota@{DOMAIN}",
            "password": "pwrota",
            "server": "127.0.0.1",
            "port": self.server.port,
            "ca": str(self.server.ca),
            "clock": SystemClock(),
            "rooms": rooms,
        }
        return XmppNetwork("net", **{**values, **changes})

    def impostor(self) -> XmppNetwork:
        """The bot with a wrong password."""
        return self.network(password="wrong")

    def to_bot(self) -> str:
        """Where a person writes to the bot alone."""
        return f"rota@{DOMAIN}"

    def check_literal(self, shown: Shown) -> None:
        """Code stands between two fences, which nothing in it ends."""
        lines = shown.text.split("\n")
        assert lines[0] == "\u200b/me *web#7* <script>&amp; @everyone `x`\ttab"
        fences = [number for number, line in enumerate(lines) if line.startswith("```")]
        assert fences == [1, len(lines) - 2]
