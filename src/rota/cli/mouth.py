"""One command, given in a shell, in the REPL or in chat: found, checked and carried out here alone.

A command is a row of the table, so one that is added there is in each mouth with the same
arguments, help and errors. Nothing of the process is touched (no standard streams, environment or
folder): what it prints goes to its screen, and whom it asks is its client's. So several may run in
threads, each with a screen and a client of its own.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rota.cli.render import PLAIN, Look, cut
from rota.cli.table import COMMANDS, GROUPS, Command, Mouth, find
from rota.errors import InputError

if TYPE_CHECKING:
    from rota.cli.screen import Screen
    from rota.client.client import Client

_USAGE = "usage: rota [--at URL | --data DIR] [--color WHEN] COMMAND …"
_HERE = [
    "here:",
    "  help, ?     this, or of one command: help run",
    "  exit, quit  end; Ctrl-D does, too, and Ctrl-C ends what is followed",
    "  A | B, A > F  what comes after | or > is the shell's: builds web | grep failed",
    "  !A          all of it is the shell's: !ls",
    "  A; B  #     several commands, a comment",
]
_VALUED = ("--at", "--data", "--color")


def perform(
    words: Sequence[str], screen: Screen, *, mouth: Mouth, client: Client | None = None
) -> int:
    """Carry out one command and return its status: 0, or 1 such as for a build that failed.

    ``screen.close()`` and ``client.close()`` end one that follows something, from any thread.

    Args:
        words: The command and its arguments; outside of a shell ``rota`` may stand before it.
        screen: Where it prints. Errors are raised, not printed.
        mouth: Where it was given.
        client: Who is asked, on whose behalf; by default the agent that the words and the
            environment name.

    Raises:
        RotaError: it could not be done.
        KeyboardInterrupt: in a main thread alone.
    """
    rest = list(words)
    if mouth is not Mouth.SHELL and rest[:1] == ["rota"]:
        del rest[0]  # as hints and examples have it
    given, rest = leading(rest, mouth)
    if rest[:1] == ["help"]:
        rest = [*rest[1:2], "--help"]
    if not rest or rest[0] in ("-h", "--help"):
        look = screen.out if rest else screen.err
        screen.text(overview(mouth, look) + "\n", on_error=not rest)
        return 0 if rest else 2
    command = found(rest[0], mouth)
    if client is not None:
        screen.on_close(client.close)
    return _dispatch(command, rest[1:], given, screen, mouth, client)


def found(name: str, mouth: Mouth) -> Command:
    """Return the command of that name.

    Raises:
        InputError: there is none, or it is for other mouths.
    """
    command = find(name)
    if command is None:
        from rota.cli.nearest import nearest

        names = [it.name for it in COMMANDS if not it.is_hidden and mouth in it.mouths]
        all_of_them = "rota --help" if mouth is Mouth.SHELL else "rota help"
        hint = nearest(name, names) or f"see which there are: {all_of_them}"
        raise InputError(f"no command {name!r}", hint=hint)
    if mouth not in command.mouths:
        where = "in the REPL" if mouth is Mouth.REPL else "in chat"
        raise InputError(
            f"{name} is no command {where}", hint=f"it works in a shell: rota {name} --help"
        )
    return command


def leading(words: Sequence[str], mouth: Mouth = Mouth.SHELL) -> tuple[dict[str, str], list[str]]:
    """Return the options that were given before the command, and the rest.

    Raises:
        InputError: they are none.
    """
    given: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] not in ("-h", "--help"):
        name, equals, value = rest.pop(0).partition("=")
        if name in ("--version", "-V") and mouth is Mouth.SHELL:
            given["version"] = "yes"
        elif name not in _VALUED or mouth is Mouth.CHAT:
            raise InputError(f"unknown option {name}", hint="see how: rota --help")
        elif not equals and not rest:
            raise InputError(f"{name} needs a value", hint="see how: rota --help")
        else:
            given[name[2:]] = value if equals else rest.pop(0)
    if given.get("color", "auto") not in ("auto", "always", "never"):
        raise InputError("--color is auto, always or never")
    return given, rest


def overview(mouth: Mouth, look: Look = PLAIN) -> str:
    """Return all commands of a mouth: a line each, or in a room a line for each group."""
    groups = {
        group: [it for it in COMMANDS if it.group == group and mouth in it.mouths]
        for group in GROUPS
    }
    if mouth is Mouth.CHAT:
        lines = [f"{group}: {', '.join(it.name for it in groups[group])}" for group in GROUPS]
        return "\n".join([*lines, "more: help COMMAND"])
    is_shell = mouth is Mouth.SHELL
    lines = [] if not is_shell else [_USAGE, ""]
    for group, members in groups.items():
        lines += [f"{group}:", *(f"  {it.name:<11} {it.summary}" for it in members), ""]
    lines += ["more: rota COMMAND --help"] if is_shell else _HERE
    return "\n".join(cut(look, line, look.width) if look.width else line for line in lines)


def function_of(command: Command) -> Callable[[Any, Any], int]:
    """Return the function that carries a command out; imports its module."""
    import importlib

    module, _, name = command.call.partition(":")
    function: Callable[[Any, Any], int]
    function = getattr(importlib.import_module(f"rota.cli.commands.{module}"), name)
    return function


def _dispatch(
    command: Command,
    words: list[str],
    given: dict[str, str],
    screen: Screen,
    mouth: Mouth,
    client: Client | None,
) -> int:
    from rota.cli.parser import command_parser, room_help

    parser = command_parser(command, mouth)
    parser.screen = screen
    if mouth is Mouth.CHAT and {"-h", "--help"} & set(words[:1]):
        screen.lines(room_help(command))
        return 0
    try:
        # What is another program's command is not looked into for options of ours.
        parse = parser.parse_args if command.has_rest else parser.parse_intermixed_args
        args = parse(words)
    except SystemExit as over:  # --help was given
        return int(over.code or 0)
    for name, value in (("at", "at"), ("data_folder", "data"), ("color", "color")):
        if not hasattr(args, name):
            setattr(args, name, given.get(value))
    screen.colour(args.color or "auto")
    args.client, args.say = client, screen.note
    function = function_of(command)
    gc.enable()  # from here on it may take long: see `rota.__main__`
    return function(args, screen)
