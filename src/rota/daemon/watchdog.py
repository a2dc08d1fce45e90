"""Says to systemd that the daemon is alive: its event loop turns."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from rota.daemon.notify import notify


def period_s(environ: Mapping[str, str], pid: int) -> float | None:
    """Return how long systemd waits for a word, in seconds; ``None`` if it does not: sd_watchdog_enabled(3)."""
    said, meant = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not said.isdecimal() or int(said) == 0 or meant not in ("", str(pid)):
        return None
    return int(said) / 1_000_000


async def watch() -> None:
    """Say it as long as somebody wants to hear it, twice in the time that is waited for it.

    A loop that hangs says nothing: systemd then ends the daemon and starts it again, and builds go on.
    """
    period = period_s(os.environ, os.getpid())
    while period is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(period / 2)
