"""The log of an attempt that runs on this agent: read from its file, before the engine has it."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from pathlib import Path

from rota.core.masks import Masks
from rota.core.workflow import EPOCH, Scanner

#: What each reader holds of a log: times three for what is on its way, times all readers.
PIECE = 64 * 1024


class LiveLog:
    """A growing log file, shown as far as the scanner says that it may be.

    The shipper calls :meth:`scan` for each piece it read; readers may be many, each at its own
    place. The file stays readable here after it was removed from its folder.
    """

    def __init__(
        self,
        path: Path,
        time: Callable[[int], datetime] = lambda _: EPOCH,
        masks: Masks | None = None,
    ) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # Readers may outlive the attempt: the last one to let go of this object closes the file.
        weakref.finalize(self, os.close, self._fd)
        self.scanner = Scanner(time, masks)
        self.is_whole = False
        self._readers: set[asyncio.Future[None]] = set()

    @property
    def end(self) -> int:
        """How many bytes may be shown now."""
        return self.scanner.safe_end

    def size(self) -> int:
        """Return how many bytes the file has. Cost: a microsecond."""
        return os.fstat(self._fd).st_size

    def pread(self, size: int, offset: int) -> bytes:
        """Return the file's bytes as written, unmasked: for the shipper alone."""
        return os.pread(self._fd, size, offset)

    def scan(self, data: bytes) -> None:
        """Take note of the next bytes, and wake the readers."""
        self.scanner.feed(data)
        self._wake()

    def finish(self) -> None:
        """No more bytes will come."""
        self.scanner.finish()
        self.is_whole = True
        self._wake()

    def shown(self, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` to ``stop`` as they may be shown, masks applied."""
        masks = self.scanner.masks
        if not masks:
            return self.pread(stop - start, start)
        # A value may lie across either border: look as far beyond as the longest one reaches.
        first = max(0, start - masks.longest)
        around = masks.apply(self.pread(stop + masks.longest - first, first))
        return around[start - first : stop - first]

    async def read(self, start: int, stop: int | None = None) -> AsyncGenerator[bytes]:
        """Yield what there is from ``start`` to ``stop``."""
        end = self.end if stop is None else min(stop, self.end)
        while start < end:
            data = self.shown(start, min(start + PIECE, end))
            if not data:
                return
            start += len(data)
            yield data

    async def follow(self, start: int) -> AsyncGenerator[bytes]:
        """Yield from ``start`` until the log is whole."""
        while True:
            if start < self.end:
                data = self.shown(start, min(start + PIECE, self.end))
                start += len(data)
                yield data
            elif self.is_whole:
                return
            else:
                await self._more()

    def _wake(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)
        self._readers.clear()

    async def _more(self) -> None:
        reader = asyncio.get_running_loop().create_future()
        self._readers.add(reader)
        try:
            await reader
        finally:
            self._readers.discard(reader)
