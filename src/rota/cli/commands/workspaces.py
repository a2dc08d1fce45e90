"""The workspaces that agents keep: lists them, removes them."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import Cell, Look, ago, colour_of, duration, size, table
from rota.cli.screen import Screen
from rota.errors import InputError


def workspaces(args: Namespace, screen: Screen) -> int:
    """List what is kept, or remove what is kept of builds."""
    words = list(args.words)
    if not words:
        return _list(args, screen)
    if words[0] != "rm" or len(words) < 2:
        raise InputError(
            f"workspaces: {' '.join(words)!r} is neither nothing nor rm BUILD...",
            hint="such as rota workspaces rm web/test#7",
        )
    client = connected(args)
    for build in words[1:]:
        answer = client.call("rm_workspace", build=build)
        if args.json:
            screen.json(answer)
        else:
            for it in answer.json():
                screen.line(f"{_name(it)} on {it['agent']} is removed")
    return 0


def _list(args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("workspaces")
    if args.json:
        screen.json(answer)
        return 0
    reply, look = answer.json(), screen.at(answer)
    rows = [_row(it, look) for it in reply["workspaces"]]
    screen.lines(table(rows, look, shrink=(0,)))
    for it in reply["silent"]:
        screen.note(f"warning: what {it['agent']} keeps is not known: {it['why']}")
    if not rows and screen.out.is_terminal:
        screen.note(
            "no workspace is kept\n\nhint: to keep that of a build: rota run JOB --keep-on-failure"
        )
    return 0


def _row(it: dict[str, Any], look: Look) -> tuple[Cell, ...]:
    count = it["bytes"]
    if look.is_terminal:
        measured = "…" if count is None else size(count)
    else:
        measured = "-" if count is None else str(count)
    result = it["result"] or "-"
    shells = f"{it['shells']} inside" if it["shells"] else ""
    return (
        Cell(_name(it), "bold"),
        Cell(result, colour_of(result)),
        Cell(it["agent"]),
        Cell(measured, right=True),
        Cell(ago(look, it["kept_at"]), "dim"),
        Cell(_until(it["until"], look), "dim"),
        Cell("asked for" if it["asked"] else "", "dim"),
        Cell(shells, "yellow"),
    )


def _name(it: dict[str, Any]) -> str:
    attempt: int = it["attempt"]
    return f"{it['build']} attempt {attempt}" if attempt > 1 else str(it["build"])


def _until(at: str, look: Look) -> str:
    if not look.is_terminal or look.now is None:
        return at
    left = (datetime.fromisoformat(at) - look.now).total_seconds()
    return f"for {duration(left)}" if left > 0 else "until now"
