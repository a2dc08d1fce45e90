"""Looking for what is wrong: at all agents, or at the folder of one that does not answer."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from rota.cli.commands.connected import at_this_agent
from rota.cli.render import Cell, Look, clean, paint, table
from rota.cli.screen import Screen
from rota.client.answer import BusyError
from rota.errors import UnavailableError

#: Every agent examines itself, its repository included.
WITHIN_S = 120.0
_COLOURS = {"trouble": "red", "warning": "yellow"}


def doctor(args: Namespace, screen: Screen) -> int:
    """Print what is wrong and what to do about it; return 1 if anything is."""
    client = at_this_agent(args)
    try:
        answer = client.call("doctor", wait_s=WITHIN_S, own=args.own)
    except UnavailableError as error:
        place = client.place
        if isinstance(error, BusyError) or not place.is_local or screen.out.is_room:
            raise
        return _cold(Path(place.path).parent, error.message, args, screen)
    found = answer.json()
    if args.json:
        screen.json(answer)
        return int(bool(found["findings"]))
    look = screen.at(answer)
    if args.checks:
        rows = [(Cell(it["name"], "bold"), Cell(it["looks_at"])) for it in found["checks"]]
        screen.lines(table(rows, look))
        return 0
    _print(found["findings"], look, screen)
    agents = len(found["agents"])
    looked = f"{len(found['checks'])} checks on {agents} agent{'s' if agents != 1 else ''}"
    if not found["findings"]:
        screen.line(f"nothing is wrong: {looked}")
        return 0
    screen.note(f"{len(found['findings'])} found by {looked}")
    return 1


def _cold(data: Path, why: str, args: Namespace, screen: Screen) -> int:
    """Look at the folder of an agent that does not answer."""
    import asyncio

    import msgspec

    from rota.bootstrap.cold import examine_folder

    found = [msgspec.to_builtins(it) for it in asyncio.run(examine_folder(data))]
    if args.json:
        import json

        screen.line(json.dumps({"agents": [], "findings": found, "cold": str(data)}))
        return 1
    screen.note(f"{clean(why)}; looking at its folder {data}")
    _print(found, screen.out, screen)
    return 1


def _print(findings: list[dict[str, Any]], look: Look, screen: Screen) -> None:
    for it in findings:
        where = f"{it['agent']}: " if it["agent"] else ""
        mark = paint(look, _COLOURS.get(it["severity"], ""), it["severity"])
        # Never cut: who cannot read what to do about it looks in vain.
        screen.line(f"{mark}  {clean(it['check'])}  {clean(where + it['what'])}")
        screen.line(f"    {clean(it['hint'])}")
