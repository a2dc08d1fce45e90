"""Jobs of what other schedulers and build systems were told; what could not be said is listed."""

from __future__ import annotations

import itertools
import json
import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from rota.builders.folder import origin_of
from rota.cli.commands.templates import CLONE, OWN, write_script
from rota.cli.given import read_given
from rota.cli.render import Cell, clean, paint, table
from rota.cli.screen import Screen
from rota.core.zones import is_zone, zone_hint
from rota.errors import ConflictError, InputError, NotFoundError
from rota.importers.crontab import read_crontab
from rota.importers.draft import Draft, checked, job_name, remark_text
from rota.importers.github import read_workflow
from rota.importers.jenkins import read_jenkins

MAX_FILES = 5000
#: Crontabs of the system, each line of which names a user.
_SYSTEM = ("/etc/crontab", "/etc/cron.d/", "/etc/anacrontab")


def import_(args: Namespace, screen: Screen) -> int:
    """Make jobs of foreign files: print them, or write them; say what was left out."""
    read = {"crontab": _crontabs, "jenkins": _projects, "github": _workflows}[args.kind]
    drafts = checked(list(read(args, screen)))
    if not drafts:
        raise NotFoundError("nothing in it that could be a job")
    if args.write or args.output:
        _write(drafts, args, screen)
    elif not args.json and len(drafts) == 1:
        screen.raw(drafts[0].text().encode())
    if args.json:
        screen.raw(json.dumps([_shown(draft) for draft in drafts]).encode() + b"\n")
        return 0
    _say(drafts, args, screen)
    return 0


# -- what is read -------------------------------------------------------------------------------


def _crontabs(args: Namespace, screen: Screen) -> Iterator[Draft]:
    zone = args.tz or _local_zone()
    if not is_zone(zone):
        raise InputError(f"--tz: no time zone {zone!r}", hint=zone_hint(zone))
    taken: set[str] = set()
    for path in args.files or ["-"]:
        place = "standard input" if path == "-" else path
        has_user = args.users or path.startswith(_SYSTEM)
        drafts, unread = read_crontab(
            _text(path, screen), place, zone=zone, has_user=has_user, folder=args.to or "cron"
        )
        for number, line in unread:
            screen.note(clean(f"{place}:{number}: not understood, and left out: {line[:100]}"))
        for draft in drafts:
            draft.name = job_name(draft.name, taken=taken)
            taken.add(draft.name)
            yield draft


def _local_zone() -> str:
    """Return the machine's zone: what cron goes by."""
    if zone := os.environ.get("TZ", "").removeprefix(":"):
        return zone
    target = os.path.realpath("/etc/localtime")
    zone = target.partition("/zoneinfo/")[2]
    return zone if zone and is_zone(zone) else "UTC"


def _projects(args: Namespace, screen: Screen) -> Iterator[Draft]:
    for given in _given(args, "a config.xml, or Jenkins' home folder"):
        files = _below(Path(given), "config.xml", lambda path: "jobs" in path.parts[:-2])
        for path in files:
            name = job_name(*([args.to] if args.to else []), _project_name(path))
            try:
                yield read_jenkins(read_given(str(path), screen), name, str(path))
            except InputError as error:
                if len(files) == 1:
                    raise
                # One that cannot be read does not stand in the way of the others.
                screen.note(clean(f"left out: {error.message}"))


def _project_name(path: Path) -> str:
    """Return the name of a project: folders of Jenkins lie in one another, as ``jobs/a/jobs/b``."""
    parts = path.resolve().parts[:-1]
    names = [name for before, name in itertools.pairwise(parts) if before == "jobs"]
    return "/".join(names) or parts[-1]


def _workflows(args: Namespace, screen: Screen) -> Iterator[Draft]:
    for given in _given(args, "a workflow, or the folder of a repository"):
        path = Path(given)
        below = path / ".github" / "workflows" if (path / ".github").is_dir() else path
        files = _below(below, "*.y*ml", lambda path: path.suffix in (".yml", ".yaml"))
        repo = (
            args.repo or origin_of(path.resolve() if path.is_dir() else path.resolve().parent).url
        )
        for file in files:
            folder = job_name(*([args.to] if args.to else []), file.stem)
            text = _text(str(file), screen)
            yield from read_workflow(text, str(file), repo=repo or "", folder=folder)


def _given(args: Namespace, what: str) -> Sequence[str]:
    if not args.files:
        raise InputError("nothing to read", hint=f"rota import {args.kind} FILE: {what}")
    return list(args.files)


def _below(path: Path, pattern: str, fits: object) -> list[Path]:
    """Return the file, or those below the folder that fit, by name."""
    if not path.is_dir():
        return [path]
    assert callable(fits)
    found = sorted(it for it in path.rglob(pattern) if fits(it) and it.is_file())[: MAX_FILES + 1]
    if len(found) > MAX_FILES:
        raise InputError(f"{path}: more than {MAX_FILES} files", hint="import a part of it")
    if not found:
        raise NotFoundError(f"{path}: no {pattern} there")
    return found


def _text(path: str, screen: Screen) -> str:
    data = read_given(path, screen)
    if b"\0" in data:
        raise InputError(f"{path} is no text: it has a NUL character", hint="is it the right file?")
    return data.decode("utf-8", "replace")


# -- what is made -------------------------------------------------------------------------------


def _write(drafts: Sequence[Draft], args: Namespace, screen: Screen) -> None:
    """Write all, or none where one is there already."""
    folder = Path(args.output) if args.output else _folder()
    paths = [folder / draft.name for draft in drafts]
    for path in () if args.force else paths:
        if path.exists() or path.is_symlink():
            raise ConflictError(
                f"{path} is there already", hint="--force replaces it, -o writes elsewhere"
            )
    for path, draft in zip(paths, drafts, strict=True):
        write_script(path, draft.text(), force=args.force)
        screen.note(clean(f"wrote {path}"))


def _folder() -> Path:
    return CLONE if CLONE.is_dir() or origin_of(Path.cwd()).top is None else OWN


def _shown(draft: Draft) -> dict[str, object]:
    remarks = [{"line": it.line, "message": it.message, "hint": it.hint} for it in draft.remarks]
    return {"name": draft.name, "from": draft.place, "script": draft.text(), "left": remarks}


def _say(drafts: Sequence[Draft], args: Namespace, screen: Screen) -> None:
    """List the jobs, and of each what a person has to see to."""
    rows = []
    for draft in drafts:
        number = len(draft.remarks)
        left = f"{number} to see to" if number else "all of it"
        rows.append(
            (
                Cell(draft.name, "bold"),
                Cell(draft.place, "dim"),
                Cell(left, "yellow" if number else "green"),
            )
        )
    is_shown = len(drafts) > 1 or args.write or args.output
    for line in table(rows, screen.err, shrink=(1,)) if is_shown else ():
        screen.note(line)
    for draft in drafts:
        for remark in draft.remarks:
            text = f"{draft.name}: {remark_text(remark)}"
            screen.note(paint(screen.err, "yellow", clean(text)))
    if is_shown and not (args.write or args.output):
        screen.note(f"to write them below {_folder()}/: the same with --write, or -o FOLDER")
