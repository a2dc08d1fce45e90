"""What lies on the disks, by kind: how large it is, what bounds it, and what would go next.

Nothing is walked through that may be large: sizes are those that are counted anyway, by the engine, by
who keeps workspaces and caches; the rest is looked through for a moment, and then "at least" so much.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from rota.ports.caches import Kept
from rota.service import messages as m
from rota.service.asking import ask_others
from rota.service.context import Principal, Service

#: All folders that nobody counts are looked through for so long together.
LOOK_S = 0.2
MIRROR_BYTES = 20 << 30
LOG_BYTES = 32 << 20
FOR_EVER = "kept for ever: docs/retention.md"


async def du(service: Service, request: m.Nothing, who: Principal) -> m.UsageView:
    """Say what lies where; an agent that asks is told of our own disk alone."""
    if who.peer:
        return m.UsageView(usages=tuple(await _own(service)))
    # All at once: what an agent counts itself takes as long as what others count meanwhile.
    mine, (said, silent), shared = await asyncio.gather(
        _own(service), ask_others(service, "/v1/du", m.UsageView, who), _shared(service)
    )
    theirs = (it for answer in said.values() for it in answer.usages)
    return m.UsageView(
        usages=(*shared, *sorted((*mine, *theirs), key=lambda it: it.agent)),
        silent=tuple(f"{agent}: {why}" for agent, why in silent.items()),
    )


# -- what the engine keeps for all ---------------------------------------------------------------


async def _shared(service: Service) -> list[m.Usage]:
    sizes, settings = await service.engine_sizes(), service.world.definitions.settings
    picture = service.world.cluster.picture
    caches = sorted(picture.caches.values(), key=lambda it: it.used_at)
    cached = sum(it.entry.size for it in caches)
    kept = [it for it in picture.builds.values() if it.artifacts]
    return [
        m.Usage(
            what="journal",
            bytes=sizes.get("JOURNAL", 0),
            rule="20,000 events behind what the history has, and all of builds that are under way",
        ),
        m.Usage(
            what="logs",
            bytes=sizes.get("LOG", 0),
            bound=settings.logs.max_bytes,
            rule="logs.max_bytes, logs.max_age, keep.logs",
            next="the oldest build's" if sizes.get("LOG") else "",
        ),
        m.Usage(
            what="artifacts",
            bytes=max(0, sizes.get("BLOB", 0) - cached),
            bound=settings.artifacts.max_bytes,
            rule="artifacts.max_bytes, artifacts.max_age, keep.artifacts",
            next="the oldest build's" if kept or sizes.get("BLOB", 0) > cached else "",
        ),
        m.Usage(
            what="shared caches",
            bytes=cached,
            bound=settings.caches.shared_bytes,
            rule="caches.shared_bytes, caches.max_age",
            next=f"{caches[0].entry.scope} {caches[0].entry.key}" if caches else "",
        ),
    ]


# -- what this agent keeps -----------------------------------------------------------------------


async def _own(service: Service) -> list[m.Usage]:
    settings, data, name = service.world.definitions.settings, service.me.data, service.me.name
    kept = service.workspaces.kept()
    caches = [] if service.caches is None else sorted(await service.caches.all(), key=_used)
    looked = await asyncio.to_thread(_looked, data, {(it.build, it.attempt) for it in kept})

    def of(
        what: str, size: tuple[int, bool], rule: str, bound: int | None = None, first: str = ""
    ) -> m.Usage:
        return m.Usage(
            agent=name,
            what=what,
            bytes=size[0],
            is_least=not size[1],
            bound=bound,
            rule=rule,
            next=first,
        )

    is_counted = all(it.bytes is not None for it in kept)
    return [
        of("definitions and history", looked["store.git"], FOR_EVER),
        of("index", looked["index"], "a copy of the history"),
        of("cases of tests", looked["tests"], "2,000 builds a job"),
        of(
            "kept workspaces",
            (sum(it.bytes or 0 for it in kept), is_counted),
            "workspaces.max_bytes, .max_count, .max_age",
            settings.workspaces.max_bytes,
            f"{kept[0].job}#{kept[0].number}" if kept else "",
        ),
        of("workspaces in use", looked["builds"], "as long as their builds run"),
        of(
            "caches",
            (sum(it.entry.size for it in caches), True),
            "caches.max_bytes",
            settings.caches.max_bytes,
            f"{caches[0].entry.scope} {caches[0].entry.key}" if caches else "",
        ),
        of("mirrors", looked["mirrors"], "20 GiB, used longest ago first", MIRROR_BYTES),
        of("own artifacts", looked["artifacts"], "as artifacts, until others join"),
        of("scripts", looked["scripts"], "the last 2,000"),
        of("for containers", looked["containers"], "one of each kind"),
        of("the daemon's log", looked["log"], "32 MiB, in two files", LOG_BYTES),
    ]


def _used(kept: Kept) -> datetime:
    return kept.used_at


def _looked(data: Path, kept: set[tuple[str, int]]) -> dict[str, tuple[int, bool]]:
    """Return size, and whether that is all, of what is not counted. Small things come first."""
    until = time.monotonic() + LOOK_S
    files = {"index": "index.db*", "tests": "tests.db*", "log": "agent.log*"}
    found = {what: (sum(_size(it) for it in data.glob(glob)), True) for what, glob in files.items()}
    for name in ("store.git", "scripts", "containers", "mirrors", "artifacts"):
        found[name] = _measured(iter([data / name]), until)
    found["builds"] = _measured(_homes(data / "builds", kept), until)
    return found


def _homes(builds: Path, kept: set[tuple[str, int]]) -> Iterator[Path]:
    """Yield the homes that are not counted as kept, and what is on its way out."""
    for build in _entries(builds):
        for home in _entries(build):
            if not (home.name.isdigit() and (build.name, int(home.name)) in kept):
                yield home


def _measured(folders: Iterator[Path], until: float) -> tuple[int, bool]:
    """Return what folders take on the disk, as far as that can be counted by then."""
    total, left = 0, list(folders)
    while left:
        if time.monotonic() > until:
            return total, False
        folder = left.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue  # it went meanwhile, or is none
    return total, True


def _entries(folder: Path) -> list[Path]:
    try:
        return [it for it in folder.iterdir() if it.is_dir() and not it.is_symlink()]
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0
