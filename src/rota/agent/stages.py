"""What surrounds a script: stages that bring something before it, and take something after it.

Secrets, caches, what needed builds left, containers, test reports and artifacts are each a stage, so
that the runner knows of none. A build that no stage concerns pays for none.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec.structs import replace

from rota.agent.workplace import work
from rota.core.build import Annotation, Build, Metric
from rota.core.cases import Tally
from rota.core.job import Reason
from rota.core.masks import Masks
from rota.core.scm import Source
from rota.errors import RotaError
from rota.ports.executor import Exit, Task

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Underway:
    """An attempt, as a stage sees it."""

    build: Build
    """Its ``source`` is what was checked out for this attempt."""
    home: Path
    masks: Masks
    """What must not be shown; what is added before the script begins is masked from the first byte."""

    @property
    def work(self) -> Path:
        """The workspace."""
        return work(self.home)

    def say(self, line: str) -> None:
        """Write a line into the attempt's log, at once. What a disk does not take is not said."""
        try:
            log = os.open(
                self.home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
            try:
                os.write(log, f"{line}\n".encode("utf-8", "replace"))
            finally:
                os.close(log)
        except OSError as error:
            logger.warning("cannot write to the log of %s: %s", self.build.ref, error)


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended; ``exit`` is None if its script was never started."""

    exit: Exit | None
    reason: Reason
    passed: bool


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage has to say once it is over.

    ``faults`` become the build's message; they do not change how it ended. With a ``reason`` a build
    does not pass whose script did, and the stages outside of this one are told so.
    """

    faults: tuple[str, ...] = ()
    remarks: tuple[Annotation, ...] = ()
    reason: Reason | None = None
    tests: Tally | None = None
    metrics: tuple[Metric, ...] = ()


NOTHING = Left()


class Stage(Protocol):
    """Something around a script."""

    def concerns(self, build: Build) -> bool:
        """Say whether a build needs this stage; asked for each, so it must cost nothing."""
        ...

    async def before(self, under: Underway, task: Task) -> Task:
        """Get ready; return the task as it is to be run.

        Cancelled when the build is, or its time is over. After a daemon was killed in the middle it is
        called anew, with an empty workspace: what is left of the first time must be dealt with.

        Raises:
            RotaError: the script cannot run; the attempt ends as ``errored``, with its text.
        """
        ...

    async def resume(self, under: Underway, task: Task) -> Task:
        """Return the task of an attempt that a former daemon started: nothing is done twice."""
        ...

    async def after(self, under: Underway, ending: Ending) -> Left:
        """Take what is to be taken, and leave nothing behind.

        The script and its finaliser are over, and all their processes; or a later stage could not get
        ready. It bounds its own time. Called again if the daemon is killed in the middle.
        """
        ...


class Stages:
    """The stages that concern one attempt, in their order."""

    def __init__(self, stages: Sequence[Stage], under: Underway) -> None:
        self.under = under
        self._stages = [stage for stage in stages if stage.concerns(under.build)]
        self._begun: list[Stage] = []

    def __bool__(self) -> bool:
        return bool(self._stages)

    def checked_out(self, source: Source) -> None:
        """Take note of the source code that lies in the workspace."""
        self.under = dataclasses.replace(self.under, build=replace(self.under.build, source=source))

    async def before(self, task: Task) -> Task:
        """Let each get ready, in their order.

        Raises:
            RotaError: one of them cannot.
        """
        for stage in self._stages:
            self._begun.append(stage)
            task = await stage.before(self.under, task)
        return task

    async def resume(self, task: Task) -> Task:
        """Go on with what a former daemon began.

        Raises:
            RotaError: one of them cannot.
        """
        self._begun = list(self._stages)
        for stage in self._stages:
            task = await stage.resume(self.under, task)
        return task

    async def after(self, ending: Ending) -> Left:
        """Let those that began come to their end, the last one first; never raises for one of them."""
        faults: list[str] = []
        remarks: list[Annotation] = []
        over = Left()
        while self._begun:
            stage = self._begun.pop()
            try:
                left = await stage.after(self.under, ending)
            except (RotaError, OSError) as error:
                faults.append(error.told if isinstance(error, RotaError) else str(error))
            else:
                faults += left.faults
                remarks += left.remarks
                over = replace(
                    over,
                    tests=left.tests or over.tests,
                    metrics=(*over.metrics, *left.metrics),
                )
                if left.reason is not None and ending.passed:
                    over = replace(over, reason=left.reason)
                    ending = replace(ending, reason=left.reason, passed=False)
        return replace(over, faults=tuple(faults), remarks=tuple(remarks))
