"""The files that builds leave."""

from __future__ import annotations

import os
from argparse import Namespace
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.fetched import Fetching
from rota.cli.kept import Source, sources
from rota.cli.render import Cell, ago, clean, size, table
from rota.cli.screen import Screen, no_files
from rota.client.client import Client
from rota.client.rest import written
from rota.errors import InputError, NotFoundError

_WORDS = "[list] BUILD | get BUILD [PATH…] | put FILE [NAME] | promote BUILD [GLOB…] --to NAME | demote NAME"

#: What rota itself keeps among a build's artifacts, such as the details of its tests.
OWN = ".rota/"


def artifacts(args: Namespace, screen: Screen) -> int:
    """List, get, put, promote or demote artifacts, as the words say."""
    match args.words:
        case [] if args.promoted:
            return _promotions(connected(args), args, screen)
        case ["get" | "put", *_] if not screen.has_files:
            raise no_files(f"artifacts {args.words[0]}")
        case ["get", name, *patterns]:
            return _get(connected(args), name, patterns, args, screen)
        case ["put", file]:
            return _put(connected(args), file, "", args, screen)
        case ["put", file, name]:
            return _put(connected(args), file, name, args, screen)
        case ["promote", build, *patterns]:
            return _promote(connected(args), build, patterns, args, screen)
        case ["demote", name]:
            return _demote(connected(args), name, args, screen)
        case ["list", build] | [build] if build not in ("get", "put", "promote", "demote"):
            return _list(connected(args), build, args, screen)
        case _:
            words = " ".join(args.words)
            raise InputError(
                f"artifacts: {words!r} is none of list, get, put, promote and demote", hint=_WORDS
            )


# -- what there is ------------------------------------------------------------------------------


def _promotion(client: Client, name: str) -> dict[str, Any] | None:
    """Return what was promoted to a name; ``None`` if it names a build."""
    if "#" in name or "/" in name:
        return None
    try:
        found: dict[str, Any] = client.call("promotion", promotion=name).json()
    except NotFoundError:
        return None
    return found


def _list(client: Client, name: str, args: Namespace, screen: Screen) -> int:
    promoted = _promotion(client, name)
    answer = client.call("artifacts", build=promoted["build"] if promoted else name)
    found = answer.json()
    if promoted is not None:
        paths = {it["path"] for it in promoted["artifacts"]}
        found = [it for it in found if it["path"] in paths]
    if args.json and promoted is None:
        screen.json(answer)
        return 0
    if args.json:
        import json

        screen.line(json.dumps(found))
        return 0
    look = screen.at(answer)
    rows = [
        (
            Cell(clean(it["path"])),
            Cell(size(it["size"]) if look.is_terminal else str(it["size"]), "dim", right=True),
            Cell(it["sha256"][:12] if look.is_terminal else it["sha256"], "dim"),
            Cell(ago(look, it.get("kept_at")), "dim"),
            Cell(clean(it.get("removed") or it.get("promoted") or ""), "yellow"),
        )
        for it in found
    ]
    screen.lines(table(rows, look, shrink=(0,)))
    if not rows and look.is_terminal:
        screen.note(f"{clean(name)} has no artifacts")
    return 0


def _promotions(client: Client, args: Namespace, screen: Screen) -> int:
    answer = client.call("promotions")
    if args.json:
        screen.json(answer)
        return 0
    look = screen.at(answer)
    rows = [
        (
            Cell(it["name"]),
            Cell(it["ref"]),
            Cell(ago(look, it["at"]), "dim"),
            Cell(clean(it["by"]), "dim"),
            Cell(f"until {it['until'][:10]}" if it.get("until") else "for ever", "dim"),
            Cell(clean(it.get("why", ""))),
        )
        for it in answer.json()
    ]
    screen.lines(table(rows, look, shrink=(5,)))
    return 0


# -- promotions ---------------------------------------------------------------------------------


def _promote(
    client: Client, build: str, patterns: list[str], args: Namespace, screen: Screen
) -> int:
    from rota.core.durations import parse_duration

    if not args.to:
        raise InputError("promote needs a name", hint="--to release-1.4")
    keep_s = parse_duration(args.keep) if args.keep else None
    if isinstance(keep_s, str):
        raise InputError(f"--keep {keep_s}", hint="such as --keep 365d")
    answer = client.call(
        "promote",
        build=build,
        to=args.to,
        artifacts=patterns,
        why=args.why or "",
        keep_s=keep_s,
    )
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    count = len(found["artifacts"])
    until = f"until {found['until'][:10]}" if found.get("until") else "for ever"
    what = "1 file" if count == 1 else f"{count} files"
    screen.line(f"{found['name']}: {what} of {found['ref']}, {until}")
    return 0


def _demote(client: Client, name: str, args: Namespace, screen: Screen) -> int:
    answer = client.call("demote", promotion=name, why=args.why or "")
    if args.json:
        screen.json(answer)
        return 0
    screen.line(f"{clean(name)} is promoted no longer; its files go as others do")
    return 0


# -- get ----------------------------------------------------------------------------------------


def _get(client: Client, name: str, patterns: list[str], args: Namespace, screen: Screen) -> int:
    promoted = _promotion(client, name)
    build = promoted["build"] if promoted is not None else name
    if args.output == "-":
        return _get_to_output(client, build, patterns, screen)
    left = client.call("artifacts", build=build).json()
    if promoted is not None:
        paths = {it["path"] for it in promoted["artifacts"]}
        left = [it for it in left if it["path"] in paths]
    exact = [it for it in left if [it["path"]] == patterns]
    if exact:
        target = Path(args.output or PurePosixPath(exact[0]["path"]).name)
        if target.is_dir():
            target /= PurePosixPath(exact[0]["path"]).name
        Fetching(client, build, screen).fetch(exact[0], target)
        return 0
    chosen = _chosen(name, left, patterns)
    Fetching(client, build, screen).fetch_all(chosen, Path(args.output or "."))
    return 0


def _get_to_output(client: Client, build: str, patterns: list[str], screen: Screen) -> int:
    if len(patterns) != 1 or any(sign in patterns[0] for sign in "*?["):
        raise InputError("several files cannot go to standard output", hint="-o FOLDER")
    with closing(client.artifact(build, patterns[0])) as pieces:
        for piece in pieces:
            screen.raw(piece)
    return 0


def _chosen(name: str, left: list[dict[str, Any]], patterns: list[str]) -> list[dict[str, Any]]:
    """Return the files that some pattern means: a path, a folder, or a glob."""
    from rota.core.globs import matches

    hint = f"see what it left: rota artifacts {name!r}"
    if not any(pattern.startswith(OWN[0]) for pattern in patterns):
        left = [it for it in left if not it["path"].startswith(OWN)]
    if not patterns:
        if not left:
            raise NotFoundError(f"{name} left no artifacts")
        return left
    chosen: dict[str, dict[str, Any]] = {}
    for pattern in patterns:
        plain = pattern.rstrip("/")
        found = [
            it for it in left if matches(it["path"], plain) or it["path"].startswith(f"{plain}/")
        ]
        if not found:
            raise NotFoundError(f"{name} left nothing that matches {pattern!r}", hint=hint)
        chosen |= {it["path"]: it for it in found}
    return list(chosen.values())


# -- put ----------------------------------------------------------------------------------------


def _put(client: Client, file: str, name: str, args: Namespace, screen: Screen) -> int:
    build = args.build or os.environ.get("ROTA_BUILD")
    if not build:
        raise InputError(
            "no build to keep the file for", hint="inside a build it is that one; else --build"
        )
    with sources(file, name, as_tar=args.tar) as found:
        for source in found:
            _keep(client, build, source, args, screen)
    return 0


def _keep(client: Client, build: str, source: Source, args: Namespace, screen: Screen) -> None:
    method, target, _ = written("keep", {"build": build, "path": source.name})
    length = {} if source.size is None else {"Content-Length": str(source.size)}
    answer = client.send(
        method,
        target,
        body=source.open,
        headers={"Content-Type": "application/octet-stream", **length},
        repeat=source.size is not None,
    )
    if args.json:
        screen.json(answer)
    elif screen.out.is_terminal:
        kept = answer.json()
        screen.note(f"kept {clean(kept['path'])}: {size(kept['size'])}")
