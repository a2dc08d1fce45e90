"""Writes the systemd unit that runs an agent."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

from rota.cli.commands.daemon import agent_command, data_folder
from rota.cli.screen import Screen
from rota.daemon.unit import unit
from rota.errors import InputError


def install(args: Namespace, screen: Screen) -> int:
    """Write the unit where systemd looks for it, or print it; say how to start it."""
    if args.join is not None or args.invite:
        raise InputError(
            "--install is for an agent that is a member already",
            hint="first: rota join TOKEN, and rota stop; then: rota agent --install",
        )
    is_system = os.geteuid() == 0
    text = unit_text(args, is_system=is_system)
    if args.install == "-":
        screen.text(text)
        return 0
    if args.install:
        raise InputError("--install takes '-' or nothing", hint="rota agent --install -")
    folder = Path("/etc/systemd/system") if is_system else _user_folder()
    path = folder / "rota.service"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}", hint="print it: rota agent --install -"
        ) from error
    user = "" if is_system else " --user"
    screen.line(f"wrote {path}; now:")
    screen.line(f"  systemctl{user} daemon-reload")
    screen.line(f"  systemctl{user} enable --now rota")
    return 0


def unit_text(args: Namespace, *, is_system: bool) -> str:
    """Return the unit for an agent with these options."""
    words = agent_command(args, data_folder(args))
    # The single file says which it is: what it unpacked is gone with the next version of it.
    single = os.environ.get("ROTA_FILE")
    script = Path(single).absolute() if single else Path(sys.executable).with_name("rota")
    if script.exists():
        words[: words.index("agent")] = [str(script)]
    return unit(" ".join(map(quoted, words)), is_system=is_system)


def quoted(word: str) -> str:
    """Return a word as it stands in ``ExecStart`` (systemd.service(5), systemd.syntax(7))."""
    escaped = word.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")
    if any(char in escaped for char in " \t\"';"):
        return '"' + escaped.replace('"', '\\"') + '"'
    return escaped or '""'


def _user_folder() -> Path:
    config = os.environ.get("XDG_CONFIG_HOME")
    try:
        return (Path(config) if config else Path.home() / ".config") / "systemd" / "user"
    except RuntimeError as error:
        raise InputError(
            f"uid {os.geteuid()} has no home folder for a unit of its own",
            hint="set XDG_CONFIG_HOME, or install it as root",
        ) from error
