"""What an engine must not forget, and the configuration that its server reads.

Both lie in the engine's folder: ``engine.json`` is ours, ``nats.conf`` the server's. The server's
name is its identity in every Raft group it ever joined: lost, its streams are lost. So the name
stands in both files, and either one brings it back.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
from pathlib import Path

import msgspec

from rota.adapters.nats.client import Login
from rota.errors import UnavailableError

HOST = "127.0.0.1"
MAX_PAYLOAD = 1 << 20
#: Of the disk that is free, so that others can still write.
DISK_SHARE = 0.8
MAX_MEMORY = 32 << 20
_NAME = re.compile(r'^server_name: "([^"]+)"$', re.MULTILINE)


class Ports(msgspec.Struct, frozen=True):
    """Where the server listens; all on loopback."""

    client: int
    route: int
    leaf: int
    monitor: int


class Passwords(msgspec.Struct, frozen=True):
    """Random, one an account; they stand nowhere but in the engine's folder (mode 0600)."""

    system: str
    rota: str
    loop: str
    route: str

    @property
    def system_login(self) -> Login:
        """For membership: the account that sees no data."""
        return Login("system", self.system)

    @property
    def rota_login(self) -> Login:
        """For the journal, the logs and the blobs."""
        return Login("rota", self.rota)


class Pid(msgspec.Struct, frozen=True):
    """A process, so that another one with the same number is told apart."""

    number: int
    started: int  # clock ticks since boot
    boot: str


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One incarnation of a server. ``booted`` once it is a cluster of one that holds data."""

    name: str
    ports: Ports
    passwords: Passwords
    booted: bool = False
    process: Pid | None = None


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

    def load(self) -> State | None:
        """Return what was saved; mended if it is damaged, ``None`` for an empty folder.

        Raises:
            UnavailableError: there is data, but whose it is cannot be told any more.
        """
        try:
            return msgspec.json.decode(self.state.read_bytes(), type=State)
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            pass
        if not self.store.exists():
            return None
        if name := self._name_in_conf():
            return new_state(name=name, booted=True)
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
        """Forget the server and its data."""
        shutil.rmtree(self.store, ignore_errors=True)
        for path in (self.state, self.conf):
            path.unlink(missing_ok=True)


def new_state(*, name: str | None = None, booted: bool = False) -> State:
    """Return an incarnation with free ports and fresh passwords."""
    return State(
        name=name or f"a-{secrets.token_hex(8)}",
        ports=free_ports(),
        passwords=Passwords(*(secrets.token_urlsafe(24) for _ in range(4))),
        booted=booted,
    )


def free_ports() -> Ports:
    """Return ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(4)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return Ports(*(each.getsockname()[1] for each in sockets))
    finally:
        for each in sockets:
            each.close()


def are_free(ports: Ports) -> bool:
    """Whether a server could listen on all of them now."""
    for port in (ports.client, ports.route, ports.leaf, ports.monitor):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True


def render(state: State, folder: Folder, *, routes: tuple[int, ...] = ()) -> str:
    """Return the server's configuration.

    ``routes`` are ports of further servers on this host. The route to itself is what makes a lone
    server start as a cluster: a server outside of one could never grow into one with its data.
    """
    ports, words = state.ports, state.passwords
    route_urls = [f"nats://route:{words.route}@{HOST}:{port}" for port in (ports.route, *routes)]
    return f"""server_name: {_quote(state.name)}
listen: "{HOST}:{ports.client}"
http: "{HOST}:{ports.monitor}"
max_payload: {MAX_PAYLOAD}
jetstream {{
  store_dir: {_quote(str(folder.store))}
  max_mem: {MAX_MEMORY}
  max_file: {disk_budget(folder)}
  sync_interval: always
}}
cluster {{
  name: rota
  listen: "{HOST}:{ports.route}"
  authorization {{ user: route, password: {_quote(words.route)}, timeout: 2 }}
  routes: {json.dumps(route_urls)}
  ping_interval: 1s
  ping_max: 2
}}
leafnodes {{ listen: "{HOST}:{ports.leaf}" }}
accounts {{
  SYS {{ users: [{{ user: system, password: {_quote(words.system)} }}] }}
  ROTA {{ jetstream: enabled, users: [{{ user: rota, password: {_quote(words.rota)} }}] }}
  LOOP {{ users: [{{ user: loop, password: {_quote(words.loop)} }}] }}
}}
system_account: SYS
"""


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
