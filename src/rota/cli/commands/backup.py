"""Backing a cluster up into a file, and beginning one from it."""

from __future__ import annotations

import contextlib
import json
import os
from argparse import Namespace
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from msgspec.structs import asdict

from rota.cli.commands.connected import connected
from rota.cli.render import clean, size
from rota.cli.screen import Screen
from rota.client.client import Client
from rota.client.connection import pieces
from rota.errors import InputError, UnavailableError

BLOCK = 1 << 20


def backup(args: Namespace, screen: Screen) -> int:
    """Write a back-up and look whether it is good; or only look, at one that is there."""
    from rota.bootstrap.restoring import check_backup

    target = Path(args.file).expanduser().absolute()
    if args.check:
        found = check_backup(target)
    else:
        client = connected(args)
        with _draft(target) as draft:
            _fetch(client, args, draft)
            found = check_backup(draft)
    written = target.stat().st_size
    if args.json:
        told = {"file": str(target), "bytes": written, **asdict(found)}
        screen.line(json.dumps(told, default=datetime.isoformat))
        return 0
    when = f"{found.at:%Y-%m-%d %H:%M:%S} UTC"
    screen.line(
        f"{clean(str(target))}: {size(written)}, whole and good: event {found.seq} of"
        f" {clean(found.agent)}'s cluster, {when}"
    )
    if found.elsewhere:
        screen.note(
            f"artifacts in {clean(found.elsewhere)} are not in it\n\n"
            "hint: copy that as well, by its own means: docs/backup.md"
        )
    if found.ca and not found.sealed_for:
        screen.note(
            "whoever reads it has the keys of the cluster and of its secrets: keep it as you keep"
            " those\n\nhint: encrypt them for a key of yours: --recipient age1…"
        )
    return 0


def restore(args: Namespace, screen: Screen) -> int:
    """Make a new cluster's first agent out of a back-up, and start it."""
    from rota.bootstrap.restoring import Wish
    from rota.bootstrap.restoring import restore as begin_from
    from rota.cli.commands.daemon import data_folder, start

    data = data_folder(args)
    wish = Wish(
        identities=_identities(args.identity),
        beside=args.beside,
        keep_missed=args.missed == "run",
    )
    done = begin_from(Path(args.file).expanduser().absolute(), data, wish)
    screen.note(
        f"restored to {data}: the state of event {done.manifest.seq}, {done.builds} builds under way"
        f" ({done.lost} of them ran), {done.logs} logs, {done.artifacts} artifacts"
    )
    if not done.has_keys:
        screen.note(
            "the back-up has no keys: secrets cannot be read, and the cluster is another to its clients"
        )
    if args.no_start:
        screen.line(f"start it with: rota agent --data {data} --daemon")
        return 0
    args.join = args.from_clone = args.bus = args.log_level = args.log_format = None
    args.invite = args.ephemeral = args.json = False
    return start(args, screen)


def _identities(path: str | None) -> str:
    if path is None:
        return ""
    try:
        return Path(path).expanduser().read_text("ascii")
    except (OSError, UnicodeError) as error:
        raise InputError(f"cannot read the identity in {path}: {error}") from error


def _fetch(client: Client, args: Namespace, draft: Path) -> None:
    given = {
        "recipient": args.recipient or None,
        "logs": False if args.no_logs else None,
        "artifacts": False if args.no_artifacts else None,
    }
    wanted: dict[str, object] = {name: it for name, it in given.items() if it is not None}
    with draft.open("wb") as file, client.opened("backup", headers=None, **wanted) as response:
        for piece in pieces(response, BLOCK):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """Give a file for this user alone, which takes its place once all went well.

    Raises:
        UnavailableError: the disk does not take it.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        try:
            yield draft
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(
            f"cannot write {target}: {error.strerror}", hint="name a file in another folder"
        ) from error
