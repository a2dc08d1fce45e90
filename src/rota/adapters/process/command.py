"""What is checked before a spawn, so that a person reads a reason instead of a number."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rota.adapters.process.proc import read
from rota.errors import ExecutionError
from rota.homes.script import SHEBANG_BYTES, check_file, check_line, check_task
from rota.ports.executor import Task


def check(task: Task) -> None:
    """Refuse a task that cannot start.

    Raises:
        ExecutionError: home, folder, script, interpreter or environment is not as it must be.
    """
    check_task(task)
    script = program(task)
    check_file(script, lambda _: os.access(script, os.X_OK))
    _check_interpreter(script)


def program(task: Task) -> Path:
    """Return the script, or the program that is run in its place."""
    name = task.argv[0]
    if "/" in name:
        return task.cwd / name
    found = shutil.which(name, path=task.env.get("PATH", os.defpath))
    if found is None:
        raise ExecutionError(f"the program {name!r} is not on the script's PATH")
    return task.cwd / found


def _check_interpreter(script: Path) -> None:
    # a program that may be executed but not read gives no line
    line = read(str(script), SHEBANG_BYTES).split(b"\n", 1)[0]
    if not line.startswith(b"#!"):
        return
    words = os.fsdecode(line[2:]).strip(" \t").split()
    interpreter = words[0] if words else ""
    check_line(script, line)
    if not (script.parent / interpreter).exists() or not interpreter:
        raise ExecutionError(f"the interpreter {interpreter!r} of {script} does not exist")
