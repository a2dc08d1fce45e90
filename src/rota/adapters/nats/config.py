"""What an engine must not forget, and the configuration that its server reads.

Both lie in the engine's folder: ``engine.json`` is ours, ``nats.conf`` the server's. The server's
name is its identity in every Raft group it ever joined: lost, its streams are lost. So the name
stands in both files, and either one brings it back.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from typing import TYPE_CHECKING

import msgspec

from rota.adapters.nats.client import Login
from rota.core.voter import Voter
from rota.errors import UnavailableError
from rota.ports.voting import Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rota.ports.credentials import Credentials

HOST = "127.0.0.1"
MAX_PAYLOAD = 1 << 20
#: Of the disk that is free, so that others can still write.
DISK_SHARE = 0.8
MAX_MEMORY = 32 << 20
ACCOUNT = "ROTA"
#: Who may connect is said by the pins, in the handshake, before a password is even asked for. A
#: user's name only picks the account, so its password is no secret and needs none to be shared.
ROTA = Login("rota", "rota")
SYSTEM = Login("system", "system")
_NAME = re.compile(r'^server_name: "([^"]+)"$', re.MULTILINE)


class Ports(msgspec.Struct, frozen=True):
    """Where the server listens: for clients and routes on its host, the others on loopback."""

    client: int
    route: int
    leaf: int
    monitor: int


class Pid(msgspec.Struct, frozen=True):
    """A process, so that another one with the same number is told apart."""

    number: int
    started: int  # clock ticks since boot
    boot: str


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """One incarnation of a server.

    ``booted`` once it may hold data, and so must neither be emptied nor renamed; ``joined`` once
    it has seen its group elect somebody.
    """

    name: str
    ports: Ports
    leaf_password: str
    host: str = HOST
    disk: int = 0  # bytes it may keep
    booted: bool = False
    joined: bool = False
    process: Pid | None = None

    @property
    def server(self) -> Server:
        """Where others reach it."""
        return Server(self.name, self.host, self.ports.client, self.ports.route)


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What ``engine.json`` holds: our own server, if any, and the others as they were last known.

    ``pins`` has every member's, by the agent's name; ``coming`` those of next keys, where there are.
    """

    own: Own | None = None
    voters: tuple[Voter, ...] = ()
    pins: dict[str, str] = {}
    coming: dict[str, str] = {}

    @property
    def members(self) -> set[str]:
        """The pins of all members."""
        return {*self.pins.values(), *self.coming.values()}

    @property
    def voting(self) -> set[str]:
        """The pins of the voters' agents."""
        names = [voter.agent for voter in self.voters]
        return {pins[it] for pins in (self.pins, self.coming) for it in names if it in pins}

    @property
    def others(self) -> tuple[Voter, ...]:
        """The voters whose servers are not ours."""
        name = self.own.name if self.own else None
        return tuple(voter for voter in self.voters if voter.server != name)


class Folder:
    """The engine's folder and the files in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / "engine.json"
        self.conf = home / "nats.conf"
        self.log = home / "engine.log"
        self.store = home / "js"

    def create(self) -> None:
        """Make the folder, for nobody but us. Safe to call twice."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.chmod(0o700)

    def load(self) -> State:
        """Return what was saved; mended if it is damaged, an empty state for an empty folder.

        Raises:
            UnavailableError: there is data, but whose it is cannot be told any more.
        """
        try:
            state = msgspec.json.decode(self.state.read_bytes(), type=State)
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            state = State()
        if state.own is not None or not self.store.exists():
            return state
        if name := self._name_in_conf():
            own = new_own(name=name, booted=True, joined=True)
            return msgspec.structs.replace(state, own=own)
        raise UnavailableError(
            f"the engine's data in {self.store} has lost its name",
            hint=f"bring back {self.state} or {self.conf}, or move {self.home} away to begin anew",
        )

    def _name_in_conf(self) -> str | None:
        try:
            found = _NAME.search(self.conf.read_text(errors="replace"))
        except FileNotFoundError:
            return None
        return found[1] if found else None

    def save(self, state: State) -> None:
        """Write ``engine.json``, whole or not at all."""
        replace(self.state, msgspec.json.format(msgspec.json.encode(state)))

    def wipe(self) -> None:
        """Forget the server's data and its name; what we know of others stays."""
        shutil.rmtree(self.store, ignore_errors=True)
        self.conf.unlink(missing_ok=True)


def new_own(
    *, name: str | None = None, host: str = HOST, booted: bool = False, joined: bool = False
) -> Own:
    """Return an incarnation with free ports.

    Raises:
        UnavailableError: one cannot listen on ``host``.
    """
    return Own(
        name=name or f"a-{secrets.token_hex(8)}",
        host=host,
        ports=free_ports(host),
        leaf_password=secrets.token_urlsafe(24),
        booted=booted,
        joined=joined,
    )


def free_ports(host: str = HOST) -> Ports:
    """Return ports that nobody listens on now.

    Raises:
        UnavailableError: one cannot listen on ``host``.
    """
    hosts = (host, host, HOST, HOST)
    sockets = [socket.socket(_family(each)) for each in hosts]
    try:
        for each, where in zip(sockets, hosts, strict=True):
            each.bind((where, 0))
        return Ports(*(each.getsockname()[1] for each in sockets))
    except OSError as error:
        raise UnavailableError(
            f"the engine cannot listen on {host}: {error.strerror or error}",
            hint="an address of this machine is needed that the other agents can reach",
        ) from error
    finally:
        for each in sockets:
            each.close()


def are_free(ports: Ports, host: str = HOST) -> bool:
    """Whether a server could listen on all of them now."""
    hosts = (host, host, HOST, HOST)
    numbers = (ports.client, ports.route, ports.leaf, ports.monitor)
    for where, port in zip(hosts, numbers, strict=True):
        with socket.socket(_family(where)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((where, port))
            except OSError:
                return False
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def render(
    own: Own,
    state: State,
    credentials: Credentials,
    folder: Folder,
    *,
    further: Sequence[Server] = (),
) -> str:
    """Return the server's configuration.

    ``further`` are servers of ours that are no voters. The route to itself is what makes a lone
    server start as a cluster: a server outside of one could never grow into one with its data.
    Clients are accepted with the pin of any member, routes only with the pin of a voter's agent,
    and those lists are what a reload changes.
    """
    ports = own.ports
    members, voting = {credentials.pin, *state.members}, {credentials.pin, *state.voting}
    routes = [_route(own.host, ports.route)]
    routes += [_route(each.host, each.route) for each in further]
    routes += [_route(voter.host, voter.route) for voter in state.others if voter.is_listening]
    certificate = hashlib.sha256(credentials.cert.read_bytes()).hexdigest()
    return f"""# certificate {certificate}
server_name: {_quote(own.name)}
listen: {_quote(authority(own.host, ports.client))}
http: "{HOST}:{ports.monitor}"
max_payload: {MAX_PAYLOAD}
{_tls(credentials, members, "handshake_first: true")}
jetstream {{
  store_dir: {_quote(str(folder.store))}
  max_mem: {MAX_MEMORY}
  max_file: {own.disk}
  sync_interval: always
}}
cluster {{
  name: rota
  listen: {_quote(authority(own.host, ports.route))}
  no_advertise: true
  routes: {json.dumps(routes)}
  ping_interval: 1s
  ping_max: 2
  {_tls(credentials, voting)}
}}
leafnodes {{ listen: "{HOST}:{ports.leaf}" }}
accounts {{
  SYS {{ users: [{_user(SYSTEM)}] }}
  {ACCOUNT} {{ jetstream: enabled, users: [{_user(ROTA)}] }}
  LOOP {{ users: [{_user(Login("loop", own.leaf_password))}] }}
}}
system_account: SYS
"""


def _tls(credentials: Credentials, pins: Iterable[str], further: str = "") -> str:
    return f"""tls {{
    cert_file: {_quote(str(credentials.cert))}
    key_file: {_quote(str(credentials.key))}
    ca_file: {_quote(str(credentials.ca))}
    verify: true
    timeout: 3
    pinned_certs: {json.dumps(sorted(pins))}
    {further}
  }}"""


def _user(login: Login) -> str:
    return f"{{ user: {_quote(login.user)}, password: {_quote(login.password)} }}"


def _route(host: str, port: int) -> str:
    return f"nats-route://{authority(host, port)}"


def authority(host: str, port: int) -> str:
    """Return an address as URLs have it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def disk_budget(folder: Folder) -> int:
    """Return how many bytes the server may keep on disk."""
    kept = sum(path.stat().st_size for path in folder.store.rglob("*.blk"))
    return kept + int(free_bytes(folder.home) * DISK_SHARE)


def free_bytes(path: Path) -> int:
    """Return what may still be written where ``path`` lies."""
    return shutil.disk_usage(path).free


def replace(path: Path, data: bytes) -> None:
    """Write a file for our eyes only, so that a crash leaves the old or the new one whole."""
    fresh = path.with_name(f"{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    fresh.replace(path)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
