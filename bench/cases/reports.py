"""Reports: how fast they are read, in what memory, and what the past of a thousand tests costs to ask.

Reading is held against expat alone, which looks at every byte and does nothing with it; a question
against reading the same builds from the index, both in time of the CPU.
"""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.parsers import expat

from bench.case import Result, Setting
from bench.figure import Figure
from rota.adapters.reports.reader import ReportReader
from rota.adapters.sqlite.cases import SqliteCases
from rota.adapters.sqlite.index import SqliteIndex
from rota.core.build import Build
from rota.core.case_history import Read, level_of
from rota.core.cases import Tally
from rota.core.cluster import Cluster, Picture
from rota.core.reports import CaseReports
from rota.core.scm import Source
from rota.core.states import Result as Ended
from rota.core.states import State
from rota.ports.reports import ReportsWanted
from rota.service import case_history
from rota.service import report_messages as r
from rota.service.context import Principal, Service
from rota.service.verbs import Role
from rota.service.world import World

AT = datetime(2026, 1, 1, tzinfo=UTC)
LINE = "line of a log that some test printed\n"


def run(setting: Setting) -> Result:
    """Measure reading, then asking."""
    result = Result()
    setting.folder.joinpath("w").mkdir()
    reading = asyncio.run(_reading(setting, result))
    result.figures += reading
    result.figures += asyncio.run(_asking(setting, result))
    return result


# -- reading ------------------------------------------------------------------------------------


async def _reading(setting: Setting, result: Result) -> list[Figure]:
    small = _written(setting, "small.xml", _one("<testcase classname='C' name='a'/>"))
    cases = setting.size(1_000_000, 50_000)
    many = _written(setting, "many.xml", _many(cases))
    large = _written(setting, "large.xml", _large(setting.size(200, 10)))
    start = await _read(setting, small)
    figures = [Figure(what="a report of one test", value=start[0] * 1000, unit="ms")]
    for name, path in (("many tests", many), ("long output", large)):
        size = path.stat().st_size / 1e6
        seconds, tally = await _read(setting, path)
        alone = _alone(path)
        figures.append(
            Figure(
                what=f"{name}, {size:.0f} MB, {tally.total} tests",
                value=seconds,
                unit="s",
                floor=alone,
                floor_name="expat",
            )
        )
        result.notes.append(f"{name}: {size / seconds:.0f} MB/s")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    figures.append(Figure(what="memory of the reader, at most", value=peak, unit="MB", reach=64))
    return figures


async def _read(setting: Setting, path: Path) -> tuple[float, Tally]:
    wanted = ReportsWanted(
        workspace=str(path.parent),
        log="/dev/null",
        since=0.0,
        tests=CaseReports(files=(path.name,)),
        masks=(b"hunter2", b"correct horse"),
    )
    began = time.perf_counter()
    found = await ReportReader().read(wanted, setting.folder / "cases")
    assert found.tally is not None, found.remarks
    return time.perf_counter() - began, found.tally


def _alone(path: Path) -> float:
    parser = expat.ParserCreate()
    began = time.perf_counter()
    with path.open("rb") as file:
        parser.ParseFile(file)
    return time.perf_counter() - began


def _written(setting: Setting, name: str, pieces: Iterator[str]) -> Path:
    path = setting.folder / "w" / name
    with path.open("w") as file:
        file.writelines(pieces)
    return path


def _one(inner: str) -> Iterator[str]:
    yield f"<testsuite name='s'>{inner}</testsuite>"


def _many(count: int) -> Iterator[str]:
    yield "<testsuite name='s'>"
    for number in range(count):
        suite = f"com.example.module{number % 37}.Suite{number // 1000}Test"
        yield f"<testcase classname='{suite}' name='does_{number}' time='0.00{number % 10}'/>\n"
    yield "</testsuite>"


def _large(megabytes: int) -> Iterator[str]:
    yield "<testsuite name='s'>"
    for number in range(megabytes * 250):
        fault = f"<failure message='no'>{LINE * 20}</failure>" if number % 10 == 0 else ""
        output = f"<system-out><![CDATA[{LINE * 100}]]></system-out>"
        yield f"<testcase classname='C' name='t{number}'>{fault}{output}</testcase>\n"
    yield "</testsuite>"


# -- asking -------------------------------------------------------------------------------------


async def _asking(setting: Setting, result: Result) -> list[Figure]:
    builds, tests = setting.size(1000, 100), setting.size(1000, 100)
    index = SqliteIndex(setting.folder / "index.db")
    cases = SqliteCases(setting.folder / "tests.db")
    chance = random.Random(1)
    made = [_build(number) for number in range(1, builds + 1)]
    index.add(made)
    began = time.process_time()
    for build in made:
        cases.add("t", [(build, 1, _some(tests, chance))])
    filling = (time.process_time() - began) / builds * 1000
    service = _service(index, cases, builds)
    who = Principal(name="bench", role=Role.VIEWER)
    alone = _least(lambda: index.latest(job="t", limit=builds))

    async def ask(**fields: Any) -> float:
        spans = []
        for _ in range(5):
            began = time.process_time()
            await case_history.test_history(
                service, r.CaseHistoryRequest(job="t", builds=r.MAX_BUILDS, **fields), who
            )
            spans.append(time.process_time() - began)
        return min(spans) * 1000

    what = f"{builds} builds x {tests} tests"
    whole, one = await ask(), await ask(case="suite.test_7")
    cases.close()
    index.close()
    size = sum(it.stat().st_size for it in setting.folder.glob("tests.db*"))
    result.notes.append(f"{what}: {size / 1e6:.1f} MB on disk")
    return [
        _figure(f"flaky, slow, failing: {what}", whole, alone),
        _figure("one test in all of them", one, alone),
        Figure(what="taking a build into the index", value=filling, unit="ms"),
    ]


def _figure(what: str, value: float, floor: float) -> Figure:
    return Figure(what=what, value=value, unit="ms", reach=100, floor=floor, floor_name="builds")


def _build(number: int) -> Build:
    return Build(
        id=f"b{number:06}",
        job="t",
        number=number,
        state=State.FINISHED,
        result=Ended.PASSED,
        attempt=1,
        requested_at=AT + timedelta(minutes=number),
        finished_at=AT + timedelta(minutes=number, seconds=30),
        requested_seq=number,
        source=Source(url="u", commit=f"c{number // 3}", branch="main"),
        tests=Tally(passed=999, failed=1, cases=".rota/tests-1.jsonl.zst"),
    )


def _some(tests: int, chance: random.Random) -> Read:
    letters = "".join("f" if chance.random() < 0.002 else "p" for _ in range(tests))
    levels = bytes(level_of(chance.lognormvariate(-4, 2)) for _ in range(tests))
    return Read(
        [f"com.example.Suite{n % 50}.suite.test_{n}" for n in range(tests)], letters, levels
    )


def _service(index: SqliteIndex, cases: SqliteCases, builds: int) -> Service:
    world = World(cast("Any", None), index, Cluster(Picture(numbers={"t": builds})))
    lock = asyncio.Lock()
    return cast(
        "Service", SimpleNamespace(world=world, case_index=cases, turn=lambda _: lock, reports=None)
    )


def _least(call: Callable[[], object], times: int = 5) -> float:
    spans = []
    for _ in range(times):
        began = time.process_time()
        call()
        spans.append(time.process_time() - began)
    return min(spans) * 1000
