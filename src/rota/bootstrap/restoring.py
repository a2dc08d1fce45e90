"""From a back-up to the data folder of an agent that begins a cluster with it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from rota.adapters.age import AgeSafe, unseal
from rota.adapters.archive_file import ArchiveFile
from rota.adapters.blob_files import FileBlobs
from rota.adapters.clocks import SystemClock
from rota.adapters.git.fetching import from_bundle
from rota.adapters.peers import HttpsStranger
from rota.adapters.pki import TlsKeyring
from rota.adapters.restored_logs import FOLDER as LOGS_FOLDER
from rota.core.address import parse_address
from rota.core.backups import ARTIFACTS, KEYS, LOGS, SEALED, STATE, STORE, Keys, Manifest, anew
from rota.core.certificate import certificates, fingerprint
from rota.core.cluster import Cluster, Picture, decode_picture, encode_picture
from rota.core.levels import too_new
from rota.core.states import State
from rota.errors import ConflictError, InputError, RotaError, UnavailableError

SNAPSHOT = "snapshot.json"
#: What says that there is an agent in a folder.
TRACES = ("store.git", "engine", "index.db", "tls", SNAPSHOT)
#: So long a former member has to answer.
ASK_S = 2.0
PIECE = 1 << 20
_LOG = re.compile(rf"{LOGS}([0-9a-z]{{1,64}})/(\d{{1,9}})/(\d{{12}}\.gz)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restored:
    """What was put into a folder."""

    manifest: Manifest
    builds: int
    lost: int  # builds that ran when the back-up was made
    logs: int
    artifacts: int
    has_keys: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """How it is to be restored.

    ``identities`` open the keys where they are encrypted. ``beside`` means that the former cluster may
    live, ``keep_missed`` that what was due since is a matter of each schedule's misfire policy.
    """

    identities: str = ""
    beside: bool = False
    keep_missed: bool = False


def check_backup(path: Path) -> Manifest:
    """Return what a back-up says of itself, once it is known to be whole and good.

    Cost: a pass over the file, and one over the store in it.

    Raises:
        InputError: it is not; the message says what is wrong.
        UnavailableError: it cannot be read.
    """
    archive = ArchiveFile(path)
    manifest = archive.check()
    with tempfile.TemporaryDirectory(prefix="rota-backup-") as folder:
        asyncio.run(_try(archive, manifest, Path(folder)))
    return manifest


async def _try(archive: ArchiveFile, manifest: Manifest, folder: Path) -> None:
    for name, _, data in archive.members():
        if name == STATE:
            _state(archive, data)
        elif name == STORE:
            bundle = folder / STORE
            await asyncio.to_thread(_copy, data, bundle)
            await from_bundle(bundle, folder / "store.git", manifest.heads)
            return
    raise InputError(f"{archive.path} has no store in it", hint="take another back-up")


def restore(path: Path, data: Path, wish: Wish) -> Restored:
    """Make the data folder of an agent out of a back-up. A folder that cannot be made whole is none.

    Raises:
        InputError: the back-up is no good, or its keys cannot be opened.
        ConflictError: there is an agent in that folder, or one of the former cluster is up.
        UnavailableError: a disk does not take or give it.
    """
    archive = ArchiveFile(path)
    manifest = archive.check()
    _refuse_used(data)
    try:
        data.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{data.name}-", dir=data.parent))
        try:
            done = asyncio.run(_fill(archive, manifest, fresh, wish))
            if data.exists():
                data.rmdir()
            fresh.rename(data)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    except OSError as error:
        raise UnavailableError(f"cannot restore to {data}: {error.strerror}") from error
    return done


def _refuse_used(data: Path) -> None:
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        what = (
            "has an agent in it" if any((data / it).exists() for it in TRACES) else "is not empty"
        )
        raise ConflictError(f"{data} {what}", hint="restore to a new folder: --data DIR")


async def _fill(archive: ArchiveFile, manifest: Manifest, folder: Path, wish: Wish) -> Restored:
    picture, keys, counts, seen = Picture(), None, {LOGS: 0, ARTIFACTS: 0}, set[str]()
    blobs = FileBlobs(folder / "artifacts")
    for name, _, data in archive.members():
        seen.add(name)
        if name == STATE:
            picture = _state(archive, data)
            if not wish.beside:
                await _refuse_alive(picture, manifest)
        elif name in (KEYS, SEALED):
            keys = _open(archive, name, data.read(), manifest, wish)
            _keep(keys, folder / "tls")
        elif name == STORE:
            bundle = folder / STORE
            await asyncio.to_thread(_copy, data, bundle)
            await from_bundle(bundle, folder / "store.git", manifest.heads)
            bundle.unlink()
        elif found := _LOG.fullmatch(name):
            target = folder / LOGS_FOLDER / found[1] / found[2] / found[3]
            target.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(_copy, data, target)
            counts[LOGS] += found[3] == f"{0:012}.gz"
        elif name.startswith(ARTIFACTS):
            await blobs.put(name.removeprefix(ARTIFACTS), _pieces(data))
            counts[ARTIFACTS] += 1
    if not {STATE, STORE} <= seen:
        raise InputError(f"{archive.path} has no {'state' if STATE not in seen else 'store'} in it")
    fresh = anew(picture, SystemClock().now(), keep_missed=wish.keep_missed)
    (folder / SNAPSHOT).write_bytes(encode_picture(Cluster(fresh)))
    return Restored(
        manifest=manifest,
        builds=len(picture.builds),
        lost=sum(build.state is State.RUNNING for build in picture.builds.values()),
        logs=counts[LOGS],
        artifacts=counts[ARTIFACTS],
        has_keys=keys is not None,
    )


def _state(archive: ArchiveFile, data: IO[bytes]) -> Picture:
    cluster = decode_picture(data.read())
    if cluster is None:
        raise InputError(
            f"the state in {archive.path} cannot be read by this rota",
            hint="restore it with the rota that wrote it, or a newer one",
        )
    if fault := too_new(cluster.picture.level):
        raise InputError(
            f"{archive.path}: {fault}",
            hint="restore it with the rota that wrote it, or a newer one",
        )
    return cluster.picture


def _open(archive: ArchiveFile, name: str, data: bytes, manifest: Manifest, wish: Wish) -> Keys:
    if name == SEALED:
        if not wish.identities:
            raise InputError(
                f"the keys in {archive.path} are encrypted for {manifest.sealed_for}",
                hint="give the file of the identity that opens them: --identity FILE",
            )
        data = unseal(data, wish.identities)
    try:
        return msgspec.json.decode(data, type=Keys)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InputError(f"the keys in {archive.path} cannot be read: {error}") from error


def _keep(keys: Keys, folder: Path) -> None:
    """Write down what makes the cluster the same; the agent makes its own key at its start."""
    folder.mkdir(mode=0o700)
    clock = SystemClock()
    TlsKeyring(folder, clock).adopt(ca=keys.ca.encode(), ca_key=keys.ca_key.encode())
    if keys.identities:
        AgeSafe(folder, clock).keep(keys.identities)


async def _refuse_alive(picture: Picture, manifest: Manifest) -> None:
    """Refuse if a former member answers with the cluster's authority: there would be two of it.

    Raises:
        ConflictError: which one does.
    """
    peers = {agent.name: agent.peer for agent in picture.agents.values() if agent.peer}
    asked = await asyncio.gather(*(_answers(peer, manifest.ca) for peer in peers.values()))
    alive = [name for name, is_alive in zip(peers, asked, strict=True) if is_alive]
    if alive:
        raise ConflictError(
            f"of the cluster that was backed up {_and(alive)} still up:"
            " two of it would run the same schedules, and tell everybody twice",
            hint="stop them; or, where the other is to go on as well: --beside",
        )


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


async def _answers(peer: str, ca: str) -> bool:
    with contextlib.suppress(RotaError, OSError):
        pem = await HttpsStranger().ca(parse_address(peer.partition("://")[2]), within_s=ASK_S)
        return any(fingerprint(each) == ca for each in certificates(pem))
    return False


def _copy(data: IO[bytes], target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(data, file, PIECE)
        file.flush()
        os.fsync(file.fileno())


async def _pieces(data: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(data.read, PIECE):
        yield piece
