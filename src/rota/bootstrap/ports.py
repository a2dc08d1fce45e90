"""All ports of an agent that is a daemon, each with the adapter that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from rota.adapters.blob_files import FileBlobs
from rota.adapters.cache_files import CacheFiles
from rota.adapters.clocks import SystemClock
from rota.adapters.clouds import LibcloudProviders
from rota.adapters.disk import SystemDisk
from rota.adapters.docker.containers import EngineContainers
from rota.adapters.docker.engine import Engine as ContainerEngine
from rota.adapters.docker.executor import ContainerExecutor
from rota.adapters.forges import HttpForges
from rota.adapters.git import GitCheckout, GitStore
from rota.adapters.inotify import InotifyWatcher
from rota.adapters.nats import Bus, Engine
from rota.adapters.nats.blobs import NatsBlobs
from rota.adapters.nats.engine import NO_QUORUM
from rota.adapters.nats.ensemble import NatsEnsemble
from rota.adapters.nats.journal import NatsJournal
from rota.adapters.nats.lease import NatsLease
from rota.adapters.nats.logs import NatsLogs
from rota.adapters.nats.presence import NatsPresence
from rota.adapters.nats.sizes import stream_sizes
from rota.adapters.otlp import HttpCollector
from rota.adapters.process import ProcessExecutor
from rota.adapters.process.confiner import Confiner, confiner_of
from rota.adapters.process.forks import Forks
from rota.adapters.programs import SystemPrograms
from rota.adapters.reports.reader import ReportReader
from rota.adapters.restored_logs import FOLDER as RESTORED
from rota.adapters.restored_logs import bring_back
from rota.adapters.sqlite.cases import SqliteCases
from rota.adapters.sqlite.index import SqliteIndex
from rota.adapters.tmpfs import TmpfsFiles
from rota.agent.group import background
from rota.agent.joining import SNAPSHOT
from rota.agent.ports import Ports
from rota.bootstrap.blobs import BLOB_STORES
from rota.bootstrap.chat import make_chat
from rota.bootstrap.executors import Executors
from rota.bootstrap.machine import log_bytes
from rota.bootstrap.member import Member
from rota.bootstrap.store_sources import StoreSources
from rota.core.cluster import decode_picture
from rota.core.settings import Settings
from rota.errors import UnavailableError

logger = logging.getLogger("rota")

#: What has to wait for a quorum is tried again so often.
RETRY_S = 1.0

Open = Callable[[], Awaitable[None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """The ports, and what the composition root asks of their adapters beside them."""

    ports: Ports
    confiner: Confiner
    containers: EngineContainers
    sizes: Callable[[], Awaitable[Mapping[str, int]]]


async def open_ports(
    member: Member,
    engine: Engine | Bus,
    data: Path,
    store: GitStore,
    sources: StoreSources,
    stack: contextlib.AsyncExitStack,
) -> Opened:
    """Open all that an agent works with; ``stack`` closes it.

    Raises:
        UnavailableError: the engine has no quorum, and nothing is known from before.
    """
    confiner = await asyncio.to_thread(confiner_of, data)
    await asyncio.to_thread(confiner.sweep)
    stack.callback(confiner.close)
    client = await stack.enter_async_context(engine.connect("rota"))
    sizes = functools.partial(stream_sizes, client)
    journal, lease = NatsJournal(client), NatsLease(client)
    logs = NatsLogs(client, max_bytes=log_bytes(Settings(), data))
    blobs = NatsBlobs(client)
    # A journal that is made now begins where the history ends: ADR 20.
    # So does one of a cluster that is restored where its state is: ADR 52.
    ends = max(await store.covered(), await asyncio.to_thread(_given_seq, data))
    begin = functools.partial(journal.open, first=ends + 1)
    # The lease last: in memory, after all servers were down, it waits until all are back.
    streams = (begin, logs.open, blobs.open, lease.open)
    try:
        await _open(streams, engine, is_known=(data / "index.db").exists())
    except UnavailableError as error:
        if not (data / "index.db").exists():
            raise
        logger.warning("%s", error.message)  # no quorum: what is known is served
        await stack.enter_async_context(background(_open_late(streams)))
    ensemble = None
    if isinstance(engine, Engine):
        system = await stack.enter_async_context(engine.connect("rota", system=True))
        ensemble = NatsEnsemble(client, system, lambda: engine.voters)
        lease.has_quorum = ensemble.has_quorum
    await stack.enter_async_context(background(bring_back(data / RESTORED, logs)))
    index = SqliteIndex(data / "index.db")
    stack.callback(index.close)
    case_index = SqliteCases(data / "tests.db")
    stack.callback(case_index.close)
    checkout = GitCheckout(data / "mirrors")
    stack.callback(checkout.close)
    await stack.enter_async_context(background(checkout.run_housekeeping()))
    watcher = InotifyWatcher()
    stack.callback(watcher.close)

    containers = ContainerEngine()
    stack.push_async_callback(containers.close)
    contained = ContainerExecutor(containers, data / "containers")
    own_containers = EngineContainers(containers, data / "containers", data)
    stack.push_async_callback(contained.close)

    async def keep_logs(settings: Settings) -> None:
        limit = log_bytes(settings, data)
        await logs.limit(max_bytes=limit, max_age_s=settings.logs.max_age_s)

    ports = Ports(
        journal=journal,
        logs=logs,
        configure=keep_logs,
        fetch=sources.fetch,
        blobs=blobs,
        # On a bus the engine's disks are other machines'.
        own_blobs=FileBlobs(data / "artifacts") if isinstance(engine, Engine) else None,
        blob_stores=BLOB_STORES,
        store=store,
        index=index,
        executor=Executors(ProcessExecutor(confiner=confiner, forks=Forks()), contained),
        containers=own_containers,
        checkout=checkout,
        reports=ReportReader(),
        case_index=case_index,
        watcher=watcher,
        clock=SystemClock(),
        caches=CacheFiles(data / "caches", SystemClock()),
        disk=SystemDisk(),
        safe=member.safe,
        programs=SystemPrograms(),
        private_files=TmpfsFiles(data),
        lease=lease,
        presence=NatsPresence(client),
        voting=engine if isinstance(engine, Engine) else None,
        ensemble=ensemble,
        clouds=LibcloudProviders(),
        chat=make_chat,
        collector=await stack.enter_async_context(HttpCollector()),
        forges=await stack.enter_async_context(HttpForges()),
    )
    return Opened(ports=ports, confiner=confiner, containers=own_containers, sizes=sizes)


async def _open(streams: Sequence[Open], engine: Engine | Bus, *, is_known: bool) -> None:
    """Make the engine's streams where they are not there.

    Raises:
        UnavailableError: there is no quorum. Where the engine knows that, nothing is waited for.
    """
    trouble = engine.trouble
    if trouble is not None and trouble.startswith(NO_QUORUM) and is_known:
        raise UnavailableError(trouble)
    for make in streams:
        await make()


async def _open_late(streams: Sequence[Open]) -> None:
    """Make the streams as soon as there is a quorum."""
    for make in streams:
        while True:
            try:
                await make()
            except UnavailableError:
                await asyncio.sleep(RETRY_S)
            else:
                break


def _given_seq(data: Path) -> int:
    """Return the event that the state is of with which this agent began; 0 without one."""
    try:
        cluster = decode_picture((data / SNAPSHOT).read_bytes())
    except FileNotFoundError:
        return 0
    return cluster.picture.seq if cluster is not None else 0
