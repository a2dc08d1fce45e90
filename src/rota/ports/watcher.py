"""Knows when a file grows, without asking it over and over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Watch(Protocol):
    """One watched file."""

    def close(self) -> None:
        """Watch no longer; the callback is not called again. Safe to call twice."""
        ...


class Watcher(Protocol):
    """Calls back from the event loop; many writes may make one call, none is missed."""

    def watch(self, path: Path, on_write: Callable[[], None]) -> Watch:
        """Call ``on_write`` after each write to the file, which must exist.

        Raises:
            UnavailableError: the system allows no more watches.
        """
        ...
