"""Remembers an agent's URL and token."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from pathlib import Path

from rota.cli.client import Client
from rota.cli.place import login_path, parse_place
from rota.cli.screen import Screen
from rota.errors import InputError


def login(args: Namespace, screen: Screen) -> int:
    """Save a login that the agent accepts; or forget the saved one."""
    path = Path(login_path(os.environ))
    if args.forget:
        path.unlink(missing_ok=True)
        screen.line("no login is saved")
        return 0
    if not args.url:
        raise InputError("missing: URL", hint="such as rota login http://build-1:7070")
    place = parse_place(args.url, "URL")
    if place.is_local:
        raise InputError(
            f"{place.url} needs no login: the kernel says who is calling",
            hint="name it with --at or --data",
        )
    place = place._replace(token=_token(args, place.url))
    state = Client(place).call("status").json()
    _save(path, {"url": place.url, "token": place.token})
    screen.line(f"logged in to {state['agent']} at {place.url}")
    return 0


def _token(args: Namespace, url: str) -> str:
    if args.token_file:
        try:
            text = Path(args.token_file).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise InputError(f"cannot read the token in {args.token_file}: {error}") from error
    elif sys.stdin.isatty():
        import getpass

        text = getpass.getpass(f"token for {url}: ", stream=sys.stderr)
    else:
        text = sys.stdin.readline()
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise InputError(
            "that is no token", hint="an agent's own lies in its data folder, in the file token"
        )
    return token


def _save(path: Path, login: dict[str, str]) -> None:
    """Write the login so that only its owner may read it, and never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(login, file)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(f"cannot save the login in {path}: {error.strerror}") from error
