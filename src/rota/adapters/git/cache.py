"""The blobs that were read last, up to a size: a hot job's script costs no process."""

from __future__ import annotations

from collections import OrderedDict

MAX_BYTES = 4 << 20


class BlobCache:
    """Hash -> bytes, least recently used out first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max = max_bytes
        self._blobs: OrderedDict[str, bytes] = OrderedDict()
        self.size_bytes = 0

    def get(self, blob: str) -> bytes | None:
        """Return the bytes, or ``None`` if they are not here."""
        data = self._blobs.get(blob)
        if data is not None:
            self._blobs.move_to_end(blob)
        return data

    def add(self, blob: str, data: bytes) -> None:
        """Keep the bytes, unless they alone would take a quarter of the room."""
        if blob in self._blobs or len(data) > self._max // 4:
            return
        self._blobs[blob] = data
        self.size_bytes += len(data)
        while self.size_bytes > self._max:
            _, dropped = self._blobs.popitem(last=False)
            self.size_bytes -= len(dropped)
