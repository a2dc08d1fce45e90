"""What lies on the disks."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import Cell, Look, clean, size, table
from rota.cli.screen import Screen

#: Where there is less room than this, numbers and what goes next say more than the rule.
WIDE = 100


def du(args: Namespace, screen: Screen) -> int:
    """List it by kind, what is shared first."""
    answer = connected(args).call("du")
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    screen.lines(usage_table(found["usages"], screen.at(answer)))
    for silent in found["silent"]:
        screen.note(f"not known: {clean(silent)}")
    return 0


def usage_table(usages: Sequence[dict[str, Any]], look: Look) -> list[str]:
    """Return a line for each kind; where it is narrow without what bounds it (docs/retention.md)."""
    rows = [_row(it) for it in usages]
    if look.width is not None and look.width < WIDE:
        rows = [(*row[:4], row[5]) for row in rows]
        return table(rows, look, shrink=(4, 1))
    return table(rows, look, shrink=(4, 5))


def _row(it: dict[str, Any]) -> tuple[Cell, ...]:
    is_close = it["bound"] is not None and it["bytes"] > 0.9 * it["bound"]
    return (
        Cell(it["agent"] or "all", "bold"),
        Cell(it["what"]),
        Cell(
            size(it["bytes"]) + ("+" if it["is_least"] else ""),
            "yellow" if is_close else "",
            right=True,
        ),
        Cell(f"of {size(it['bound'])}" if it["bound"] is not None else "", "dim", right=True),
        Cell(it["rule"], "dim"),
        Cell(f"next: {it['next']}" if it["next"] else "", "dim"),
    )
