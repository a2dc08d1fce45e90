"""The command line: finds the command, runs it, and turns what goes wrong into text and a status.

Nothing is imported before it is needed: ``rota --version`` imports nothing, a command its own
module and the client. Exit statuses: 0 good, 1 the build failed, 2 bad usage or input, 3 not
reachable, 4 not allowed, 5 not found, 6 conflict, 70 a bug of ours, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rota import __version__
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    NotFoundError,
    RotaError,
    UnavailableError,
)

if TYPE_CHECKING:
    import argparse

    from rota.cli.table import Command

GOOD, FAILED, BUG, INTERRUPTED, BROKEN_PIPE = 0, 1, 70, 130, 141
_STATUSES: tuple[tuple[type[RotaError], int], ...] = (
    (InputError, 2),
    (UnavailableError, 3),
    (DeniedError, 4),
    (NotFoundError, 5),
    (ConflictError, 6),
)
_VALUED = ("--at", "--data", "--color")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(words)
        sys.stdout.flush()
    except RotaError as error:
        return _report(error, words)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has gone, such as `head`: nothing to say, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return status


def exit_status(error: RotaError) -> int:
    """Return the exit status that an error stands for."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), BUG)


def build_parser() -> argparse.ArgumentParser:
    """Return a parser that knows all commands; the reference is made from it."""
    from rota.cli.parser import whole_parser

    return whole_parser()


def _run(words: list[str]) -> int:
    given, rest = _leading(words)
    if given.pop("version", None):
        print(f"rota {__version__}")
        return GOOD
    from rota.cli.table import find

    if rest[:1] == ["help"]:
        rest = [*rest[1:2], "--help"]
    if not rest or rest[0] in ("-h", "--help"):
        return _overview(GOOD if rest else 2)
    command = find(rest[0])
    if command is None:
        raise _unknown(rest[0])
    if command.name == "__complete":
        # Before argparse: what is completed may look like an option, and time counts.
        from rota.cli.commands.completion import complete_words

        return complete_words(rest[1:], given)
    return _dispatch(command, rest[1:], given)


def _leading(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return what was given before the command, and the rest."""
    given: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] not in ("-h", "--help"):
        name, equals, value = rest.pop(0).partition("=")
        if name in ("--version", "-V"):
            given["version"] = "yes"
        elif name not in _VALUED:
            raise InputError(f"unknown option {name}", hint="see how: rota --help")
        elif not equals and not rest:
            raise InputError(f"{name} needs a value", hint="see how: rota --help")
        else:
            given[name[2:]] = value if equals else rest.pop(0)
    if given.get("color", "auto") not in ("auto", "always", "never"):
        raise InputError("--color is auto, always or never")
    return given, rest


def _dispatch(command: Command, words: list[str], given: dict[str, str]) -> int:
    from rota.cli.parser import command_parser

    parser = command_parser(command)
    try:
        # What is another program's command is not looked into for options of ours.
        parse = parser.parse_args if command.has_rest else parser.parse_intermixed_args
        args = parse(words)
    except SystemExit as over:  # --help was given
        return int(over.code or 0)
    for name, value in (("at", "at"), ("data_folder", "data"), ("color", "color")):
        if not hasattr(args, name):
            setattr(args, name, given.get(value))
    from rota.cli.screen import screen_from

    screen = screen_from(args.color or "auto")
    return function_of(command)(args, screen)


def function_of(command: Command) -> Callable[[Any, Any], int]:
    """Return the function that carries a command out; imports its module."""
    import importlib

    module, _, name = command.call.partition(":")
    function: Callable[[Any, Any], int]
    function = getattr(importlib.import_module(f"rota.cli.commands.{module}"), name)
    return function


def _unknown(word: str) -> InputError:
    from rota.cli.nearest import nearest
    from rota.cli.table import COMMANDS

    names = [command.name for command in COMMANDS if not command.is_hidden]
    return InputError(
        f"no command {word!r}", hint=nearest(word, names) or "see which there are: rota --help"
    )


def _overview(status: int) -> int:
    """Print all commands; on standard error if nobody asked for it."""
    from rota.cli.table import COMMANDS, GROUPS

    lines = ["usage: rota [--at URL | --data DIR] [--color WHEN] COMMAND …", ""]
    for group in GROUPS:
        lines += [f"{group}:"]
        members = [command for command in COMMANDS if command.group == group]
        lines += [f"  {command.name:<11} {command.summary}" for command in members]
        lines += [""]
    lines += ["more: rota COMMAND --help"]
    print("\n".join(lines), file=sys.stderr if status else sys.stdout)
    return status


def _report(error: RotaError, words: list[str]) -> int:
    from rota.cli.screen import look_at, print_error

    try:
        sys.stdout.flush()
        print_error(error, look_at(sys.stderr, _wanted_color(words), os.environ))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return exit_status(error)


def _wanted_color(words: list[str]) -> str:
    for name, value in zip(words, [*words[1:], ""], strict=True):
        given = value if name == "--color" else name.removeprefix("--color=")
        if name.startswith("--color") and given in ("auto", "always", "never"):
            return given
    return "auto"
