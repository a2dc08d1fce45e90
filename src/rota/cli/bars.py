"""A share of something, and results one after another, as pictures of one line."""

from __future__ import annotations

from collections.abc import Sequence

from rota.cli.render import SIGNS, Cell, Look, paint

FULL, EMPTY = "█", "░"
PLAIN_FULL, PLAIN_EMPTY = "#", "."


def bar(look: Look, share: float, width: int) -> str:
    """Return a bar of that width, as much of it full as ``share`` says, from 0 to 1.

    What has begun shows, and what is not over is never full.
    """
    share = min(max(share, 0.0), 1.0)
    done = round(share * width)
    if 0 < share < 1 and width > 1:
        done = min(max(done, 1), width - 1)
    full, empty = (FULL, EMPTY) if look.unicode else (PLAIN_FULL, PLAIN_EMPTY)
    return full * done + empty * (width - done)


def slots_bar(look: Look, used: int, slots: int, width: int = 8) -> str:
    """Return slots as a bar: a sign for each where there is room for all, else shares."""
    if slots <= 0:
        return ""
    return bar(look, used / slots, min(slots, width))


def marks(look: Look, results: Sequence[str]) -> str:
    """Return results as coloured signs, one each, in the order given."""
    return "".join(paint(look, cell.code, cell.text) for cell in mark_cells(look, results))


def mark_cells(look: Look, results: Sequence[str]) -> list[Cell]:
    """Return a cell for each result, or state; what is not known is a dot."""
    return [
        Cell(it[0 if look.unicode else 1], it[2])
        for it in (SIGNS.get(result, ("·", "'", "dim")) for result in results)
    ]
