"""Clones the store with git, and gives git its credential later on."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from urllib.parse import urlsplit

from rota.cli.commands.connected import at_this_agent
from rota.cli.screen import Screen
from rota.client.client import Client
from rota.client.login import login_path
from rota.client.place import Place, find_place
from rota.errors import InputError

REPOSITORY = "store.git"


def clone(args: Namespace, screen: Screen) -> int:
    """Run ``git clone``; the clone asks this program for the token, so none is written down."""
    if shutil.which("git") is None:
        raise InputError("git is not installed", hint="such as: apt install git")
    client = at_this_agent(args)
    url = f"{base(client)}/{REPOSITORY}"
    folder = args.folder or "rota-store"
    command = ["git", "clone", *settings(client.place, url), url, folder]
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        raise InputError(f"git clone ended with status {status}", hint="git said why above")
    screen.line(f"cloned into {folder}: jobs lie in {folder}/jobs; edit, commit, git push")
    return 0


def git_credential(args: Namespace, screen: Screen) -> int:
    """Answer git's question for a credential (git-credential(1)); store and erase do nothing."""
    asked = dict(line.rstrip("\n").split("=", 1) for line in sys.stdin if "=" in line)
    if args.action != "get":
        return 0
    place = find_place(args.at, args.data_folder, os.environ)
    url = urlsplit(place.url if not place.is_local else base(Client(place, moves=False)))
    if (asked.get("protocol"), asked.get("host")) != (url.scheme, url.netloc):
        return 0  # the agent's token is for the agent alone
    if not place.is_local:
        # git is told a token that holds: of a login that has ended it would ask somebody to type one.
        client = Client.find(args.at, args.data_folder, env=os.environ)
        if client.renews:
            client.call("status")
            place = client.place
    screen.line("username=rota")
    screen.line(f"password={_token(place)}")
    return 0


def helper(place: Place) -> str:
    """Return what git is to run when it needs the credential of a place."""
    program = shutil.which("rota") or str(Path(sys.executable).with_name("rota"))
    where = ["--data", str(Path(place.path).parent)] if place.is_local else ["--at", place.url]
    return "!" + shlex.join([program, "git-credential", *where])


def settings(place: Place, url: str) -> list[str]:
    """Return what the clone is told for later, too: whom to ask for the token, whom to trust."""
    settings = ["--config", f"credential.{url}.helper={helper(place)}"]
    if place.is_pinned:
        # git wants a file: the CA lies beside the login from now on.
        path = Path(login_path(os.environ)).with_name("ca.crt")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_text(place.ca, encoding="ascii")
        except OSError as error:
            raise InputError(f"cannot save the CA in {path}: {error.strerror}") from error
        settings += ["--config", f"http.{url}.sslCAInfo={path}"]
    return settings


def base(client: Client) -> str:
    """Return the URL under which an agent's store is."""
    if not client.place.is_local:
        return client.place.url
    return str(client.call("status").json()["url"]).rstrip("/")


def _token(place: Place) -> str:
    if not place.is_local:
        if not place.token:
            raise InputError(f"no token for {place.url}", hint=f"rota login {place.url}")
        return place.token
    path = Path(place.path).with_name("token")
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"cannot read the agent's token in {path}: {error.strerror}") from error
