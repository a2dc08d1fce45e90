"""``rota exec``: an agent over ports in memory, for one script."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import uvloop

import rota
from rota.adapters.clocks import SystemClock
from rota.adapters.disk import SystemDisk
from rota.adapters.docker.containers import EngineContainers
from rota.adapters.docker.engine import Engine
from rota.adapters.docker.executor import ContainerExecutor
from rota.adapters.docker.found import found_engine
from rota.adapters.git import GitCheckout
from rota.adapters.inotify import InotifyWatcher
from rota.adapters.memory import MemoryJournal
from rota.adapters.memory_secrets import MemorySecrets
from rota.adapters.memory_store import MemoryIndex, MemoryStore
from rota.adapters.process import ProcessExecutor
from rota.adapters.process.confiner import confiner_of
from rota.adapters.reports.reader import ReportReader
from rota.adapters.shown import MeasuredBlobs, ShownLogs
from rota.adapters.tmpfs import TmpfsFiles
from rota.agent.agent import run_agent as run_the_agent
from rota.agent.ports import Ports
from rota.agent.solo import run_solo
from rota.bootstrap.executors import Executors
from rota.bootstrap.machine import labels_of
from rota.core.build import Build
from rota.core.header import decode_script
from rota.core.ids import parse_agent_name
from rota.errors import (
    InputError,
    leaves,
)
from rota.service.account import name_of
from rota.service.context import Myself


def exec_script(path: Path, params: Mapping[str, str]) -> Build:
    """Run a job's script here and now, its log to standard output; return how it went.

    Raises:
        InputError: the file, its header or the parameters are wrong; nothing was run.
        BrokenPipeError: nobody reads standard output any more; the script was ended.
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
    shown = _Shown(interrupted.set)
    watcher, confiner = InotifyWatcher(), confiner_of(data)
    engine = Engine()
    contained = ContainerExecutor(engine, data / "containers")
    ports = Ports(
        journal=MemoryJournal(),
        logs=ShownLogs(shown.write),
        blobs=MeasuredBlobs(),
        store=MemoryStore(),
        index=MemoryIndex(),
        executor=Executors(ProcessExecutor(confiner=confiner), contained),
        containers=EngineContainers(engine, data / "containers", data),
        checkout=GitCheckout(data / "mirrors"),
        reports=ReportReader(),
        watcher=watcher,
        clock=SystemClock(),
        disk=SystemDisk(),
        secrets=_own_secrets(),
        private_files=TmpfsFiles(data),
    )
    host = parse_agent_name(socket.gethostname().partition(".")[0] or "agent")
    me = Myself(
        name=host,
        version=rota.__version__,
        pid=os.getpid(),
        data=data,
        labels=labels_of(host, "", {**confiner.labels(), **found_engine()}),
        slots=1,
    )
    build: Build | None = None
    fault: InputError | None = None
    try:
        async with run_the_agent(me, ports, stop=interrupted.set) as agent:
            build = await run_solo(
                agent,
                name,
                text,
                params,
                who=name_of(os.geteuid()),
                interrupted=interrupted,
            )
    except* InputError as faults:
        fault = leaves(faults)[0]
    finally:
        await contained.close()
        await engine.close()
        watcher.close()
    if shown.is_left:
        raise BrokenPipeError
    if fault is not None:
        raise fault
    assert build is not None
    return build


class _Shown:
    """Standard output; when its reader leaves, such as `head`, that is told once and nothing more is written."""

    def __init__(self, left: Callable[[], None]) -> None:
        self._left = left
        self.is_left = False

    def write(self, data: bytes) -> None:
        """Write all of ``data``, past Python's buffers."""
        view = memoryview(data)
        try:
            while view and not self.is_left:
                view = view[os.write(1, view) :]
        except BrokenPipeError:
            self.is_left = True
            self._left()


def _own_secrets() -> MemorySecrets:
    """Return the caller's own variables as secrets: there is no cluster here that has any."""
    values = {os.fsdecode(name): value for name, value in os.environb.items()}
    return MemorySecrets(
        values, hint="rota exec takes it from your environment: {name}=… rota exec …"
    )
