"""Waits until processes have ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

from rota.adapters.process import proc
from rota.adapters.process.proc import Identity, Process


async def until_gone(processes: Iterable[Process], timeout_s: float) -> bool:
    """Wait until all of ``processes`` have ended; False if ``timeout_s`` was over before."""
    try:
        async with asyncio.timeout(timeout_s):
            for process in processes:
                await _until_ended(process.identity)
    except TimeoutError:
        return False
    return True


async def _until_ended(identity: Identity) -> None:
    fd = proc.open_pidfd(identity)
    if fd is None:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
