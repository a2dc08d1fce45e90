"""A back-up: one archive of all that a cluster is, consistent while builds run."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import logging
import secrets
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from rota.core.backups import (
    ARTIFACTS,
    KEYS,
    LOGS,
    MANIFEST,
    SEALED,
    STATE,
    STORE,
    Keys,
    Manifest,
)
from rota.core.build import Build
from rota.core.certificate import certificates, fingerprint
from rota.core.cluster import Picture, decode_picture
from rota.core.settings import Settings
from rota.errors import NotFoundError, UnavailableError
from rota.ports.logs import LogKey
from rota.ports.store import HISTORY, MAIN
from rota.service import messages as m
from rota.service.archive import Archive
from rota.service.artifacts import blob_name
from rota.service.context import Principal, Service
from rota.service.copies import Copies

logger = logging.getLogger(__name__)

PIECE = 512 << 10
#: So many builds' logs are read at once: 8 MiB of them at most.
AT_ONCE = 16
SMALL = 16 << 10
#: So often it is tried to see the store and the state at one moment: each takes milliseconds.
TRIES = 200


async def backup(
    service: Service, request: m.BackupRequest, who: Principal
) -> AsyncGenerator[bytes]:
    """Yield the archive. What is kept of one build is read when its turn comes.

    Raises:
        InputError: the recipient is none.
        UnavailableError: the state or the store cannot be read; also in the middle: then the archive
            has no ending, and is none.
    """
    copies = service.copies
    if copies is None:
        raise UnavailableError("this agent has nothing that could be backed up")
    keys = await asyncio.to_thread(_keys, service, copies, request.recipient)
    bundle = service.me.data / f".backup-{secrets.token_hex(6)}"
    try:
        state, heads = await _moment(service, copies)
        await service.store.bundle(heads, bundle)
        archive = Archive(service.clock.now())
        yield _front(service, request, archive, state, heads)
        if keys is not None:
            yield archive.whole(*keys)
        async for piece in _store(archive, bundle):
            yield piece
        async for piece in _kept(service, copies, request, archive, state):
            yield piece
        yield archive.end()
    finally:
        with contextlib.suppress(OSError):
            bundle.unlink(missing_ok=True)
    logger.info("%s took a back-up", who.name)


async def _moment(service: Service, copies: Copies) -> tuple[bytes, dict[str, str]]:
    """Return the state, and where the store's branches were when it was so."""
    for _ in range(TRIES):
        before = await _heads(service)
        state = await copies.state()
        if await _heads(service) == before:
            return state, before
    raise UnavailableError(
        "the store moves too fast to see it and the state at one moment", hint="try again"
    )


async def _heads(service: Service) -> dict[str, str]:
    heads = {branch: await service.store.head(branch) for branch in (MAIN, HISTORY)}
    return {branch: commit for branch, commit in heads.items() if commit}


def _front(
    service: Service,
    request: m.BackupRequest,
    archive: Archive,
    state: bytes,
    heads: dict[str, str],
) -> bytes:
    """Return the manifest and the state."""
    picture = _picture(state)
    manifest = Manifest(
        rota=service.me.version,
        level=picture.level,
        agent=service.me.name,
        at=service.clock.now(),
        seq=picture.seq,
        main=heads.get(MAIN, ""),
        history=heads.get(HISTORY, ""),
        ca=fingerprint(certificates(service.ca.encode())[0]) if service.ca else "",
        sealed_for=request.recipient,
        has_logs=request.logs,
        has_artifacts=request.artifacts,
        elsewhere=_elsewhere(service.world.definitions.settings),
    )
    return archive.whole(MANIFEST, msgspec.json.encode(manifest)) + archive.whole(STATE, state)


def _elsewhere(settings: Settings) -> str:
    """Return where artifacts lie that no back-up has; empty if all are in the engine, or here."""
    match settings.artifacts.store:
        case "bucket":
            return f"the bucket {settings.bucket.name}"
        case "files":
            return f"the folder {settings.artifacts.path}"
        case _:
            return ""


def _picture(state: bytes) -> Picture:
    cluster = decode_picture(state)
    assert cluster is not None, "it was encoded here"
    return cluster.picture


def _keys(service: Service, copies: Copies, recipient: str) -> tuple[str, bytes] | None:
    """Return the member that has the keys; ``None`` where there are none."""
    if not service.ca:
        return None
    keys = Keys(ca=service.ca, ca_key=service.ca_key().decode(), identities=copies.identities())
    data = msgspec.json.encode(keys)
    return (SEALED, copies.seal(data, recipient)) if recipient else (KEYS, data)


async def _store(archive: Archive, bundle: Path) -> AsyncGenerator[bytes]:
    yield archive.head(STORE, bundle.stat().st_size)
    with bundle.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield archive.data(piece)
    yield archive.pad()


async def _kept(
    service: Service,
    copies: Copies,
    request: m.BackupRequest,
    archive: Archive,
    state: bytes,
) -> AsyncGenerator[bytes]:
    """Yield logs and artifacts, build by build."""
    builds = _left(service, _picture(state))
    while some := list(itertools.islice(builds, AT_ONCE)):
        begun = await _all_begun(service, some) if request.logs else [[] for _ in some]
        for build, logs in zip(some, begun, strict=True):
            for log in logs:
                async for piece in _log(service, archive, log):
                    yield piece
            if request.artifacts:
                async for piece in _artifacts(service, copies, archive, build):
                    yield piece


def _left(service: Service, picture: Picture) -> Iterator[Build]:
    """Yield the builds that may have left logs or artifacts, each once: live ones, then the past."""
    yield from picture.builds.values()
    for id_ in service.world.left():
        found = service.world.find(id_) if id_ not in picture.builds else None
        if found is not None:
            yield found


class _Log(NamedTuple):
    """A log of which the beginning is read: of most that is all of it."""

    key: LogKey
    end: int
    first: bytes
    at: datetime | None  # of its build: so that two back-ups have the same bytes of it


async def _all_begun(service: Service, builds: Sequence[Build]) -> list[list[_Log]]:
    """Return the logs of some builds, each begun. The engine answers them all in the time of one."""
    return await asyncio.gather(*(_begun(service, it) for it in builds))


async def _begun(service: Service, build: Build) -> list[_Log]:
    found = []
    for attempt in range(1, build.attempt + 1):
        key = LogKey(build.id, attempt)
        end = await service.logs.end(key)
        first = await _log_piece(service, key, 0, min(end, PIECE)) if end else b""
        if first:
            found.append(_Log(key, end, first, build.finished_at))
    return found


async def _log(service: Service, archive: Archive, log: _Log) -> AsyncGenerator[bytes]:
    """Yield a log, as far as it is there: pieces that ``zcat`` puts together."""
    data, offset = log.first, 0
    while data:
        # For little a thread costs more than the work.
        if len(data) < SMALL:
            packed = gzip.compress(data, 1, mtime=0)
        else:
            packed = await asyncio.to_thread(gzip.compress, data, 1, mtime=0)
        name = f"{LOGS}{log.key.build}/{log.key.attempt}/{offset:012}.gz"
        yield archive.whole(name, packed, log.at)
        offset += len(data)
        data = b""
        if offset < log.end:
            data = await _log_piece(service, log.key, offset, min(log.end, offset + PIECE))


async def _log_piece(service: Service, key: LogKey, start: int, stop: int) -> bytes:
    """Return a part of a log; nothing where it is dropped meanwhile."""
    data = bytearray()
    with contextlib.suppress(NotFoundError):
        async with contextlib.aclosing(service.logs.read(key, start, stop)) as pieces:
            async for piece in pieces:
                data += piece
    return bytes(data)


async def _artifacts(
    service: Service, copies: Copies, archive: Archive, build: Build
) -> AsyncGenerator[bytes]:
    """Yield the artifacts of a build that are in the engine, or in this agent's own folder."""
    for artifact in build.artifacts:
        name = blob_name(build.id, artifact.path)
        blob = await copies.find(name)
        if blob is None:
            continue
        size = 0
        yield archive.head(ARTIFACTS + name, blob.size, build.finished_at)
        async with contextlib.aclosing(service.blobs.get(name)) as pieces:
            async for piece in pieces:
                size += len(piece)
                yield archive.data(piece)
        if size != blob.size:
            raise UnavailableError(
                f"{artifact.path!r} of {build.ref} was replaced while it was read", hint="try again"
            )
        yield archive.pad()
