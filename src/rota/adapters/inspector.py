"""The inspector as a process of its own: a million records are read without the agent standing still."""

from __future__ import annotations

import os
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import msgspec

from rota import child
from rota.core.audit import Head, Step
from rota.errors import UnavailableError

#: A line is a flaw at most.
MAX_LINE = 1 << 20
PROGRAM = "rota.bootstrap.inspection"

_decoder = msgspec.json.Decoder(Step)


class ProgramInspector:
    """Reads the repository ``store`` and holds it against the ``index``."""

    def __init__(self, store: Path, index: Path) -> None:
        self._store, self._index = store, index

    async def inspect(self, heads: Sequence[Head] = ()) -> AsyncGenerator[Step]:
        """Yield what is wrong; see the port."""
        lines = [head.line() for head in heads]
        argv = (sys.executable, "-I", "-W", "ignore", "-m", PROGRAM)
        try:
            program = await child.begin(
                "nice",
                *argv,
                str(self._store),
                str(self._index),
                *lines,
                stderr=DEVNULL,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                limit=MAX_LINE,
            )
        except OSError as error:
            raise UnavailableError(f"cannot inspect the store: {error.strerror}") from error
        assert program.stdout is not None
        try:
            async for line in program.stdout:
                yield _decoder.decode(line)
            if await program.wait() != 0:
                raise UnavailableError(
                    f"the inspection of {self._store} broke off",
                    hint="look at the disk, and at what is said before; a clone is read the same way: "
                    "rota audit verify --clone DIR",
                )
        finally:
            await child.end(program)
