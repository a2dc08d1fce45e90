"""The disk: what takes long on it, and must hold up nobody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """Removes and measures trees of any size, out of the way of everything else."""

    async def remove(self, folders: Sequence[Path]) -> str:
        """Remove folders with all that is in them; return what was in the way, empty if nothing.

        Read-only folders go too. What is mounted inside stays, and so does its folder: it is
        somebody else's. Symbolic links are removed, not followed.
        """
        ...

    async def size(self, folder: Path) -> int | None:
        """Return how many bytes a folder takes on its disk; ``None`` where that cannot be said."""
        ...
