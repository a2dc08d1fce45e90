"""Requests builds, and watches them."""

from __future__ import annotations

import secrets
from argparse import Namespace

from rota.cli.client import Answer, Client
from rota.cli.commands.connected import connected, pairs
from rota.cli.commands.log import followed, show
from rota.cli.follow import Start
from rota.cli.render import ref, result_line
from rota.cli.screen import Screen

#: How long one question waits for the build's end; it is asked again until then.
WAIT_S = 60.0


def run(args: Namespace, screen: Screen) -> int:
    """Request a build; watch it if asked to."""
    client = connected(args)
    # With a key of its own the request may be repeated when the connection breaks.
    key = args.key or secrets.token_hex(12)
    answer = client.call(
        "run",
        job=args.job,
        params=pairs(args.params),
        priority=args.priority,
        headers={"Idempotency-Key": key},
        repeat=True,
    )
    return _watched(client, answer, args, screen)


def retry(args: Namespace, screen: Screen) -> int:
    """Queue a finished build again; watch it if asked to."""
    client = connected(args)
    # What former attempts printed is not asked for.
    former: int = client.call("build", build=args.build).json()["attempt"]
    return _watched(client, client.call("retry", build=args.build), args, screen, skip=former)


def _watched(
    client: Client, answer: Answer, args: Namespace, screen: Screen, *, skip: int = 0
) -> int:
    build = answer.json()
    if not (args.wait or args.follow):
        if args.json:
            screen.json(answer)
        else:
            screen.line(result_line(build, screen.at(answer)))
        return 0
    if not args.json:
        screen.note(result_line(build, screen.err))
    try:
        if args.follow:
            log = followed(client, build, Start(), screen, skip=skip)
            show(log, screen, on_error=args.json)
        answer = finished(client, build["id"])
    except KeyboardInterrupt:
        name = ref(build)
        screen.note(
            f"\n{name} goes on; come back: rota log '{name}' -f, end it: rota cancel '{name}'"
        )
        raise
    build = answer.json()
    if args.json:
        screen.json(answer)
    else:
        screen.note(result_line(build, screen.err._replace(now=screen.at(answer).now)))
    return 0 if build["result"] == "passed" else 1


def finished(client: Client, build_id: str) -> Answer:
    """Return the answer about a build once it has finished, however long that takes."""
    while True:
        answer = client.call("build", build=build_id, wait=WAIT_S, wait_s=WAIT_S)
        if answer.json()["state"] == "finished":
            return answer
