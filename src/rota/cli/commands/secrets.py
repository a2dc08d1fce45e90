"""Secrets: list them, set one from a file or a prompt, remove one, change the key."""

from __future__ import annotations

import base64
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import Cell, Look, ago, clean, table
from rota.cli.screen import Screen
from rota.client.client import Client
from rota.errors import InputError

MAX_FILE = 1 << 20
_WORDS = "[list] | set NAME | rm NAME | rotate | check JOB"


def secret(args: Namespace, screen: Screen) -> int:
    """Do with secrets what the words say."""
    match args.words:
        case [] | ["list"]:
            _refuse_options(args, "list")
            return _list(args, screen)
        case ["set", _] if not screen.has_files:
            raise InputError(
                "a value that is written in a room is no secret any more",
                hint="from a shell: rota secret set NAME",
            )
        case ["set", name]:
            _refuse_options(args, "set", "file", "jobs", "branches", "description")
            return _set(name, args, screen)
        case ["rm", name]:
            _refuse_options(args, "rm", "force")
            return _rm(name, args, screen)
        case ["rotate"]:
            _refuse_options(args, "rotate", "drop_lost")
            return _rotate(args, screen)
        case ["check", job]:
            _refuse_options(args, "check", "branch")
            return _check(job, args, screen)
        case ["set", _, _, *_]:
            raise InputError(
                "a value on the command line would stand in the shell's history and in ps",
                hint="rota secret set NAME asks for it, or reads --file FILE, or standard input",
            )
        case words:
            raise InputError(f"secret: {' '.join(words)!r} is none of its forms", hint=_WORDS)


def _refuse_options(args: Namespace, word: str, *good: str) -> None:
    for name in ("file", "jobs", "branches", "description", "force", "drop_lost", "branch"):
        if name not in good and getattr(args, name) not in (None, False):
            raise InputError(f"--{name.replace('_', '-')} goes not with rota secret {word}")


# -- list, check ----------------------------------------------------------------------------------


def _list(args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("secrets")
    if args.json:
        screen.json(answer)
        return 0
    found, look = answer.json(), screen.at(answer)
    screen.lines(table([_row(one, look) for one in found], look, shrink=(3, 4)))
    if not found and screen.out.is_terminal:
        screen.note("there is no secret yet\n\nhint: set one: rota secret set NPM_TOKEN")
    return 0


def _row(one: dict[str, Any], look: Look) -> tuple[Cell, ...]:
    jobs, used = " ".join(one["jobs"]) or "all jobs", " ".join(one["used_by"])
    branches = " ".join(one["branches"]) or "all branches"
    return (
        Cell(one["name"], "bold"),
        Cell(jobs),
        Cell(branches),
        Cell(f"for {used}" if used else "no job asks for it", "" if used else "dim"),
        Cell(one["description"]),
        Cell(ago(look, one["at"]) + f" by {one['by']}", "dim"),
    )


def _check(job: str, args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("check_secrets", job=job, branch=args.branch)
    found = answer.json()
    if args.json:
        screen.json(answer)
    for one in () if args.json else found:
        where = f"${one['env']}" + (f", a file {one['file']}" if one["file"] else "")
        said = f"not given: {one['why_not']}" if one["why_not"] else f"given as {where}"
        screen.line(clean(f"{one['name']}: {said}"))
    if not found and not args.json:
        screen.line(f"{clean(job)} asks for no secrets")
    return 1 if any(one["why_not"] and not one["optional"] for one in found) else 0


# -- set, rm, rotate ------------------------------------------------------------------------------


def _set(name: str, args: Namespace, screen: Screen) -> int:
    client = connected(args)
    _refuse_clear(client)
    rules = {
        "jobs": _globs(args.jobs),
        "branches": _globs(args.branches),
        "description": args.description,
    }
    value = _value(name, args, has_rules=any(it is not None for it in rules.values()))
    text = base64.b64encode(value).decode() if value is not None else None
    answer = client.call("put_secret", secret=name, value=text, **rules)
    if args.json:
        screen.json(answer)
        return 0
    view = answer.json()
    what = "is set" if value is not None else "has other rules" if view["changed"] else "is so"
    screen.line(f"{clean(name)} {what}: {clean(_whom(view))}")
    return 0


def _whom(view: dict[str, Any]) -> str:
    jobs = f"jobs {', '.join(view['jobs'])}" if view["jobs"] else "all jobs"
    branches = f", branches {', '.join(view['branches'])}" if view["branches"] else ""
    return f"for {jobs}{branches}"


def _refuse_clear(client: Client) -> None:
    """Refuse to send a value over a network that anybody may listen to."""
    place = client.place
    if place.is_local or place.tls or place.is_plain_loopback:
        return
    raise InputError(
        f"{place.url} is not encrypted: whoever is between could read the value",
        hint="use an agent's https URL: rota agents has them; or do it on that machine",
    )


def _value(name: str, args: Namespace, *, has_rules: bool) -> bytes | None:
    """Return the value: of a file, of a prompt without echo, or of standard input.

    None where only rules change: they were given, and nothing else, at a terminal.
    """
    if args.file not in (None, "-"):
        path = Path(args.file)
        try:
            with path.open("rb") as file:
                value = file.read(MAX_FILE)
        except OSError as error:
            raise InputError(f"cannot read {args.file}: {error.strerror}") from error
        return value
    if args.file == "-" or not (sys.stdin is None or sys.stdin.isatty()):
        if args.file is None and has_rules and not _has_input():
            return None
        value = _bare(sys.stdin.buffer.read(MAX_FILE)) if sys.stdin is not None else b""
        return None if has_rules and args.file is None and not value else value
    if has_rules:
        return None
    return _prompt(name)


def _has_input() -> bool:
    """Whether standard input is a pipe or a file: what a script was started with may be neither."""
    import stat

    mode = os.fstat(sys.stdin.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _bare(value: bytes) -> bytes:
    """Return a value of one line without its line's end: that is the shell's, not the secret's."""
    line = value.removesuffix(b"\n").removesuffix(b"\r")
    return line if b"\n" not in line else value


def _prompt(name: str) -> bytes:
    import getpass

    first = getpass.getpass(f"value of {name}: ", stream=sys.stderr)
    if getpass.getpass("once more: ", stream=sys.stderr) != first:
        raise InputError("the two are not the same", hint="nothing was changed; try again")
    return first.encode()


def _globs(text: str | None) -> list[str] | None:
    """Return globs that were given with commas or spaces; an empty text takes all away."""
    return None if text is None else text.replace(",", " ").split()


def _rm(name: str, args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("rm_secret", secret=name, force=args.force)
    if args.json:
        screen.json(answer)
    else:
        screen.line(f"{clean(name)} is removed; whoever had it may know it: end it at its origin")
    return 0


def _rotate(args: Namespace, screen: Screen) -> int:
    answer = connected(args).call("rotate_secrets", drop_lost=args.drop_lost)
    if args.json:
        screen.json(answer)
        return 0
    screen.lines(map(clean, _rotated(answer.json(), screen.at(answer))))
    return 0


def _rotated(done: dict[str, Any], look: Look) -> Iterator[str]:
    count = len(done["secrets"])
    yield f"{count} secret{'' if count == 1 else 's'} encrypted for a new key, {done['recipient']}"
    if done["told"]:
        yield f"it has: this agent, {', '.join(done['told'])}"
    if done["untold"]:
        yield f"will ask for it, did not answer now: {', '.join(done['untold'])}"
    if done["lost"]:
        yield f"removed, nobody could read them: {', '.join(done['lost'])}"
    if done["secrets"]:
        yield "whoever was a member before can still know these values; make new ones at their origin:"
        for one in done["secrets"]:
            yield f"  {one['name']}, set {ago(look, one['at'])} by {one['by']}"
