"""Remembers an agent's URL, a token for it, and whose certificates to believe."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

from rota.cli.screen import Screen
from rota.client.client import Client
from rota.client.login import Login, login_path, save_login
from rota.client.place import Place, parse_place, read_ca
from rota.client.trust import fetch_ca
from rota.errors import InputError, NotFoundError


def login(args: Namespace, screen: Screen) -> int:
    """Save a login that the agent accepts; or forget the saved one."""
    if args.forget:
        Path(login_path(os.environ)).unlink(missing_ok=True)
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
    place = _trusted(place, args)
    place = place._replace(token=_token(args, place.url))
    client = Client(place, note=screen.note, moves=False)
    state = client.call("status").json()
    save_login(_login(client, state["agent"]), os.environ)
    screen.line(f"logged in to {state['agent']} at {place.url}")
    return 0


def _trusted(place: Place, args: Namespace) -> Place:
    """Return ``place`` with the CA that was given, if any."""
    if args.ca and args.fingerprint:
        raise InputError("--ca and --fingerprint both say whom to trust", hint="give one of them")
    if not args.ca and not args.fingerprint:
        given = os.environ.get("ROTA_CA", "") if place.tls else ""
        return place._replace(ca=read_ca(given, "$ROTA_CA"), is_pinned=True) if given else place
    if not place.tls:
        option = "--ca" if args.ca else "--fingerprint"
        raise InputError(
            f"{option} is for https, and {place.url} is not", hint="rota agents has its https URL"
        )
    ca = read_ca(args.ca, "--ca") if args.ca else fetch_ca(place, args.fingerprint)
    return place._replace(ca=ca, is_pinned=True)


def _login(client: Client, agent: str) -> Login:
    """Return what to save: the CA and the others by the way, so that commands can move on."""
    place = client.place
    try:
        cluster = client.call("cluster").json()
    except NotFoundError:
        cluster = {}  # an agent of an older version
    peers = [it["peer"] for it in cluster.get("agents", ()) if it["name"] != agent and it["peer"]]
    ca = place.ca or str(cluster.get("ca") or "")
    return Login(place.url, place.token, ca, place.is_pinned, tuple(peers))


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
