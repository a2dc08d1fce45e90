"""Prints a build's log: raw bytes into a pipe, drawn on a terminal."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.commands.grep import grep, is_wanted
from rota.cli.commands.step import find_step
from rota.cli.logview import LogView
from rota.cli.render import clean
from rota.cli.screen import Screen
from rota.client.client import Client
from rota.client.follow import Piece, Start, matching
from rota.errors import InputError


def log(args: Namespace, screen: Screen) -> int:
    """Print a build's log, or follow it until the build has finished; or search those of many."""
    if is_wanted(args):
        return grep(args, screen)
    client = connected(args)
    if args.step is not None:
        return _step(client, args, screen)
    start = Start(args.attempt, args.offset, args.tail, args.line)
    if not args.follow:
        show(client.log(args.build, start, grep=args.grep, limit=args.limit), screen)
        return 0
    if args.limit is not None:
        raise InputError(
            "--limit and --follow do not go together", hint="rota log -f … | head -c N"
        )
    try:
        show(followed(client, args.build, start, screen, grep=args.grep), screen)
    except KeyboardInterrupt:
        if screen.err.is_terminal:
            screen.note(f"\n{clean(args.build)} goes on; end it: rota cancel '{clean(args.build)}'")
        raise
    return 0


def _step(client: Client, args: Namespace, screen: Screen) -> int:
    """Print what one step printed."""
    others = ("attempt", "offset", "tail", "line", "limit", "follow")
    if given := [name for name in others if getattr(args, name) not in (None, False)]:
        raise InputError(f"--step and --{given[0]} do not go together")
    begin, end = find_step(client, args.build, args.step)
    if end == begin:
        return 0
    limit = end - begin if end is not None else None
    show(client.log(args.build, Start(offset=begin), grep=args.grep, limit=limit), screen)
    return 0


def followed(
    client: Client,
    build: Mapping[str, Any] | str,
    start: Start,
    screen: Screen,
    *,
    grep: str | None = None,
    skip: int = 0,
) -> Generator[bytes, None, None]:
    """Yield a build's log until it has finished; say on standard error when an attempt begins."""
    stream = client.follow_log(build, start, skip=skip)
    if grep:
        stream = matching(stream, _pattern(grep))
    return _without_attempts(stream, screen)


def show(pieces: Generator[bytes, None, None], screen: Screen, *, on_error: bool = False) -> None:
    """Print a log's bytes as the output wants them; ``on_error`` prints to standard error.

    However that ends, so does what the bytes are read from.
    """
    with closing(pieces):
        look = screen.err if on_error else screen.out
        if not look.is_terminal:
            for piece in pieces:
                screen.raw(piece, on_error=on_error)
            return
        view = LogView(color=look.color, mark="▸" if look.unicode else ">")
        try:
            for piece in pieces:
                screen.text(view.feed(piece), on_error=on_error)
        finally:
            screen.text(view.finish(), on_error=on_error)


def _without_attempts(
    stream: Generator[Piece, None, None], screen: Screen
) -> Generator[bytes, None, None]:
    attempt = 0
    for piece in stream:
        if attempt and piece.attempt != attempt:
            screen.note(f"note: attempt {piece.attempt} begins")
        attempt = piece.attempt
        yield piece.data


def _pattern(text: str) -> re.Pattern[bytes]:
    try:
        return re.compile(text.encode())
    except re.error as error:
        raise InputError(f"bad regular expression {text!r}: {error}") from error
