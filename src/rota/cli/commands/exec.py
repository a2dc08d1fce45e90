"""Runs a job's script here and now, with no agent."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rota.cli.commands.connected import pairs
from rota.cli.render import result_line
from rota.cli.screen import Screen
from rota.errors import InputError


def exec_here(args: Namespace, screen: Screen) -> int:
    """Run a script as an agent would; return 0 if it passed."""
    path = Path(args.file)
    if not path.is_file():
        raise InputError(f"cannot read {path}: no such file")
    params = pairs(args.params)
    import msgspec

    from rota.bootstrap.solo import exec_script

    build = msgspec.to_builtins(exec_script(path, params))
    screen.note(result_line(build, screen.err))
    return 0 if build["result"] == "passed" else 1
