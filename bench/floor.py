"""What this machine takes for the least that any build system must do."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path


def spawn_ms(folder: Path, times: int = 100) -> float:
    """Return the median time of ``sh -c true`` by posix_spawn, its output to a file."""
    log = folder / "floor.log"
    return _median_ms(times, lambda: run(["/bin/sh", "-c", "true"], log))


def python_ms(times: int = 20) -> float:
    """Return the median time of ``python -c pass``, by the Python that runs this."""
    return _median_ms(times, lambda: run([sys.executable, "-c", "pass"], Path(os.devnull)))


def sync_ms(folder: Path, times: int = 50) -> float:
    """Return the median time to append 4 KiB to a file and to have it on disk."""
    path = folder / "floor.sync"
    with path.open("ab", buffering=0) as file:

        def append() -> None:
            file.write(bytes(4096))
            os.fdatasync(file.fileno())

        median = _median_ms(times, append)
    path.unlink()
    return median


def run(argv: list[str], output: Path) -> None:
    """Run a program to its end, standard output to a file that is made anew.

    Raises:
        ChildProcessError: it failed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    pid = os.posix_spawn(
        argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, output, flags, 0o600)]
    )
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise ChildProcessError(f"{argv[0]} ended with status {status}")


def _median_ms(times: int, what: Callable[[], None]) -> float:
    return statistics.median(timed_ms(what) for _ in range(times))


def timed_ms(what: Callable[[], object]) -> float:
    """Return how long one call takes."""
    began = time.perf_counter()
    what()
    return (time.perf_counter() - began) * 1000
