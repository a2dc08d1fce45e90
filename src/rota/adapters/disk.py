"""Removes and measures folders by programs of the system, at the lowest priority.

A tree of half a million files is a second of system calls. In a thread of this process each of them
would take its turn at the interpreter; in a process of its own they cost the daemon nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from rota import child
from rota.errors import UnavailableError

_NICE = ("nice", "-n", "19")
#: What is said of a failure is for one line of a log.
_MAX_WORDS = 300


class SystemDisk:
    """Implements :class:`rota.ports.disk.Disk` with ``find`` and ``du``."""

    async def remove(self, folders: Sequence[Path]) -> str:
        """Remove folders with all that is in them; return what was in the way."""
        there = [str(folder) for folder in folders if os.path.lexists(folder)]
        if not there:
            return ""
        words = await self._remove(there)
        left = [folder for folder in there if os.path.lexists(folder)]
        if left:
            # Not before: mostly there is no such folder, and looking for them costs as much again.
            mode = ("!", "-perm", "-700", "-exec", "chmod", "u+rwx", "{}", ";")
            await _run("find", *left, "-xdev", "-type", "d", *mode)
            words = await self._remove(left)
        return words if any(map(os.path.lexists, left)) else ""

    async def _remove(self, folders: Sequence[str]) -> str:
        # Not rm: only some have a switch that keeps out of what is mounted inside.
        _, _, err = await _run("find", *folders, "-xdev", "-depth", "-delete")
        return err

    async def size(self, folder: Path) -> int | None:
        """Return how many bytes a folder takes on its disk."""
        # Files that vanish meanwhile make it complain; what it then says is still the best there is.
        _, out, _ = await _run("du", "-skx", "--", str(folder))
        kib = out.partition("\t")[0]
        return int(kib) * 1024 if kib.isdecimal() else None


async def _run(*command: str) -> tuple[int, str, str]:
    """Run a program; return its exit code and the beginnings of what it said."""
    try:
        process = await child.begin(
            *_NICE, *command, cwd="/", env={"PATH": os.defpath, "LC_ALL": "C"}
        )
    except OSError as error:
        raise UnavailableError(f"cannot start {command[0]}: {error.strerror}") from error
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        out, err = await asyncio.gather(_beginning(process.stdout), _beginning(process.stderr))
        code = await process.wait()
    finally:
        await child.end(process)
    return code, out, err


async def _beginning(stream: asyncio.StreamReader) -> str:
    """Read a stream to its end, and return how it began."""
    kept = bytearray()
    while piece := await stream.read(65536):
        kept += piece[: _MAX_WORDS - len(kept)]
    return kept.decode("utf-8", "replace").strip()
