"""Steps: named parts of a script, told by lines in its log."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from typing import Any

from rota.cli.commands.connected import connected
from rota.cli.printed import is_at_start
from rota.cli.render import Cell, Look, clean, duration, table
from rota.cli.screen import Screen
from rota.client.client import Client
from rota.errors import InputError, NotFoundError


def step(args: Namespace, screen: Screen) -> int:
    """Begin a step; with a command, run it as one, and return its exit status."""
    name = escaped(args.name)
    if not name.strip():
        raise InputError("a step needs a name", hint="rota step build -- make")
    if not args.command:
        print_line(f"::step::{name}")
        return 0
    number = os.urandom(4).hex()
    print_line(f"::step id={number}::{name}")
    status = _run(args.command)
    print_line(f"::endstep id={number},status={status}::")
    return status


def steps(args: Namespace, screen: Screen) -> int:
    """List a build's steps."""
    answer = connected(args).call("steps", build=args.build)
    if args.json:
        screen.json(answer)
        return 0
    found = answer.json()
    screen.lines(step_lines(found, screen.at(answer)))
    if not found and screen.out.is_terminal:
        screen.note("it has no steps")
    return 0


def step_lines(steps: list[dict[str, Any]], look: Look) -> list[str]:
    """Return a line for each step: name, time, how it ended."""
    rows = [
        (
            Cell("  " * it.get("depth", 0) + clean(it["name"])),
            Cell(_took(it, look), right=True),
            Cell(*_ended(it)),
        )
        for it in steps
    ]
    return table(rows, look, shrink=(0,))


def find_step(client: Client, build: str, name: str) -> tuple[int, int | None]:
    """Return where in the log of a build's last attempt a step is; without an end while it runs.

    Raises:
        NotFoundError: it has none of that name.
    """
    found = client.call("steps", build=build).json()
    for it in reversed(found):
        if it["name"] == name:
            return it["offset"], it.get("end")
    names = ", ".join(dict.fromkeys(clean(it["name"]) for it in found))
    raise NotFoundError(
        f"{build} has no step {name!r}", hint=f"it has {names}" if names else "it has none"
    )


def _took(it: dict[str, Any], look: Look) -> str:
    from datetime import datetime

    start = datetime.fromisoformat(it["started_at"])
    end = datetime.fromisoformat(it["ended_at"]) if it.get("ended_at") else look.now
    return duration((end - start).total_seconds()) if end is not None else ""


def _ended(it: dict[str, Any]) -> tuple[str, str]:
    """Return how a step ended in words, and their colour."""
    if it.get("ended_at") is None:
        return "running", "blue"
    status = it.get("status")
    if status is None:
        return "", ""
    return ("ok", "green") if status == 0 else (f"exit code {status}", "red")


def _run(command: list[str]) -> int:
    import subprocess

    try:
        done = subprocess.run(command, check=False)
    except OSError as error:
        print(f"error: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    return 128 - done.returncode if done.returncode < 0 else done.returncode


def print_line(text: str) -> None:
    """Print a line of its own: what was printed before may have left one unfinished."""
    sys.stdout.flush()
    start = "" if is_at_start() else "\n"
    os.write(1, f"{start}{text}\n".encode("utf-8", "surrogateescape"))


def escaped(text: str, *, inside: bool = False) -> str:
    """Return a text as it stands in a workflow command; ``inside`` of one of its properties."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if inside else text
