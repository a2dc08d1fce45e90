"""A tar archive as a stream of bytes, with a hash of all of it at its end."""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec

from rota.core.backups import ENDING, TAIL_BYTES, Ending

BLOCK = 512


class Archive:
    """Frames members; every byte that is to be sent is returned by one of its methods, in order."""

    def __init__(self, at: datetime) -> None:
        self._at = int(at.timestamp())
        self._hash, self._size = hashlib.sha256(), 0

    def head(self, name: str, size: int, at: datetime | None = None) -> bytes:
        """Return what stands before a member of so many bytes, which is of now or of another time."""
        import tarfile

        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        info.mtime = self._at if at is None else int(at.timestamp())
        return self.data(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))

    def data(self, piece: bytes) -> bytes:
        """Return a piece of a member, counted."""
        self._hash.update(piece)
        self._size += len(piece)
        return piece

    def pad(self) -> bytes:
        """Return what stands behind a member."""
        return self.data(b"\0" * (-self._size % BLOCK))

    def whole(self, name: str, data: bytes, at: datetime | None = None) -> bytes:
        """Return a member whose bytes are all there."""
        return self.head(name, len(data), at) + self.data(data) + self.pad()

    def end(self) -> bytes:
        """Return the ending: nothing comes behind it."""
        ending = msgspec.json.encode(Ending(self._size, self._hash.hexdigest()))
        tail = self.whole(ENDING, ending)
        return tail + b"\0" * (TAIL_BYTES - len(tail))
