"""Watched repositories: whose own jobs are adopted."""

from __future__ import annotations

import re
from argparse import Namespace
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import clean, duration
from rota.cli.screen import Screen
from rota.core.durations import parse_duration
from rota.errors import InputError

SHORT = 12


def watch(args: Namespace, screen: Screen) -> int:
    """Watch a repository."""
    name = args.name or re.sub(r"\.git/?$", "", args.git.rstrip("/")).rpartition("/")[2]
    poll_s = parse_duration(args.poll) if args.poll else None
    if isinstance(poll_s, str):
        raise InputError(f"--poll {poll_s}", hint="such as --poll 1m")
    answer = connected(args).call(
        "watch",
        watch=name.rpartition(":")[2],
        git=args.git,
        branches=(args.branches or "*").split(),
        pull_requests=args.pull_requests,
        poll_s=poll_s,
    )
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    said = "is watched" if found["changed"] else "is watched so already"
    screen.line(f"{clean(found['name'])} {said}; its jobs will be {clean(found['name'])}/BRANCH/…")
    return 0


def unwatch(args: Namespace, screen: Screen) -> int:
    """Watch a repository no longer."""
    answer = connected(args).call("unwatch", watch=args.name)
    if args.json:
        screen.json(answer)
        return 0
    screen.line(f"{clean(args.name)} is watched no longer; its jobs go, what they ran stays")
    return 0


def watches(args: Namespace, screen: Screen) -> int:
    """List what is watched, and what was adopted."""
    answer = connected(args).call("watches")
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    for one in found:
        for line in _lines(one):
            screen.line(line)
    if not found:
        screen.note("no repository is watched\n\nhint: watch one: rota watch URL")
    return 0


def _lines(one: dict[str, Any]) -> list[str]:
    globs = " ".join(one["branches"]) + (" and pull requests" if one["pull_requests"] else "")
    lines = [
        f"{clean(one['name'])}  {clean(one['git'])}  {clean(globs)}, every {duration(one['poll_s'])}"
    ]
    if one["trouble"]:
        lines.append(f"  {clean(one['trouble'])}")
    for entry in one["adopted"]:
        jobs = entry["jobs"]
        count = f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}"
        lines.append(f"  {clean(entry['folder'])}  {entry['commit'][:SHORT]}  {count}")
        lines += [f"    {clean(fault)}" for fault in entry["faults"]]
    return lines
