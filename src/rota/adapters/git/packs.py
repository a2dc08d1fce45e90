"""Packs: what a commit adds, taken out of the repository and brought into another one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path

from rota.adapters.git.process import Git, feed
from rota.adapters.git.stream import COMMAND

#: fast-import writes whole folders. From this size on a process that finds what differs pays.
WHOLE_MAX_BYTES = 16 << 10
PIECE_BYTES = 1 << 16

#: Reads a pack that may lean on objects which are here, and completes it.
_UNPACK = ("index-pack", "--stdin", "--fix-thin")
_PACK = ("pack-objects", "--revs", "--thin", "--stdout", "-q", "--delta-base-offset")


async def import_commit(path: Path, git: Git, stream: bytes) -> tuple[str, bytes]:
    """Give ``stream`` to fast-import; return the commit it made and the pack of what it wrote.

    The pack is empty where that is large, or everything was there already. Cost: one process.

    Raises:
        GitFailedError: git could not write.
    """
    descriptor, edges = tempfile.mkstemp(prefix="edges-", dir=path / "rota")
    with os.fdopen(descriptor, "rb") as note:
        try:
            args = ("-c", "pack.compression=1", *COMMAND[2:], f"--export-pack-edges={edges}")
            commit = await git.run(*args, data=stream)
            name = note.read().partition(b".pack:")[0].decode()
        finally:
            Path(edges).unlink(missing_ok=True)
    return commit.decode().strip(), _small(path / f"{name}.pack") if name else b""


def _small(pack: Path) -> bytes:
    try:
        return pack.read_bytes() if pack.stat().st_size <= WHOLE_MAX_BYTES else b""
    except FileNotFoundError:
        return b""  # merged with others already


def count(pack: bytes) -> int:
    """Return how many objects a pack says that it has: gitformat-pack(5)."""
    return int.from_bytes(pack[8:12], "big")


async def make_pack(git: Git, old: str, new: str) -> AsyncGenerator[bytes]:
    """Yield a thin pack of what ``new`` has and ``old`` lacks. Cost: one process.

    Raises:
        GitFailedError: git could not read one of them; what came so far is cut off.
    """
    wanted = f"{new}\n^{old}\n" if old else f"{new}\n"
    async with git.talk(*_PACK) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await feed(process.stdin, wanted.encode())
        process.stdin.close()
        while piece := await process.stdout.read(PIECE_BYTES):
            yield piece


async def unpack(git: Git, pack: AsyncIterable[bytes]) -> None:
    """Bring the objects of a pack in, on disk; none where there is not one byte.

    Raises:
        GitFailedError: it is damaged, leans on what is not here, or git could not write.
    """
    pieces = aiter(pack)
    first = await anext(pieces, b"")
    if not first:
        return
    async with git.talk(*_UNPACK) as process:
        await feed(process.stdin, first)
        async for piece in pieces:
            await feed(process.stdin, piece)
