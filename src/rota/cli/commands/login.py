"""Remembers an agent's URL, a token for it, and whose certificates to believe."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rota.cli.render import clean
from rota.cli.screen import Screen
from rota.client.browser_login import by_browser, by_device
from rota.client.client import Client
from rota.client.login import Login, login_path, read_login, save_login
from rota.client.place import Place, parse_place, read_ca, with_credentials
from rota.client.trust import fetch_ca
from rota.errors import DeniedError, InputError, NotFoundError


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
    token, refresh = _shown(args, place, screen)
    place = place._replace(token=token)
    client = Client(place, note=screen.note, moves=False)
    state = client.call("status").json()
    save_login(_login(client, state["agent"])._replace(refresh=refresh), os.environ)
    screen.line(f"logged in to {state['agent']} at {place.url}")
    return 0


def logout(args: Namespace, screen: Screen) -> int:
    """Make the saved login's token worthless if it is a user's, and forget it."""
    saved = read_login(os.environ)
    if saved is None:
        screen.line("no login is saved")
        return 0
    place = with_credentials(parse_place(saved.url, "the saved login"), os.environ)
    try:
        ended = Client(place, note=screen.note).call("revoke_token", id="@this").json()
        text = f"the token {ended['id']} opens nothing any more"
    except NotFoundError:
        text = "the token was an agent's own, and still holds"
    except DeniedError:
        text = "the token held no more"
    Path(login_path(os.environ)).unlink(missing_ok=True)
    screen.line(f"logged out of {saved.url}: {text}")
    return 0


def _shown(args: Namespace, place: Place, screen: Screen) -> tuple[str, str]:
    """Return the token to show: given, or got by logging in where there is a provider.

    And by what that login is renewed, if the provider gave something.
    """
    wants_person = args.browser or args.device
    if args.token_file or args.token or not (wants_person or sys.stdin.isatty()):
        if wants_person:
            raise InputError("a token and a login by a provider are two ways", hint="take one")
        return _token(args, place.url), ""
    client = Client(place, note=screen.note, moves=False)
    ways = _ways(client)
    if not ways["oidc"]:
        if wants_person:
            raise InputError(
                f"{place.url} knows no provider of identities", hint="settings.toml: [oidc]"
            )
        return _token(args, place.url), ""
    if args.device or not (args.browser or _has_browser()):
        made = by_device(client, lambda begun: _show_device(begun, screen))
    else:
        made = by_browser(client, ways, lambda url: _show_url(url, screen))
    return str(made["token"]), str(made.get("refresh") or "")


def _ways(client: Client) -> dict[str, Any]:
    try:
        return dict(client.call("login_ways").json())
    except (NotFoundError, DeniedError):
        return {"oidc": False}  # an agent of an older version


def _has_browser() -> bool:
    """Whether a browser could open here: not over ssh, nor on a machine without a screen."""
    is_far = bool(os.environ.get("SSH_CONNECTION"))
    has_screen = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    return has_screen and not is_far


def _show_url(url: str, screen: Screen) -> None:
    import threading
    import webbrowser

    screen.note(f"log in with your browser; if none opens by itself, open this:\n{url}")
    # Some are waited for until they end, and they wait for us.
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _show_device(begun: Mapping[str, Any], screen: Screen) -> None:
    screen.note(clean(f"open {begun['url']} on any machine, and type {begun['user_code']} there"))
    if begun["complete_url"]:
        screen.note(clean(f"or open {begun['complete_url']}"))


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
