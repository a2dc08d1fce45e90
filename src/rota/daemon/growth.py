"""What the disk of a data folder held at times, in a small file beside it: a restart forgets nothing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from rota.core.growth import Growth, Sample, grown, is_due
from rota.daemon.folder import DataFolder
from rota.errors import UnavailableError

FILE = "disk.json"


class DiskGrowth:
    """Notes what is used now and then; what is there of it is read at the start."""

    def __init__(self, data: Path) -> None:
        self._folder = DataFolder(data)
        self.found = Growth()
        with contextlib.suppress(msgspec.MsgspecError):
            self.found = msgspec.json.decode(self._folder.read(FILE), type=Growth)

    def note(self, now: float) -> None:
        """Take a sample if it is time for one. Cost: nothing; with a sample some 100 µs."""
        if not is_due(self.found, now):
            return
        disk = os.statvfs(self._folder.path)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        self.found = grown(self.found, disk.f_blocks * disk.f_frsize, Sample(now, used))
        # On a full disk it is not written; that is found by others, who say what to do.
        with contextlib.suppress(UnavailableError):
            self._folder.write(FILE, msgspec.json.encode(self.found).decode())
