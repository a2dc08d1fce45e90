"""The stage that reads what a script reported: tests and coverage.

A report that cannot be read never loses a build: what is wrong becomes a remark. Whether the build
passes is judged by :mod:`rota.core.verdicts`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec.structs import replace

from rota.agent.stages import NOTHING, Ending, Left, Underway
from rota.core.build import Annotation, Build
from rota.core.cases import CASES, Tally
from rota.core.job import Reason
from rota.core.metrics import coverage_metrics, rival
from rota.core.verdicts import Verdict, judge
from rota.errors import RotaError
from rota.ports.executor import Task
from rota.ports.reports import Reports, ReportsFound, ReportsWanted
from rota.service import artifacts
from rota.service.context import Principal, Service
from rota.service.messages import ArtifactRequest
from rota.service.verbs import Role

PIECE = 512 * 1024
#: Former builds among which one is looked for to compare coverage with.
FORMER = 50


class Reporting:
    """Reads reports once the script and its finaliser are over, whatever became of them."""

    def __init__(self, service: Service, reports: Reports) -> None:
        self._service, self._reports = service, reports

    def concerns(self, build: Build) -> bool:
        """Whether its header names reports."""
        return build.spec.tests is not None or build.spec.coverage is not None

    async def before(self, under: Underway, task: Task) -> Task:
        """Do nothing."""
        return task

    async def resume(self, under: Underway, task: Task) -> Task:
        """Do nothing: reports are read again from the start."""
        return task

    async def after(self, under: Underway, ending: Ending) -> Left:
        """Read them, if there was a script that could leave some."""
        if ending.exit is None:
            return NOTHING
        build = self._service.world.find(under.build.id) or under.build
        out = under.home / "tests.jsonl.zst"
        try:
            found = await self._reports.read(self._wanted(under, build), out)
        except RotaError as error:
            return Left(remarks=(_remark(error.message),))
        remarks = [_remark(text) for text in found.remarks]
        tally = found.tally
        if tally is not None and out.exists():
            tally, fault = await self._keep(build, under, tally, out)
            remarks += [_remark(fault)] if fault else []
        verdict = self._judge(build, found, ending)
        return Left(
            faults=verdict.faults,
            remarks=(*remarks, *(_remark(text) for text in verdict.warnings)),
            reason=Reason.REPORTS if verdict.fails else None,
            tests=tally,
            metrics=coverage_metrics(found.coverage),
        )

    def _wanted(self, under: Underway, build: Build) -> ReportsWanted:
        started = build.started_at or self._service.clock.now()
        return ReportsWanted(
            workspace=str(under.work),
            log=str(under.home / "log"),
            since=started.timestamp(),
            tests=build.spec.tests,
            coverage=build.spec.coverage,
            masks=under.masks.values,
            hides_all=under.masks.hides_all,
        )

    def _judge(self, build: Build, found: ReportsFound, ending: Ending) -> Verdict:
        former = None
        if build.spec.coverage is not None and build.spec.coverage.drop is not None:
            past = self._service.world.past(
                job=build.job, result="passed", before=None, limit=FORMER
            )
            former = rival(build, (*self._live(build), *past))
        return judge(
            build.spec, found.tally, found.coverage, found.missing, former, passed=ending.passed
        )

    def _live(self, build: Build) -> list[Build]:
        """Return builds of the job that passed and are not in the index yet, newest first."""
        live = [it for it in self._service.world.live() if it.job == build.job]
        return sorted(
            (it for it in live if it.result == "passed"), key=lambda it: -it.requested_seq
        )

    async def _keep(
        self, build: Build, under: Underway, tally: Tally, out: Path
    ) -> tuple[Tally, str]:
        """Store all cases as an artifact; return the tally that names it, or why it does not."""
        path = CASES.format(attempt=under.build.attempt)
        me = Principal(name=self._service.me.name, role=Role.ADMIN, build=build.id)
        request = ArtifactRequest(build=build.id, path=path)
        try:
            await artifacts.keep(self._service, request, me, _bytes(out))
        except (RotaError, OSError) as error:
            return tally, f"tests: what is not in the record could not be stored: {error}"
        finally:
            with contextlib.suppress(OSError):
                out.unlink()
        return replace(tally, cases=path), ""


async def _bytes(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece


def _remark(text: str) -> Annotation:
    return Annotation(level="warning", title="reports", message=text)
