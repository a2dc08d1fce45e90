"""The commands of rota at a prompt of their own, or out of a script."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from rota.cli.commands.connected import connected
from rota.cli.repl.session import Session
from rota.cli.screen import Screen
from rota.errors import InputError


def repl(args: Namespace, screen: Screen) -> int:
    """Carry out a script, or what a person types."""
    session = Session(connected(args), args.color or "auto")
    if args.command is not None:
        from rota.cli.repl.script import Script

        if args.file is not None:
            raise InputError("a file and -c do not go together", hint="give one of them")
        return Script(session, "-c", keep_going=args.keep_going).run_text(args.command)
    if args.file not in (None, "-"):
        from rota.cli.repl.script import run_file

        return run_file(session, args.file, keep_going=args.keep_going)
    if args.file == "-" or not sys.stdin.isatty():
        from rota.cli.repl.script import run_input

        return run_input(session, keep_going=args.keep_going)
    if args.keep_going:
        raise InputError("--keep-going is for scripts", hint="rota repl FILE, or -c COMMANDS")
    if screen.out.is_terminal and os.environ.get("TERM", "dumb") != "dumb":
        from rota.cli.repl.terminal import converse

        return converse(session)
    from rota.cli.repl.plain import converse as converse_plainly

    return converse_plainly(session)
