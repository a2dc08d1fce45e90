"""The stage that brings caches before a script and saves them after it.

Nothing that goes wrong with a cache ends a build: it is said in the log and as a warning, and the
script finds an empty place. Keys are worked out before the script, which may change what they hash,
and written down in the attempt's folder for whoever saves.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
from msgspec.structs import replace

from rota.agent.homes import lay_home
from rota.agent.matching import is_inside, matching_files
from rota.agent.stages import Ending, Left, Underway
from rota.core.build import Annotation, Build
from rota.core.cache_entry import Entry, SharedCache, name_of
from rota.core.caches import KeyFaultError, best, blob_of, fill_key, scope_of, scopes_of, shown
from rota.core.events import CacheSaved, CacheUsed
from rota.core.job import Cache
from rota.core.settings import Settings
from rota.errors import ExecutionError, NotFoundError, RotaError
from rota.ports.caches import Caches
from rota.ports.clock import Clock
from rota.ports.executor import Mount, Task
from rota.service.context import Service

#: In an attempt's folder: what was worked out before the script.
NOTE = "caches.json"
#: In an attempt's folder: its own home folder, and what a container is given.
HOME, FOLDER = "home", "caches"
#: Saving takes no longer, whatever there is to save.
SAVE_S = 900.0
PIECE = 1 << 20


class Place(msgspec.Struct, frozen=True):
    """What one cache came to: its key (empty if it has none), and whether that is saved already."""

    key: str
    is_saved: bool


class Caching:
    """See :class:`rota.agent.stages.Stage`."""

    def __init__(
        self,
        service: Service,
        caches: Caches,
        clock: Clock,
        *,
        labels: Callable[[], Mapping[str, str]],
        settings: Callable[[], Settings],
    ) -> None:
        self._service, self._caches, self._clock = service, caches, clock
        self._labels, self._settings = labels, settings

    def concerns(self, build: Build) -> bool:
        """Whether its header names caches."""
        return bool(build.spec.caches)

    async def before(self, under: Underway, task: Task) -> Task:
        """Restore what there is of each cache."""
        under.say("::group::Caches")
        try:
            task = await asyncio.to_thread(_surround, under, task)
            places = [
                await self._bring(under, cache, trees) for cache, trees in _trees(under, task.env)
            ]
        finally:
            under.say("::endgroup::")
        note = under.home / NOTE
        await asyncio.to_thread(note.write_bytes, msgspec.json.encode(places))
        return task

    async def resume(self, under: Underway, task: Task) -> Task:
        """Return the task as it was: all it names is there."""
        return _surrounded(under, task)

    async def after(self, under: Underway, ending: Ending) -> Left:
        """Save what is new, as each cache's `save` says."""
        if ending.exit is None or not ending.exit.known:
            return Left()
        try:
            raw = await asyncio.to_thread((under.home / NOTE).read_bytes)
            places = msgspec.json.decode(raw, type=list[Place])
        except (OSError, ValueError):
            return Left()
        remarks: list[Annotation] = []
        caches = _trees(under, None)
        for (cache, trees), place in zip(caches, places, strict=False):
            wanted = cache.save == "always" or (cache.save == "passed" and ending.passed)
            if not place.key or place.is_saved or not wanted:
                continue
            try:
                async with asyncio.timeout(SAVE_S):
                    await self._save(under, cache, place.key, trees)
            except NotFoundError as error:
                under.say(f"cache {place.key}: nothing to save, {error.message}")
            except (RotaError, TimeoutError) as error:
                why = error.message if isinstance(error, RotaError) else f"not done in {SAVE_S:g} s"
                message = f"cannot save the cache {place.key!r}: {why}"
                under.say(message)
                remarks.append(Annotation(level="warning", title="caches", message=message))
        return Left(remarks=tuple(remarks))

    # -- one cache ------------------------------------------------------------------------------

    async def _bring(self, under: Underway, cache: Cache, trees: Sequence[Path]) -> Place:
        try:
            key, prefixes = await asyncio.to_thread(self._filled, under, cache)
        except KeyFaultError as fault:
            _warn(under, f"the cache {cache.key!r} has no key: it {fault.message}")
            return Place("", is_saved=False)
        own = scope_of(under.build)
        for scope in scopes_of(under.build):
            found = best(await self._entries(scope, cache), key, prefixes)
            if found is not None and await self._restored(under, found, trees):
                is_there = not cache.shared or self._shared(found) is not None
                return Place(key, is_saved=found.key == key and scope == own and is_there)
        under.say(f"{key}: nothing is saved under it")
        return Place(key, is_saved=False)

    def _shared(self, entry: Entry) -> SharedCache | None:
        """Return what all agents share under the key of an entry."""
        shared = self._service.world.cluster.picture.caches
        return shared.get(name_of(entry.scope, entry.key))

    async def _entries(self, scope: str, cache: Cache) -> list[Entry]:
        found = [kept.entry for kept in await self._caches.all()]
        if cache.shared:
            here = {(it.scope, it.key) for it in found}
            shared = self._service.world.cluster.picture.caches.values()
            found += [it.entry for it in shared if (it.entry.scope, it.entry.key) not in here]
        return [it for it in found if it.scope == scope and it.paths == cache.paths]

    async def _here(self, under: Underway, entry: Entry) -> None:
        """Bring a shared cache to this agent, and note that it is used.

        Raises:
            RotaError: it cannot be had.
        """
        shared = self._shared(entry)
        if shared is None or shared.entry.sha256 != entry.sha256:
            return
        if all(it.entry != entry for it in await self._caches.all()):
            under.say(f"{entry.key}: {shown(entry.size)} come from other agents")
            blob = self._service.blobs.get(blob_of(entry))
            async with contextlib.aclosing(blob) as pieces:
                await self._caches.add(entry, pieces)
        now = self._clock.now()
        if now - shared.used_at >= timedelta(days=1):
            name = name_of(entry.scope, entry.key)
            await self._service.append(CacheUsed(at=now, agent=self._service.me.name, cache=name))

    async def _restored(self, under: Underway, entry: Entry, trees: Sequence[Path]) -> bool:
        new = [tree for tree in trees if not os.path.lexists(tree)]
        try:
            await asyncio.to_thread(_check_places, under, trees)
            await self._here(under, entry)
            await self._caches.restore(entry, trees)
        except RotaError as error:
            _warn(under, f"the cache {entry.key!r} is left out: {error.message}")
            await asyncio.to_thread(_clear, new)
            return False
        whose = f" by {entry.build}" if entry.build else ""
        what = ", ".join(entry.paths)
        under.say(f"{entry.key}: {shown(entry.size)} into {what}, saved{whose}")
        return True

    async def _save(self, under: Underway, cache: Cache, key: str, trees: Sequence[Path]) -> None:
        limit = self._settings().caches.max_bytes
        await asyncio.to_thread(_check_places, under, trees)
        entry = Entry(
            scope=scope_of(under.build),
            key=key,
            paths=cache.paths,
            parts=(),
            size=0,
            sha256="",
            saved_at=self._clock.now(),
            build=under.build.ref,
        )
        saved = await self._caches.save(entry, trees, limit=limit)
        if saved.build == entry.build:
            under.say(f"cache {key}: {shown(saved.size)} saved")
        if cache.shared:
            await self._share(under, saved)
        await self._caches.bound(limit)

    async def _share(self, under: Underway, entry: Entry) -> None:
        """Give a cache to all agents; the first one of a key is the one that counts."""
        if self._shared(entry) is not None:
            return
        if entry.size > self._settings().caches.shared_bytes:
            raise ExecutionError("it takes more than the settings' caches.shared_bytes")
        service, name = self._service, blob_of(entry)
        async with contextlib.aclosing(self._caches.read(entry)) as pieces:
            await service.blobs.put(name, pieces)
        event = CacheSaved(at=self._clock.now(), agent=service.me.name, entry=entry)
        await service.write(event)
        first = self._shared(entry)
        if first is None or first.entry.sha256 != entry.sha256:
            await service.blobs.drop(name)
        else:
            under.say(f"cache {entry.key}: all agents have it")

    def _filled(self, under: Underway, cache: Cache) -> tuple[str, list[str]]:
        def fill(text: str) -> str:
            return fill_key(
                text,
                params=under.build.params,
                labels=labels,
                digest=lambda it: digest(under.work, it),
            )

        labels = self._labels()
        return fill(cache.key), [fill(text) for text in cache.restore]


def _warn(under: Underway, message: str) -> None:
    under.say(f"::warning title=caches::{message}")


# -- where things are ---------------------------------------------------------------------------


def _is_contained(build: Build) -> bool:
    return build.spec.container is not None


def _trees(
    under: Underway, env: Mapping[str, str] | None
) -> Iterator[tuple[Cache, tuple[Path, ...]]]:
    """Yield each cache with where its paths are on this agent's disk."""
    contained = _is_contained(under.build)
    for at, cache in enumerate(under.build.spec.caches):
        yield (
            cache,
            tuple(
                _mounted(under, at, index, path)
                if contained and path.startswith("~/")
                else _plain(under, path)
                for index, path in enumerate(cache.paths)
            ),
        )


def _plain(under: Underway, path: str) -> Path:
    if path.startswith("~/"):
        return under.home / HOME / path.removeprefix("~/")
    return under.work / path


def _mounted(under: Underway, cache: int, index: int, path: str) -> Path:
    return under.home / FOLDER / f"{cache}.{index}" / path.rpartition("/")[2]


def _surround(under: Underway, task: Task) -> Task:
    """Make what the caches in a home folder need, and return the task that finds them there."""
    at_home = [
        path for cache in under.build.spec.caches for path in cache.paths if path.startswith("~/")
    ]
    if not at_home:
        return task
    try:
        if not _is_contained(under.build):
            lay_home(Path(task.env["HOME"]), under.home / HOME, at_home)
        done = _surrounded(under, task)
        for mount in done.mounts[len(task.mounts) :]:
            mount.source.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExecutionError(f"cannot make room for caches: {error}") from error
    return done


def _surrounded(under: Underway, task: Task) -> Task:
    mounts: list[Mount] = []
    for cache, trees in _trees(under, task.env):
        for path, tree in zip(cache.paths, trees, strict=True):
            if path.startswith("~/") and _is_contained(under.build):
                mounts.append(Mount(source=tree, target=path))
    at_home = any(path.startswith("~/") for it in under.build.spec.caches for path in it.paths)
    if mounts:
        return replace(task, mounts=(*task.mounts, *mounts))
    return replace(task, env=in_home(task.env, under.home / HOME)) if at_home else task


#: Programs on a JVM ask the user database where home is; these are how they are told otherwise.
_JVM = ("MAVEN_OPTS", "GRADLE_OPTS", "SBT_OPTS")


def in_home(env: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return an environment whose home folder is ``home``."""
    option = f"-Duser.home={home}"
    told = {name: f"{option} {env[name]}" if env.get(name) else option for name in _JVM}
    return {**env, **told, "HOME": str(home)}


def _check_places(under: Underway, trees: Sequence[Path]) -> None:
    """Make sure that no link leads from the attempt's folder to somewhere else.

    Raises:
        ExecutionError: one does.
    """
    root = under.home.resolve()
    for tree in trees:
        if not tree.parent.resolve().is_relative_to(root):
            raise ExecutionError(f"{tree.relative_to(under.home)} leads out of the build's folder")


def _clear(trees: Sequence[Path]) -> None:
    """Remove what a cache brought in part."""
    for tree in trees:
        if tree.is_dir() and not tree.is_symlink():
            shutil.rmtree(tree, ignore_errors=True)


# -- hashes -------------------------------------------------------------------------------------


def digest(folder: Path, globs: Sequence[str]) -> str:
    """Return a hash of names and bytes of the files below ``folder`` that match one of ``globs``.

    Without any it is ``none``. Links are followed within the folder; ``.git`` is passed over.

    Raises:
        KeyFaultError: one cannot be read.
    """
    total, root = hashlib.sha256(), folder.resolve()
    every = {path for paths in matching_files(folder, globs).values() for path in paths}
    found = [it for it in sorted(every, key=os.fsencode) if is_inside(folder / it, root)]
    for name in found:
        try:
            with (folder / name).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise KeyFaultError(f"hashes {name!r}, and cannot read it: {error.strerror}") from error
        total.update(os.fsencode(name) + b"\0" + content)
    return total.hexdigest()[:20] if found else "none"
