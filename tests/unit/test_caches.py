"""Caches: what a header says of them, what keys come to, who is given which, and what goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.test_header import script

from rota.core.build import Build, Trigger
from rota.core.cache_entry import Entry
from rota.core.caches import KeyFaultError, best, fill_key, over, scope_of, scopes_of
from rota.core.header import parse_header
from rota.core.job import Cache, Job
from rota.core.states import State


def read(*lines: str) -> tuple[Job | None, list[str]]:
    job, problems = parse_header(script(*lines), name="web/test", path="j")
    return job, [str(problem) for problem in problems]


def test_a_header_names_keys_and_paths() -> None:
    job, problems = read(
        'caches = [ { key = "mvn-{hash:**/pom.xml}-{label:os}", paths = ["~/.m2/repository/", "./a"], '
        'restore = ["mvn-"], shared = true, save = "always" }, { key = "b", paths = ["b"] } ]'
    )
    assert problems == []
    assert job is not None
    assert job.spec.caches == (
        Cache(
            key="mvn-{hash:**/pom.xml}-{label:os}",
            paths=("~/.m2/repository", "a"),
            restore=("mvn-",),
            shared=True,
            save="always",
        ),
        Cache(key="b", paths=("b",)),
    )


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("caches = 'a'", "j:4:12: caches must be an array, not a string (such as caches = ["),
        ("caches = ['a']", "j:4:13: caches[1] must be a table, not a string (such as { key = "),
        ("caches = [{ key = 'a' }]", "j:4:13: caches[1] needs paths (such as paths = ["),
        ("caches = [{ paths = ['a'] }]", "j:4:13: caches[1] needs key (such as key = "),
        ("caches = [{ key = '', paths = ['a'] }]", "j:4:21: caches[1].key is empty"),
        (
            "caches = [{ key = 'a{b', paths = ['a'] }]",
            "j:4:23: caches[1].key has a lone '{'; write {{ for the brace itself",
        ),
        (
            "caches = [{ key = 'a{env:b}', paths = ['a'] }]",
            "j:4:23: caches[1].key has {env:b}, which stands for nothing ({hash:GLOB} of files",
        ),
        (
            "caches = [{ key = '{hash:../x}', paths = ['a'] }]",
            "j:4:22: caches[1].key hashes '../x', which leaves the workspace",
        ),
        (
            "caches = [{ key = '{v}', paths = ['a'] }]",
            "caches[1].key asks for {v}, which is no parameter (parameters: there are none)",
        ),
        (
            "caches = [{ key = 'a', paths = ['/etc'] }]",
            "j:4:35: caches[1].paths[1] must be relative, not '/etc' (paths are relative to the work",
        ),
        (
            "caches = [{ key = 'a', paths = ['a/../..'] }]",
            "j:4:35: caches[1].paths[1] leaves its folder: 'a/../..'",
        ),
        ("caches = [{ key = 'a', paths = ['.'] }]", "is the workspace as a whole (name the fol"),
        ("caches = [{ key = 'a', paths = ['~/'] }]", "is the home folder as a whole"),
        ("caches = [{ key = 'a', paths = ['~ann/x'] }]", "is somebody else's home folder"),
        ("caches = [{ key = 'a', paths = [] }]", "is empty, so that nothing would be kept"),
        (
            "caches = [{ key = 'a', paths = ['a', 'a/b'] }]",
            "caches[1].paths[2] 'a/b' is within 'a', which is cached as well",
        ),
        (
            "caches = [{ key = 'a', paths = ['a'] }, { key = 'b', paths = ['a'] }]",
            "caches[2].paths[1] names 'a' again",
        ),
        (
            "caches = [{ key = 'a', paths = ['a'], save = 'failed' }]",
            "caches[1].save cannot be 'failed' (known: passed, always, never)",
        ),
        (
            "caches = [{ key = 'a', paths = ['a'], keys = 'b' }]",
            "unknown key caches[1].keys (did you mean 'key'?)",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(lines: str, fault: str) -> None:
    job, problems = read(lines)
    assert job is None
    assert fault in problems[0]


def test_a_key_comes_to_what_its_parts_stand_for() -> None:
    def digest(globs: tuple[str, ...]) -> str:
        return "+".join(globs)

    labels = {"os": "linux", "docker": ""}
    text = "a-{hash:**/pom.xml, *.lock}-{label:os}-{label:docker}-{label:gpu}-{v}-{w}-{{}}"
    filled = fill_key(text, params={"v": 3, "w": True}, labels=labels, digest=digest)
    assert filled == "a-**/pom.xml+*.lock-linux-yes-no-3-true-{}"


def test_a_key_without_its_parameter_or_of_any_length_is_refused() -> None:
    with pytest.raises(KeyFaultError, match=r"asks for \{v\}, which this build has not"):
        fill_key("{v}", params={}, labels={}, digest=str)
    with pytest.raises(KeyFaultError, match="comes to 900 characters, the limit is 500"):
        fill_key("{v}", params={"v": "x" * 900}, labels={}, digest=str)


def entry(key: str, at: float) -> Entry:
    saved_at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    return Entry(
        scope="web", key=key, paths=("a",), parts=(1,), size=1, sha256="", saved_at=saved_at
    )


def test_the_very_key_goes_before_the_newest_of_a_prefix() -> None:
    entries = [entry("npm-1", 1), entry("npm-2", 2), entry("npm-3", 3), entry("mvn-1", 9)]
    found = best(iter(entries), "npm-2", ("npm-",))
    assert found is not None
    assert found.key == "npm-2"
    found = best(iter(entries), "npm-4", ("none-", "npm-", ""))
    assert found is not None
    assert found.key == "npm-3"
    assert best(iter(entries), "npm-4", ("none-",)) is None


def test_those_go_whose_use_is_longest_ago() -> None:
    sizes = [("a", 5, 3.0), ("b", 5, 1.0), ("c", 5, 2.0)]
    assert over(sizes, 15) == []
    assert over(sizes, 14) == ["b"]
    assert over(sizes, 5) == ["b", "c"]
    assert over(sizes, 0) == ["b", "c", "a"]


def a_build(job: str, data: dict[str, str] | None = None) -> Build:
    return Build(
        id="b1",
        job=job,
        number=1,
        state=State.RUNNING,
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
        trigger=Trigger(data=data or {}),
    )


def test_a_fork_reads_what_its_project_saved_and_saves_for_itself_alone() -> None:
    mine = a_build("web/test")
    assert scopes_of(mine) == ("web",)
    fork = a_build("web/test", data={"fork": "true", "number": "7", "url": "https://a/b"})
    other = a_build("web/test", data={"fork": "true", "number": "7", "url": "https://a/c"})
    own, shared = scopes_of(fork)
    assert shared == "web"
    assert own == scope_of(fork)
    assert own.startswith("web/pull/")
    assert scope_of(other) not in scopes_of(fork)
