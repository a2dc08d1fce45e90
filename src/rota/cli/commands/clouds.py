"""Clouds: what they have launched, what fails there, and how a person stops it."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import Cell, Look, ago, clean, duration, paint, table
from rota.cli.screen import Screen
from rota.errors import InputError

_COLOURS = {
    "ready": "green",
    "full": "yellow",
    "paused": "yellow",
    "failing": "red",
    "unknown": "red",
}


def clouds(args: Namespace, screen: Screen) -> int:
    """List clouds with their machines; or pause one, or end a machine."""
    asked = [it for it in (args.pause, args.resume, args.drain, args.terminate) if it]
    if len(asked) > 1:
        raise InputError("one thing at a time: --pause, --resume, --drain or --terminate")
    client = connected(args)
    if args.pause or args.resume:
        answer = client.call("pause_cloud", cloud=asked[0], off=bool(args.resume))
        text = "launches machines again" if args.resume else "launches no more machines"
        _print(answer, args, screen, f"{asked[0]} {text}")
        return 0
    if args.drain or args.terminate:
        answer = client.call("end_machine", machine=asked[0], now=bool(args.terminate))
        running = answer.json()["running"]
        how = "is being ended" if args.terminate else "takes no more builds, and is ended then"
        left = f"; it runs {running}" if running else ""
        _print(answer, args, screen, f"{asked[0]} {how}{left}")
        return 0
    answer = client.call("clouds")
    if args.json:
        screen.json(answer)
        return 0
    found, look = answer.json(), screen.at(answer)
    for one in found:
        screen.lines(_lines(one, look))
    if not found and look.is_terminal:
        screen.note("no clouds\n\nhint: add one: [cloud.NAME] in settings.toml, see docs/clouds.md")
    return 0


def _lines(one: dict[str, Any], look: Look) -> list[str]:
    """Return a line on the cloud, its last error, and a line for each machine."""
    what = " ".join(filter(None, (one["provider"], one["size"], one["region"])))
    spot = ", spot" if one["spot"] else ""
    head = (
        f"{paint(look, 'bold', clean(one['name']))}  "
        f"{paint(look, _COLOURS.get(one['state'], 'dim'), one['state'])}  "
        f"{len(one['machines'])} of max {one['max']}  {clean(what)}{spot}  "
        f"launched {one['launched']}, failed {one['failed']}"
    )
    lines = [head]
    if one["error"]:
        again = f"; tried again {one['next_try_at']}" if one["next_try_at"] else ""
        if look.is_terminal and one["next_try_at"] and look.now is not None:
            again = f"; tried again {_in(look, one['next_try_at'])}"
        lines.append(f"  {paint(look, 'red', clean(one['error']))}{again}")
    rows = [_row(it, look) for it in one["machines"]]
    lines += [f"  {line}" for line in table(rows, look, shrink=(5,))]
    return lines


def _in(look: Look, at: str) -> str:
    from datetime import datetime

    assert look.now is not None
    return f"in {duration(max(0.0, (datetime.fromisoformat(at) - look.now).total_seconds()))}"


def _row(one: dict[str, Any], look: Look) -> tuple[Cell, ...]:
    agent = one["agent_state"]
    state = one["state"] if agent in ("", "up") else f"{one['state']}, {agent}"
    return (
        Cell(one["name"], "bold"),
        Cell(state, "red" if agent == "lost" else ""),
        Cell(ago(look, one["since"]), "dim"),
        Cell(f"{one['running']}/{one['slots']}", right=True),
        Cell(f"age {duration(one['age_s'])}", right=True),
        Cell(one["why"], "dim"),
        Cell(one["node"], "dim"),
    )


def _print(answer: Any, args: Namespace, screen: Screen, text: str) -> None:
    if args.json:
        screen.json(answer)
    else:
        screen.line(clean(text))
