"""The cluster live in a terminal; in a pipe, or when asked, one picture of it."""

from __future__ import annotations

import math
import os
import sys
from argparse import Namespace

from rota.cli.commands.connected import connected
from rota.cli.render import paint
from rota.cli.screen import Screen
from rota.cli.top.view import View, glob_of
from rota.errors import InputError

DELAY_S = 1.0
LONGEST_DELAY_S = 3600.0
ROWS = 20
WIDTH = 80


def top(args: Namespace, screen: Screen) -> int:
    """Watch the cluster, or print one picture of it."""
    delay_s = DELAY_S if args.delay is None else args.delay
    if not (math.isfinite(delay_s) and 0.1 <= delay_s <= LONGEST_DELAY_S):
        raise InputError(f"--delay {args.delay}: from 0.1 to {LONGEST_DELAY_S:g} seconds")
    if args.json or args.once or not (screen.out.is_terminal and sys.stdin.isatty()):
        return _once(args, screen)
    if os.environ.get("TERM", "dumb") == "dumb":
        raise InputError(
            "this terminal cannot be drawn on (TERM is dumb)", hint="one picture: rota top --once"
        )
    # Whoever cannot be reached at all is said as by any command, before the screen is taken.
    client = connected(args)
    client.call("overview", rows=0)
    from rota.cli.top.feed import Feed
    from rota.cli.top.terminal import watch

    view = View(filter=args.match or "")
    with Feed(client.another, delay_s, screen.out) as feed:
        watch(feed, view, screen.out, delay_s)
    return 0


def _once(args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("overview", match=glob_of(args.match or ""), rows=ROWS)
    if args.json:
        screen.json(answer)
        return 0
    from rota.cli.top.frame import Seen, frame

    look = screen.at(answer)
    shown = frame(
        Seen(overview=answer.json()), View(filter=args.match or ""), look, look.width or WIDTH, None
    )
    for line in shown.lines:
        screen.line("".join(paint(look, cell.code, cell.text) for cell in line).rstrip())
    return 0
