"""What runs a script: checked before it starts, so that a person reads a reason instead of a number."""

from __future__ import annotations

import os
from pathlib import Path

from rota.homes.script import SHEBANG_BYTES, check_file, check_line, check_task
from rota.ports.executor import Task


def check(task: Task) -> None:
    """Refuse a task that no container could begin.

    Raises:
        ExecutionError: home, folder, script or environment is not as it must be.
    """
    check_task(task)
    script = Path(task.argv[0])
    if is_ours(script):
        # Who it is in the container that runs it, is not known here.
        check_file(script, lambda mode: bool(mode & 0o111))
        check_line(script, _first_line(script))


def wanted_programs(task: Task) -> tuple[str, str]:
    """Return what an image must have for a script: the interpreter's path, and what env looks for.

    Both are empty for a program that is none of the agent's, but its path or its name.
    """
    script = Path(task.argv[0])
    if not is_ours(script):
        return (str(script), "") if script.is_absolute() else ("", str(script))
    line = _first_line(script)
    if not line.startswith(b"#!"):
        return "", ""
    words = os.fsdecode(line[2:]).split()
    if not words:
        return "", ""
    program = ""
    if words[0].endswith("/env"):
        told = (word for word in words[1:] if not word.startswith("-") and "=" not in word)
        program = next(told, "")
    return words[0], program


def is_ours(script: Path) -> bool:
    """Say whether it is a script that is mounted; else it is a program of the image."""
    return script.is_absolute() and not str(script).startswith(("/bin/", "/usr/", "/sbin/"))


def _first_line(script: Path) -> bytes:
    try:
        with script.open("rb") as file:
            return file.read(SHEBANG_BYTES).split(b"\n", 1)[0]
    except OSError:
        return b""
