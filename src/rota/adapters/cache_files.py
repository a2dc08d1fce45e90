"""Caches as files: for each a packed one, and one that tells of it.

A tree is packed by ``tar``, which knows owners, modes, links and holes, and compressed here. The
file that tells of a cache is written last and moved into place, so that what it names is whole; its
own time stamp says when the cache was used last.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TypeVar

import msgspec
from msgspec.structs import replace

from rota.core.cache_entry import Entry
from rota.core.caches import over, shown
from rota.errors import ExecutionError, NotFoundError, RotaError
from rota.ports.caches import Kept
from rota.ports.clock import Clock

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

logger = logging.getLogger(__name__)

T = TypeVar("T")

PIECE = 1 << 20
#: Higher levels take twice the time for a tenth of the bytes.
LEVEL = 1
_TELLS, _HOLDS, _DRAFT = ".json", ".tar.zst", ".part"
_MAX_WORDS = 300


class CacheFiles:
    """See :class:`rota.ports.caches.Caches`. The folder is made when something is saved."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root, self._clock = root, clock
        self._kept: dict[str, Kept] | None = None
        self._loading = asyncio.Lock()

    async def all(self) -> Sequence[Kept]:
        """Return what is here; see the port."""
        return tuple((await self._known()).values())

    async def save(self, entry: Entry, trees: Sequence[Path], *, limit: int) -> Entry:
        """Pack and keep; see the port."""
        known, name = await self._known(), _name(entry)
        if (there := known.get(name)) is not None:
            return there.entry
        with self._draft() as draft:
            packed = await _in_thread(lambda ended: _pack(entry, trees, draft, limit, ended))
            return self._settle(replace(packed, saved_at=self._clock.now()), draft)

    async def add(self, entry: Entry, data: AsyncIterator[bytes]) -> None:
        """Keep what was packed elsewhere; see the port."""
        await self._known()
        with self._draft() as draft:
            digest, size = hashlib.sha256(), 0
            try:
                with draft.open("wb") as file:
                    async for piece in data:
                        size += len(piece)
                        if size > entry.size:
                            break
                        await asyncio.to_thread(_write, file, piece, digest)
            except OSError as error:
                raise _full(draft, error) from error
            if size != entry.size or digest.hexdigest() != entry.sha256:
                raise ExecutionError(f"the cache {entry.key!r} came damaged")
            self._settle(entry, draft)

    async def read(self, entry: Entry) -> AsyncGenerator[bytes, None]:
        """Yield the packed bytes; see the port."""
        try:
            file = self._file(entry).open("rb")
        except OSError as error:
            raise NotFoundError(f"the cache {entry.key!r} is not here any more") from error
        with file:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece

    async def restore(self, entry: Entry, trees: Sequence[Path]) -> None:
        """Look at its hash, then unpack; see the port."""
        path = self._file(entry)
        try:
            file = path.open("rb")
        except OSError as error:
            await self.drop(entry)
            raise NotFoundError(f"the cache {entry.key!r} is not here any more") from error
        with file:
            if not await asyncio.to_thread(_is_whole, file, entry):
                await self.drop(entry)
                raise ExecutionError(f"the cache {entry.key!r} is damaged and was dropped")
            await _in_thread(lambda ended: _unpack(entry, file, trees, ended))
        self._use(entry)

    async def drop(self, entry: Entry) -> None:
        """Forget it: first what tells of it."""
        (await self._known()).pop(_name(entry), None)
        for ending in (_TELLS, _HOLDS):
            with contextlib.suppress(OSError):
                (self._root / f"{_name(entry)}{ending}").unlink()

    async def bound(self, max_bytes: int) -> Sequence[Entry]:
        """Drop the least recently used; see the port."""
        known = await self._known()
        sizes = [(name, kept.entry.size, kept.used_at.timestamp()) for name, kept in known.items()]
        gone = [known[name].entry for name in over(sizes, max_bytes)]
        for entry in gone:
            await self.drop(entry)
        return gone

    # -- what is here ---------------------------------------------------------------------------

    async def _known(self) -> dict[str, Kept]:
        async with self._loading:
            if self._kept is None:
                self._kept = await asyncio.to_thread(_load, self._root)
            return self._kept

    def _file(self, entry: Entry) -> Path:
        return self._root / f"{_name(entry)}{_HOLDS}"

    def _use(self, entry: Entry) -> None:
        now, name = self._clock.now(), _name(entry)
        if self._kept is not None and name in self._kept:
            self._kept[name] = Kept(entry, now)
            with contextlib.suppress(OSError):
                os.utime(self._root / f"{name}{_TELLS}", (now.timestamp(), now.timestamp()))

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Path]:
        path = self._root / f"{secrets.token_hex(8)}{_DRAFT}"
        try:
            self._root.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _full(self._root, error) from error
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _settle(self, entry: Entry, draft: Path) -> Entry:
        """Give a draft its name, unless another build was quicker; there is no wait in it."""
        assert self._kept is not None
        name = _name(entry)
        if (there := self._kept.get(name)) is not None:
            return there.entry
        tells = self._root / f"{name}{_TELLS}"
        aside = self._root / f"{name}{_DRAFT}"
        try:
            aside.write_bytes(msgspec.json.encode(entry))
            draft.rename(self._file(entry))
            aside.rename(tells)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise _full(tells, error) from error
        self._kept[name] = Kept(entry, self._clock.now())
        return entry


def _name(entry: Entry) -> str:
    text = f"{entry.scope}\0{entry.key}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:40]


def _load(root: Path) -> dict[str, Kept]:
    """Return what lies here, and remove what was not finished and what nothing tells of."""
    found: dict[str, Kept] = {}
    try:
        names = os.listdir(root)  # noqa: PTH208 - names are all that is needed
    except OSError:
        return found
    for name in names:
        if not name.endswith(_TELLS):
            continue
        path = root / name
        try:
            entry = msgspec.json.decode(path.read_bytes(), type=Entry)
            used_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            is_good = (root / f"{_name(entry)}{_HOLDS}").stat().st_size == entry.size
        except (OSError, ValueError):
            is_good = False
        else:
            if is_good and name == f"{_name(entry)}{_TELLS}":
                found[_name(entry)] = Kept(entry, used_at)
    for name in names:
        if name.removesuffix(_TELLS).removesuffix(_HOLDS) not in found:
            with contextlib.suppress(OSError):
                (root / name).unlink()
    return found


# -- in threads ---------------------------------------------------------------------------------


class _Ended(Exception):  # noqa: N818 - nothing went wrong
    """Nobody waits for the work any more."""


async def _in_thread(work: Callable[[Callable[[], bool]], T]) -> T:
    """Run blocking work, which is given a way to see that its caller was cancelled.

    Returns only when the thread is done, so that nothing writes where somebody tidies up.
    """
    is_over = False
    running = asyncio.get_running_loop().run_in_executor(None, lambda: work(lambda: is_over))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        is_over = True
        with contextlib.suppress(_Ended, RotaError, OSError):
            await running
        raise


def _pack(
    entry: Entry, trees: Sequence[Path], draft: Path, limit: int, ended: Callable[[], bool]
) -> Entry:
    digest, parts = hashlib.sha256(), []
    try:
        with draft.open("wb") as out:
            for tree in trees:
                before = out.tell()
                if _holds_something(tree):
                    _pack_tree(tree, out, digest, limit, ended)
                parts.append(out.tell() - before)
            size = out.tell()
    except OSError as error:
        raise _full(draft, error) from error
    if not any(parts):
        names = " and no ".join(entry.paths[:3])
        raise NotFoundError(f"there is no {names}{' …' if len(entry.paths) > 3 else ''}")
    return replace(entry, parts=tuple(parts), size=size, sha256=digest.hexdigest())


def _holds_something(tree: Path) -> bool:
    """Whether there is a file, or a folder that is not empty; a link would not hold its files."""
    if tree.is_symlink():
        raise ExecutionError(f"{tree.name} is a symbolic link, and a cache keeps what is there")
    return tree.is_file() or (tree.is_dir() and any(tree.iterdir()))


def _pack_tree(
    tree: Path, out: IO[bytes], digest: hashlib._Hash, limit: int, ended: Callable[[], bool]
) -> None:
    """Append a tree."""
    packer = zstd.ZstdCompressor(LEVEL)
    argv = ["tar", "--create", "--file=-", "--sparse", "--numeric-owner", "--format=gnu"]
    argv += ["--directory", str(tree.parent), "--", f"./{tree.name}"]

    def put(data: bytes) -> None:
        if out.tell() + len(data) > limit:
            raise ExecutionError(f"it takes more than the {shown(limit)} that caches may have")
        digest.update(data)
        out.write(data)

    with tempfile.TemporaryFile() as words:
        with _tar(argv, stdout=subprocess.PIPE, stderr=words) as tar:
            assert tar.stdout is not None
            while piece := tar.stdout.read(PIECE):
                if ended():
                    raise _Ended
                put(packer.compress(piece))
        put(packer.flush())
        _check(tar, words, f"cannot pack {tree.name}")


def _unpack(
    entry: Entry, file: IO[bytes], trees: Sequence[Path], ended: Callable[[], bool]
) -> None:
    file.seek(0)
    for part, tree in zip(entry.parts, trees, strict=True):
        if part:
            _unpack_tree(file, part, tree, ended)


def _unpack_tree(file: IO[bytes], size: int, tree: Path, ended: Callable[[], bool]) -> None:
    unpacker = zstd.ZstdDecompressor()
    argv = ["tar", "--extract", "--file=-", "--numeric-owner", "--preserve-permissions"]
    argv += ["--directory", str(tree.parent)]
    with tempfile.TemporaryFile() as words:
        try:
            tree.parent.mkdir(parents=True, exist_ok=True)
            with _tar(argv, stdin=subprocess.PIPE, stderr=words) as tar:
                assert tar.stdin is not None
                try:
                    while not unpacker.eof:
                        piece = b""
                        if unpacker.needs_input:
                            piece = file.read(min(PIECE, size))
                            size -= len(piece)
                        if ended():
                            raise _Ended
                        # However well it was packed, no more than this is ever in memory.
                        tar.stdin.write(unpacker.decompress(piece, PIECE))
                    tar.stdin.close()
                except BrokenPipeError:
                    pass  # tar gave up, and says why
        except (OSError, EOFError, zstd.ZstdError) as error:
            raise ExecutionError(f"cannot unpack into {tree.parent}: {error}") from error
        _check(tar, words, f"cannot unpack into {tree.parent}")


@contextlib.contextmanager
def _tar(argv: Sequence[str], **pipes: int | IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Run tar, and end it with the context if it has not ended."""
    try:
        tar: subprocess.Popen[bytes] = subprocess.Popen(
            argv,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
            stdin=pipes.get("stdin", subprocess.DEVNULL),
            stdout=pipes.get("stdout", subprocess.DEVNULL),
            stderr=pipes["stderr"],
        )
    except FileNotFoundError as error:
        raise ExecutionError("there is no `tar` on this agent, which caches need") from error
    try:
        yield tar
        tar.wait()
    finally:
        if tar.poll() is None:
            tar.kill()
        for pipe in (tar.stdin, tar.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        tar.wait()


def _check(tar: subprocess.Popen[bytes], words: IO[bytes], what: str) -> None:
    if tar.returncode == 0:
        return
    words.seek(0)
    said = words.read(4096).decode("utf-8", "replace").splitlines()
    first = next((line.removeprefix("tar: ") for line in said if line.strip()), "")
    raise ExecutionError(f"{what}: {first[:_MAX_WORDS] or f'tar ended with {tar.returncode}'}")


def _is_whole(file: IO[bytes], entry: Entry) -> bool:
    try:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256  # type: ignore[arg-type]
    except OSError:
        return False


def _write(file: IO[bytes], piece: bytes, digest: hashlib._Hash) -> None:
    digest.update(piece)
    file.write(piece)


def _full(path: Path, error: OSError) -> ExecutionError:
    return ExecutionError(f"cannot write {path}: {error.strerror}")
