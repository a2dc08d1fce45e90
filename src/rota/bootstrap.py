"""The composition root: the only module that names adapters and puts them together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import getpass
import logging
import os
import platform
import re
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import uvloop
from aiohttp import web

import rota
from rota.adapters.clocks import SystemClock
from rota.adapters.git import GitService, GitStore
from rota.adapters.inotify import InotifyWatcher
from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_store import MemoryIndex, MemoryStore
from rota.adapters.nats import Engine
from rota.adapters.nats.blobs import NatsBlobs
from rota.adapters.nats.journal import NatsJournal
from rota.adapters.nats.logs import NatsLogs
from rota.adapters.process import ProcessExecutor
from rota.adapters.shown import MeasuredBlobs, ShownLogs
from rota.adapters.sqlite_index import SqliteIndex
from rota.agent.agent import Ports, background
from rota.agent.agent import run_agent as run_the_agent
from rota.agent.health import run_health
from rota.agent.solo import run_solo
from rota.core.build import Build
from rota.core.header import decode_script
from rota.core.ids import parse_agent_name
from rota.core.labels import parse_agent_labels
from rota.core.settings import Settings
from rota.errors import ConflictError, InputError, UnavailableError
from rota.http.access import Access
from rota.http.app import make_app, make_runner
from rota.service.context import Myself

logger = logging.getLogger("rota")

#: sun_path of unix(7) holds 108 bytes with the final NUL; a longer path goes through /proc.
MAX_SOCKET_PATH = 107
MAX_SLOTS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentOptions:
    """What `rota agent` was given. ``ready_fd`` gets the line `ready` once builds are taken."""

    data: Path
    name: str | None = None
    listen: str | None = None
    labels: str = ""
    slots: int | None = None
    join: str | None = None
    bus: str | None = None
    ready_fd: int | None = None


def run_agent(options: AgentOptions) -> int:
    """Run an agent until it is told to stop; return the exit status."""
    _refuse_unsupported(options)
    logging.basicConfig(
        level=os.environ.get("ROTA_LOG", "INFO").upper(),
        format="%(asctime)s %(levelname)-7s %(message)s",
        stream=sys.stderr,
    )
    options.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close_on_exec(keep=2)
    with _lock(options.data), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(options))


def _refuse_unsupported(options: AgentOptions) -> None:
    for flag, value in (("--join", options.join), ("--bus", options.bus)):
        if value is not None:
            raise InputError(f"{flag} is not supported by this version: it runs one agent")


def _close_on_exec(keep: int) -> None:
    """Let no script have what our own parent left open, such as make's job server."""
    for entry in Path("/proc/self/fd").iterdir():
        if int(entry.name) > keep:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(entry.name), False)


async def _serve(options: AgentOptions) -> int:
    stopping, serving = asyncio.Event(), asyncio.current_task()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        # Before it is ready nobody waits for the event: what is being started is given up.
        stopping.set()
        if serving is not None and not ready.is_set():
            serving.cancel()

    ready = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with Engine(options.data / "engine") as engine:
        try:
            async with contextlib.AsyncExitStack() as stack:
                await _run(options, engine, stack, stopping, ready)
        except asyncio.CancelledError:
            if not stopping.is_set():
                raise
            logger.info("told to stop before it was ready")
        # Only here: a daemon that crashed leaves its engine alive, to be taken over.
        await engine.stop()
    logger.info("stopped")
    return 0


async def _run(
    options: AgentOptions,
    engine: Engine,
    stack: contextlib.AsyncExitStack,
    stopping: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    data, me = options.data, _myself(options)
    store = await stack.enter_async_context(GitStore(data / "store.git"))
    ports = await _ports(stack, engine, store, data)
    tcp = stack.enter_context(_tcp_socket(options))
    url = _url(tcp)
    path = data / "rota.sock"
    agent = await stack.enter_async_context(
        run_the_agent(me, ports, stop=stopping.set, socket=str(path), url=url)
    )
    git = await stack.enter_async_context(GitService(store, agent.follower.pushed))
    app = make_app(agent.service, Access(_token(data)).principal, git)
    await _listen(stack, app, path, tcp)
    await stack.enter_async_context(
        background(
            run_health(agent.service.world, data, lambda: engine.trouble, agent.loop.decide_soon)
        )
    )
    logger.info("%s is ready: %s, data in %s", me.name, url, data)
    ready.set()
    _say_ready(options.ready_fd)
    await stopping.wait()
    logger.info("stopping; builds that run go on: %d", len(agent.runner.active))
    _notify("STOPPING=1")


async def _ports(
    stack: contextlib.AsyncExitStack, engine: Engine, store: GitStore, data: Path
) -> Ports:
    client = await stack.enter_async_context(engine.connect("rota"))
    journal = NatsJournal(client)
    logs = NatsLogs(client, max_bytes=_log_bytes(Settings(), data))
    blobs = NatsBlobs(client)
    for stream in (journal, logs, blobs):
        await stream.open()
    index = SqliteIndex(data / "index.db")
    stack.callback(index.close)
    watcher = InotifyWatcher()
    stack.callback(watcher.close)

    async def keep_logs(settings: Settings) -> None:
        await logs.limit(max_bytes=_log_bytes(settings, data), max_age_s=settings.logs.max_age_s)

    return Ports(
        journal=journal,
        logs=logs,
        configure=keep_logs,
        blobs=blobs,
        store=store,
        index=index,
        executor=ProcessExecutor(),
        watcher=watcher,
        clock=SystemClock(),
    )


def _log_bytes(settings: Settings, data: Path) -> int:
    """Return how much logs may take: as the settings say, but no more than half of the disk."""
    disk = os.statvfs(data)
    return min(settings.logs.max_bytes, disk.f_blocks * disk.f_frsize // 2)


def _myself(options: AgentOptions) -> Myself:
    name = parse_agent_name(options.name or socket.gethostname().partition(".")[0] or "agent")
    slots = options.slots if options.slots is not None else os.cpu_count() or 1
    if not 0 <= slots <= MAX_SLOTS:
        raise InputError(f"--slots is {slots}, it can be 0 to {MAX_SLOTS}")
    given = parse_agent_labels(item for item in options.labels.split(",") if item.strip())
    return Myself(
        name=name,
        version=rota.__version__,
        pid=os.getpid(),
        data=options.data,
        labels={**_found_labels(name), **given},
        slots=slots,
    )


def _found_labels(name: str) -> dict[str, str]:
    """Return what every machine says of itself."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system = platform.system().lower()
    return {
        "agent": name,
        system: "",
        "os": system,
        "arch": platform.machine(),
        "cores": str(os.cpu_count() or 1),
        "memory": f"{memory >> 30}G",
    }


# -- rota exec ----------------------------------------------------------------------------------


def exec_script(path: Path, params: Mapping[str, str]) -> Build:
    """Run a job's script here and now, its log to standard output; return how it went.

    Raises:
        InputError: the file, its header or the parameters are wrong; nothing was run.
    """
    try:
        text = decode_script(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    name = re.sub(r"[^A-Za-z0-9_.+-]", "-", path.name).lstrip(".-+") or "script"
    with (
        tempfile.TemporaryDirectory(prefix="rota-exec-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_exec(Path(folder), name, text, params))


async def _exec(data: Path, name: str, text: str, params: Mapping[str, str]) -> Build:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, interrupted.set)
    watcher = InotifyWatcher()
    ports = Ports(
        journal=MemoryJournal(),
        logs=ShownLogs(_write_out),
        blobs=MeasuredBlobs(),
        store=MemoryStore(),
        index=MemoryIndex(),
        executor=ProcessExecutor(),
        watcher=watcher,
        clock=SystemClock(),
    )
    me = _myself(AgentOptions(data=data, slots=1))
    try:
        async with run_the_agent(me, ports, stop=interrupted.set) as agent:
            return await run_solo(
                agent,
                name,
                text,
                params,
                who=getpass.getuser(),
                interrupted=interrupted,
            )
    finally:
        watcher.close()


def _write_out(data: bytes) -> None:
    """Write to standard output, all of it, past Python's buffers; a reader that left ends it."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


# -- where it listens ---------------------------------------------------------------------------


def _tcp_socket(options: AgentOptions) -> socket.socket:
    """Return the listening TCP socket: as given, else the port of the last time, else a free one."""
    remembered = options.data / "listen"
    given = options.listen or _read(remembered)
    host, port = _host_port(given) if given else ("127.0.0.1", 0)
    try:
        listening = _bound(host, port)
    except OSError as error:
        if options.listen:
            raise UnavailableError(f"cannot listen on {given}: {error.strerror}") from error
        listening = _bound("127.0.0.1", 0)
    remembered.write_text(_url(listening).removeprefix("http://") + "\n")
    return listening


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=512)


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InputError(f"bad address {text!r}", hint="HOST:PORT, such as 127.0.0.1:8010")
    return host.strip("[]") or "127.0.0.1", int(port)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _listen(
    stack: contextlib.AsyncExitStack, app: web.Application, path: Path, tcp: socket.socket
) -> None:
    runner = make_runner(app)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    unix = stack.enter_context(_unix_socket(path))
    for opened in (unix, tcp):
        await web.SockSite(runner, opened, backlog=512).start()


@contextlib.contextmanager
def _unix_socket(path: Path) -> Iterator[socket.socket]:
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{folder}/{path.name}"
        listening.bind(str(path) if len(os.fsencode(path)) <= MAX_SOCKET_PATH else short)
        path.chmod(0o600)
    finally:
        os.close(folder)
    try:
        yield listening
    finally:
        listening.close()
        path.unlink(missing_ok=True)


def _token(data: Path) -> str:
    """Return the token that callers over TCP must show; made at the first start."""
    path = data / "token"
    known = _read(path)
    if known:
        return known
    token = secrets.token_urlsafe(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return token


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


# -- who waits for it ---------------------------------------------------------------------------


@contextlib.contextmanager
def _lock(data: Path) -> Iterator[None]:
    """Hold the data folder for this process, and write its id down."""
    path = data / "agent.pid"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConflictError(
                f"an agent runs in {data} already, as process {file.read().strip() or '?'}",
                hint="stop it: rota stop; or give this one another folder: --data DIR",
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


def _say_ready(ready_fd: int | None) -> None:
    _notify(f"READY=1\nMAINPID={os.getpid()}")
    if ready_fd is not None:
        with contextlib.suppress(OSError), os.fdopen(ready_fd, "w") as pipe:
            pipe.write("ready\n")


def _notify(text: str) -> None:
    """Tell systemd, if it waits for us: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(text.encode(), address)
