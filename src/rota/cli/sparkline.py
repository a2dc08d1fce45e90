"""A row of numbers as a picture of one line."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rota.cli.render import Look

BARS = "▁▂▃▄▅▆▇█"
PLAIN = "_.-=+*#@"


def sparkline(
    values: Sequence[float], look: Look, width: int = 30, *, low: float | None = None
) -> str:
    """Return the last ``width`` values as bars, from the lowest of them to the highest.

    What does not change is in the middle. With ``low`` bars begin there instead, so that small
    differences look small; no value may be below it. Where the terminal has no such signs they are
    ASCII.
    """
    shown = [value for value in values if math.isfinite(value)][-width:]
    if not shown:
        return ""
    bars = BARS if look.unicode else PLAIN
    is_given = low is not None
    low, high = min(shown) if low is None else low, max(shown)
    if high == low:
        if is_given:
            return bars[0] * len(shown)
        return bars[len(bars) // 2 - 1] * len(shown)
    # Halved first, so that the largest numbers there are do not overflow.
    span = high / 2 - low / 2
    return "".join(
        bars[min(int((value / 2 - low / 2) / span * len(bars)), len(bars) - 1)] for value in shown
    )
