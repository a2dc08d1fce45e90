"""Webhooks: list them, make one, say what to paste where."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.render import Cell, clean, facts, table
from rota.cli.screen import Screen
from rota.errors import InputError

_LOOPBACK = re.compile(r"https?://(127\.|localhost|\[::1\])")

#: For git's post-receive: it is told of lines OLD NEW REF, which are sent as they are.
POST_RECEIVE = """#!/bin/sh
# Tells rota of what was pushed; made by: rota hook {name} --post-receive
# Whoever reads this file can call the webhook: chmod 700 it.
body=$(cat) && at=$(date +%s) || exit 0
sum=$(printf '%s.%s' "$at" "$body" | openssl dgst -sha256 -hmac {secret}) || exit 0
curl -fsS -m 10 -o /dev/null --data-binary "$body" \\
  -H 'Content-Type: text/plain' -H 'X-Rota-Event: push' -H "X-Rota-User: $(id -un)" \\
  -H "X-Rota-Signature: t=$at,v1=${{sum##* }}" {url} ||
  echo 'rota was not told of this push' >&2
"""


def hooks(args: Namespace, screen: Screen) -> int:
    """List webhooks."""
    answer = connected(args).call("hooks")
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    rows = [(Cell(it["name"], "bold"), Cell(it["url"]), Cell(it["repo"] or "")) for it in found]
    screen.lines(table(rows, screen.at(answer), shrink=(2, 1)))
    if not found and screen.out.is_terminal:
        screen.note("there is no webhook yet\n\nhint: make one: rota hook github --repo URL")
    return 0


def hook(args: Namespace, screen: Screen) -> int:
    """Make a webhook and show it; or remove it."""
    client = connected(args)
    if args.rm:
        if args.rotate or args.post_receive or args.repo is not None:
            raise InputError("--rm goes with nothing else")
        answer = client.call("rm_hook", hook=args.name)
        if args.json:
            screen.json(answer)
        else:
            screen.line(f"{args.name} is removed: calls of it get 404")
        return 0
    if args.post_receive and args.repo is None:
        post_receive(client.call("hook", hook=args.name).json())  # or it is of no repository
    answer = client.call("put_hook", hook=args.name, repo=args.repo, rotate=args.rotate)
    found = answer.json()
    if args.json:
        screen.json(answer)
    elif args.post_receive:
        screen.text(post_receive(found))
    else:
        screen.lines(facts(_facts(found), screen.at(answer)))
        if screen.out.is_terminal:
            screen.note(_paste(found))
    if _LOOPBACK.match(found["url"]) and not args.post_receive:
        screen.note(
            "warning: only this machine reaches that URL\n\n"
            "hint: start the agent with --listen HOST:PORT, or say where it is reached in"
            ' settings.toml: url = "https://ci.example"'
        )
    return 0


def post_receive(found: dict[str, Any]) -> str:
    """Return the script of a hook for a bare repository."""
    if not found["repo"]:
        raise InputError(
            f"the webhook {found['name']} is of no repository",
            hint=f"say which: rota hook {found['name']} --repo URL --post-receive",
        )
    return POST_RECEIVE.format(
        name=found["name"], secret=shlex.quote(found["secret"]), url=shlex.quote(found["url"])
    )


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    generation = found["generation"]
    return [
        ("webhook", clean(found["name"])),
        ("url", clean(found["url"])),
        ("secret", clean(found["secret"])),
        ("repository", clean(found["repo"] or "any")),
        ("generation", str(generation) if generation > 1 else ""),
    ]


def _paste(found: dict[str, Any]) -> str:
    return (
        "\npaste both where the forge wants them, content type JSON:\n"
        "  GitHub      Settings > Webhooks > Add webhook: Payload URL, Secret\n"
        "  GitLab      Settings > Webhooks: URL, Secret token or Signing token\n"
        "  Gitea, Forgejo  Settings > Webhooks > Add webhook: Target URL, Secret\n"
        "  Bitbucket   Repository settings > Webhooks: URL, Secret\n"
        "  bare git    rota hook "
        f"{clean(found['name'])} --repo URL --post-receive >hooks/post-receive"
    )
