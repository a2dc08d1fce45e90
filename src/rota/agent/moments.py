"""When the steps of an attempt began and ended, by their places in its log.

A daemon that takes over an attempt reads its log anew from the start, long after it was written: what
the daemon before it noted, in a file of the attempt's folder, is what counts.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

from rota.ports.clock import Clock

FILE = "moments"


class Moments:
    """The moments of one attempt, whose folder is ``home``."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self._path, self._clock = home / FILE, clock
        self._known: dict[int, datetime] = {}
        with contextlib.suppress(OSError):
            for line in self._path.read_text(encoding="ascii", errors="replace").splitlines():
                with contextlib.suppress(ValueError, OverflowError, OSError):
                    offset, _, at = line.partition(" ")
                    self._known[int(offset)] = datetime.fromtimestamp(float(at), UTC)

    def at(self, offset: int) -> datetime:
        """Return when what stands at a byte of the log was read first."""
        found = self._known.get(offset)
        if found is None:
            found = self._known[offset] = self._clock.now()
            # On a full disk only a daemon that comes after us does not know.
            with contextlib.suppress(OSError), self._path.open("a", encoding="ascii") as file:
                file.write(f"{offset} {found.timestamp():.6f}\n")
        return found
