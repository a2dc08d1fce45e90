"""The queue, the limits, and the token by which a holder proves that it is one."""

from __future__ import annotations

import os
from argparse import Namespace

from rota.cli.commands.connected import connected
from rota.cli.limits_view import limits_lines, queue_lines
from rota.cli.screen import Screen
from rota.cli.trend_view import waits_lines
from rota.errors import ConflictError, InputError

#: Of so many builds it is drawn how long they waited.
PAST = 30


def queue(args: Namespace, screen: Screen) -> int:
    """Show who is next, and what the others wait for."""
    client = connected(args)
    answer = client.call("queue", limit=args.limit)
    if args.json:
        screen.json(answer)
        return 0
    reply = answer.json()
    builds = reply["builds"]
    look = screen.at(answer)
    screen.lines(queue_lines(builds, look))
    more = reply["queued"] - len(builds)
    if more > 0:
        screen.note(f"and {more} more: rota queue -n {min(1000, reply['queued'])}")
    elif not builds:
        screen.note("nothing is queued")
    if look.is_terminal and not look.is_room:
        past = client.call("builds", state="finished", limit=PAST).json()
        screen.lines(waits_lines(past, look))
    return 0


def limits(args: Namespace, screen: Screen) -> int:
    """Show the limits, who has them, and who waits."""
    answer = connected(args).call("limits")
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    screen.lines(limits_lines(found, screen.at(answer)))
    if not found:
        screen.note("there are none: set them in settings.toml, such as [limits] licence = 5")
    return 0


def fence(args: Namespace, screen: Screen) -> int:
    """Print a build's token if it runs; for a script, only while it is the holder.

    Raises:
        InputError: no build is named, and this is no script's.
        ConflictError: the build does not run, or another attempt of it does.
    """
    own = os.environ.get("ROTA_BUILD", "")
    build = args.build or own
    if not build:
        raise InputError("no build is named", hint="outside of a script: rota fence BUILD")
    answer = connected(args).call("build", build=build)
    found = answer.json()
    ref = f"{found['job']}#{found['number']}"
    if found["state"] != "running":
        raise ConflictError(
            f"{ref} is {found['state']}: it holds nothing", hint="only a running build has a token"
        )
    mine = os.environ.get("ROTA_FENCE", "")
    if found["id"] == own and mine and str(found["fence"]) != mine:
        raise ConflictError(
            f"{ref} was given up and runs again, with token {found['fence']}; this is {mine}",
            hint="stop what you do",
        )
    if args.json:
        screen.json(answer)
    else:
        screen.line(str(found["fence"]))
    return 0
