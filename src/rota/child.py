"""Programs that rota runs beside itself: begun as a whole or not at all, and ended with all they began.

What starts a build's script is another thing (``homes``, and the executors): that outlives the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

#: What is killed is gone in a moment, unless its disk hangs; somebody else may hold its pipes.
END_S = 2.0
#: asyncio's own bound on a line, in bytes.
LINE = 64 * 1024


async def begin(
    *argv: str,
    stdin: int = DEVNULL,
    stdout: int = PIPE,
    stderr: int = PIPE,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    limit: int = LINE,
    pass_fds: Sequence[int] = (),
) -> Process:
    """Start a program in a session of its own; who is cancelled meanwhile leaves nothing of it.

    The caller ends it by :func:`end`, however it goes on.

    Args:
        argv: The program and its arguments.
        stdin: As for :class:`subprocess.Popen`, like all that follows.
        stdout: By default a pipe.
        stderr: By default a pipe.
        env: All of its variables; by default ours.
        cwd: Where it runs; by default where we do.
        limit: Bytes of the longest line that is read of it.
        pass_fds: Descriptors that it inherits under their numbers.

    Raises:
        OSError: it cannot be started.
        ValueError: an argument has a null byte in it.
    """
    if any("\0" in word for word in argv):
        raise ValueError("embedded null byte")  # uvloop would leave away what is behind it
    starting = asyncio.ensure_future(  # noqa: TID251 - it goes on when we are cancelled, to be ended
        asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
            limit=limit,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_unwanted)  # also if we are cancelled again below
        with contextlib.suppress(OSError, ValueError):
            await end(await asyncio.shield(starting))
        raise


async def end(process: Process) -> None:
    """Kill what is left of a program and of all it began, and wait until it is gone.

    Returns after ``END_S`` in any case.
    """
    send(process, signal.SIGKILL)
    await is_gone(process, END_S)


async def is_gone(process: Process, within_s: float) -> bool:
    """Wait for the end of a program; what it still prints is thrown away.

    Nobody else may be reading of it.
    """
    try:
        async with asyncio.timeout(within_s):
            # A full pipe would keep some event loops from reporting the program's end.
            await asyncio.gather(process.wait(), _drain(process.stdout), _drain(process.stderr))
    except TimeoutError:
        return process.returncode is not None
    return True


def send(process: Process, number: int) -> None:
    """Send a signal to a program and to all it began; nothing happens if there is none left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _unwanted(starting: asyncio.Future[Process]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        send(starting.result(), signal.SIGKILL)


async def _drain(reader: asyncio.StreamReader | None) -> None:
    while reader is not None and await reader.read(1 << 16):
        pass
