"""What a build was made of: its commit, and what changed."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import clean, paint
from rota.cli.screen import Screen
from rota.errors import NotFoundError

SHORT = 12
MAX_NAMED = 5


def changes(args: Namespace, screen: Screen) -> int:
    """List a build's changes, newest first, and the culprits."""
    answer = connected(args).call("build", build=args.build)
    build = answer.json()
    source = build.get("source")
    if source is None:
        raise NotFoundError(
            f"{build['job']}#{build['number']} has no source code checked out",
            hint="a job says in its header where its code is: scm = { git = URL }",
        )
    if args.json:
        told = {key: source.get(key) or [] for key in ("changes", "culprits")}
        screen.raw(json.dumps(told).encode() + b"\n")
        return 0
    for change in source.get("changes") or ():
        commit = paint(screen.out, "bold", change["commit"][:SHORT])
        count = change.get("files", 0)
        files = f" ({count} file{'' if count == 1 else 's'})" if count else ""
        screen.line(f"{commit}  {clean(_who(change))}: {clean(change.get('message', ''))}{files}")
    if source.get("more"):
        screen.note("there are more than these")
    if not source.get("changes"):
        screen.note(_none(source))
    if source.get("culprits"):
        screen.line(f"since the last good build: {clean(', '.join(source['culprits']))}")
    return 0


def source_facts(source: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return what is to be shown of a build's source code."""
    if source is None:
        return []
    where = source.get("branch") or source.get("ref") or ""
    if source.get("number"):
        where = f"pull request {source['number']}, {source['head'][:SHORT]} into {source['base']}"
    new = source.get("changes") or []
    who = list(source.get("culprits") or [])
    more = f" and {len(who) - MAX_NAMED} others" if len(who) > MAX_NAMED else ""
    return [
        ("source", clean(f"{source['url']} {where}")),
        ("commit", clean(f"{source['commit'][:SHORT]} {source.get('message', '')}")),
        ("author", clean(source.get("author", ""))),
        ("changes", f"{len(new)}{' or more' if source.get('more') else ''}" if new else ""),
        ("culprits", clean(", ".join(who[:MAX_NAMED])) + more if new else ""),
    ]


def _none(source: dict[str, Any]) -> str:
    if not source.get("before"):
        return "it is the first build of this branch, so that nothing is known to have changed"
    if source["before"] == source["commit"]:
        return "nothing changed: the build before was of the same commit"
    return f"the commit of the build before, {source['before'][:SHORT]}, is not known here"


def _who(change: dict[str, Any]) -> str:
    return str(change.get("author") or change.get("email") or "?")
