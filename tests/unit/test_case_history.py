"""Tests over builds: the bits agree with what a person would count by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.harness.facts import moment

from rota.adapters.sqlite.cases import SqliteCases
from rota.core.build import Build
from rota.core.case_history import (
    Read,
    Run,
    flaky,
    level_of,
    revision_of,
    run_of,
    slowest,
    span_of,
    standings,
)
from rota.core.cases import Outcome
from rota.core.scm import Source
from rota.core.states import State
from rota.errors import UnavailableError

LETTERS = {
    "p": Outcome.PASSED,
    "f": Outcome.FAILED,
    "e": Outcome.FAILED,
    "s": Outcome.SKIPPED,
    "F": Outcome.PASSED,
}


def a_build(number: int, commit: str = "", **params: str) -> Build:
    return Build(
        id=f"b{number}",
        job="t",
        number=number,
        state=State.FINISHED,
        requested_at=moment(number),
        finished_at=moment(number + 1),
        source=Source(url="u", commit=commit) if commit else None,
        params=dict(params),
    )


def a_run(number: int, letters: dict[int, str], *, revision: str = "", attempt: int = 1) -> Run:
    read = Read([str(test) for test in letters], "".join(letters.values()), bytes(len(letters)))
    run = run_of(a_build(number), attempt, read, list(letters))
    return replace(run, revision=revision)


@given(st.dictionaries(st.integers(0, 300), st.sampled_from("pfesF")))
def test_a_run_gives_back_what_it_was_made_of(letters: dict[int, str]) -> None:
    run = a_run(1, letters)
    for test in range(302):
        wanted = LETTERS[letters[test]] if test in letters else None
        assert run.outcome(test) == wanted
    assert run.passed.bit_count() == sum(letter in "pF" for letter in letters.values())


runs_by_revision = st.lists(
    st.tuples(
        st.sampled_from(["", "r1", "r2"]),
        st.dictionaries(st.integers(0, 5), st.sampled_from("pfesF")),
    ),
    max_size=8,
)


@given(runs_by_revision)
def test_flaky_is_what_a_person_would_call_so(
    given_runs: Sequence[tuple[str, dict[int, str]]],
) -> None:
    runs = [a_run(n, letters, revision=rev) for n, (rev, letters) in enumerate(given_runs)]
    wanted: dict[int, int] = {}
    groups: dict[str, list[dict[int, str]]] = {}
    for number, (revision, letters) in enumerate(given_runs):
        groups.setdefault(revision or f"b{number}", []).append(letters)
    for group in groups.values():
        for test in range(6):
            ends = {letters[test] for letters in group if test in letters}
            if "F" in ends or (ends & {"p"} and ends & {"f", "e"}):
                wanted[test] = wanted.get(test, 0) + 1
    assert flaky(runs) == wanted


@given(st.lists(st.sampled_from(["p", "f", "s", None]), max_size=12))
def test_how_a_test_stands_is_counted_from_the_newest(ends: list[str | None]) -> None:
    runs = [a_run(n, {} if end is None else {3: end}) for n, end in enumerate(ends)]
    its = standings(runs, [3])[3]
    told = [(n, end) for n, end in enumerate(ends) if end in ("p", "f")]
    assert (its.ran, its.bad) == (len(told), sum(end == "f" for _, end in told))
    streak = []
    for n, end in told:
        if end == "p":
            break
        streak.append(n)
    assert its.since == (streak[-1] if streak else None)
    assert its.last_bad == next((n for n, end in told if end == "f"), None)


@given(st.floats(0.001, 100_000))
def test_durations_are_kept_to_four_percent(seconds: float) -> None:
    assert span_of(level_of(seconds)) == pytest.approx(seconds, rel=0.041)


def test_what_takes_no_time_has_none() -> None:
    assert level_of(0) == level_of(0.0001) == 0
    assert span_of(0) == 0
    assert level_of(1e12) == 255


def test_the_slowest_by_the_mean() -> None:
    read = Read(["a", "b", "c"], "ppp", bytes([level_of(1), level_of(5), 0]))
    run = run_of(a_build(1), 1, read, [7, 2, 9])
    assert list(slowest([run, run], 5)) == [2, 7]
    even = run_of(a_build(1), 1, Read(["a", "b", "c"], "ppp", bytes([99, 99, 98])), [7, 2, 9])
    assert sorted(slowest([even], 1)) == [2, 7], "who takes as long as the last is one of them"
    assert run.duration_s(7) == pytest.approx(1, rel=0.04)
    assert run.duration_s(9) == 0


def test_builds_of_one_commit_differ_by_parameters_and_script() -> None:
    one = a_build(1, "c1", os="a")
    assert revision_of(one) == revision_of(replace(one, id="other", number=9))
    assert revision_of(one) != revision_of(a_build(1, "c1", os="b"))
    assert revision_of(one) != revision_of(replace(one, script="other"))
    assert revision_of(a_build(1)) == ""


# -- the index ----------------------------------------------------------------------------------


@given(
    st.lists(
        st.dictionaries(st.text("abc.", min_size=1, max_size=4), st.sampled_from("pfesF")),
        max_size=6,
    )
)
def test_the_index_gives_back_what_it_took(kept: list[dict[str, str]]) -> None:
    index = SqliteCases(Path(":memory:"))
    for number, ends in enumerate(kept):
        read = Read(list(ends), "".join(ends.values()), bytes(range(len(ends))))
        index.add("t", [(a_build(number), 1, read)])
        index.add("other", [(replace(a_build(number + 100), job="other"), 1, read)])
    names = [f"b{number}" for number in reversed(range(len(kept)))]
    runs = index.runs("t", names)
    assert [run.build for run in runs] == names
    for run in runs:
        ends = kept[run.number]
        tests = [test for test in range(run.ran.bit_length()) if run.ran >> test & 1]
        titles = index.titles("t", tests)
        assert {titles[test]: run.outcome(test) for test in tests} == {
            title: LETTERS[letter] for title, letter in ends.items()
        }
    index.close()


def test_a_test_is_found_by_its_name_its_end_or_a_part_of_it(tmp_path: Path) -> None:
    index = SqliteCases(tmp_path / "tests.db")
    titles = ["C.adds", "C.adds twice", "D.removes", "E > removes", "F.x"]
    index.add("t", [(a_build(1), 1, Read(titles, "ppppp", bytes(5)))])
    assert list(index.find("t", "C.adds", 9).values()) == ["C.adds"]
    assert list(index.find("t", "ADDS", 9).values()) == ["C.adds"]
    assert list(index.find("t", "removes", 9).values()) == ["D.removes", "E > removes"]
    assert list(index.find("t", "twice", 9).values()) == ["C.adds twice"]
    assert index.find("t", "nosuch", 9) == index.find("nosuch", "x", 9) == {}
    assert len(index.find("t", "", 2)) == 2
    index.close()


@pytest.mark.parametrize("content", [b"rubbish" * 1000, b"SQLite format 3\0" + b"\0" * 200, b""])
def test_a_file_that_is_of_no_use_is_made_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tests.db").write_bytes(content)
    index = SqliteCases(tmp_path / "tests.db")
    index.add("t", [(a_build(1), 1, Read(["a"], "p", b"\1"))])
    assert [run.build for run in index.runs("t", ["b1"])] == ["b1"]
    index.close()
    again = SqliteCases(tmp_path / "tests.db")
    assert [run.build for run in again.runs("t", ["b1"])] == ["b1"]
    again.close()


def test_a_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    index = SqliteCases(tmp_path / "nosuch" / "tests.db")
    with pytest.raises(UnavailableError, match="the index of tests"):
        index.runs("t", ["b1"])


def test_what_could_not_be_read_is_not_read_again(tmp_path: Path) -> None:
    index = SqliteCases(tmp_path / "tests.db")
    index.add("t", [(a_build(1), 1, None)])
    (run,) = index.runs("t", ["b1"])
    assert (run.ran, run.attempt) == (0, 1)
    index.close()
