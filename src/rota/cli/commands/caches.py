"""The folders that builds hand on."""

from __future__ import annotations

from argparse import Namespace

from rota.cli.commands.connected import connected
from rota.cli.render import Cell, ago, clean, size, table
from rota.cli.screen import Screen
from rota.errors import InputError


def caches(args: Namespace, screen: Screen) -> int:
    """List caches, or forget some."""
    match args.words:
        case []:
            return _list(args, screen)
        case ["rm", key]:
            return _remove(key, args, screen)
        case _:
            words = " ".join(args.words)
            raise InputError(f"caches: {words!r} is not rm KEY", hint="rota caches rm 'npm-*'")


def _list(args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("caches")
    if args.json:
        screen.json(answer)
        return 0
    look = screen.at(answer)
    rows = [
        (
            Cell(clean(it["scope"])),
            Cell(clean(it["key"])),
            Cell(size(it["size"]) if look.is_terminal else str(it["size"]), "dim", right=True),
            Cell(ago(look, it["used_at"]), "dim"),
            Cell(clean("all agents" if it.get("shared") else it.get("agent", ""))),
            Cell(clean(it.get("build", "")), "dim"),
            Cell(clean(", ".join(it["paths"])), "dim"),
        )
        for it in answer.json()
    ]
    screen.lines(table(rows, look, shrink=(1, 6)))
    if not rows and look.is_terminal:
        screen.note("nothing is cached")
    return 0


def _remove(key: str, args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("rm_caches", key=key, scope=args.project or "")
    if args.json:
        screen.json(answer)
        return 0
    for it in answer.json():
        screen.line(f"{clean(it['scope'])}: {clean(it['key'])} is forgotten")
    return 0
