"""What is checked before a spawn, so that a person reads a reason instead of a number."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from rota.adapters.process.proc import read
from rota.errors import ExecutionError
from rota.ports.executor import Task

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SHEBANG_BYTES = 256  # what the kernel reads of a script's first line


def check(task: Task) -> None:
    """Refuse a task that cannot start.

    Raises:
        ExecutionError: home, folder, script, interpreter or environment is not as it must be.
    """
    if not task.home.is_dir():
        raise ExecutionError(f"the attempt's folder {task.home} does not exist")
    if not task.cwd.is_dir():
        raise ExecutionError(f"the workspace {task.cwd} is not a folder, or does not exist")
    if not task.argv:
        raise ExecutionError("there is no script to run")
    _check_environment(task.env)
    _check_script(task)


def _check_environment(env: Mapping[str, str]) -> None:
    # sh drops what it cannot have as a variable: better refused than missing
    for name in env:
        if not _NAME.fullmatch(name):
            raise ExecutionError(
                f"the environment variable {name!r} cannot be passed on by sh",
                hint="use letters, digits and _, and do not begin with a digit",
            )


def _check_script(task: Task) -> None:
    script = _find(task)
    try:
        mode = script.stat().st_mode
    except FileNotFoundError as error:
        raise ExecutionError(f"the script {script} does not exist") from error
    if not stat.S_ISREG(mode):
        raise ExecutionError(f"the script {script} is not a file")
    if not os.access(script, os.X_OK):
        raise ExecutionError(
            f"the script {script} is not executable", hint=f"chmod +x {script.name}"
        )
    _check_interpreter(script)


def _find(task: Task) -> Path:
    name = task.argv[0]
    if "/" in name:
        return task.cwd / name
    found = shutil.which(name, path=task.env.get("PATH", os.defpath))
    if found is None:
        raise ExecutionError(f"the program {name!r} is not on the script's PATH")
    return task.cwd / found


def _check_interpreter(script: Path) -> None:
    # a program that may be executed but not read gives no line
    line = read(str(script), _SHEBANG_BYTES).split(b"\n", 1)[0]
    if not line.startswith(b"#!"):
        return
    words = os.fsdecode(line[2:]).strip(" \t").split()
    interpreter = words[0] if words else ""
    if line.endswith(b"\r"):
        raise ExecutionError(
            f"the first line of {script} ends in a carriage return",
            hint="save the script with Unix line ends",
        )
    if not (script.parent / interpreter).exists() or not interpreter:
        raise ExecutionError(f"the interpreter {interpreter!r} of {script} does not exist")
