"""What is checked of a script before it starts, so that a person reads a reason instead of a number."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path

from rota.errors import ExecutionError
from rota.ports.executor import Task

SHEBANG_BYTES = 256  # what the kernel reads of a script's first line
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def check_task(task: Task) -> None:
    """Refuse a task that nothing could start.

    Raises:
        ExecutionError: home, folder or environment is not as it must be.
    """
    if not task.home.is_dir():
        raise ExecutionError(f"the attempt's folder {task.home} does not exist")
    if not task.cwd.is_dir():
        raise ExecutionError(f"the workspace {task.cwd} is not a folder, or does not exist")
    if not task.argv:
        raise ExecutionError("there is no script to run")
    # sh drops what it cannot have as a variable: better refused than missing
    for name in task.env:
        if not _NAME.fullmatch(name):
            raise ExecutionError(
                f"the environment variable {name!r} cannot be passed on by sh",
                hint="use letters, digits and _, and do not begin with a digit",
            )


def check_file(script: Path, may_run: Callable[[int], bool]) -> None:
    """Refuse a script that is no program; ``may_run`` judges it by its mode.

    Raises:
        ExecutionError: it is not there, no file, or not executable.
    """
    try:
        mode = script.stat().st_mode
    except FileNotFoundError as error:
        raise ExecutionError(f"the script {script} does not exist") from error
    if not stat.S_ISREG(mode):
        raise ExecutionError(f"the script {script} is not a file")
    if not may_run(mode):
        raise ExecutionError(
            f"the script {script} is not executable", hint=f"chmod +x {script.name}"
        )


def check_line(script: Path, line: bytes) -> None:
    """Refuse a first line that no interpreter would understand.

    Raises:
        ExecutionError: it ends as in a file of Windows.
    """
    if line.endswith(b"\r"):
        raise ExecutionError(
            f"the first line of {script} ends in a carriage return",
            hint="save the script with Unix line ends",
        )
