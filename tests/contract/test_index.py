"""What every index answers, in memory or on disk."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rota.adapters.memory_store import MemoryIndex
from rota.adapters.sqlite.index import SqliteIndex
from rota.core.build import Artifact, Build, Trigger
from rota.core.retention import Remains, Removed, Swept
from rota.core.states import Result, State
from rota.ports.index import Index

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture(params=["memory", "sqlite"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    index: Index = (
        MemoryIndex() if request.param == "memory" else SqliteIndex(tmp_path / "index.db")
    )
    yield index
    index.close()


def make(seq: int, **fields: Any) -> Build:
    defaults: dict[str, Any] = {
        "id": f"{seq:016}",
        "job": "web/test",
        "number": seq,
        "state": State.FINISHED,
        "result": Result.PASSED,
        "requested_at": AT,
        "requested_seq": seq,
        "params": {"suite": "fast", "times": 3, "ratio": 1.0, "dry": True},
        "trigger": Trigger(by="ada"),
    }
    return Build(**(defaults | fields))


def test_an_empty_index_answers_with_nothing(index: Index) -> None:
    assert index.snapshot() is None
    assert index.get("0") is None
    assert index.by_number("web/test", 1) is None
    assert list(index.by_prefix("0")) == []
    assert list(index.latest()) == []


def test_a_build_comes_back_equal(index: Index) -> None:
    build = make(1)
    index.add([build])
    assert index.get(build.id) == build
    assert index.by_number("web/test", 1) == build
    assert list(index.latest()) == [build]


def test_a_build_added_again_is_replaced(index: Index) -> None:
    index.add([make(1, result=Result.LOST)])
    index.add([make(1)])
    assert [build.result for build in index.latest()] == [Result.PASSED]
    assert list(index.latest(result="lost")) == []


def test_the_latest_are_newest_first_by_job_and_by_result(index: Index) -> None:
    failed = Result.FAILED
    index.add([make(3, job="b"), make(1, job="a"), make(2, job="a", result=failed)])
    index.add([make(4, job="a", result=failed)])
    assert seqs(index.latest()) == [4, 3, 2, 1]
    assert seqs(index.latest(job="a")) == [4, 2, 1]
    assert seqs(index.latest(result="failed")) == [4, 2]
    assert seqs(index.latest(job="a", result="passed")) == [1]
    assert seqs(index.latest(before=3)) == [2, 1]
    assert seqs(index.latest(job="a", result="failed", before=4, limit=5)) == [2]
    assert seqs(index.latest(limit=2)) == [4, 3]
    assert seqs(index.latest(limit=0)) == []


def seqs(builds: Any) -> list[int]:
    return [build.requested_seq for build in builds]


def test_a_prefix_finds_at_most_so_many(index: Index) -> None:
    index.add([make(n, id=text) for n, text in enumerate(["abcd1", "abcd2", "abce", "zzzz"])])
    assert [b.id for b in index.by_prefix("abcd")] == ["abcd1", "abcd2"]
    assert [b.id for b in index.by_prefix("ab", limit=3)] == ["abcd1", "abcd2", "abce"]
    assert [b.id for b in index.by_prefix("zz")] == ["zzzz"]
    assert list(index.by_prefix("b_d")) == []


def test_the_last_snapshot_counts_and_comes_with_its_builds(index: Index) -> None:
    index.add([make(1)], snapshot=(5, b"five"))
    index.add([make(2)])
    assert index.snapshot() == (5, b"five")
    index.add([], snapshot=(9, b"nine\0"))
    assert index.snapshot() == (9, b"nine\0")


def test_a_cleared_index_is_empty(index: Index) -> None:
    index.add([make(1)], snapshot=(5, b"five"))
    index.clear()
    assert index.snapshot() is None
    assert list(index.latest()) == []
    index.add([make(1)])
    assert seqs(index.latest()) == [1]


def test_numbers_of_any_size_are_just_not_there(index: Index) -> None:
    assert index.by_number("web/test", 10**30) is None
    assert index.by_number("web/test", -1) is None


def test_closing_twice_is_fine(index: Index) -> None:
    index.close()


BUILDS = st.lists(
    st.builds(
        make,
        st.integers(1, 40),
        job=st.sampled_from(["a", "a/b", "c"]),
        result=st.sampled_from([Result.PASSED, Result.FAILED, None]),
    ),
    max_size=30,
)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    builds=BUILDS,
    job=st.sampled_from([None, "a", "a/b", "x"]),
    result=st.sampled_from([None, "passed", "failed"]),
    before=st.none() | st.integers(0, 41),
    limit=st.integers(0, 25),
)
def test_both_indexes_give_the_same_answers(
    tmp_path: Path,
    builds: list[Build],
    job: str | None,
    result: str | None,
    before: int | None,
    limit: int,
) -> None:
    memory, sqlite = MemoryIndex(), SqliteIndex(tmp_path / "index.db")
    sqlite.clear()
    for index in (memory, sqlite):
        index.add(builds[:10])
        index.add(builds[10:])
    asked: Any = {"job": job, "result": result, "before": before, "limit": limit}
    assert list(memory.latest(**asked)) == list(sqlite.latest(**asked))
    sqlite.close()


def test_the_file_is_there_after_opening_it_again(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.db")
    assert index.is_new
    index.add([make(1)], snapshot=(5, b"five"))
    index.close()
    index.close()
    again = SqliteIndex(tmp_path / "index.db")
    assert not again.is_new
    assert (seqs(again.latest()), again.snapshot()) == ([1], (5, b"five"))
    again.close()


def test_two_may_have_the_file_open_and_the_reader_sees_what_was_written(tmp_path: Path) -> None:
    writer, reader = SqliteIndex(tmp_path / "index.db"), SqliteIndex(tmp_path / "index.db")
    writer.add([make(1)])
    assert seqs(reader.latest()) == [1]
    writer.close()
    reader.close()


def ended(seq: int, job: str = "web/test", **fields: Any) -> Build:
    return make(seq, job=job, attempt=1, finished_at=AT + timedelta(seconds=seq), **fields)


FILE = Artifact("a", 7, "")


def test_what_builds_left_is_newest_first_and_in_pages(index: Index) -> None:
    assert list(index.remains(job="web/test")) == []
    assert list(index.jobs_with_remains()) == []
    index.add([ended(2, log_bytes=5), ended(3, artifacts=(FILE,)), ended(1), ended(4, "b")])
    index.add([make(5), make(6, state=State.RUNNING, attempt=1)])
    assert list(index.jobs_with_remains()) == ["b", "web/test"]
    page = index.remains(job="web/test", limit=2)
    second = AT + timedelta(seconds=2)
    assert [left.build for left in page] == [f"{3:016}", f"{2:016}"]
    assert page[1] == Remains(f"{2:016}", "web/test", second, 1, 5, 0, 0)
    rest = index.remains(job="web/test", before=(second, f"{2:016}"))
    assert [left.build for left in rest] == [f"{1:016}"]
    assert [left.build for left in index.remains()] == [f"{3:016}"]


def test_what_was_dropped_is_left_no_more_and_is_known(index: Index) -> None:
    build = ended(1, artifacts=(FILE,), log_bytes=3)
    index.add([build])
    assert index.removed(build.id) == Removed()
    for _ in range(2):
        index.sweep([Swept(build.id, logs="keep.logs")], AT)
        assert [(left.attempts, left.log_bytes, left.files) for left in index.remains()] == [
            (0, 0, 1)
        ]
    index.sweep([Swept(build.id, artifacts="keep.builds")], AT + timedelta(days=1))
    assert list(index.remains(job=build.job)) == []
    assert list(index.jobs_with_remains()) == []
    assert index.removed(build.id) == Removed(
        logs="keep.logs", logs_at=AT, artifacts="keep.builds", artifacts_at=AT + timedelta(days=1)
    )
    index.clear()
    assert index.removed(build.id) == Removed()


def test_what_was_gone_before_is_left_no_more_and_nothing_is_known(index: Index) -> None:
    index.add([ended(1)])
    index.sweep([Swept(f"{1:016}", logs="keep.logs"), Swept("never seen", logs="x")], None)
    assert list(index.jobs_with_remains()) == []
    assert index.removed(f"{1:016}") == Removed()
