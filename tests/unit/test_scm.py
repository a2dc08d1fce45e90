"""Source code in a header, and what of it and of a trigger a build is to have."""

from __future__ import annotations

import pytest

from rota.core.header import parse_header
from rota.core.scm import (
    Commit,
    Revision,
    Scm,
    Source,
    ref_fault,
    revision,
    shown,
    url_fault,
)
from rota.core.sources import MAX_SEEN, Seen, culprits, lane, note_good, note_source

A, B, C = "a" * 40, "b" * 40, "c" * 40
URL = "https://git.example/web.git"
PUSH = {"repo": "git.example/web", "ref": "refs/heads/x", "branch": "x", "commit": B}


def header(scm: str) -> tuple[Scm | None, list[str]]:
    text = f"#!/bin/sh\n# /// script\n# [tool.rota]\n# scm = {scm}\n# ///\n"
    job, problems = parse_header(text, name="j", path="jobs/j")
    return (job.spec.scm if job is not None else None), [str(it) for it in problems]


def test_a_url_alone_will_do() -> None:
    assert header(f'"{URL}"') == (Scm(git=URL), [])


def test_all_keys_are_read() -> None:
    found, problems = header(
        '{ git = "git@git.example:web", branch = "rel/3", depth = 1, submodules = true,'
        ' lfs = true, sparse = ["web", "a/b/"], path = "src", poll = "1m" }'
    )
    assert not problems
    assert found == Scm(
        git="git@git.example:web",
        branch="rel/3",
        depth=1,
        submodules=True,
        lfs=True,
        sparse=("web", "a/b"),
        path="src",
        poll_s=60.0,
    )


@pytest.mark.parametrize(
    ("scm", "said"),
    [
        ('{ branch = "main" }', "git"),
        ('"--upload-pack=sh"', "starts with a dash"),
        ('"ext::sh -c id"', "names a helper program"),
        ('"ftp://x/y"', "of kind ftp"),
        ('"https://ann:secret@git.example/x"', "has a password"),
        ('"ssh://-oProxyCommand=id/x"', "starts with a dash"),
        ('"ssh://git@-oProxyCommand=id/x"', "starts with a dash"),
        ('"web"', "is no URL"),
        ('"a\\nb"', "control"),
        ('""', "empty"),
        (f'{{ git = "{URL}", branch = "-x" }}', "cannot be a ref"),
        (f'{{ git = "{URL}", branch = "a..b" }}', "cannot be a ref"),
        (f'{{ git = "{URL}", branch = "a", ref = "b" }}', "both branch and ref"),
        (f'{{ git = "{URL}", branch = "a{{" }}', "lone"),
        (f'{{ git = "{URL}", path = "../x" }}', "must be a folder below"),
        (f'{{ git = "{URL}", path = "x/.Git" }}', "must be a folder below"),
        (f'{{ git = "{URL}", sparse = ["*"] }}', "pattern"),
        (f'{{ git = "{URL}", ref = "{A}", poll = "1m" }}', "never moves"),
        (f'{{ git = "{URL}", poll = "1s" }}', "poll"),
        (f'{{ git = "{URL}", brunch = "x" }}', "branch"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(scm: str, said: str) -> None:
    found, problems = header(scm)
    assert found is None
    assert len(problems) == 1
    assert said in problems[0]
    assert problems[0].startswith("jobs/j:4:")
    assert "secret" not in problems[0]


def test_a_password_is_never_shown() -> None:
    assert shown("cannot read https://ann:s3@x/y, nor https://x:p@z") == (
        "cannot read https://***@x/y, nor https://***@z"
    )
    assert shown("ssh://git@x/y") == "ssh://git@x/y"


@pytest.mark.parametrize("name", ["main", "feature/a.b", "v1.0", "refs/pull/7/head", "ä", "a@b"])
def test_names_of_refs(name: str) -> None:
    assert ref_fault(name) is None


@pytest.mark.parametrize(
    "name", ["", "-a", "/a", "a/", "a//b", "a b", "a.lock", "a.lock/b", ".a", "a/.b", "a@{b", "@"]
)
def test_names_that_are_none(name: str) -> None:
    assert not name or ref_fault(name)


@pytest.mark.parametrize("url", ["/srv/x.git", "file:///srv/x", "git://h/x", "h:x", "http://h:8/x"])
def test_urls(url: str) -> None:
    assert url_fault(url) is None


def test_a_branch_is_resolved_when_the_build_begins() -> None:
    scm = Scm(git=URL, branch="main")
    assert revision(scm, {}, {}) == Revision(url=URL, ref="refs/heads/main")
    assert revision(Scm(git=URL), {}, {}) == Revision(url=URL)


def test_what_was_pushed_is_built() -> None:
    want = revision(Scm(git=URL, branch="main"), PUSH, {})
    assert want == Revision(url=URL, ref="refs/heads/x", commit=B)


def test_a_trigger_of_another_repository_says_nothing() -> None:
    want = revision(Scm(git=URL, branch="main"), PUSH | {"repo": "git.example/lib"}, {})
    assert want == Revision(url=URL, ref="refs/heads/main")


def test_a_ref_in_the_header_goes_before_what_was_pushed() -> None:
    assert revision(Scm(git=URL, ref="v1"), PUSH, {}) == Revision(url=URL, ref="v1")
    assert revision(Scm(git=URL, ref=A), PUSH, {}) == Revision(url=URL, ref=A, commit=A)


def test_parameters_name_a_branch() -> None:
    scm = Scm(git=URL, branch="rel/{version}")
    assert revision(scm, {}, {"version": 3}).ref == "refs/heads/rel/3"
    with pytest.raises(ValueError, match=r"scm\.branch cannot be a ref of git: 'rel/--x \$'"):
        revision(scm, {}, {"version": "--x $"})
    with pytest.raises(ValueError, match=r"asks for \{version\}"):
        revision(scm, {}, {})


def test_a_further_attempt_has_the_same_commit() -> None:
    former = Source(url=URL, commit=C, branch="main")
    assert revision(Scm(git=URL, branch="main"), {}, {}, former).commit == C


def test_a_pull_request_is_merged_into_its_base() -> None:
    data = {
        "repo": "git.example/web",
        "ref": "refs/pull/7/head",
        "commit": B,
        "number": "7",
        "base": "main",
        "head": "fix",
        "head_url": "https://git.example/fork.git",
    }
    want = revision(Scm(git=URL), data, {})
    assert want == Revision(
        url=URL,
        ref="refs/pull/7/head",
        commit=B,
        base="main",
        number=7,
        head="fix",
        head_url="https://git.example/fork.git",
    )
    assert revision(Scm(git=URL), data | {"head_url": "--x"}, {}).head_url == ""
    with pytest.raises(ValueError, match="the trigger names a ref"):
        revision(Scm(git=URL), data | {"base": "--exec=x"}, {})


def commit(name: str) -> Commit:
    return Commit(commit=A, author=name, email=f"{name}@x")


def test_culprits_pile_up_until_a_build_is_good() -> None:
    sources: dict[str, Seen] = {}
    first = Source(url=URL, commit=A, branch="main")
    note_source(sources, "j", first)
    note_good(sources, "j", first)
    assert sources["j main"] == Seen(A, A)
    who = culprits(sources["j main"], (commit("bob"), commit("ann")))
    assert who == ("ann <ann@x>", "bob <bob@x>"), "oldest first"
    second = Source(url=URL, commit=B, branch="main", culprits=who)
    note_source(sources, "j", second)
    who = culprits(sources["j main"], (commit("eve"), commit("ann")))
    third = Source(url=URL, commit=C, branch="main", culprits=who)
    assert who == ("ann <ann@x>", "bob <bob@x>", "eve <eve@x>")
    note_source(sources, "j", third)
    note_good(sources, "j", second)
    assert sources["j main"] == Seen(C, B, who), "what came later is still to be judged"
    note_good(sources, "j", third)
    assert sources["j main"] == Seen(C, C)


def test_a_pull_request_is_a_line_of_its_own() -> None:
    assert lane(Source(url=URL, commit=A, ref="refs/pull/7/head", number=7)) == "#7"
    assert lane(Source(url=URL, commit=A, ref="refs/tags/v1")) == "refs/tags/v1"


def test_the_oldest_branches_are_forgotten() -> None:
    sources: dict[str, Seen] = {}
    for number in range(MAX_SEEN + 3):
        note_source(sources, "j", Source(url=URL, commit=A, branch=str(number)))
    assert len(sources) == MAX_SEEN
    assert "j 2" not in sources
