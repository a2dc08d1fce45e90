"""From the table of commands to argparse: the parser of one command, or of all for the reference."""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING, Any, NoReturn

from rota.cli.table import AT, COLOR, COMMANDS, DATA, JSON, Arg, Command, Mouth
from rota.errors import InputError

if TYPE_CHECKING:
    from rota.cli.screen import Screen

_TYPES = {"int": int, "float": float}
_DASHED_WORD = re.compile(r"-(?!h$)[A-Za-z0-9]\S*")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal: argparse makes one for each argument, and imports shutil to know."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    text = os.environ.get("COLUMNS", "")
    if text.isdecimal() and int(text):
        return int(text)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class Parser(argparse.ArgumentParser):
    """An argparse parser whose faults are our errors."""

    screen: Screen | None = None
    elsewhere: frozenset[str] = frozenset()  # options of the command that are for other mouths

    def _print_message(self, message: str, file: Any = None) -> None:
        # What argparse prints by itself is help.
        if self.screen is not None:
            self.screen.text(message)
        else:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the arguments.

        Raises:
            InputError: always.
        """
        raise InputError(_said_better(message), hint=self._hint(message))

    def take_dashed_words(self) -> None:
        """Take words such as ``-docker`` for no options: as argparse does with negative numbers."""
        self._negative_number_matcher = _DASHED_WORD

    def _hint(self, message: str) -> str:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix + "-"):
            from rota.cli.nearest import nearest

            given = message.removeprefix(prefix).split()[0].partition("=")[0]
            if given in self.elsewhere:
                return f"{given} is for the shell: it is about what is on your machine"
            known = [name for name in self._option_string_actions if name.startswith("--")]
            found = nearest(given, known)
            if found:
                return found
        return f"see how: {self.prog} --help"


def command_parser(command: Command, mouth: Mouth = Mouth.SHELL) -> Parser:
    """Return the parser of one command's arguments, as far as the mouth has what they are about."""
    parser = Parser(prog=f"rota {command.name}", **described(command))
    fill(parser, command, mouth)
    if command.has_dashed_words:
        parser.take_dashed_words()
    return parser


def described(command: Command) -> dict[str, Any]:
    """Return the texts of a command's help, as keyword arguments of a parser."""
    summary = command.summary[:1].upper() + command.summary[1:] + "."
    return {
        "description": f"{summary}\n\n{command.more}" if command.more else summary,
        "epilog": examples(command),
        "formatter_class": Formatter,
        "allow_abbrev": False,
    }


def fill(parser: argparse.ArgumentParser, command: Command, mouth: Mouth = Mouth.SHELL) -> None:
    """Add a command's arguments to its parser."""
    shared = (*((JSON,) if command.has_json else ()), *common(command))
    args = [arg for arg in (*command.args, *shared) if is_in(arg, mouth)]
    for arg in sorted(args, key=lambda arg: arg.is_option):
        _add(parser, arg)
    if mouth is Mouth.CHAT and isinstance(parser, Parser):
        away = [arg for arg in (*command.args, *shared) if arg not in args]
        parser.elsewhere = frozenset(name for arg in away for name in arg.names)
        parser.set_defaults(**{_dest(arg): None for arg in away})


def room_help(command: Command) -> list[str]:
    """Return a command's help in a few short lines, as a room has room for."""
    shared = (JSON,) if command.has_json else ()
    args = [arg for arg in (*command.args, *shared) if is_in(arg, Mouth.CHAT) and not arg.hidden]
    words = " ".join([command.name, *(_as_word(arg) for arg in args if not arg.is_option)])
    options = ", ".join(_as_option(arg) for arg in args if arg.is_option)
    more, *_ = " ".join(command.more.split("\n\n")[0].split()).partition(". ")
    lines = [f"{words}: {command.summary}", more]
    lines += [f"options: {options}"] if options else []
    lines += [
        f"such as: {example.removeprefix('rota ')}" + (f"  ({what})" if what else "")
        for example, what in command.examples
        if "|" not in example and example.startswith("rota ")
    ][:2]
    return [line for line in lines if line]


def _as_word(arg: Arg) -> str:
    name = arg.metavar or "|".join(arg.choices) or arg.names[0].upper()
    many = {"*": f"[{name} …]", "?": f"[{name}]", "+": f"{name} …", "...": f"[{name} …]"}
    return many.get(arg.many, name)


def _as_option(arg: Arg) -> str:
    value = "" if arg.kind == "flag" else arg.metavar or "|".join(arg.choices) or "VALUE"
    return f"{arg.names[-1]} {value}".strip()


def is_in(arg: Arg, mouth: Mouth) -> bool:
    """Whether an argument is for a mouth: in a room there are no files of the caller's, nor agents."""
    return mouth is not Mouth.CHAT or not (arg.names_file or arg in (AT, DATA, COLOR))


def _dest(arg: Arg) -> str:
    if arg == DATA:
        return "data_folder"
    long = next((name for name in arg.names if name.startswith("--")), arg.names[0])
    return long.lstrip("-").replace("-", "_")


def common(command: Command) -> tuple[Arg, ...]:
    """Return the options that a command shares with all others."""
    return (AT, DATA, COLOR) if command.has_data else (AT, COLOR)


def examples(command: Command) -> str:
    """Return a command's examples, one a line."""
    width = max((len(example) for example, _ in command.examples), default=0)
    lines = [f"  {example.ljust(width)}  {what}".rstrip() for example, what in command.examples]
    return "\n".join(["examples:", *lines]) if lines else ""


def whole_parser() -> argparse.ArgumentParser:
    """Return one parser with all commands as its sub-commands, for the reference."""
    parser = Parser(prog="rota", allow_abbrev=False)
    add_global(parser)
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for command in COMMANDS:
        if not command.is_hidden:
            fill(
                subparsers.add_parser(command.name, help=command.summary, **described(command)),
                command,
            )
    return parser


def add_global(parser: argparse.ArgumentParser) -> None:
    """Add what may stand before the command."""
    parser.add_argument(
        "--version", action="store_true", default=argparse.SUPPRESS, help="the version"
    )
    for arg in (AT, DATA, COLOR):
        _add(parser, arg)


def _add(parser: argparse.ArgumentParser, arg: Arg) -> None:
    text = argparse.SUPPRESS if arg.hidden else arg.text.replace("%", "%%")
    keywords: dict[str, Any] = {"help": text}
    if arg.kind == "flag":
        parser.add_argument(*arg.names, action="store_true", **keywords)
        return
    if arg.is_option and arg in (AT, DATA, COLOR):
        # They may stand before the command, too: what is not given here must not hide that.
        keywords["default"] = argparse.SUPPRESS
    if arg == DATA:
        keywords["dest"] = "data_folder"
    if arg.metavar:
        keywords["metavar"] = arg.metavar
    if arg.choices:
        keywords["choices"] = arg.choices
    if arg.many:
        keywords["nargs"] = arg.many
    if arg.many == "*":
        keywords["default"] = []  # else argparse counts it among what is missing
    if arg.const is not None:
        keywords["const"] = arg.const
    if arg.kind in _TYPES:
        keywords["type"] = _TYPES[arg.kind]
    parser.add_argument(*arg.names, **keywords)


def _said_better(message: str) -> str:
    return message.replace("unrecognized arguments", "unknown arguments").replace(
        "the following arguments are required", "missing"
    )
