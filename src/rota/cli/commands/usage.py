"""What lies on the disks."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import Cell, clean, size, table
from rota.cli.screen import Screen


def du(args: Namespace, screen: Screen) -> int:
    """List it by kind, what is shared first."""
    answer = connected(args).call("du")
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    screen.lines(table([_row(it) for it in found["usages"]], screen.at(answer), shrink=(4, 5)))
    for silent in found["silent"]:
        screen.note(f"not known: {clean(silent)}")
    return 0


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
