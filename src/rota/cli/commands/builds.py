"""Builds: list, cancel, explain, speak to."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.limits_view import why_lines
from rota.cli.render import builds_table, clean, paint, result_line
from rota.cli.screen import Screen
from rota.cli.tree import nested
from rota.cli.trend_view import results_line
from rota.errors import InputError

MAX_LIST = 1000
#: Input is sent in pieces of at most so many characters; an agent takes 64 KiB at once.
PIECE = 16 * 1024


def builds(args: Namespace, screen: Screen) -> int:
    """List builds, newest first."""
    return _list(
        args,
        screen,
        limit=args.limit,
        state=args.state,
        result=args.result,
        before=args.before,
    )


def ps(args: Namespace, screen: Screen) -> int:
    """List builds that have not finished."""
    return _list(args, screen, state="live", limit=MAX_LIST)


def cancel(args: Namespace, screen: Screen) -> int:
    """Cancel a build."""
    why = " ".join(args.reason)
    answer = connected(args).call("cancel", build=args.build, why=why, alone=args.alone or None)
    if args.json:
        screen.json(answer)
        return 0
    build = answer.json()
    ending = build["state"] == "running"
    line = result_line(build, screen.at(answer))
    screen.line(f"{line}, is being ended" if ending else line)
    return 0


def why(args: Namespace, screen: Screen) -> int:
    """Say what a build waits for, or how it ended."""
    answer = connected(args).call("why", build=args.build)
    if args.json:
        screen.json(answer)
        return 0
    reply = answer.json()
    screen.line(f"{paint(screen.out, 'bold', clean(reply['build']))}: {clean(reply['text'])}")
    screen.lines(why_lines(reply, screen.at(answer)))
    return 0


def send(args: Namespace, screen: Screen) -> int:
    """Send text to a running script."""
    client = connected(args)
    sent = 0
    answer = None
    for text in _texts(args, screen):
        answer = client.call("send", build=args.build, text=text)
        sent += answer.json()["bytes"]
    if args.eof:
        answer = client.call("send", build=args.build, eof=True)
    if args.json and answer is not None:
        screen.json(answer)
    elif screen.out.is_terminal:
        end = " and the end of input" if args.eof else ""
        screen.note(f"sent {sent} byte{'' if sent == 1 else 's'}{end} to {clean(args.build)}")
    return 0


def _list(args: Namespace, screen: Screen, **fields: Any) -> int:
    answer = connected(args).call("builds", job=args.job, **fields)
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    look = screen.at(answer)
    ordered, stems = nested(found, look)
    screen.lines(builds_table(ordered, look, stems))
    if args.job and len(found) > 1 and look.is_terminal and not look.is_room:
        screen.lines(["", results_line(found, look)])
    if not found and screen.out.is_terminal:
        screen.note("no builds")
    return 0


def _texts(args: Namespace, screen: Screen) -> Iterator[str]:
    """Yield what is to be sent, in pieces that an agent takes."""
    if args.text and args.text != ["-"]:
        text = " ".join(args.text) + ("" if args.no_newline else "\n")
        yield from (text[at : at + PIECE] for at in range(0, len(text), PIECE))
        return
    if not args.text and args.eof and (not screen.has_files or sys.stdin.isatty()):
        return
    given = screen.input()
    try:
        # A person's lines go one by one, a file's in large pieces.
        while text := given.readline() if given.isatty() else given.read(PIECE):
            yield from (text[at : at + PIECE] for at in range(0, len(text), PIECE))
    except UnicodeDecodeError as error:
        raise InputError(f"what is to be sent is not UTF-8: {error}") from error
