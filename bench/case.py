"""What a case is given, and what it gives back."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

from bench import floor
from bench.figure import Figure


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where a case works, how large it may be, and this machine's floors as of now."""

    folder: Path
    is_quick: bool
    spawn_ms: float
    sync_ms: float
    _numbers: itertools.count[int] = dataclasses.field(default_factory=itertools.count)

    def data(self) -> Path:
        """Return a data folder that nobody used yet."""
        return self.folder / f"agent-{next(self._numbers)}"

    def size(self, full: int, quick: int) -> int:
        """Return how many, or how much."""
        return quick if self.is_quick else full


@dataclasses.dataclass
class Result:
    """Figures for the table, remarks for below it, and raw values for the JSON."""

    figures: list[Figure] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    raw: dict[str, object] = dataclasses.field(default_factory=dict)


Case = Callable[[Setting], Result]


def setting(folder: Path, *, is_quick: bool) -> Setting:
    """Return the setting for one run of a case, its floors measured now."""
    folder.mkdir()
    return Setting(folder, is_quick, floor.spawn_ms(folder), floor.sync_ms(folder))
