"""Keeps the number of packs small, in the background and out of everybody's way.

Every commit adds a pack. Repacking geometrically merges the small ones and leaves the large ones
alone, so that each object is moved about log2(n) times in its life, whatever the history's size.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from rota.adapters.git import repository
from rota.adapters.git.process import Git, GitFailedError
from rota.errors import UnavailableError

log = logging.getLogger(__name__)

#: git looks into every pack for an object; up to here nobody notices.
MAX_PACKS = 30
REPACK_TIMEOUT_S = 600.0


class Housekeeping:
    """Repacks when it is woken and there is need; never two at once."""

    def __init__(self, path: Path, git: Git) -> None:
        self._path = path
        self._git = git
        self._woken = asyncio.Event()
        self._woken.set()

    def wake(self) -> None:
        """Say that something was written."""
        self._woken.set()

    async def run_housekeeping(self) -> None:
        """Repack when there are too many packs, for ever."""
        while True:
            await self._woken.wait()  # unbounded: nothing is to be done until somebody writes
            self._woken.clear()
            if repository.pack_count(self._path) > MAX_PACKS:
                await self._repack()

    async def _repack(self) -> None:
        try:
            await self._git.run(
                "repack", "--geometric=2", "-d", "-q", timeout_s=REPACK_TIMEOUT_S, is_nice=True
            )
        except (GitFailedError, UnavailableError) as error:
            log.warning("cannot repack %s: %s", self._path, error)
