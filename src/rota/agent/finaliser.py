"""What runs after a script, however it ended: the header's ``finally``.

It is an attempt of its own for the executor, in the folder ``finally`` of the attempt's: under a
supervisor, so that a daemon that was killed meanwhile finds it again, and it runs once. Its output
goes into the same log, and it runs in the same workspace.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import msgspec
from msgspec.structs import replace

from rota.core.build import Build
from rota.core.durations import format_duration
from rota.core.job import Reason
from rota.core.states import Result
from rota.core.steps import Step
from rota.errors import RotaError
from rota.ports.clock import Clock
from rota.ports.executor import Executor, Exit, Running, Task

logger = logging.getLogger(__name__)

FOLDER = "finally"
#: Between being asked to end and being killed.
GRACE_S = 2.0
#: A finaliser that nobody gave a time to.
LIMIT_S = 300.0


class Finalised(msgspec.Struct, frozen=True):
    """How it went: as a step, and what there is to say if it did not pass."""

    step: Step
    fault: str
    is_required: bool


class Finaliser:
    """The finaliser of one attempt, whose folder is ``home``."""

    def __init__(self, executor: Executor, clock: Clock, build: Build, home: Path) -> None:
        self._executor, self._clock, self._build = executor, clock, build
        self._log = home / "log"
        self._home = home / FOLDER

    @property
    def has_begun(self) -> bool:
        """Whether the script had ended before, and all it left was ended: this comes next."""
        return (self._home / "why").exists()

    def begin(self, reason: Reason, exit_code: int | None) -> Reason:
        """Note down why the script ended, unless a daemon before this one did; return it."""
        note = self._home / "why"
        try:
            word, _, _ = note.read_text(encoding="ascii").partition(" ")
            return Reason(word)
        except (OSError, ValueError):
            pass
        try:
            self._home.mkdir(mode=0o700, exist_ok=True)
            log = self._home / "log"
            if not log.is_symlink():
                log.symlink_to(self._log)
            aside = note.with_name("why.new")
            aside.write_text(f"{reason} {exit_code}", encoding="ascii")
            aside.rename(note)
        except OSError as error:
            logger.warning("the finaliser of %s: %s", self._build.ref, error)
        return reason

    async def run(
        self, task: Task, result: Result, reason: Reason, exit_code: int | None
    ) -> Finalised:
        """Run it to its end, or take it over; never raises for what it does."""
        asked = self._build.spec.finaliser
        command = asked.run if asked is not None else ""
        limit_s = asked.timeout_s if asked is not None else LIMIT_S
        is_required = asked is not None and asked.required
        started_at, offset = self._clock.now(), self._end()
        told = {
            "ROTA_RESULT": str(result),
            "ROTA_REASON": str(reason),
            "ROTA_EXIT_CODE": "" if exit_code is None else str(exit_code),
        }
        task = replace(
            task,
            home=self._home,
            argv=("/bin/sh", "-c", command),
            env={**task.env, **told},
            stdin=False,
            lease_until=None,
        )
        ended: Exit | None = None
        try:
            running = await self._running(task)
            ended, in_time = await _within(running, limit_s)
            fault = _fault(ended) if in_time else f"it ran longer than {format_duration(limit_s)}"
        except RotaError as error:
            fault = f"it could not be run: {error.told}"
        step = Step(
            name=FOLDER,
            offset=offset,
            started_at=started_at,
            end=self._end(),
            ended_at=self._clock.now(),
            status=ended.code if ended is not None else None,
        )
        return Finalised(step, fault, is_required)

    async def _running(self, task: Task) -> Running:
        """Start it, or find it again; one of which there is no trace never began."""
        if (self._home / "pid").exists():
            return await self._executor.adopt(task)
        return await self._executor.start(task)

    def _end(self) -> int:
        try:
            return os.stat(self._log).st_size  # noqa: PTH116 - as it is written, for a moment
        except OSError:
            return 0


async def _within(running: Running, limit_s: float) -> tuple[Exit, bool]:
    """Return how it ended, and whether by itself; nothing is left of it."""
    in_time = True
    try:
        async with asyncio.timeout(limit_s):
            ended = await running.wait()
    except TimeoutError:
        in_time = False
        await running.terminate(GRACE_S)
        ended = await running.wait()
    await running.terminate(0)
    return ended, in_time


def _fault(ended: Exit) -> str:
    if not ended.known:
        return "how it ended is not known"
    if ended.signal is not None:
        return f"signal {ended.signal} ended it"
    return f"it exited with {ended.code}" if ended.code else ""
