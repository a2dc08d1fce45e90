"""Whether what was printed so far ends in a whole line: a workflow command must begin one."""

from __future__ import annotations

import os
import stat
import time

from rota.homes import pipe

_LOOK_S = 0.0005
_PATIENCE_S = 1.0
#: What a build's output is called; beside it stands its log.
_OUTPUT = "/output"


def is_at_start() -> bool:
    """Say whether standard output is at the start of a line.

    Of a build it is known as far as its log can be seen, and is said to be not where it cannot, as in a container:
    better an empty line than half a command. Of any other pipe nobody knows, and nobody reads commands there.
    """
    try:
        mode = os.fstat(1).st_mode
        if stat.S_ISREG(mode):
            return _ends_in_line("/proc/self/fd/1")
        if not stat.S_ISFIFO(mode):
            return True
        output = os.readlink("/proc/self/fd/1")  # noqa: PTH115 - it is no path of ours
    except OSError:
        return True
    if not output.endswith(_OUTPUT):
        return True
    return _is_all_written(output) and _ends_in_line(f"{output.removesuffix(_OUTPUT)}/log")


def _is_all_written(output: str) -> bool:
    """Wait until what was printed stands in the log; False if that cannot be seen."""
    found = pipe.reader(output)
    if found is None:
        return False
    pid, pidfd = found
    os.close(pidfd)
    deadline = time.monotonic() + _PATIENCE_S
    while pipe.waiting(1) or not pipe.has_written(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


def _ends_in_line(path: str) -> bool:
    try:
        with open(path, "rb") as log:  # noqa: PTH123 - `rota step` is to be quick
            size = log.seek(0, os.SEEK_END)
            return size == 0 or os.pread(log.fileno(), 1, size - 1) == b"\n"
    except OSError:
        return False
