"""Files that must not reach a disk: secrets, as long as one attempt needs them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol


class PrivateFiles(Protocol):
    """A folder for each attempt, in memory where the machine has such a file system.

    It carries the agent's data folder in its name, so that agents of one machine keep apart. Calls
    are short and may come at any time; writing and removing twice is doing it once.
    """

    def write(
        self, key: str, files: Mapping[str, bytes], *, user: str = "", shared: bool = False
    ) -> Path:
        """Write files that ``user`` alone may read, empty is this one; return their folder.

        If they are ``shared``, a container engine mounts them: an agent that runs in a container itself
        then writes them below its data folder, which is all that the engine sees of it.

        Raises:
            ExecutionError: they cannot be written; nothing is left of them.
        """
        ...

    def remove(self, key: str) -> None:
        """Remove the files of an attempt; what cannot be removed is logged."""
        ...

    def sweep(self, living: Collection[str]) -> None:
        """Remove the files of all attempts but the ``living``."""
        ...
