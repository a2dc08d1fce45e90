"""Looking for pushes: which refs count, what is news, and that nothing is told twice."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from tests.harness.facts import moment

from rota.core.cluster import Cluster
from rota.core.definitions import Definitions, check_tree
from rota.core.events import ScmChanged, ScmSeen
from rota.core.fold import apply
from rota.core.polling import Poll, news, polls
from rota.core.reactions import Rules, react

A, B, C = "a" * 40, "b" * 40, "c" * 40
URL = "https://git.example/web.git"
REPO = "git.example/web"
ALL = Poll(URL, 60.0, frozenset([("*",)]), frozenset([("v*",)]))


def defined(**headers: str) -> Definitions:
    files = {
        f"jobs/{name}": f"#!/bin/sh\n# /// script\n# [tool.rota]\n# {text}\n# ///\n".encode()
        for name, text in headers.items()
    }
    found, problems = check_tree(files)
    assert not problems
    return found


class Server:
    """A repository, and the journal of those who look at it."""

    def __init__(self, poll: Poll = ALL) -> None:
        self.poll, self.cluster, self.seq = poll, Cluster(), 0
        self.keys: set[str] = set()

    def look(self, refs: Mapping[str, str]) -> list[tuple[str, str, str]]:
        """Look, write what is new, and return what of that was news."""
        told: list[tuple[str, str, str]] = []
        tips = self.cluster.picture.tips
        for event in list(news(self.poll, refs, tips, at=moment(), agent="a")):
            assert event.id not in self.keys, "an id stands for one event"
            self.keys.add(event.id)
            self.seq += 1
            change = apply(self.cluster, self.seq, event)
            if isinstance(event, ScmChanged):
                assert change.is_news
                told.append((event.what, event.ref, event.new))
        return told


def test_what_was_there_before_is_no_news() -> None:
    server = Server()
    refs = {"refs/heads/main": A, "refs/heads/old": A, "refs/tags/v1": A, "HEAD": "refs/heads/main"}
    assert server.look(refs) == []
    assert server.look(refs) == []
    refs["refs/heads/main"] = B
    refs["refs/heads/new"] = C
    refs["refs/tags/v2"] = C
    assert server.look(refs) == [
        ("push", "refs/heads/main", B),
        ("push", "refs/heads/new", C),
        ("tag", "refs/tags/v2", C),
    ]
    assert server.look(refs) == []


def test_who_looks_for_more_refs_than_before_takes_those_as_they_are() -> None:
    server = Server(Poll(URL, 60.0, frozenset([("main",)])))
    refs = {"refs/heads/main": A, "refs/heads/old": A}
    assert server.look(refs) == []
    server.poll = ALL
    refs["refs/heads/main"] = B
    assert server.look(refs) == [("push", "refs/heads/main", B)]
    server.poll = Poll(URL, 60.0, frozenset([("main",)]))
    assert server.look(refs) == []
    server.poll = ALL
    assert server.look(refs) == []
    refs["refs/heads/new"] = A
    assert server.look(refs) == [("push", "refs/heads/new", A)]


def test_a_branch_that_goes_and_comes_again() -> None:
    server = Server()
    refs = {"refs/heads/main": A, "refs/heads/x": A}
    server.look(refs)
    del refs["refs/heads/x"]
    assert server.look(refs) == [("removed", "refs/heads/x", "")]
    assert server.look(refs) == []
    refs["refs/heads/x"] = A
    assert server.look(refs) == [("push", "refs/heads/x", A)]


def test_a_push_that_a_webhook_told_of_is_not_told_again() -> None:
    server = Server()
    server.look({"refs/heads/main": A})
    hook = ScmChanged(
        at=moment(), id="h", what="push", repo=REPO, ref="refs/heads/main", old=A, new=B
    )
    server.seq += 1
    assert apply(server.cluster, server.seq, hook).is_news
    assert server.look({"refs/heads/main": B}) == []


@given(st.lists(st.dictionaries(st.sampled_from("wxyz"), st.sampled_from([A, B, C]))))
def test_whatever_moves_is_told_once_and_two_leaders_tell_the_same(
    states: list[dict[str, str]],
) -> None:
    server = Server()
    server.look({})
    before: dict[str, str] = {}
    for state in states:
        refs = {f"refs/heads/{name}": commit for name, commit in state.items()}
        tips = server.cluster.picture.tips
        one, other = ([e.id for e in news(ALL, refs, tips, at=moment(), agent=n)] for n in "ab")
        assert one == other
        told = server.look(refs)
        moved = {ref for ref in refs.keys() | before.keys() if refs.get(ref) != before.get(ref)}
        assert {ref for _, ref, _ in told} == moved
        before = refs


def test_jobs_say_what_is_looked_for() -> None:
    definitions = defined(
        a=f'scm = {{ git = "{URL}", branch = "main", poll = "2m" }}',
        b=f'scm = {{ git = "{URL}", poll = "1m" }}\n# on = [{{ push = "rel/*" }}, {{ tag = "v*" }}]',
        c=f'scm = "{URL}"\n# on = [{{ push = "x" }}]',
    )
    found = polls(definitions)
    assert found == {URL: Poll(URL, 60.0, frozenset([("main",), ("rel/*",)]), frozenset([("v*",)]))}
    assert found[URL].follows("refs/heads/rel/1")
    assert not found[URL].follows("refs/heads/x")


def test_a_job_that_polls_is_started_by_pushes_of_its_branch() -> None:
    rules = Rules(defined(a=f'scm = {{ git = "{URL}", branch = "main", poll = "2m" }}'))
    for branch, jobs in (("main", ["a"]), ("x", [])):
        event = ScmChanged(
            at=moment(), id="h", what="push", repo=REPO, ref=f"refs/heads/{branch}", new=B
        )
        assert [it.job for it in react(rules, 1, event)] == jobs


def test_a_job_that_polls_must_say_for_what() -> None:
    text = (
        f'#!/bin/sh\n# /// script\n# [tool.rota]\n# scm = {{ git = "{URL}", poll = "1m" }}\n# ///\n'
    )
    _, problems = check_tree({"jobs/a": text.encode()})
    assert [str(it).partition(": ")[2] for it in problems] == [
        'scm polls, and it is not said for pushes of which branch (give it a branch, or on = [{ push = "main" }])'
    ]


def test_a_first_look_starts_nothing() -> None:
    rules = Rules(defined(a='on = [{ event = "scm.*" }]'))
    seen = ScmSeen(at=moment(), id="s", repo=REPO, what="x", refs={"refs/heads/main": A})
    assert react(rules, 1, seen) == ()
