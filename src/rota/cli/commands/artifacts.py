"""The files that builds leave."""

from __future__ import annotations

import fnmatch
import os
import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from rota.cli.commands.connected import connected
from rota.cli.render import Cell, size, table
from rota.cli.screen import Screen
from rota.client.client import Client
from rota.client.rest import written
from rota.errors import InputError, NotFoundError


def artifacts(args: Namespace, screen: Screen) -> int:
    """List, get or put artifacts, as the words say."""
    match args.words:
        case ["get", build, path]:
            return _get(connected(args), build, path, args, screen)
        case ["put", file]:
            return _put(connected(args), Path(file), "", args, screen)
        case ["put", file, name]:
            return _put(connected(args), Path(file), name, args, screen)
        case ["list", build] | [build]:
            return _list(connected(args), build, args, screen)
        case _:
            raise InputError(
                f"artifacts: {' '.join(args.words)!r} is none of list, get and put",
                hint="[list] BUILD | get BUILD PATH | put FILE [NAME]",
            )


def _list(client: Client, build: str, args: Namespace, screen: Screen) -> int:
    answer = client.call("artifacts", build=build)
    if args.json:
        screen.json(answer)
        return 0
    look = screen.out
    rows = [
        (
            Cell(it["path"]),
            Cell(size(it["size"]) if look.is_terminal else str(it["size"]), "dim", right=True),
            Cell(it["sha256"][:12] if look.is_terminal else it["sha256"], "dim"),
            Cell(it.get("removed", ""), "yellow"),
        )
        for it in answer.json()
    ]
    screen.lines(table(rows, look, shrink=(0,)))
    return 0


def _get(client: Client, build: str, path: str, args: Namespace, screen: Screen) -> int:
    """Fetch one file; or, for a glob, all that match, each at its own path below the output."""
    if not re.search(r"[*?\[]", path):
        return _get_one(client, build, path, args, screen)
    left = [it["path"] for it in client.call("artifacts", build=build).json()]
    if not path.startswith("."):
        left = [it for it in left if not it.startswith(".rota/")]  # what rota itself keeps there
    found = [it for it in left if fnmatch.fnmatchcase(it, path)]
    if not found:
        raise NotFoundError(
            f"{build} left nothing that matches {path!r}",
            hint=f"see what it left: rota artifacts {build!r}",
        )
    folder = Path(args.output or ".")
    if args.output == "-":
        raise InputError("several files cannot go to standard output", hint="-o FOLDER")
    for each in found:
        target = folder / each
        target.parent.mkdir(parents=True, exist_ok=True)
        _save(client, build, each, target, screen)
    return 0


def _get_one(client: Client, build: str, path: str, args: Namespace, screen: Screen) -> int:
    output = args.output or PurePosixPath(path).name
    if output == "-":
        for piece in client.artifact(build, path):
            screen.raw(piece)
        return 0
    target = Path(output)
    if target.is_dir():
        target /= PurePosixPath(path).name
    _save(client, build, path, target, screen)
    return 0


def _save(client: Client, build: str, path: str, target: Path, screen: Screen) -> None:
    # Beside its place first: what has the right name is whole.
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        count = _saved(draft, client.artifact(build, path))
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    screen.note(f"{target}: {size(count)}")


def _put(client: Client, file: Path, name: str, args: Namespace, screen: Screen) -> int:
    build = args.build or os.environ.get("ROTA_BUILD")
    if not build:
        raise InputError(
            "no build to keep the file for", hint="inside a build it is that one; else --build"
        )
    if not file.is_file():
        raise InputError(f"cannot read {file}: no such file")
    method, target, _ = written("keep", {"build": build, "path": name or file.name})
    answer = client.send(
        method,
        target,
        body=lambda: _opened(file, "rb"),
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Length": str(file.stat().st_size),
        },
        repeat=True,
    )
    if args.json:
        screen.json(answer)
    elif screen.out.is_terminal:
        kept = answer.json()
        screen.note(f"kept {kept['path']}: {size(kept['size'])}")
    return 0


def _saved(draft: Path, body: Iterator[bytes]) -> int:
    count = 0
    with _opened(draft, "wb") as file:
        for piece in body:
            count += file.write(piece)
    return count


def _opened(path: Path, mode: Literal["rb", "wb"]) -> BinaryIO:
    try:
        return path.open(mode)
    except OSError as error:
        what = "write" if mode == "wb" else "read"
        raise InputError(f"cannot {what} {path}: {error.strerror}") from error
