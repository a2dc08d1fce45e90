"""Jobs to start from, and jobs proposed for what lies in a folder."""

from __future__ import annotations

import json
import os
import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rota.builders.catalogue import (
    KINDS,
    SCRIPTS,
    described,
    finding_at,
    findings_in,
    imagined,
    known,
)
from rota.builders.finding import Finding
from rota.builders.folder import Folder, Origin, origin_of
from rota.builders.proposal import Script, Wish, job_name, job_names, project_name, script_of
from rota.builders.template import words_of
from rota.cli.nearest import nearest
from rota.cli.render import Cell, clean, paint, table
from rota.cli.screen import Screen
from rota.core.ids import parse_job_name
from rota.errors import ConflictError, InputError, NotFoundError

#: Where a watched repository has its jobs, and a clone of the definitions its own.
OWN = Path(".rota", "jobs")
CLONE = Path("jobs")
VARIANTS = ("container", "matrix")


class Here:
    """The folder that is looked at."""

    def __init__(self, folder: str) -> None:
        self.given = folder
        real = Path(folder)
        if not real.is_dir():
            raise InputError(f"{folder} is no folder", hint="--in takes the folder of a project")
        self.real = real.resolve()
        self.origin: Origin = origin_of(self.real)
        top = self.origin.top
        is_below = top is not None and self.real.is_relative_to(top.resolve())
        path = self.real.relative_to(top.resolve()).as_posix() if top and is_below else ""
        self.folder = Folder(self.real, "" if path == "." else path)
        self.called = project_name(self.origin, self.real.name)

    def findings(self) -> list[Finding]:
        """Return what is found in it."""
        return list(findings_in(self.folder))

    def target(self, name: str) -> Path:
        """Return the file of a job that is to be written here."""
        cwd = Path()
        top = self.origin.top
        if (cwd / CLONE).is_dir() or top is None:
            return CLONE / name
        return Path(os.path.relpath(top / OWN / name))


def templates(args: Namespace, screen: Screen) -> int:
    """List the templates, and where each of them fits."""
    here = Here(getattr(args, "in") or ".")
    fits: dict[str, list[str]] = {}
    for finding in here.findings():
        fits.setdefault(finding.template, []).append(finding.path or ".")
    found: list[dict[str, Any]] = []
    for name, path in known().items():
        words = words_of(path.read_text(encoding="utf-8"))
        variants = [it for it in VARIANTS if it in words]
        found.append(
            {
                "name": name,
                "description": described(path),
                "variants": variants,
                "fits": fits.get(name, []),
            }
        )
    if args.json:
        screen.raw(json.dumps(found).encode() + b"\n")
        return 0
    rows = [
        (
            Cell(it["name"], "bold"),
            Cell(it["description"]),
            Cell(" ".join(f"--{word}" for word in it["variants"]), "dim"),
            Cell("fits " + " ".join(it["fits"]) if it["fits"] else "", "green"),
        )
        for it in found
    ]
    screen.lines(table(rows, screen.out, shrink=(1, 3)))
    return 0


def new(args: Namespace, screen: Screen) -> int:
    """Propose jobs for a folder; or print the job of one template, or write it."""
    here = Here(getattr(args, "in") or ".")
    if args.template is None:
        return _propose(here, args, screen)
    path = known().get(args.template)
    if path is None:
        raise NotFoundError(
            f"no template {args.template!r}",
            hint=nearest(args.template, known()) or "see which: rota templates",
        )
    name, values = _words(args.words)
    wish = Wish(args.container, args.matrix, values)
    finding = Finding(args.template) if args.template in SCRIPTS else _chosen(args.template, here)
    default = job_name(args.template, here.called)
    _put([Job(finding, name or default)], wish, here, args, screen, is_named=name is not None)
    return 0


class Job(NamedTuple):
    """A job to be made: of which finding, and its name."""

    finding: Finding
    name: str


def _propose(here: Here, args: Namespace, screen: Screen) -> int:
    """Say what was found, and how its jobs are had; with ``--write`` write them."""
    findings = here.findings()
    if not findings:
        raise NotFoundError(
            f"nothing in {here.real} says how it is built",
            hint="rota templates lists what there is; rota new bash prints a script to start from",
        )
    jobs = [Job(*it) for it in zip(findings, job_names(findings, here.called), strict=True)]
    if args.write:
        _put(jobs, Wish(args.container, args.matrix), here, args, screen, is_named=False)
    elif args.json:
        screen.raw(json.dumps([_shown(job, here) for job in jobs]).encode() + b"\n")
    elif args.output or args.container or args.matrix or args.force:
        raise InputError(
            "it is not said which template", hint=f"such as: {_command(jobs[0], here)}"
        )
    else:
        _say(jobs, here, screen)
    return 0


def _shown(job: Job, here: Here) -> dict[str, Any]:
    finding = job.finding
    return {
        "template": finding.template,
        "folder": finding.path or ".",
        "name": job.name,
        "seen": list(finding.seen),
        "notes": list(finding.notes),
        "command": _command(job, here),
    }


def _say(jobs: list[Job], here: Here, screen: Screen) -> None:
    origin = here.origin
    source = origin.url or ("no remote" if origin.top else "in no repository")
    branch = f", branch {origin.branch}" if origin.branch else ""
    screen.line(clean(f"{here.called}: {source}{branch}"))
    screen.line()
    width = max(len(job.finding.template) for job in jobs)
    for job in jobs:
        folder = f"{job.finding.path}/: " if job.finding.path else ""
        seen = "; ".join(job.finding.seen)
        screen.line(
            f"{paint(screen.out, 'bold', job.finding.template.ljust(width))}  {clean(folder + seen)}"
        )
        for note in job.finding.notes:
            screen.line(f"{' ' * width}  {paint(screen.out, 'yellow', clean(note))}")
    screen.line()
    commands = [(_command(job, here), job.name) for job in jobs]
    longest = max(len(command) for command, _ in commands)
    for command, name in commands:
        screen.line(clean(f"{command.ljust(longest)} | rota add {name} -"))
    where = here.target("").as_posix()
    screen.line(clean(f"{'rota new --write'.ljust(longest)} # all of them, to files in {where}/"))


def _command(job: Job, here: Here) -> str:
    path = os.path.relpath(job.finding.path or ".", here.folder.path or ".")
    start = Path(here.given, path)
    within = f" --in {shlex.quote(start.as_posix())}" if start != Path() else ""
    return f"rota new {job.finding.template}{within}"


def _words(words: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """Return the name and the values among what follows a template."""
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise InputError(f"one job has one name, not {' and '.join(names)}")
    pairs = (word.partition("=") for word in words if "=" in word)
    return next(iter(names), None), {key: value for key, _, value in pairs}


def _chosen(template: str, here: Here) -> Finding:
    """Return the project that a template is meant for."""
    if template not in KINDS:
        return Finding(template, here.folder.path)
    if (finding := finding_at(template, here.folder)) is not None:
        return finding
    found = [it for it in here.findings() if it.template == template]
    if len(found) > 1:
        which = [_command(Job(it, ""), here) for it in found]
        raise InputError(
            f"there are several: {', '.join(it.path for it in found)}",
            hint=f"say which: {' or '.join(which)}",
        )
    return found[0] if found else imagined(template, here.folder.path)


def _put(
    jobs: list[Job],
    wish: Wish,
    here: Here,
    args: Namespace,
    screen: Screen,
    *,
    is_named: bool,
) -> None:
    """Print the one job, or write all; none is written unless all can be."""
    to_file = args.write or is_named or args.output not in (None, "-")
    made: list[tuple[Job, Path, Script]] = []
    for job in jobs:
        parse_job_name(job.name)
        path, name = Path(), job.name
        if to_file:
            path = here.target(job.name)
            is_own = _is_own(path)
            if is_own and not is_named:
                name = job.name.removeprefix(f"{here.called}/")
                path = here.target(name)
            if args.output:
                path = Path(args.output)
            is_own = _is_own(path)
            wish = replace(wish, is_own=is_own)
        made.append((job._replace(name=name), path, _script(job.finding, wish, here)))
    for _, path, _ in made if to_file and not args.force else ():
        if path.exists() or path.is_symlink():
            raise ConflictError(
                f"{path} is there already", hint="--force replaces it, -o writes elsewhere"
            )
    for job, path, script in made:
        if to_file or not args.json:
            _tell(job, script, here, screen)
        if not to_file and args.json:
            shown = {**_shown(job, here), "notes": list(script.notes), "script": script.text}
            screen.raw(json.dumps(shown).encode() + b"\n")
            continue
        if not to_file:
            screen.raw(script.text.encode())
            continue
        write_script(path, script.text, force=args.force)
        if _is_own(path):
            how = f"commit it, and once: rota watch {here.origin.url or 'URL'}"
        else:
            how = f"add it: rota add {job.name} {path}"
        screen.note(clean(f"wrote {path}; {how}"))


def _script(finding: Finding, wish: Wish, here: Here) -> Script:
    """Return the script of a finding, which is a good one."""
    from rota.core.header import parse_header

    path = known()[finding.template]
    text = path.read_text(encoding="utf-8")
    script = script_of(text, finding, here.origin, here.called, wish)
    _, problems = parse_header(script.text, name="job", path=path.name)
    if problems:
        raise InputError("that is no good job: " + "; ".join(it.message for it in problems))
    return script


def _tell(job: Job, script: Script, here: Here, screen: Screen) -> None:
    """Say what a person should know about a script, apart from what it says itself."""
    finding = job.finding
    if finding.template in KINDS and not finding.seen:
        screen.note(clean(f"note: no {finding.template} project in {here.real}: its usual form"))
    elif screen.err.is_terminal and finding.seen:
        screen.note(clean(f"found: {'; '.join(finding.seen)}"))
    for note in script.notes:
        screen.note(clean(f"note: {note}"))


def _is_own(path: Path) -> bool:
    """Whether a file is one of a watched repository's own jobs."""
    return f"/{OWN.as_posix()}/" in f"/{path.as_posix()}"


def write_script(path: Path, text: str, *, force: bool) -> None:
    """Write a job's file, executable, with the folders that it needs.

    Raises:
        ConflictError: it is there, and not to be replaced.
        InputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make {path.parent}: {error.strerror}") from error
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
        path.chmod(0o755)
    except FileExistsError as error:
        raise ConflictError(f"{path} is there already", hint="--force replaces it") from error
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
