"""Looks after what a build system dies of: a full disk, an engine that is away."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from rota.service.ticks import tick
from rota.service.world import World

EVERY_S = 2.0
#: Below this much free space no build is taken. A small disk keeps a twentieth of itself.
MIN_FREE_BYTES = 256 * 1024 * 1024
MIN_FREE_PART = 0.05


def noted_by_nobody() -> None:
    """Keep nothing of how the disk fills."""


def no_more() -> int:
    """Return that this machine keeps no more free than every one does."""
    return 0


async def run_health(
    world: World,
    data: Path,
    engine_trouble: Callable[[], str | None],
    changed: Callable[[], None],
    min_free: Callable[[], int] = no_more,
    note: Callable[[], None] = noted_by_nobody,
) -> None:
    """Note troubles in the world, for ever; call ``changed`` when one came or went.

    ``note`` is called each time: it keeps what shows how the disk fills.
    """
    while True:
        note()
        found = {"disk": disk_trouble(data, min_free()), "engine": engine_trouble()}
        now = {what: text for what, text in found.items() if text is not None}
        if now != {what: world.troubles[what] for what in found if what in world.troubles}:
            for what in found:
                world.troubles.pop(what, None)
            world.troubles.update(now)
            changed()
        await tick(EVERY_S)


def disk_trouble(data: Path, min_free: int = 0) -> str | None:
    """Return what is wrong with the disk that ``data`` is on, if anything."""
    disk = os.statvfs(data)
    free = disk.f_bavail * disk.f_frsize
    least = max(min(MIN_FREE_BYTES, MIN_FREE_PART * disk.f_blocks * disk.f_frsize), min_free)
    if free >= least:
        return None
    return f"the disk of {data} is full: {free >> 20} MB free, builds need {int(least) >> 20} MB"
