"""The manual: a page for each command, the keys of a job's header, and those of the settings.

All of it is made from the tables that the program itself reads, when a wheel is built; none of it
is kept. ``python packaging/manual.py FOLDER`` writes the pages to look at.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from keys import Key, header_keys, settings_sections
from roff import bold, escaped, prose, slanted, tagged, title, verbatim
from rota.cli.parser import common
from rota.cli.table import COMMANDS, GROUPS, JSON, Arg, Command

#: The daemon is an administrator's; all others are programs for anybody.
SECTIONS = {"agent": 8}
_MANY = {"?": "[{}]", "*": "[{} ...]", "+": "{} ...", "...": "[{} ...]"}
_STATUSES = (
    ("0", "good"),
    ("1", "the build failed"),
    ("2", "what was typed is wrong"),
    ("3", "no agent can be reached"),
    ("4", "not allowed"),
    ("5", "not found"),
)
_VARIABLES = (
    ("ROTA_URL", "the agent to ask, where --at says nothing"),
    ("ROTA_DATA", "the data folder of the agent on this machine"),
    ("NO_COLOR", "no colours"),
)


def pages(version: str) -> dict[str, str]:
    """Return the text of each page by its file's name, such as ``rota-run.1``."""
    made = {"rota.1": _overview(version)}
    for command in _commands():
        made[f"rota-{command.name}.{_section(command)}"] = _page(command, version)
    made["rota-job.5"] = _job(version)
    made["rota-settings.5"] = _settings(version)
    return made


def write(folder: Path, version: str) -> dict[str, Path]:
    """Write all pages below ``manN`` folders; return each by where it goes below ``share``."""
    written = {}
    for name, text in pages(version).items():
        place = Path("man") / f"man{name[-1]}" / name
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written[str(place)] = path
    return written


def _commands() -> list[Command]:
    return [command for command in COMMANDS if not command.is_hidden]


def _section(command: Command) -> int:
    return SECTIONS.get(command.name, 1)


def _date() -> str:
    """Return the day of the sources, so that the same ones make the same pages."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "1580601600"))
    return datetime.datetime.fromtimestamp(epoch, tz=datetime.UTC).date().isoformat()


def _head(name: str, section: int, version: str, what: str) -> list[str]:
    return [
        *title(name, section, _date(), f"rota {version}"),
        ".SH NAME",
        f"{escaped(name)} \\-",
        prose(what),
    ]


def _overview(version: str) -> str:
    lines = [
        *_head("rota", 1, version, "a masterless build system and job scheduler"),
        ".SH SYNOPSIS",
        f".B {escaped('rota')}",
        f"[{bold('--at')} {slanted('URL')} | {bold('--data')} {slanted('DIR')}]",
        f"{slanted('command')} [{slanted('argument')} ...]",
        ".SH DESCRIPTION",
        prose(
            "Every machine runs the same daemon, an agent; any of them leads, none is special.\n"
            "A job is a script, in any language, with its settings in a comment block at its top.\n"
            "Jobs, and a record of each build, are branches of a git repository that every agent has.\n"
            "Each command speaks to an agent and may be given to any of the cluster."
        ),
    ]
    for group in GROUPS:
        lines += [f".SH {escaped(group).upper()}"]
        for command in _commands():
            if command.group == group:
                link = f"{bold('rota-' + command.name)}({_section(command)})"
                lines += tagged(link, prose(command.summary))
    lines += [".SH ENVIRONMENT"]
    for name, what in _VARIABLES:
        lines += tagged(bold(name), prose(what))
    lines += [*_exits(), *_see(("rota-agent", 8), ("rota-job", 5), ("rota-settings", 5))]
    return _text(lines)


def _page(command: Command, version: str) -> str:
    own = (*command.args, *((JSON,) if command.has_json else ()))
    args = [arg for arg in own if not arg.hidden]
    shared = list(common(command))
    lines = [
        *_head(f"rota-{command.name}", _section(command), version, command.summary),
        ".SH SYNOPSIS",
        f".B rota {escaped(command.name)}",
        *(_in_synopsis(arg) for arg in args if not arg.is_option),
        *(_in_synopsis(arg) for arg in args if arg.is_option),
    ]
    lines += [".SH DESCRIPTION", prose(command.summary[:1].upper() + command.summary[1:] + ".")]
    for paragraph in command.more.split("\n\n") if command.more else ():
        lines += [".PP", prose(paragraph)]
    lines += [".SH OPTIONS"] if args or shared else []
    for arg in (*args, *shared):
        text = arg.text + (f" (one of: {', '.join(arg.choices)})" if arg.choices else "")
        lines += tagged(_tag(arg), prose(text))
    if command.examples:
        lines += [".SH EXAMPLES"]
        for example, what in command.examples:
            lines += [".PP", prose(what[:1].upper() + what[1:] + ":")] if what else []
            lines += verbatim([example])
    lines += [*_exits(), *_see(("rota", 1), ("rota-job", 5))]
    return _text(lines)


def _value(arg: Arg) -> str:
    return arg.metavar or "|".join(arg.choices) or arg.names[-1].lstrip("-").upper()


def _in_synopsis(arg: Arg) -> str:
    value = slanted(_value(arg).lower() if not arg.is_option else _value(arg))
    if not arg.is_option:
        return _MANY.get(arg.many, "{}").format(value)
    return f"[{bold(arg.names[-1])}" + ("" if arg.kind == "flag" else f" {value}") + "]"


def _tag(arg: Arg) -> str:
    if not arg.is_option:
        return slanted(_value(arg).lower())
    names = ", ".join(bold(name) for name in arg.names)
    return names if arg.kind == "flag" else f"{names} {slanted(_value(arg))}"


def _job(version: str) -> str:
    lines = [
        *_head("rota-job", 5, version, "the settings at the top of a job's script"),
        ".SH DESCRIPTION",
        prose(
            "A job is an executable text file below jobs/ on the branch main; its path is its name.\n"
            "Its settings are TOML in a comment block, as PEP 723 has it: the table tool.rota of a block"
            " of the type script, in the comment style of the language (#, //, --, ;)."
        ),
        ".PP",
        prose("A script without such a block is a job too. rota check FILE says what is wrong."),
        *verbatim(
            [
                "#!/bin/sh",
                "# /// script",
                "# [tool.rota]",
                '# description = "unit tests"',
                '# timeout = "20m"',
                "# [tool.rota.params]",
                '# suite = { default = "fast", choices = ["fast", "full"] }',
                "# ///",
                'make test SUITE="$suite"',
            ]
        ),
        ".SH KEYS",
        *_keys(header_keys()),
        *_see(("rota", 1), ("rota-add", 1), ("rota-check", 1), ("rota-settings", 5)),
    ]
    return _text(lines)


def _settings(version: str) -> str:
    lines = [
        *_head("rota-settings", 5, version, "the settings of a cluster"),
        ".SH DESCRIPTION",
        prose(
            "settings.toml on the branch main holds what is the same on every agent. A push of it takes"
            " effect at once, without a restart; one with a fault is refused, with the line."
        ),
    ]
    for name, what, keys in settings_sections():
        lines += [f".SH {escaped(name).upper()}" if name else ".SH KEYS"]
        lines += [prose(what)] if what else []
        lines += _keys(keys)
    return _text([*lines, *_see(("rota", 1), ("rota-job", 5))])


def _keys(keys: Mapping[str, Key]) -> Iterator[str]:
    for name, key in keys.items():
        lines = [prose(key.what[:1].upper() + key.what[1:] + ".")] if key.what else []
        example = [] if key.example == name else ["Such as:", bold(key.example)]
        default = [".br", f"Default: {escaped(key.default)}"] if key.default else []
        gap = [".br"] if lines and example else []
        yield from tagged(bold(name), *lines, *gap, *example, *default)


def _exits() -> list[str]:
    lines = [".SH EXIT STATUS"]
    for status, what in _STATUSES:
        lines += tagged(bold(status), what)
    return lines


def _see(*names: tuple[str, int]) -> list[str]:
    links = [f".BR {escaped(name)} ({section})" for name, section in names]
    return [".SH SEE ALSO", *(f"{link} ," for link in links[:-1]), links[-1]]


def _text(lines: list[str]) -> str:
    # A heading begins a paragraph by itself.
    kept = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if line != ".PP" or not before.startswith(".SH")
    ]
    return "\n".join(kept) + "\n"
