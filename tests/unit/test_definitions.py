"""What a tree of definitions comes to, and what is said about its faults."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core import definitions
from rota.core.definition_file import is_definition
from rota.core.definitions import EMPTY, blob_hash, check, check_changes, check_tree
from rota.core.paused import Paused

GOOD = b"#!/bin/sh\n# /// script\n# [tool.rota]\n# description = 'x'\n# ///\nmake\n"
BAD = b"# /// script\n# [tool.rota]\n# timout = 3\n# ///\n"


def texts(files: dict[str, bytes]) -> list[str]:
    return [str(problem) for problem in check_tree(files)[1]]


def test_a_tree_of_jobs_settings_and_pauses_is_read() -> None:
    found, problems = check_tree(
        {
            "jobs/web/test": GOOD,
            "jobs/b": b"echo\n",
            "paused/b": b"by = 'ada'\nat = 2026-01-31T12:00:00Z\nreason = 'the move'\n",
            "paused/gone": b"",
            "settings.toml": b"timeout = '1h'\n",
            "README.md": b"\xff\0",
            "users.toml": b"\xff",
        }
    )
    assert problems == ()
    assert list(found.jobs) == ["b", "web/test"]
    assert found.jobs["web/test"].job.description == "x"
    assert found.jobs["web/test"].blob == blob_hash(GOOD)
    assert found.jobs["web/test"].paused is None
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert found.jobs["b"].paused == Paused(by="ada", at=at, reason="the move")
    assert found.settings.timeout_s == 3600


def test_an_empty_pause_is_a_pause() -> None:
    found, problems = check_tree({"jobs/b": b"", "paused/b": b""})
    assert (found.jobs["b"].paused, problems) == (Paused(), ())


def test_a_pause_with_a_fault_still_pauses_and_is_told() -> None:
    found, problems = check_tree(
        {"jobs/b": b"", "paused/b": b"who = 'ada'\nat = 'now'\nreason = 'x'\n"}
    )
    assert found.jobs["b"].paused == Paused(reason="x")
    assert [str(problem) for problem in problems] == [
        "paused/b:1:1: unknown key who (known: by, at, reason, misses)",
        "paused/b:2:6: at must be a date and time with its zone (such as at = 2026-01-31T12:00:00Z)",
    ]


def test_a_binary_pause_still_pauses() -> None:
    found, problems = check_tree({"jobs/b": b"", "paused/b": b"\0"})
    assert found.jobs["b"].paused == Paused()
    assert [str(problem) for problem in problems] == ["paused/b: a binary file, not a text"]


def test_a_fault_takes_nothing_from_the_other_files() -> None:
    found, problems = check_tree({"jobs/bad": BAD, "jobs/good": GOOD})
    assert list(found.jobs) == ["good"]
    assert [str(problem) for problem in problems] == [
        "jobs/bad:3:3: unknown key timout (did you mean 'timeout'?)"
    ]


def test_faulty_settings_keep_what_is_good() -> None:
    found, problems = check_tree({"settings.toml": b"timeout = '1h'\npath = 3\n"})
    assert found.settings.timeout_s == 3600
    assert [(p.path, p.line) for p in problems] == [("settings.toml", 2)]


def test_names_that_are_no_jobs_names_are_told() -> None:
    assert texts({"jobs/a b": b"", "jobs/.keep": b"", "jobs/x.lock": b"", "jobs/ok": b""}) == [
        "jobs/.keep: bad job name: the segment '.keep' does not fit",
        "jobs/a b: bad job name: the segment 'a b' does not fit",
        "jobs/x.lock: bad job name: git does not allow a name that ends in .lock",
    ]


def test_what_is_too_large_or_binary_is_told() -> None:
    assert texts({"jobs/large": b"#" * (5 << 20), "jobs/elf": b"\x7fELF\0"}) == [
        "jobs/elf: a binary file, not a text",
        "jobs/large: larger than the limit of 1048576 bytes",
    ]
    assert texts({"jobs/full": b"#" * (1 << 20)}) == []


def test_names_that_differ_only_in_case_are_both_told_and_both_run() -> None:
    found, problems = check_tree(
        {"jobs/Web/a": b"", "jobs/web/a": b"", "README": b"", "readme": b""}
    )
    assert list(found.jobs) == ["Web/a", "web/a"]
    assert [str(problem) for problem in problems] == [
        "jobs/Web/a: there is also jobs/web/a, which differs only in case",
        "jobs/web/a: there is also jobs/Web/a, which differs only in case",
    ]


def test_what_was_parsed_is_not_asked_for_again() -> None:
    tree = {"jobs/a": blob_hash(GOOD), "jobs/b": blob_hash(BAD), "README.md": "1" * 40}
    blobs = {blob_hash(data): data for data in (GOOD, BAD)}
    assert definitions.wanted(tree) == set(blobs)
    first, problems = check(tree, blobs)
    assert definitions.wanted(tree, first) == frozenset()
    second, again = check(tree, {}, first)
    assert (second, again) == (first, problems)
    assert second.jobs["a"].job is first.jobs["a"].job
    assert problems != ()


def test_only_what_changed_is_asked_for() -> None:
    first, _ = check_tree({"jobs/a": GOOD, "jobs/b": GOOD})
    tree = {"jobs/a": blob_hash(GOOD), "jobs/b": blob_hash(BAD), "jobs/c": blob_hash(GOOD)}
    assert definitions.wanted(tree, first) == {blob_hash(BAD), blob_hash(GOOD)}
    second, problems = check(tree, {blob_hash(data): data for data in (GOOD, BAD)}, first)
    assert list(second.jobs) == ["a", "c"]
    assert [problem.path for problem in problems] == ["jobs/b"]


def test_the_same_script_at_two_paths_is_two_jobs() -> None:
    found, _ = check_tree({"jobs/a": GOOD, "jobs/b": GOOD})
    assert [found.jobs[name].job.name for name in ("a", "b")] == ["a", "b"]


def test_a_job_that_is_gone_is_gone() -> None:
    first, _ = check_tree({"jobs/a": GOOD, "jobs/b": GOOD})
    second, _ = check({"jobs/a": blob_hash(GOOD)}, {}, first)
    assert list(second.jobs) == ["a"]
    assert check({}, {}, second) == (EMPTY, ())


def test_of_changes_only_the_changed_files_are_checked() -> None:
    problems = check_changes(
        {"jobs/bad": BAD, "jobs/gone": None, "docs/x": b"\0", "jobs/WEB": b""},
        ["jobs/web", "jobs/WEB", "jobs/bad", "jobs/old bad"],
    )
    assert [str(problem) for problem in problems] == [
        "jobs/WEB: there is also jobs/web, which differs only in case",
        "jobs/bad:3:3: unknown key timout (did you mean 'timeout'?)",
    ]


def test_a_change_of_case_alone_is_no_clash() -> None:
    assert check_changes({"jobs/Web": b"", "jobs/web": None}, ["jobs/Web"]) == ()


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["jobs/a", "jobs/b/c", "paused/a", "settings.toml", "jobs/\udcff", "x"]),
        st.binary(max_size=80) | st.sampled_from([GOOD, BAD, b"at = 1", b"\xff# /// script\n"]),
    )
)
def test_any_tree_is_read_and_the_same_tree_again_costs_nothing(files: dict[str, bytes]) -> None:
    found, problems = check_tree(files)
    assert check({p: blob_hash(d) for p, d in files.items()}, {}, found) == (found, problems)
    for path, data in files.items():
        if is_definition(path):
            assert set(definitions.check_file(path, data)) <= set(problems)
