"""The journal: read it, follow it, add to it."""

from __future__ import annotations

import itertools
import json
from argparse import Namespace
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from typing import Any

from rota.cli.commands.connected import connected, pairs
from rota.cli.render import Look, ago, clean, cut, paint
from rota.cli.screen import Screen
from rota.errors import InputError

#: Fields that every event has, or that say nothing to a person who sees the line.
_COMMON = frozenset({"seq", "kind", "at", "by", "agent", "v", "spec", "record", "script", "commit"})

#: The longest kind of our own is ``build.requested``.
KIND_WIDTH = 15


def events(args: Namespace, screen: Screen) -> int:
    """Print events, one a line; or go on with new ones."""
    client = connected(args)
    if not args.follow:
        answer = client.call("events", after=args.after, kind=args.kind, limit=args.limit)
        look = screen.at(answer)
        for event in answer.json():
            _print(event, _short(event), args, screen, look)
        return 0
    with closing(client.events(args.after, args.kind)) as stream:
        for found in itertools.islice(stream, args.limit):
            _print(found, found.text, args, screen, screen.out)
    return 0


def emit(args: Namespace, screen: Screen) -> int:
    """Write an event."""
    answer = connected(args).call("emit", type=args.type, data=_data(args))
    if args.json:
        screen.json(answer)
    elif screen.out.is_terminal:
        screen.note(f"{args.type} is event {answer.json()['seq']}")
    return 0


def event_text(event: Mapping[str, Any], look: Look) -> str:
    """Return an event as one line: sequence, time, kind, and what else it says."""
    at = str(event.get("at", ""))
    tail = _details(event)
    what = str(event.get("type" if event.get("kind") == "custom" else "kind", ""))
    if not look.is_terminal:
        return "  ".join(clean(part) for part in (event.get("seq", ""), at, what, tail))
    if look.is_room:
        line = "  ".join(filter(None, (f"{event.get('seq', '')}", ago(look, at), what, tail)))
        return cut(look, clean(line), look.width or 0)
    head = f"{event.get('seq', ''):>6}"
    clock = datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S") if at else " " * 8
    what = clean(what).ljust(KIND_WIDTH)
    room = (look.width or 0) - len(head) - len(clock) - len(what) - 6
    line = f"{head}  {paint(look, 'dim', clock)}  {paint(look, 'bold', what)}"
    return f"{line}  {paint(look, 'dim', cut(look, clean(tail), room))}" if room > 0 else line


def _details(event: Mapping[str, Any]) -> str:
    skip = _COMMON | {"type"} if event.get("kind") == "custom" else _COMMON
    rest = [
        f"{key}={_short(value)}"
        for key, value in event.items()
        if key not in skip and value not in ("", {}, [], None)
    ]
    who = event.get("by") or event.get("agent")
    return " ".join([*rest, f"by={who}"] if who else rest)


def _print(
    event: Mapping[str, Any], data: str, args: Namespace, screen: Screen, look: Look
) -> None:
    screen.text((data if args.json else event_text(event, look)) + "\n")


def _short(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _data(args: Namespace) -> dict[str, Any]:
    if args.data is None:
        return dict(pairs(args.pairs))
    if args.pairs:
        raise InputError("both --data and name=value", hint="give one of them")
    try:
        data = json.loads(args.data)
    except ValueError as error:
        raise InputError(
            f"--data is no JSON: {error}", hint="""such as '{"version": 7}'"""
        ) from error
    if not isinstance(data, dict):
        raise InputError("--data is no JSON object", hint="""such as '{"version": 7}'""")
    return data
