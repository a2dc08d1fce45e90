"""Checks scripts' headers, and calendars, without an agent."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rota.cli.given import read_given
from rota.cli.render import clean, paint
from rota.cli.screen import Screen
from rota.errors import InputError

if TYPE_CHECKING:
    from rota.core.problem import Problem


def check(args: Namespace, screen: Screen) -> int:
    """Print all problems of the files, ``path:line:column: message`` a line; 2 if there are any."""
    found: list[Problem] = []
    for name in args.files:
        found += problems_of(name, read_given(name, screen))
    if args.json:
        import msgspec

        screen.raw(msgspec.json.encode({"ok": not found, "problems": found}) + b"\n")
        return 2 if found else 0
    for problem in found:
        screen.line(clean(problem))
    if not found and screen.out.is_terminal:
        count = len(args.files)
        what = "1 script is" if count == 1 else f"{count} scripts are"
        screen.note(paint(screen.err, "green", f"{what} fine"))
    return 2 if found else 0


def problems_of(name: str, data: bytes) -> list[Problem]:
    """Return what is wrong with a script's header, or with a file of a folder of definitions."""
    from rota.core.definition_file import CALENDARS
    from rota.core.definitions import check_changes, check_file
    from rota.core.header import decode_script, parse_header
    from rota.core.problem import Problem
    from rota.core.users import USERS

    path = "<stdin>" if name == "-" else name
    folder, file = Path(name).resolve().parent, Path(name).name
    # A job may well be called users/import: its file has no such ending.
    if folder.name + "/" in {CALENDARS, USERS} and file.endswith((".toml", ".ics")):
        found = check_file(f"{folder.name}/{file}", data)
        if folder.name + "/" == USERS:
            beside = {USERS + it.name: it.read_bytes() for it in folder.glob("*.toml")}
            found = check_changes({USERS + file: data}, users=beside)
        return [Problem(path, it.line, it.column, it.message, it.hint) for it in found]
    try:
        text = decode_script(data)
    except InputError as error:
        known = [it for it in error.problems if isinstance(it, Problem)]
        return [Problem(path, it.line, it.column, it.message, it.hint) for it in known] or [
            Problem(path, 0, 0, error.message, error.hint)
        ]
    _, problems = parse_header(text, name=Path(path).stem or "job", path=path)
    return [*problems, *_unknown_calendars(Path(name), text)]


def _unknown_calendars(script: Path, text: str) -> Iterator[Problem]:
    """Yield a problem for each calendar that a script in a clone names and the clone has not."""
    from rota.core.definition_file import CALENDARS, JOBS
    from rota.core.definitions import calendar_names, unknown_calendars
    from rota.core.header import calendars_of

    folder = JOBS.rstrip("/")
    clone = next((it.parent for it in script.resolve().parents if it.name == folder), None)
    if clone is None or not (clone / CALENDARS).is_dir():
        return
    known = calendar_names(CALENDARS + it.name for it in (clone / CALENDARS).iterdir())
    yield from unknown_calendars(str(script), calendars_of(text, str(script)), known)
