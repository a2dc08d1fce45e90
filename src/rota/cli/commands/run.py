"""Requests builds, and watches them."""

from __future__ import annotations

import os
from argparse import Namespace

from rota.cli.commands.connected import connected, pairs
from rota.cli.commands.log import followed, show
from rota.cli.render import result_line
from rota.cli.screen import Screen
from rota.cli.tree import branch_line
from rota.client.client import WAIT_S, Build, Client
from rota.client.follow import Start
from rota.errors import InputError


def run(args: Namespace, screen: Screen) -> int:
    """Request a build; watch it if asked to."""
    client = connected(args)
    build = client.run(
        args.job,
        pairs(args.params),
        key=args.key,
        priority=args.priority,
        only=bool(args.only),
        keep_workspace=_keeping(args),
        # Whose pipeline traces itself, or a script of ours: what it asks for is part of that.
        traceparent=os.environ.get("TRACEPARENT", ""),
    )
    return _watched(client, build, args, screen)


def _keeping(args: Namespace) -> str:
    if args.keep_on_failure and args.keep_workspace not in (None, "on-failure"):
        raise InputError(
            f"--keep-on-failure and --keep-workspace {args.keep_workspace} do not go together",
            hint="give one of them",
        )
    return "on-failure" if args.keep_on_failure else args.keep_workspace or ""


def retry(args: Namespace, screen: Screen) -> int:
    """Queue a finished build again; watch it if asked to."""
    client = connected(args)
    # What former attempts printed is not asked for.
    former: int = client.build(args.build)["attempt"]
    return _watched(client, client.retry(args.build), args, screen, skip=former)


def _watch_cells(client: Client, build: Build, screen: Screen) -> None:
    """Say how each cell of a group ended, as it does, until all have."""
    told: set[str] = set()
    while True:
        tree = client.call(
            "tree", build=build["id"], wait=WAIT_S, finished=len(told), wait_s=WAIT_S
        )
        branches = tree.json()["builds"]
        for branch in branches:
            is_new = branch["state"] == "finished" and branch["id"] not in told
            if is_new:
                told.add(branch["id"])
            if is_new and branch["kind"] == "cell":
                screen.note(branch_line(branch, screen.err))
        if branches[0]["state"] == "finished":
            return


def _watched(
    client: Client, build: Build, args: Namespace, screen: Screen, *, skip: int = 0
) -> int:
    if not (args.wait or args.follow):
        if args.json:
            screen.json(build.answer)
        else:
            screen.line(result_line(build, screen.at(build.answer)))
        return 0
    if not args.json:
        screen.note(result_line(build, screen.err))
    try:
        if build.get("group") is not None:
            _watch_cells(client, build, screen)
        elif args.follow:
            log = followed(client, build, Start(), screen, skip=skip)
            show(log, screen, on_error=args.json)
        build = client.wait(build)
    except KeyboardInterrupt:
        name = build.ref
        screen.note(
            f"\n{name} goes on; come back: rota log '{name}' -f, end it: rota cancel '{name}'"
        )
        raise
    if args.json:
        screen.json(build.answer)
    else:
        screen.note(result_line(build, screen.err._replace(now=screen.at(build.answer).now)))
    return 0 if build["result"] == "passed" else 1
