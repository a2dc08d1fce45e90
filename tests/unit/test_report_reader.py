"""The process that reads reports: its bounds, its file of cases, and what it says when it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rota.adapters.reports import casefile, reader, worker
from rota.adapters.reports.casefile import CaseFile, read_cases, read_run
from rota.adapters.reports.files import Files
from rota.adapters.reports.reader import ReportReader
from rota.core.cases import Case, Outcome
from rota.core.reports import CaseReports, CoverageReports
from rota.errors import ExecutionError, UnavailableError
from rota.ports.reports import ReportsWanted

SUITE = "<testsuite name='s'><testcase name='{}' classname='C'/></testsuite>"


def wanted(folder: Path, *patterns: str) -> ReportsWanted:
    return ReportsWanted(
        workspace=str(folder), log=str(folder / "log"), since=0.0, tests=CaseReports(files=patterns)
    )


cases = st.lists(
    st.builds(
        Case,
        name=st.text(max_size=8),
        suite=st.sampled_from(["", "C", "D e"]),
        outcome=st.sampled_from(Outcome),
        duration_s=st.floats(0, 100),
        message=st.text(max_size=20),
        flaky=st.booleans(),
    ),
    max_size=30,
)


@given(cases)
def test_what_is_written_is_read_back_the_worst_first(
    tmp_path_factory: pytest.TempPathFactory, written: list[Case]
) -> None:
    path = tmp_path_factory.mktemp("cases") / "x"
    with CaseFile(path) as file:
        for case in written:
            file.write([case])
    packed = path.read_bytes()
    head, found, total = read_cases(packed, lambda _: True, bad=False, limit=1000)
    bad = [case for case in written if case.outcome.is_bad or case.flaky]
    assert found[: len(bad)] == bad
    assert sorted(found, key=repr) == sorted(written, key=repr)
    assert (total, head.total, head.bad) == (len(written), len(written), len(bad))
    assert read_cases(packed, lambda _: True, bad=True, limit=1000)[1] == bad
    spans = [case.duration_s for case in written if case.duration_s > 0]
    assert [case.duration_s for case in head.slowest] == sorted(spans, reverse=True)
    run = read_run(packed)
    assert set(run.titles) == {case.title for case in written}
    for title, letter in zip(run.titles, run.letters, strict=True):
        same = [case for case in written if case.title == title]
        assert (letter in "fe") == any(case.outcome.is_bad for case in same)
    assert sorted(os.listdir(path.parent)) == ["x"], "nothing else is left"


def test_of_too_many_cases_the_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(casefile, "MAX_CASES", 3)
    monkeypatch.setattr(casefile, "MAX_TEXT", 250)
    failed = Case(name="n", outcome=Outcome.FAILED, message="m" * 200, details="d" * 40)
    with CaseFile(tmp_path / "x") as file:
        file.write([failed] * 5)
    assert file.is_full
    _, found, _ = read_cases((tmp_path / "x").read_bytes(), lambda _: True, bad=False, limit=9)
    assert found == [failed, *[replace(failed, message="m" * 100, details="")] * 2]


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\x28\xb5\x2f\xfd\x00"])
async def test_what_is_no_file_of_cases_is_told(data: bytes) -> None:
    with pytest.raises(UnavailableError, match="cannot be read back: it ended with status 4"):
        await ReportReader().cases(data)
    assert await ReportReader().runs([data]) == [None]


def test_when_its_time_is_over_it_says_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.xml").write_text(SUITE.format(name))
    read_file = worker.read_file

    def slow(files: Files, path: Path, begin: object) -> str:
        if path.name == "b.xml":
            raise worker.TooLongError
        return read_file(files, path, begin)  # type: ignore[arg-type]  # passed on as it is

    monkeypatch.setattr(worker, "read_file", slow)
    found = worker.read(wanted(tmp_path, "*.xml"), tmp_path / "out")
    assert found.tally is not None
    assert (found.tally.passed, found.tally.partial) == (1, True)
    assert found.remarks == ("tests: reading took longer than 60 s; 1 are counted",)


async def test_one_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_READ_S", 0.0)
    with pytest.raises(ExecutionError, match="could not be read: it took longer than 0 s"):
        await ReportReader().read(wanted(tmp_path, "*.xml"), tmp_path / "out")


def test_one_without_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reader._why(3) == "they need more memory than they may"
    assert reader._why(-9) == "a signal 9 ended it"

    def no_room(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(worker, "cases", no_room)
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert worker.main(["cases", "1", "all", ""]) == 3


async def test_several_reports_of_coverage_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "a.info").write_text("SF:a\nLF:10\nLH:5\nend_of_record\n")
    (tmp_path / "b.info").write_text("SF:b\nLF:10\nLH:10\nend_of_record\n")
    (tmp_path / "c.info").write_text("hello\n")
    (tmp_path / "d.info").write_text("TN:\n")
    found = await ReportReader().read(
        ReportsWanted(
            workspace=str(tmp_path),
            log="/dev/null",
            since=0.0,
            coverage=CoverageReports(files=("*.info",)),
        ),
        tmp_path / "out",
    )
    assert found.coverage is not None
    assert found.coverage.line_percent == 75.0
    assert found.remarks == (
        (
            "coverage: c.info is of no format that is known: cobertura, jacoco, clover, lcov, go,"
            " coverage.py, istanbul"
        ),
        "coverage: d.info tells of no lines",
    )


def test_a_line_that_tells_of_a_failure_is_found_before_one_that_does_not(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"running removes\nremoves ... ok?\n  \xe2\x9c\x97 removes\nx\n")
    with worker.open_log(tmp_path / "log") as log:
        found = log.found(Case(name="removes", outcome=Outcome.FAILED))
        assert found.offset == 32
        assert log.found(Case(name="nosuch")).offset is None
        assert log.found(Case(name="ok?")).offset is None, "too short to be sure"


def test_values_masked_late_in_the_log_are_masked_too(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x\n::add-mask::s3cret-value\n")
    (tmp_path / "a.xml").write_text(SUITE.format("s3cret-value"))
    found = worker.read(wanted(tmp_path, "a.xml"), tmp_path / "out")
    assert found.tally is not None
    _, kept, _ = read_cases((tmp_path / "out").read_bytes(), lambda _: True, bad=False, limit=9)
    assert "s3cret" not in kept[0].name


def test_a_log_that_is_too_long_to_search_loses_no_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.xml").write_text(
        "<testsuite name='s'><testcase name='fails'><failure message='m'/></testcase></testsuite>"
    )

    def slow(*_: object) -> Case:
        raise worker.TooLongError

    monkeypatch.setattr(worker.Log, "found", slow)
    found = worker.read(wanted(tmp_path, "a.xml"), tmp_path / "out")
    assert found.tally is not None
    assert [it.test for it in found.tally.failures] == ["s.fails"]


def test_time_that_is_over_is_told_by_the_kernel() -> None:
    with pytest.raises(worker.TooLongError):
        _wait(0.01)


@pytest.mark.parametrize("call", ["open", "write"])
def test_a_full_disk_loses_the_list_and_no_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tmp_path / "a.xml").write_text(SUITE.format("a"))
    full = OSError(28, "No space left on device")
    if call == "open":
        out = tmp_path / "nosuch" / "out"
    else:
        out = tmp_path / "out"

        def fail(*_: object) -> None:
            raise full

        monkeypatch.setattr("shutil.copyfileobj", fail)
    found = worker.read(wanted(tmp_path, "*.xml"), out)
    assert found.tally is not None
    assert found.tally.passed == 1
    (remark,) = found.remarks
    assert remark.startswith("tests: the list of them could not be written: No s")
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.xml"]


async def test_a_name_that_is_no_text_is_called_by_its_bytes(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.tap", "w") as file:
        file.write("1..1\nok 1 - x\n")
    with open(os.fsencode(tmp_path) + b"/\xfe.tap", "w") as file:
        file.write("rubbish\n")
    found = await ReportReader().read(wanted(tmp_path, "*.tap"), tmp_path / "out")
    assert found.tally is not None
    assert found.tally.passed == 1
    assert found.remarks == ("tests: \\xfe.tap is no report of tests: neither JUnit's XML nor TAP",)
    reading = await ReportReader().cases((tmp_path / "out").read_bytes())
    assert [case.title for case in reading.cases] == ["\\xff.tap.x"]


def _wait(seconds: float) -> None:
    with worker.at_most(seconds):
        while True:
            os.getpid()
