"""Whether this machine has a container engine that answers, as a label."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

from rota.adapters.docker.engine import find_socket
from rota.errors import ExecutionError

LABEL = "containers"
ANSWER_S = 1.0
#: Between two looks whether an engine that was there is back. One that is there is not asked: that
#: would keep one awake that is started on demand.
LOOK_S = 5.0


def found_engine(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return ``{"containers": "docker"}`` or ``podman`` where an engine answers this user; else nothing.

    Needs no library, since an agent asks whether or not a job ever does. Cost: a millisecond, a second
    where the engine hangs; not for the event loop.
    """
    try:
        path = find_socket(os.environ if environ is None else environ)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(str(path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            answer = b""
            while b"\r\n\r\n" not in answer and (piece := connection.recv(4096)):
                answer += piece
    except (ExecutionError, OSError):
        return {}
    head = answer.partition(b"\r\n\r\n")[0].lower()
    if b" 200 " not in head.split(b"\r\n", 1)[0] + b" ":
        return {}
    return {LABEL: "podman" if b"libpod" in head else "docker"}


async def watch_engine(
    failed: asyncio.Event,
    again: Callable[[], None],
    find: Callable[[], Mapping[str, str]] = found_engine,
    *,
    look_s: float = LOOK_S,
) -> None:
    """Have labels looked for again when an engine failed, and once it is back; for ever.

    Without it all jobs with an image would come to an agent whose engine is gone, and fail there.

    Args:
        failed: Set when something could not be had of the engine; cleared here.
        again: Has labels looked for.
        find: Returns the engine's label; called in a thread.
        look_s: Seconds between two looks while it is away.
    """
    while True:
        await failed.wait()
        failed.clear()
        if await asyncio.to_thread(find):
            continue
        again()
        while not await asyncio.to_thread(find):  # noqa: ASYNC110 - a socket that somebody else opens
            await asyncio.sleep(look_s)
        again()
