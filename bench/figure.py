"""What was measured, what it was meant to reach, and both as a table."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence

WIDTH = 80
WHAT = 36


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value.

    ``reach`` is the most it is meant to be (the least, with ``at_least``); ``None`` where it is
    only told. ``floor`` is what the machine itself takes for the like, in the same unit; its name
    says what that was.
    """

    what: str
    value: float
    unit: str
    reach: float | None = None
    at_least: bool = False
    floor: float | None = None
    floor_name: str = "spawn"

    @property
    def verdict(self) -> str:
        """``ok``, ``missed``, or nothing where there is no reach."""
        if self.reach is None:
            return ""
        good = self.value >= self.reach if self.at_least else self.value <= self.reach
        return "ok" if good else "missed"

    @property
    def ratio(self) -> float | None:
        """How many floors it is; for a rate, how many floors each single one takes."""
        if not self.floor:
            return None
        return 1000 / self.value / self.floor if self.at_least else self.value / self.floor


def median_of(rounds: Sequence[Figure]) -> Figure:
    """Return one figure for several rounds of the same: value and floor are medians."""
    floors = [figure.floor for figure in rounds if figure.floor is not None]
    return dataclasses.replace(
        rounds[0],
        value=statistics.median(figure.value for figure in rounds),
        floor=statistics.median(floors) if floors else None,
    )


def header() -> str:
    """Return the table's first lines."""
    return f"{'what':{WHAT}} {'reach':>9} {'measured':>10} {'to floor':>12}  verdict\n{'-' * WIDTH}"


def row(figure: Figure) -> str:
    """Return a figure as one line of the table, at most 80 columns."""
    sign = "≥" if figure.at_least else "≤"
    reach = "" if figure.reach is None else f"{sign} {_amount(figure.reach, figure.unit)}"
    ratio = "" if figure.ratio is None else f"{figure.ratio:.3g} {figure.floor_name}"
    measured = _amount(figure.value, figure.unit)
    return f"{figure.what:{WHAT}} {reach:>9} {measured:>10} {ratio:>12}  {figure.verdict}".rstrip()


def _amount(value: float, unit: str) -> str:
    digits = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{digits} {unit}"


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that ``share`` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
