"""The daemon's log file where nobody else keeps it: two halves, and so bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

FILE = "agent.log"
HALF_BYTES = 16 << 20
LOOK_S = 30.0
STDERR = 2


async def keep_bounded(data: Path) -> None:
    """Keep what this process prints to ``agent.log`` below two halves, for ever."""
    while True:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(bound, data / FILE, HALF_BYTES)
        await asyncio.sleep(LOOK_S)


def bound(path: Path, half: int, descriptor: int = STDERR) -> bool:
    """Let the log begin anew where it is larger than one half; say whether that was so.

    The half before it stays beside it. Lines that are written in between are lost: it is appended to,
    by whoever has it open, and cannot be taken from under them.

    Raises:
        OSError: the disk does not take it; the log stays as it is.
    """
    if not _is_same(path, descriptor) or path.stat().st_size <= half:
        return False
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)
    return True


def _is_same(path: Path, descriptor: int) -> bool:
    """Whether what this process says goes there: by ``rota agent --daemon``, and not by a unit."""
    try:
        said, kept = os.fstat(descriptor), path.stat()
    except OSError:
        return False
    return (said.st_dev, said.st_ino) == (kept.st_dev, kept.st_ino)
