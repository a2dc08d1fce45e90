"""IRC servers for tests, with services or without, and a person who is beside the bot.

Servers are Debian's ngircd, InspIRCd and Atheme, each on a free port of 127.0.0.1 with its own folder. They
end with :meth:`IrcServer.close`. Where one is not installed tests that ask for it skip, and say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from tests.harness.certificates import authority
from tests.harness.people import Shown

from rota.adapters.clocks import SystemClock
from rota.adapters.irc import IrcNetwork
from rota.adapters.irc.lines import parse
from rota.adapters.irc.texts import MORE

PATIENCE_S = 30.0
PASSWORD = "sesame"
_P = TypeVar("_P", bound="Person")
_NGIRCD = """
[Global]
Name = irc.test.local
Info = test
Listen = 127.0.0.1
Ports = {port}
MotdPhrase = "Be nice"
{password}
[Limits]
MaxConnectionsIP = 0
MaxJoins = 50
MaxNickLength = 20
MaxPenaltyTime = 0
PingTimeout = 20
PongTimeout = 10
[Options]
DNS = no
Ident = no
PAM = no
IncludeDir = {folder}/none.d
[Operator]
Name = oper
Password = oper
"""
_INSPIRCD = """
<server name="irc.test.local" description="test" network="Test" id="97K">
<admin name="a" nick="a" email="a@localhost">
<bind address="127.0.0.1" port="{port}" type="clients">
<bind address="127.0.0.1" port="{tls_port}" type="clients" ssl="ours">
<bind address="127.0.0.1" port="{link_port}" type="servers">
<sslprofile name="ours" provider="gnutls" cafile="{folder}/server.pem" certfile="{folder}/server.pem"
  keyfile="{folder}/server.pem" requestclientcert="yes" hash="sha256">
<connect name="main" allow="*" maxchans="50" timeout="20" pingfreq="60s" hardsendq="1M" softsendq="8192"
  recvq="64K" localmax="1000" globalmax="1000" useident="no" resolvehostnames="no" commandrate="100000"
  fakelag="no" threshold="100000" {password}>
<class name="All" commands="*" privs="*" usermodes="*" chanmodes="*"><type name="All" classes="All">
<oper name="oper" password="oper" host="*@*" type="All">
<performance nouserdns="yes"><dns server="127.0.0.1" timeout="1">
<options cyclehostsfromuser="no"><security hidewhois="" maxtargets="20">
<log method="file" type="*" level="default" target="{folder}/log"><pid file="{folder}/pid">
<path configdir="{folder}" datadir="{folder}" logdir="{folder}" runtimedir="{folder}">
<chanhistory maxlines="500" notifyuser="no">
<sasl target="services.test.local" requiressl="no">
<uline server="services.test.local" silent="yes">
<link name="services.test.local" ipaddr="127.0.0.1" port="{link_port}" allowmask="127.0.0.1"
  sendpass="linked" recvpass="linked" timeout="10s">
{modules}
"""
_IRCV3 = (
    "cap ircv3 ircv3_accounttag ircv3_batch ircv3_capnotify ircv3_ctctags ircv3_echomessage ircv3_labeledresponse "
    "ircv3_msgid ircv3_servertime chanhistory monitor botmode"
)
_MODULES = (
    "sha256 ssl_gnutls starttls blockcolor sanick sajoin services_account sasl spanningtree sslinfo"
)
_ATHEME = """
loadmodule "modules/protocol/inspircd";
loadmodule "modules/backend/opensex";
loadmodule "modules/nickserv/main"; loadmodule "modules/nickserv/register"; loadmodule "modules/nickserv/identify";
loadmodule "modules/nickserv/ghost"; loadmodule "modules/nickserv/group"; loadmodule "modules/nickserv/cert";
loadmodule "modules/nickserv/enforce"; loadmodule "modules/nickserv/set_core"; loadmodule "modules/nickserv/logout";
loadmodule "modules/saslserv/main"; loadmodule "modules/saslserv/plain"; loadmodule "modules/saslserv/external";
serverinfo {{
  name = "services.test.local"; desc = "services"; numeric = "00A"; recontime = 1; netname = "Test";
  hidehostsuffix = "users.test"; adminname = "a"; adminemail = "a@localhost"; registeremail = "a@localhost";
  mta = "/bin/true"; loglevel = {{ all; }}; maxlogins = 50; maxusers = 50; mdlimit = 30; emaillimit = 10;
  emailtime = 300; auth = none; casemapping = ascii;
}};
uplink "irc.test.local" {{
  host = "127.0.0.1"; port = {link_port}; send_password = "linked"; receive_password = "linked";
}};
general {{ flood_msgs = 0; commit_interval = 5; default_clone_allowed = 100; }};
nickserv {{ spam; no_nick_ownership = false; nick = "NickServ"; user = "services"; host = "services"; real = "n"; }};
saslserv {{ nick = "SaslServ"; user = "services"; host = "services"; real = "s"; }};
database {{ }};
"""


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        number: int = sock.getsockname()[1]
        return number


class ClientKey(NamedTuple):
    """What somebody shows instead of a password."""

    pem: str
    fingerprint: str


class IrcServer:
    """A server that can be killed and started again.

    Args:
        kind: ``ngircd`` or ``inspircd``.
        ircv3: Whether InspIRCd has what IRCv3 added.
        services: Whether Atheme keeps accounts beside it.
        password: Of the server.
    """

    def __init__(
        self, kind: str, *, ircv3: bool = True, services: bool = False, password: str = ""
    ) -> None:
        self.kind, self.services, self.password = kind, services, password
        self.folder = Path(tempfile.mkdtemp(prefix=f"rota-{kind}-"))
        self.port, self.tls_port, self.link_port = free_port(), free_port(), free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        (self.folder / "none.d").mkdir()
        if kind == "ngircd":
            said = f"Password = {password}" if password else ""
            text = _NGIRCD.format(port=self.port, folder=self.folder, password=said)
        else:
            self.ca = authority()
            self.ca.server(self.folder)
            next(self.folder.glob("server-*.pem")).rename(self.folder / "server.pem")
            (self.folder / "ca.pem").write_text(self.ca.pem)
            names = f"{_IRCV3} {_MODULES}" if ircv3 else _MODULES
            text = _INSPIRCD.format(
                port=self.port,
                tls_port=self.tls_port,
                link_port=self.link_port,
                folder=self.folder,
                password=f'password="{password}"' if password else "",
                modules="\n".join(f'<module name="{name}">' for name in names.split()),
            )
        (self.folder / "conf").write_text(text)
        (self.folder / "atheme.conf").write_text(_ATHEME.format(link_port=self.link_port))
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens."""
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "irc", str(self.folder)], check=True)
        if self.kind == "ngircd":
            self._run("ngircd", "-n", "-f", f"{self.folder}/conf")
        else:
            self._run("inspircd", "--config", f"{self.folder}/conf", "--nofork", "--nopid")
        self._until_it_runs()
        if self.services:
            self.start_services()

    def start_services(self) -> None:
        """Start what keeps accounts."""
        self._run(
            "atheme-services", "-n", "-c", f"{self.folder}/atheme.conf", "-D", str(self.folder),
            "-p", f"{self.folder}/atheme.pid", "-l", f"{self.folder}/atheme.log",
        )  # fmt: skip

    def stop_services(self) -> None:
        """Have them write down what they know, and end."""
        process = self._processes.pop()
        process.terminate()
        process.wait()

    @property
    def ca_file(self) -> str:
        """Who signed its certificate."""
        return str(self.folder / "ca.pem")

    def client(self, name: str) -> ClientKey:
        """Return a key and a certificate for somebody."""
        path = self.folder / f"{name}.pem"
        self.ca.server(self.folder)
        next(self.folder.glob("server-*.pem")).rename(path)
        pem = path.read_text()
        certificate = x509.load_pem_x509_certificate(pem.encode())
        return ClientKey(pem, certificate.fingerprint(hashes.SHA256()).hex())

    def _run(self, *argv: str) -> None:
        drop = ("setpriv", "--reuid", "irc", "--regid", "irc", "--clear-groups")
        with (self.folder / ("out" if not self._processes else "services")).open("wb") as out:
            self._processes.append(
                subprocess.Popen(
                    [*(drop if os.geteuid() == 0 else ()), *argv],
                    stdout=out,
                    stderr=out,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )

    def _until_it_runs(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            said = (self.folder / "out").read_text(errors="replace")
            if "is now running" in said or "ready." in said:
                return
            if time.monotonic() > deadline or self._processes[-1].poll() is not None:
                raise AssertionError(f"{self.kind}: {said[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a power cut does; services write down what they know."""
        if len(self._processes) > 1:
            self.stop_services()
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    def freeze(self, *, frozen: bool = True) -> None:
        """Let it say nothing more, and go on."""
        for process in self._processes:
            process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Person:
    """Somebody with a client of IRC: sends lines, and keeps what comes."""

    def __init__(
        self, nick: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.nick = nick
        self._reader, self._writer = reader, writer
        self.lines: list[str] = []
        self._at = 0

    def send(self, *lines: str) -> None:
        """Send lines."""
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())

    def say(self, target: str, text: str) -> None:
        """Say something."""
        self.send(f"PRIVMSG {target} :{text}")

    async def line(self, fits: Callable[[str], bool] | str) -> str:
        """Return the next line that fits or has that in it; wait until it comes."""
        test = (lambda it: fits in it) if isinstance(fits, str) else fits
        async with asyncio.timeout(PATIENCE_S):
            while True:
                while self._at < len(self.lines):
                    self._at += 1
                    if test(self.lines[self._at - 1]):
                        return self.lines[self._at - 1]
                await self._read()

    async def _read(self) -> None:
        raw = await self._reader.readline()
        if not raw:
            raise EOFError(f"{self.nick} was thrown out: {self.lines[-3:]}")
        line = raw.decode(errors="replace").rstrip("\r\n")
        if line.startswith("PING"):
            self.send(line.replace("PING", "PONG", 1))
        self.lines.append(line)

    async def all(self) -> list[str]:
        """Return all that came until now: what the server sent before it answers a PING."""
        token = f"all-{len(self.lines)}"
        self.send(f"PING {token}")
        async with asyncio.timeout(PATIENCE_S):
            while not any(token in line for line in self.lines):
                await self._read()
        return self.lines

    def heard(self, nick: str) -> list[str]:
        """Return what somebody wrote, as far as it was read."""
        found = []
        for line in self.lines:
            bare = line.partition(" ")[2] if line.startswith("@") else line
            if bare.startswith(f":{nick}!") and " PRIVMSG " in bare:
                found.append(bare.split(" :", 1)[1])
        return found

    async def join(self, *rooms: str) -> None:
        """Join rooms."""
        for room in rooms:
            self.send(f"JOIN {room}")
            await self.line(f" 366 {self.nick} {room}")

    async def quit(self) -> None:
        """Leave, and wait until the server has seen it."""
        self.send("QUIT :bye")
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                await self._read()
        self._writer.close()

    def vanish(self) -> None:
        """Be gone without a word."""
        self._writer.transport.abort()


async def person(
    server: IrcServer,
    nick: str,
    *,
    caps: str = "",
    host: str = "127.0.0.1",
) -> Person:
    """Return somebody who is connected to a server."""
    return await connected(Person, server, nick, caps=caps, host=host)


async def connected(
    kind: type[_P], server: IrcServer, nick: str, *, caps: str = "", host: str = "127.0.0.1"
) -> _P:
    """Return somebody of that kind who is connected to a server."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, local_addr=(host, 0), limit=1 << 20
    )
    found = kind(nick, reader, writer)
    if server.password:
        found.send(f"PASS {server.password}")
    if caps:
        found.send(f"CAP REQ :{caps}", "CAP END")
    found.send(f"NICK {nick}", f"USER {nick} 0 * :{nick}")
    await found.line(lambda line: " 376 " in line or " 422 " in line)
    return found


@contextlib.asynccontextmanager
async def people(server: IrcServer, *nicks: str, room: str = "#web") -> AsyncIterator[list[Person]]:
    """Give people who are in a room."""
    found = await asyncio.gather(*(person(server, nick) for nick in nicks))
    try:
        for one in found:
            await one.join(room)
        yield found
    finally:
        for one in found:
            one.vanish()


async def register(server: IrcServer, account: str, password: str) -> None:
    """Have services keep an account of that name."""
    one = await person(server, account)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        one.say("NickServ", f"REGISTER {password} {account}@example.org")
        said = await one.line(lambda it: "NickServ" in it or " 401 " in it)
        if "NickServ!" in said:
            break
        assert time.monotonic() < deadline, "services do not come"
        await asyncio.sleep(0.05)
    await one.quit()


def _needs(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/bin"):
            pytest.skip(f"{program} is not installed")


def _served(kind: str, **options: object) -> Iterator[IrcServer]:
    _needs(kind, *(["atheme-services"] if options.get("services") else []))
    server = IrcServer(kind, **options)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def ngircd() -> Iterator[IrcServer]:
    """A server as of old: no IRCv3, no services."""
    yield from _served("ngircd")


@pytest.fixture(scope="module")
def inspircd() -> Iterator[IrcServer]:
    """A server with IRCv3."""
    yield from _served("inspircd")


@pytest.fixture(scope="module")
def with_services() -> Iterator[IrcServer]:
    """A server with IRCv3, and accounts."""
    yield from _served("inspircd", services=True)


class IrcPerson(Person):
    """Somebody in a room of its own; what the bot wrote is put together again."""

    def __init__(
        self, nick: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(nick, reader, writer)
        self.name, self.who, self.room = nick, "", ""
        self.shown: list[Shown] = []

    async def know_yourself(self) -> None:
        """Ask the server who we are."""
        self.send(f"WHOIS {self.nick} {self.nick}")
        user = (await self.line(" 311 ")).split()
        since = (await self.line(" 317 ")).split()
        self.who = f"session:{self.nick}!{user[4]}@{user[5]}/{since[5]}"

    async def write(self, to: str, text: str, *, thread: str = "") -> None:
        """Say something."""
        assert not thread
        self.say(to, text)

    async def enter(self, room: str) -> None:
        """Join a room."""
        self.room = room
        await self.join(room)

    async def _read(self) -> None:
        await super()._read()
        line = parse(self.lines[-1].encode())
        if line is None or line.command != "PRIVMSG" or line.source.nick != "rota":
            return
        text, target = line.text, line.param(0)
        if text.startswith(("| ", MORE, "https://")) and self.shown:
            last = self.shown.pop()
            more = text.removeprefix(MORE) if text.startswith(MORE) else f"\n{text[2:]}"
            more = f"\n{text}" if text.startswith("https://") else more
            self.shown.append(replace(last, text=last.text + more, raw=f"{last.raw}\n{text}"))
        else:
            self.shown.append(Shown(by="rota", room=target, text=text, raw=text))

    async def sees(self, count: int, *, within_s: float = 20.0) -> list[Shown]:
        """Return what the bot wrote, once there are so many messages, each whole."""
        async with asyncio.timeout(within_s):
            while len(self.shown) < count:
                await self._read()
        await self.all()
        return self.shown


class IrcBench:
    """What the tests of all networks need of this one."""

    kind = "irc"
    refused = "server_password is wrong or missing"
    nowhere = f"#{'x' * 100}"
    nobody = "nobody"
    remembers = False  # without a mode of the room
    knows = False

    def __init__(self, server: IrcServer) -> None:
        self.server = server
        self._numbers = itertools.count()

    @contextlib.asynccontextmanager
    async def person(self, name: str = "ann") -> AsyncIterator[IrcPerson]:
        """Give somebody in a new room."""
        found = await connected(IrcPerson, self.server, name)
        try:
            await found.know_yourself()
            await found.enter(f"#r{next(self._numbers)}")
            yield found
        finally:
            found.vanish()

    def network(self, *rooms: str, **changes: Any) -> IrcNetwork:
        """Return the bot, not connected yet."""
        values: dict[str, Any] = {
            "port": self.server.port,
            "tls": "none",
            "every_s": 0.001,
            "server_password": PASSWORD,
        }
        return IrcNetwork(
            "net", clock=SystemClock(), server="127.0.0.1", rooms=rooms, **{**values, **changes}
        )

    def impostor(self) -> IrcNetwork:
        """Return the bot with a wrong password."""
        return self.network(server_password="wrong")

    def to_bot(self) -> str:
        """Return where a person writes to the bot alone."""
        return "rota"

    def check_literal(self, shown: Shown) -> None:
        """Nothing begins as a command, and code is marked as such."""
        first, *others = shown.raw.split("\n")
        assert first.startswith(" /me *web#7* <script>&amp; @everyone `x` ")
        assert all(line.startswith("| ") for line in others[:-1])
        assert not set(shown.raw) & {chr(code) for code in range(32)} - {"\n"}


def irc_bench() -> IrcBench:
    """Return a server with a password."""
    _needs("ngircd")
    return IrcBench(IrcServer("ngircd", password=PASSWORD))
