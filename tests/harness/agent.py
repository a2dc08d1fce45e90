"""A whole agent in the test's own process: real service and HTTP, everything below in memory.

What a script does is a :class:`Plan`; the log file, the Unix socket and the TCP port are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from rota.adapters.clocks import SystemClock
from rota.adapters.disk import SystemDisk
from rota.adapters.inotify import InotifyWatcher
from rota.adapters.memory import MemoryBlobs, MemoryJournal, MemoryLogs
from rota.adapters.memory_secrets import MemorySafe
from rota.adapters.memory_store import MemoryIndex, MemoryStore
from rota.adapters.programs import SystemPrograms
from rota.adapters.reports.reader import ReportReader
from rota.adapters.scripted import Plan, ScriptedAttempt, ScriptedExecutor
from rota.adapters.sqlite.cases import SqliteCases
from rota.adapters.tmpfs import TmpfsFiles
from rota.agent.agent import Agent, run_agent
from rota.agent.ports import Ports
from rota.core.audit import Head, Progress, Step, Summary
from rota.core.events import HistorySealed
from rota.errors import NotFoundError
from rota.http.access import Access
from rota.http.app import make_app, make_runner
from rota.http.connections import Connections
from rota.ports.chat import MakeChat
from rota.ports.collector import Collector
from rota.ports.executor import Task
from rota.ports.git_http import Reply as GitReply
from rota.ports.store import Author
from rota.service.context import Myself, Principal, Service

PATIENCE_S = 30.0
PASSES = Plan()
TOKEN = "s3cret-t0ken-of-the-tests"


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class NoGit:
    """Git over HTTP where there is no git."""

    async def handle(self, *_: Any) -> GitReply:
        raise NotFoundError("there is no git here")


class Here:
    """The agent, and how a test speaks with it."""

    def __init__(
        self,
        data: Path,
        slots: int,
        name: str = "here",
        journal: MemoryJournal | None = None,
        chat: MakeChat | None = None,
        collector: Collector | None = None,
    ) -> None:
        self.chat, self.collector = chat, collector
        self.data = data
        self.socket = str(data / "rota.sock")
        self.port = 0
        self.plans: dict[str, Plan] = {}
        self.envs: dict[str, Mapping[str, str]] = {}  # by job, of its last attempt
        self.journal = journal or MemoryJournal()
        self.logs = MemoryLogs()
        self.blobs = MemoryBlobs()
        self.store = MemoryStore()
        self.executor = ScriptedExecutor(self._plan)
        self.stopped = asyncio.Event()
        self.me = Myself(
            name=name, version="0", pid=os.getpid(), data=data, labels={"linux": ""}, slots=slots
        )
        self.agent: Agent
        self.app: web.Application
        self.session: aiohttp.ClientSession
        self.connections: Connections
        self.who: Callable[[web.Request], Principal] | None = None

    @property
    def service(self) -> Service:
        return self.agent.service

    def authenticate(self, request: web.Request) -> Principal:
        return (self.who or Access(TOKEN).principal)(request)

    def _plan(self, task: Task) -> Plan:
        self.envs[task.env["ROTA_JOB"]] = task.env
        return self.plans.get(task.env["ROTA_JOB"], Plan())

    async def ask(self, method: str, target: str, *, body: object = None, **headers: str) -> Reply:
        """Ask over the Unix socket; ``body`` is sent as JSON unless it is bytes or a generator."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.stream(method, target, body=body, headers=sent) as response:
            return Reply(response.status, response.headers, await response.read())

    def stream(
        self, method: str, target: str, *, body: object = None, headers: Mapping[str, str] = {}
    ) -> Any:
        """Ask, and read the answer as it comes."""
        url = URL(f"http://rota{target}", encoded=True)
        if isinstance(body, bytes):
            body = io.BytesIO(body)
        if body is None or isinstance(body, io.BytesIO) or hasattr(body, "__aiter__"):
            return self.session.request(method, url, data=body, headers=headers)
        sent = {"Content-Type": "application/json", **headers}
        return self.session.request(method, url, data=json.dumps(body).encode(), headers=sent)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes to the socket, end the sending, and return all that comes back."""
        reader, writer = await asyncio.open_unix_connection(self.socket)
        try:
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(PATIENCE_S):
                    return await reader.read()
            return b""
        finally:
            writer.close()

    async def put(self, job: str, script: str = "#!/bin/sh\necho\n", plan: Plan = PASSES) -> str:
        """Add a job and what its script does; return its ETag."""
        self.plans[job] = plan
        reply = await self.ask("PUT", f"/v1/jobs/{job}", body=script.encode())
        assert reply.status == 200, reply.text
        return str(reply.json()["etag"])

    async def commit(self, files: Mapping[str, bytes | None]) -> None:
        """Commit files to ``main`` as it is here; ``None`` deletes one."""
        await self.service.main.commit(
            files,
            base=self.service.world.commit,
            author=Author(name="t", email="t@example.org"),
            message="t",
            by="t",
        )

    async def run(self, job: str, **body: object) -> dict[str, Any]:
        """Request a build; return it as REST shows it."""
        reply = await self.ask("POST", f"/v1/jobs/{job}/builds", body=body)
        assert reply.status == 201, reply.text
        return dict(reply.json())

    async def finished(self, build: str) -> dict[str, Any]:
        reply = await self.ask("GET", f"/v1/builds/{build}?wait=30")
        assert reply.json()["state"] == "finished", reply.text
        return dict(reply.json())

    async def running(self, build: str) -> ScriptedAttempt:
        """Return the present attempt of a build that hangs, once it runs here."""
        await self.until(lambda: build in self.agent.runner.active)
        active = self.agent.runner.active[build]
        await self.until(lambda: active.running is not None and active.live is not None)
        assert isinstance(active.running, ScriptedAttempt)
        return active.running

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():
                await asyncio.sleep(0.002)

    async def seq(self) -> int:
        """Return the sequence of the last event that somebody or something gave rise to.

        A seal comes by itself, within a second of what is worth one.
        """
        entries = self.journal.read()
        seqs = [it.seq async for it in entries if not isinstance(it.event, HistorySealed)]
        return seqs[-1]


class NothingWrong:
    """An inspector of a store in memory."""

    async def inspect(self, heads: Sequence[Head] = ()) -> AsyncGenerator[Step]:
        yield Progress("objects", 0, 0)
        yield Summary()


async def _serve(here: Here, begun: asyncio.Event, over: asyncio.Event) -> None:
    """Run the agent from one task, as its task groups want it."""
    async with contextlib.AsyncExitStack() as stack:
        watcher = InotifyWatcher()
        stack.callback(watcher.close)
        case_index = SqliteCases(here.data / "tests.db")
        stack.callback(case_index.close)
        ports = Ports(
            journal=here.journal,
            logs=here.logs,
            blobs=here.blobs,
            store=here.store,
            index=MemoryIndex(),
            executor=here.executor,
            watcher=watcher,
            reports=ReportReader(),
            case_index=case_index,
            clock=SystemClock(),
            chat=here.chat,
            collector=here.collector,
            disk=SystemDisk(),
            safe=MemorySafe(),
            programs=SystemPrograms(),
            private_files=TmpfsFiles(here.me.data),
        )
        here.agent = await stack.enter_async_context(
            run_agent(here.me, ports, stop=here.stopped.set, socket=here.socket)
        )
        here.service.inspector = NothingWrong()
        here.service.ca_key = lambda: b"the key of the tests' cluster"
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        here.connections = Connections(here.service.counts.refused)
        here.app = make_app(here.service, here.authenticate, NoGit())
        runner = make_runner(here.app, here.connections)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.UnixSite(runner, here.socket).start()
        here.port = tcp.getsockname()[1]
        await web.SockSite(runner, tcp).start()
        here.session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(here.socket, limit=0),
                timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
                auto_decompress=False,
            )
        )
        begun.set()
        await over.wait()


@contextlib.asynccontextmanager
async def agent_here(
    slots: int = 4,
    *,
    name: str = "here",
    journal: MemoryJournal | None = None,
    chat: MakeChat | None = None,
    collector: Collector | None = None,
) -> AsyncIterator[Here]:
    """An agent for as long as the context is open; what hangs is ended with it."""
    begun, over = asyncio.Event(), asyncio.Event()
    # Unix sockets want short paths.
    with tempfile.TemporaryDirectory(prefix="rota-") as folder:
        here = Here(Path(folder), slots, name, journal, chat, collector)
        serving = asyncio.create_task(_serve(here, begun, over))
        waiting = asyncio.create_task(begun.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        try:
            if not serving.done():
                yield here
        finally:
            over.set()
            await serving


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    """A new agent in this process."""
    async with agent_here() as agent:
        yield agent
