"""Finds lines in the logs of many builds: ``rota log --grep``."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.logview import Sanitizer
from rota.cli.render import Look, paint
from rota.cli.screen import Screen
from rota.client.client import Client
from rota.client.connection import lines
from rota.errors import InputError, UnavailableError

#: As grep(1) has it: nothing was found, and that is no error.
NONE_FOUND = 1
#: Options of ``rota log`` that are about one log.
_OF_ONE = ("follow", "tail", "attempt", "offset", "line", "limit")


def is_wanted(args: Namespace) -> bool:
    """Whether ``rota log`` was given what asks for the logs of many builds."""
    many = (args.builds, args.max, args.result, args.after, args.before)
    is_glob = any(sign in (args.build or "") for sign in "*?[")
    return args.build is None or is_glob or args.json or any(it is not None for it in many)


def grep(args: Namespace, screen: Screen) -> int:
    """Print the lines that match, as they are found, newest build first."""
    if not args.grep:
        raise InputError(
            "which build's log?" if args.build is None else "the logs of many builds need --grep",
            hint="rota log BUILD, or rota log --grep PATTERN ['JOBS*']",
        )
    for name in _OF_ONE:
        if getattr(args, name):
            raise InputError(
                f"--{name} is about the log of one build", hint="name it, such as 'web/test#7'"
            )
    count = 0
    for found in _found(connected(args), args):
        if found.get("done"):
            _note_end(found, screen)
        elif args.json:
            screen.text(json.dumps(found, ensure_ascii=False) + "\n")
        else:
            screen.text(_line(found, args.grep, screen.out) + "\n")
        count += not found.get("done")
    return 0 if count else NONE_FOUND


def _found(client: Client, args: Namespace) -> Iterator[dict[str, Any]]:
    """Yield matches and the end. Where an agent dies another begins anew: nothing comes twice."""
    patience = client.patience()
    shown: set[tuple[str, int, int]] = set()
    while True:
        try:
            with client.opened(
                "grep",
                pattern=args.grep,
                job=args.build,
                builds=args.builds,
                max=args.max,
                result=args.result,
                after=args.after,
                before=args.before,
            ) as response:
                for raw in lines(response):
                    found = json.loads(raw)
                    patience.reset()
                    key = (found.get("id", ""), found.get("attempt", 0), found.get("line", 0))
                    if key not in shown:
                        shown.add(key)
                        yield found
        except UnavailableError as error:
            patience.bear(error)
        else:
            return


def _line(found: dict[str, Any], pattern: str, look: Look) -> str:
    """Return a match as ``grep -Hn`` prints it."""
    tries = "" if found["is_last"] else f" (attempt {found['attempt']})"
    text = found["text"].removesuffix("\r")
    if not look.is_terminal:
        return f"{found['build']}{tries}:{found['line']}:{text}"
    place = paint(look, "cyan", found["build"] + tries)
    return f"{place}:{paint(look, 'green', str(found['line']))}:{_marked(text, pattern, look)}"


def _marked(text: str, pattern: str, look: Look) -> str:
    """Return a line for a terminal; a pattern without signs of its own is shown in colour.

    Any other would be matched here without a limit to its time, as only the agent has one.
    """
    clean = Sanitizer(color=False).feed(text)
    if any(sign in pattern for sign in r"\.^$*+?{}[]|()"):
        return clean
    return paint(look, "red", pattern).join(clean.split(pattern))


def _note_end(end: dict[str, Any], screen: Screen) -> None:
    if end["more"]:
        screen.note(f"note: it ended at {end['matches']} matches; more: --max N")
    if end["removed"]:
        screen.note(f"note: {end['removed']} logs are no longer kept")
