"""Checks scripts' headers without an agent."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rota.cli.commands.jobs import read_script
from rota.cli.render import clean, paint
from rota.cli.screen import Screen
from rota.errors import InputError

if TYPE_CHECKING:
    from rota.core.problem import Problem


def check(args: Namespace, screen: Screen) -> int:
    """Print all problems of the files, ``path:line:column: message`` a line; 2 if there are any."""
    found: list[Problem] = []
    for name in args.files:
        found += problems_of(name, read_script(name))
    if args.json:
        import msgspec

        screen.raw(msgspec.json.encode({"ok": not found, "problems": found}) + b"\n")
        return 2 if found else 0
    for problem in found:
        screen.line(clean(problem))
    if not found and screen.out.is_terminal:
        count = len(args.files)
        what = "1 script is" if count == 1 else f"{count} scripts are"
        print(paint(screen.err, "green", f"{what} fine"), file=sys.stderr)
    return 2 if found else 0


def problems_of(name: str, data: bytes) -> list[Problem]:
    """Return what is wrong with a script's header."""
    from rota.core.header import decode_script, parse_header
    from rota.core.problem import Problem

    path = "<stdin>" if name == "-" else name
    try:
        text = decode_script(data)
    except InputError as error:
        known = [it for it in error.problems if isinstance(it, Problem)]
        return [Problem(path, it.line, it.column, it.message, it.hint) for it in known] or [
            Problem(path, 0, 0, error.message, error.hint)
        ]
    _, problems = parse_header(text, name=Path(path).stem or "job", path=path)
    return list(problems)
