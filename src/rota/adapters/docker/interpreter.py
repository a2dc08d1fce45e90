"""What runs a script: checked before it starts, so that a person reads a reason instead of a number."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from rota.errors import ExecutionError
from rota.ports.executor import Task

_SHEBANG_BYTES = 256  # what the kernel reads of a script's first line
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def check(task: Task) -> None:
    """Refuse a task that no container could begin.

    Raises:
        ExecutionError: home, folder, script or environment is not as it must be.
    """
    if not task.home.is_dir():
        raise ExecutionError(f"the attempt's folder {task.home} does not exist")
    if not task.cwd.is_dir():
        raise ExecutionError(f"the workspace {task.cwd} is not a folder, or does not exist")
    if not task.argv:
        raise ExecutionError("there is no script to run")
    for name in task.env:
        if not _NAME.fullmatch(name):
            raise ExecutionError(
                f"the environment variable {name!r} cannot be passed on by sh",
                hint="use letters, digits and _, and do not begin with a digit",
            )
    script = Path(task.argv[0])
    if not is_ours(script):
        return
    try:
        mode = script.stat().st_mode
    except FileNotFoundError as error:
        raise ExecutionError(f"the script {script} does not exist") from error
    if not stat.S_ISREG(mode):
        raise ExecutionError(f"the script {script} is not a file")
    if not mode & 0o111:
        raise ExecutionError(
            f"the script {script} is not executable", hint=f"chmod +x {script.name}"
        )
    if _first_line(script).endswith(b"\r"):
        raise ExecutionError(
            f"the first line of {script} ends in a carriage return",
            hint="save the script with Unix line ends",
        )


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
            return file.read(_SHEBANG_BYTES).split(b"\n", 1)[0]
    except OSError:
        return b""
