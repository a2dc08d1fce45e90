"""Files of a workspace by globs, and bytes of those that are really in it."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

from rota.core.globs import matches
from rota.errors import ExecutionError

PIECE = 256 << 10
_SIGNS = frozenset("*?[")


def matching_files(folder: Path, globs: Iterable[str]) -> dict[str, list[str]]:
    """Return, for each glob, the paths below ``folder`` of what matches, sorted; links unresolved.

    A glob that is the name of a folder means all in it. ``.git`` is passed over unless a glob names
    it, and folders behind links unless it leads through them by name. What cannot be read is empty.

    Cost: one look at each folder below a glob's first sign; not for the event loop.
    """
    return {glob: sorted(set(_matching(folder, glob)), key=os.fsencode) for glob in globs}


def _matching(folder: Path, glob: str) -> Iterator[str]:
    parts = [part for part in glob.split("/") if part not in ("", ".")]
    count = next((at for at, part in enumerate(parts) if _SIGNS & set(part)), len(parts))
    base, rest = "/".join(parts[:count]), "/".join(parts[count:])
    start = folder / base
    if not start.is_dir():
        if not rest and os.path.lexists(start):
            yield base
        return
    for path in _walked(start, with_git=".git" in parts):
        if not rest or matches(path, rest):
            yield f"{base}/{path}" if base else path


def _walked(start: Path, *, with_git: bool) -> Iterator[str]:
    """Yield the paths of all that is no folder."""
    for here, folders, files in os.walk(start):
        if not with_git:
            folders[:] = [name for name in folders if name != ".git"]
        base = os.path.relpath(here, start)
        for name in files:
            yield name if base == "." else f"{base}/{name}"


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path is a regular file, and, whatever links there are, below the resolved ``root``."""
    try:
        return path.is_file() and path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # links in a circle
        return False


async def bytes_of(path: Path, root: Path) -> AsyncIterator[bytes]:
    """Yield a file's bytes, as many as it had when it was opened.

    Raises:
        ExecutionError: it is no regular file any more, lies elsewhere, or cannot be read.
    """
    try:
        # What became a pipe would never open, were it waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ExecutionError(f"cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        found = os.fstat(descriptor)
        place = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - as the kernel has it
        if not stat.S_ISREG(found.st_mode) or not place.is_relative_to(root):
            raise ExecutionError("is no file in the workspace any more")
        left = found.st_size
        while left:
            try:
                piece = await asyncio.to_thread(file.read, min(PIECE, left))
            except OSError as error:
                raise ExecutionError(f"cannot be read: {error.strerror}") from error
            if not piece:
                raise ExecutionError("became shorter while it was read")
            left -= len(piece)
            yield piece
