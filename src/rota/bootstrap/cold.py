"""`rota doctor` where no agent answers: what its folder shows of why it would not start."""

from __future__ import annotations

import contextlib
import fcntl
import re
import socket
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from rota.adapters.clocks import SystemClock
from rota.adapters.git.health import examine
from rota.adapters.nats.binary import find_binary
from rota.adapters.nats.config import Folder
from rota.adapters.pki import TlsKeyring
from rota.agent.joining import read_known
from rota.bootstrap.probes import certificate_of
from rota.daemon.folder import DataFolder
from rota.daemon.nameplate import FILE, read_nameplate
from rota.daemon.sockets import host_port
from rota.errors import RotaError
from rota.service.doctor import machine, processes
from rota.service.doctor.check import finding
from rota.service.messages import Finding

LOG = "agent.log"
LOG_BYTES = 64 << 10
_COMPLAINT = re.compile(r"\b(ERROR|CRITICAL|error:|Traceback)\b|^rota: ")


async def examine_folder(data: Path) -> list[Finding]:
    """Return what is wrong with an agent's folder and machine, while no agent answers there."""
    name = ""
    with contextlib.suppress(RotaError):
        name = read_nameplate(DataFolder(data).read(FILE), data).name
    if not data.is_dir():
        hint = (
            f"rota agent --data {data} --daemon starts a new one; or name the right folder: --data"
        )
        return [finding("folder", name, f"there is no folder {data}", hint)]
    found = [
        *_of("folder", _held(data)),
        *_of("folder", _readable(data)),
        *_of("versions", _known_to_us(data)),
        *_of("disk", machine.disk(data)),
        *_of("options", machine.own_file(data)),
        *_of("limits", processes.limits(1)),
        *_of("zones", machine.zones()),
        *_of("permissions", machine.permissions(data)),
        *_of("certificate", _certificate(data)),
        *_of("engine", _engine(data)),
        *_of("index", _index(data)),
        *_of("git", await _git(data)),
        *_of("log", _last_words(data)),
    ]
    return [finding(check, name, what, hint) for check, (what, hint) in found]


def _of(check: str, found: Iterable[machine.Found]) -> list[tuple[str, machine.Found]]:
    """Return what a check found; what it cannot look at is a finding as well."""
    taken = []
    try:
        taken += [(check, it) for it in found]
    except RotaError as error:
        taken.append((check, (error.message, error.hint or "see agent.log")))
    except OSError as error:
        taken.append((check, (f"{error.filename}: {error.strerror}", "is it another user's?")))
    return taken


def _held(data: Path) -> Iterator[machine.Found]:
    """Say whether a process holds the folder that does not answer."""
    path = data / "agent.pid"
    if not path.exists():
        yield (
            f"no agent was ever started in {data}",
            f"rota agent --data {data} --daemon; or name the right folder: --data DIR",
        )
        return
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = file.read().strip() or "?"
            yield (
                f"process {pid} holds {data} and does not answer: it starts still, or hangs",
                f"see {data / LOG}; if it hangs: kill -9 {pid}, its builds go on",
            )
        else:
            yield f"no agent runs in {data}", f"rota agent --data {data} --daemon"


def _known_to_us(data: Path) -> Iterator[machine.Found]:
    """Look whether this rota is new enough for what ran here."""
    read_nameplate(DataFolder(data).read(FILE), data)
    yield from ()


def _readable(data: Path) -> Iterator[machine.Found]:
    """Look at the small files that a start needs."""
    read_known(data)
    listen = DataFolder(data).read("listen")
    if listen:
        host, port = host_port(listen)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                yield (
                    f"it cannot listen on {listen}: {error.strerror}",
                    "another program has the port: ss -ltnp; or give another one: --listen",
                )


def _certificate(data: Path) -> Iterator[machine.Found]:
    """Look at the certificate: one whose time is over is signed anew, where that can be done."""
    if not (data / "tls").exists():
        return
    keyring = TlsKeyring(data / "tls", SystemClock())
    present, now = certificate_of(keyring), SystemClock().now()
    if present.until < now and not keyring.is_authority:
        yield (
            f"the certificate ended at {present.until:%Y-%m-%d %H:%M} UTC, and this agent cannot sign",
            "join again by a token: rota agent --join TOKEN",
        )
    if now < present.since:
        yield (
            f"the certificate holds from {present.since:%Y-%m-%d %H:%M} UTC, the clock is before that",
            "set the clock: timedatectl set-ntp true",
        )


def _engine(data: Path) -> Iterator[machine.Found]:
    """Look whether there is a server to start, and whether what it keeps has its name."""
    find_binary()
    home = data / "engine"
    if not home.exists():
        return
    own = Folder(home).load().own
    if own is not None and own.booted and not (home / "js").exists():
        yield (
            f"the engine's data in {home / 'js'} is gone",
            "bring it back; or with others in the cluster: remove engine/, another takes its place",
        )


def _index(data: Path) -> Iterator[machine.Found]:
    """Look whether SQLite can read the index."""
    path = data / "index.db"
    if not path.exists():
        return
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0) as opened:
            said = opened.execute("PRAGMA quick_check(1)").fetchone()[0]
        opened.close()
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        yield f"{path} is damaged: {said}", f"remove it; it is made again: rm {path}*"


async def _git(data: Path) -> list[machine.Found]:
    """Look at the store."""
    path = data / "store.git"
    if not path.exists():
        return []
    try:
        faults = (await examine(path)).faults
    except RotaError as error:
        return [(error.message, error.hint or "is git installed?")]
    hint = f"with others in the cluster: remove {path}; alone: bring a clone back"
    return [(f"the store is damaged: {text}", hint) for text in faults[:5]]


def _last_words(data: Path) -> Iterator[machine.Found]:
    """Say what the agent complained of last."""
    path = data / LOG
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    said = next((line for line in reversed(lines) if _COMPLAINT.search(line)), "")
    if said:
        yield f"it last complained: {said.strip()[:300]}", f"the lines before it are in {path}"
