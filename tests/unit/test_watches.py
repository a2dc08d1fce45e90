"""Watched repositories: what is adopted, what that makes of a job, and what starts it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.facts import moment

from rota.core.build import Trigger
from rota.core.cluster import Cluster
from rota.core.definitions import Definition, check_tree
from rota.core.events import BuildRequested
from rota.core.fold import apply
from rota.core.ids import job_name_fault
from rota.core.job import Spec
from rota.core.reactions import Rules
from rota.core.scm import Scm
from rota.core.states import State
from rota.core.told import Pull, Tip
from rota.core.watches import (
    Adopted,
    Entry,
    Target,
    WatchFile,
    encode_adopted,
    encode_watch,
    folder_for,
    is_meant,
    parse_adopted,
    parse_watch,
    targets,
)

A, B = "a" * 40, "b" * 40
URL = "https://git.example/web.git"
REPO = "git.example/web"
MAIN = Entry(ref="refs/heads/main", commit=A, seq=5, jobs=("build", "test"))


def adopted(header: str, entry: Entry = MAIN, name: str = "test") -> Definition:
    script = f"#!/bin/sh\n# /// script\n# [tool.rota]\n# {header}\n# ///\n".encode()
    files = {
        "watches/web.toml": encode_watch(WatchFile(git=URL)),
        "adopted/web.json": encode_adopted(Adopted({"main": entry})),
        "jobs/web/main/build": b"#!/bin/sh\n",
        f"jobs/web/main/{name}": script,
    }
    found, problems = check_tree(files)
    assert not problems
    return found.jobs[f"web/main/{name}"]


@pytest.mark.parametrize(
    ("header", "scm"),
    [
        ("", Scm(git=URL, branch="main")),
        ('scm = "."', Scm(git=URL, branch="main")),
        (
            'scm = { git = ".", submodules = true, depth = 1 }',
            Scm(git=URL, branch="main", submodules=True, depth=1),
        ),
        ('scm = { git = ".", ref = "v1" }', Scm(git=URL, ref="v1")),
        ('scm = "https://git.example/lib"', Scm(git="https://git.example/lib")),
    ],
)
def test_the_source_of_a_job_is_its_own_branch(header: str, scm: Scm) -> None:
    assert adopted(header).job.spec.scm == scm


def test_neighbours_are_called_by_their_own_names() -> None:
    job = adopted('needs = ["build", "other"]\n# on = [{ after = "build" }]').job
    assert [need.job for need in job.needs] == ["web/main/build", "other"]
    assert [rule.job for rule in job.on if hasattr(rule, "job")] == ["web/main/build"]


@pytest.mark.parametrize(
    ("header", "entry", "is_started"),
    [
        ("", MAIN, True),
        ('on = [{ cron = "0 1 * * *" }]', MAIN, True),
        ('on = [{ push = "main" }]', MAIN, True),
        ('on = [{ push = "rel/*" }]', MAIN, False),
        ("on = [{ pull_request = true }]", MAIN, False),
        ('on = [{ push = "main", files = ["src/**"] }]', MAIN, True),
        (
            'on = [{ push = "main", files = ["src/**"] }]',
            Entry(ref="refs/heads/main", commit=A, seq=5, jobs=("test",), files=("src/a/b",)),
            True,
        ),
        (
            'on = [{ push = "main", files = ["src/**"] }]',
            Entry(ref="refs/heads/main", commit=A, seq=5, jobs=("test",), files=("doc/a",)),
            False,
        ),
        ("", Entry(ref="refs/heads/main", commit=A, jobs=("test",)), False),
    ],
)
def test_what_starts_a_job(header: str, entry: Entry, is_started: bool) -> None:
    adoption = adopted(header, entry).adopted
    assert adoption is not None
    assert is_meant(adoption) is is_started


def test_pushes_start_adopted_jobs_by_their_adoption_alone() -> None:
    script = b'#!/bin/sh\n# /// script\n# [tool.rota]\n# on = [{ push = "*" }]\n# ///\n'
    files = {
        "watches/web.toml": encode_watch(WatchFile(git=URL)),
        "adopted/web.json": encode_adopted(Adopted({"main": MAIN})),
        "jobs/web/main/test": script,
        "jobs/plain": script,
    }
    rules = Rules(check_tree(files)[0])
    assert [entry.job for entry, _ in rules.scm] == ["plain"]


def test_a_pull_request_is_started_by_nothing_else() -> None:
    entry = Entry(
        ref="refs/pull/7/head", commit=A, seq=5, jobs=("test",), number=7, base="main", fork=True
    )
    found = adopted('on = [{ cron = "0 1 * * *" }, { pull_request = "main" }]', entry)
    assert found.job.on == ()
    assert found.adopted is not None
    assert is_meant(found.adopted)
    found = adopted('on = [{ pull_request = "rel/*" }]', entry)
    assert found.adopted is not None
    assert not is_meant(found.adopted)


def test_what_is_to_be_adopted() -> None:
    tips = {
        f"{REPO} refs/heads/main": Tip(A, 3),
        f"{REPO} refs/heads/old": Tip(A, 2, was_there=True),
        f"{REPO} refs/heads/wip": Tip(A, 4),
        f"{REPO} refs/tags/v1": Tip(A, 3),
        f"{REPO} *": Tip("x", 3),
        "git.example/other refs/heads/main": Tip(B, 3),
    }
    pull = Pull(
        repo="ssh.example/web", also=(REPO,), ref="refs/pull/7/head", commit=B, seq=9, number=7, base="main"
    )  # fmt: skip
    watch = WatchFile(git=URL, branches=("*", "!wip"))
    found = targets(watch, tips, [pull])
    assert {ref: it.seq for ref, it in found.items()} == {
        "refs/heads/main": 3,
        "refs/heads/old": 0,
    }
    watch = WatchFile(git=URL, branches=("main",), pull_requests=True)
    assert set(targets(watch, tips, [pull])) == {"refs/heads/main", "refs/pull/7/head"}


@given(st.lists(st.text(min_size=1, max_size=80), unique=True, max_size=20))
def test_each_branch_has_a_folder_of_its_own_that_a_job_may_have(names: list[str]) -> None:
    entries: dict[str, Entry] = {}
    for name in names:
        target = Target(ref=f"refs/heads/{name}", commit=A)
        folder = folder_for(target, Adopted(entries))
        assert job_name_fault(f"web/{folder}/test") is None
        assert folder.casefold() not in {it.casefold() for it in entries}
        entries[folder] = Entry(ref=target.ref, commit=A)
        assert folder_for(target, Adopted(entries)) == folder, "it keeps the folder"


def test_files_come_back_as_they_were_written() -> None:
    watch = WatchFile(git=URL, branches=("main", 'a"b'), pull_requests=True, poll_s=90.0)
    assert parse_watch(encode_watch(watch).decode(), "watches/web.toml") == (watch, ())
    whole = Adopted({"main": MAIN})
    assert parse_adopted(encode_adopted(whole)) == whole
    assert parse_adopted(b"nonsense") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "git is missing"),
        ('git = "."', "is no repository's URL"),
        ('git = "https://a:b@c/d"', "has a password"),
        (f'git = "{URL}"\nbranch = "x"', "unknown key branch"),
        (f'git = "{URL}"\npoll = "1s"', "poll"),
    ],
)
def test_what_is_wrong_with_a_watch_is_said(text: str, said: str) -> None:
    found, problems = parse_watch(text, "watches/web.toml")
    assert found is None
    assert said in str(problems[0])


def test_a_request_of_a_fork_is_held_whoever_wrote_it() -> None:
    for kind, state in (
        ("pull-request", State.HELD),
        ("need", State.HELD),
        ("build", State.QUEUED),
    ):
        cluster = Cluster()
        event = BuildRequested(
            at=moment(),
            build="b",
            job="j",
            spec=Spec(),
            trigger=Trigger(kind=kind, data={"fork": "true"}),
        )
        build = apply(cluster, 1, event).build
        assert build is not None
        assert build.state is state
        assert not build.trusted
