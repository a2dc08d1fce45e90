"""The chat networks: whether the bot is there, and who is known to it."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import Look, clean, paint
from rota.cli.screen import Screen


def chat(args: Namespace, screen: Screen) -> int:
    """List networks, with who is known on each."""
    answer = connected(args).call("chat")
    if args.json:
        screen.json(answer)
        return 0
    found, look = answer.json(), screen.at(answer)
    for one in found:
        screen.lines(_lines(one, look))
    if not found:
        screen.note(
            "no chat networks\n\nhint: add one: [chat.NAME] in settings.toml, see docs/chat.md"
        )
    return 0


def _lines(one: dict[str, Any], look: Look) -> list[str]:
    """Return a line on the network, its trouble, and a line for each user."""
    colour = "green" if one["state"] == "connected" else "red"
    rooms = " ".join(clean(room) for room in one["rooms"]) or "no rooms"
    head = (
        f"{paint(look, 'bold', clean(one['name']))}  {paint(look, colour, one['state'])}  "
        f"{one['kind']} {clean(one['server'])}  as {clean(one['nick'])}  {rooms}  "
        f"by {clean(one['speaker']) or 'nobody'}"
    )
    lines = [head]
    if one["trouble"]:
        lines.append(f"  {paint(look, 'red', clean(one['trouble']))}")
    if one["waiting"] or one["followed"]:
        lines.append(f"  to be answered: {one['waiting']}, builds followed: {one['followed']}")
    lines += [f"  {clean(it['user'])}  {it['role']}  {clean(it['who'])}" for it in one["users"]]
    return lines
