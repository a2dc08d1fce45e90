"""Notices: what people and rooms are to be told, and were."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import Cell, Look, ago, table
from rota.cli.screen import Screen

_STYLES = {"sent": "", "dropped": "red", "waiting": "yellow", "sending": "yellow"}


def notices(args: Namespace, screen: Screen) -> int:
    """List notices."""
    more = {} if args.limit is None else {"limit": args.limit}
    answer = connected(args).call(
        "notices", all=args.all, target=args.target or "", build=args.build or "", **more
    )
    if args.json:
        screen.json(answer)
        return 0
    found, look = answer.json(), screen.at(answer)
    screen.lines(table([_row(one, look) for one in found], look, shrink=(5,)))
    if not found and screen.out.is_terminal:
        screen.note("nothing is owed to anybody, and nothing was dropped of late")
    return 0


def _row(one: dict[str, Any], look: Look) -> tuple[Cell, ...]:
    return (
        Cell(ago(look, one.get("over_at") or one["at"]), "dim"),
        Cell(one["target"]),
        Cell(one["build"] or "-"),
        Cell(one["occasion"]),
        Cell(one["state"], _STYLES[one["state"]]),
        Cell(one.get("why") or ""),
    )
