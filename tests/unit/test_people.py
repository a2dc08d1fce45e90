"""Approvals and questions in the fold: in any order, repeated, late."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.facts import moment
from tests.harness.folding import fold

from rota.core.build import Build, Edge, Group
from rota.core.cluster import Cluster
from rota.core.decide import Expire, View, decide
from rota.core.events import (
    BuildAnswered,
    BuildApproved,
    BuildAsked,
    BuildCancelled,
    BuildEvent,
    BuildFinished,
    BuildRejected,
    BuildRequested,
    BuildRetried,
    BuildStarted,
    LeaderElected,
    PipelineRequested,
    Wanted,
)
from rota.core.header import parse_header
from rota.core.job import Approve, Finaliser, ParamValue, Reason, Retry, Spec
from rota.core.people import asked_text, open_questions, resolved
from rota.core.questions import Question
from rota.core.retries import retry_delay_s, wants_retry
from rota.core.settings import parse_settings
from rota.core.states import Result, State


class Story:
    def __init__(self) -> None:
        self.cluster = Cluster()

    def fold(self, event: object) -> None:
        fold(self.cluster, self.cluster.picture.seq + 1, event)  # type: ignore[arg-type]

    def request(self, build: str = "a", *, needs: tuple[Edge, ...] = (), **approve: object) -> None:
        spec = Spec(approve=Approve(**approve))  # type: ignore[arg-type]
        self.fold(
            BuildRequested(at=moment(), by="ann", build=build, job=build, spec=spec, needs=needs)
        )

    def run(self, build: str = "a", attempt: int = 1) -> None:
        self.fold(BuildStarted(at=moment(1), agent="p", build=build, attempt=attempt))

    def ask(self, key: str, attempt: int = 1, **fields: object) -> None:
        asked = Question(
            number=99,
            attempt=attempt,
            text=key + "?",
            key=key,
            at=moment(2),
            **fields,  # type: ignore[arg-type]
        )
        self.fold(BuildAsked(at=moment(2), agent="p", build="a", question=asked))

    def answer(
        self, number: int, value: ParamValue | None = None, *, timed_out: bool = False
    ) -> None:
        self.fold(
            BuildAnswered(
                at=moment(3),
                by="bob",
                build="a",
                question=number,
                answer=value,
                timed_out=timed_out,
            )
        )

    def __getitem__(self, build: str) -> Build:
        return self.cluster.picture.builds[build]


def test_a_build_that_has_to_be_approved_is_held_until_it_is() -> None:
    story = Story()
    story.request()
    assert (story["a"].state, story["a"].held) == (State.HELD, ("approval",))
    assert story["a"].asked_at == moment()
    story.fold(BuildApproved(at=moment(1), by="bob", build="a", why="fine"))
    assert (story["a"].state, story["a"].held) == (State.QUEUED, ())
    said = story["a"].approval
    assert said is not None
    assert (said.by, said.approved, said.why) == ("bob", True, "fine")
    story.fold(BuildRejected(at=moment(2), by="eve", build="a"))
    assert (story["a"].state, story["a"].approval) == (State.QUEUED, said)


@pytest.mark.parametrize(
    ("timed_out", "result", "reason"),
    [(False, Result.CANCELLED, Reason.REJECTED), (True, Result.TIMED_OUT, Reason.TIMEOUT)],
)
def test_a_rejected_build_is_over_and_a_retry_asks_again(
    timed_out: bool, result: Result, reason: Reason
) -> None:
    story = Story()
    story.request()
    story.fold(BuildRejected(at=moment(1), by="bob", build="a", why="no", timed_out=timed_out))
    build = story["a"]
    assert (build.state, build.result, build.reason) == (State.FINISHED, result, reason)
    story.fold(BuildApproved(at=moment(2), by="bob", build="a"))
    assert story["a"].result is result
    story.fold(BuildRetried(at=moment(3), by="ann", build="a", record=story["a"]))
    assert (story["a"].state, story["a"].approval) == (State.HELD, None)
    assert story["a"].asked_at == moment(3)
    story.fold(BuildApproved(at=moment(4), by="bob", build="a"))
    assert story["a"].held == ()


def test_who_approves_is_asked_once_what_comes_first_has_ended() -> None:
    story = Story()
    story.fold(BuildRequested(at=moment(), build="n", job="n", spec=Spec()))
    story.request(needs=(Edge(build="n", job="n", results=(Result.PASSED,)),), timeout_s=60.0)
    assert (story["a"].state, story["a"].asked_at) == (State.HELD, None)
    assert story.cluster.due == []
    story.run("n")
    story.fold(
        BuildFinished(
            at=moment(9), agent="p", build="n", attempt=1, reason=Reason.SCRIPT, exit_code=0
        )
    )
    assert story["a"].asked_at == moment(9)
    assert story.cluster.due == [(moment(9) + timedelta(seconds=60), "a", 0)]
    story.fold(BuildApproved(at=moment(10), by="bob", build="a"))
    assert story["a"].state is State.QUEUED
    assert story.cluster.due == []


def test_a_yes_before_what_comes_first_has_ended_counts() -> None:
    story = Story()
    story.fold(BuildRequested(at=moment(), build="n", job="n", spec=Spec()))
    story.request(needs=(Edge(build="n", job="n"),))
    story.fold(BuildApproved(at=moment(1), by="bob", build="a"))
    assert (story["a"].state, story["a"].held) == (State.HELD, ())
    story.fold(BuildCancelled(at=moment(2), by="bob", build="n"))
    assert story["a"].state is State.QUEUED


@pytest.mark.parametrize("is_good", [True, False])
def test_a_groups_approval_is_that_of_its_cells(is_good: bool) -> None:
    story = Story()
    spec = Spec(approve=Approve())
    cells = tuple(Wanted(build=c, job="g", parent="g", cell={"x": c}) for c in "ab")
    group = Wanted(
        build="g", job="g", group=Group(cells=tuple(Edge(build=c, job="g") for c in "ab"))
    )
    story.fold(PipelineRequested(at=moment(), pipeline="g", builds=(*cells, group), specs=(spec,)))
    assert [story[b].state for b in "abg"] == [State.HELD] * 3
    assert [story[b].held for b in "abg"] == [(), (), ("approval",)]
    if is_good:
        story.fold(BuildApproved(at=moment(1), by="bob", build="g"))
        assert [story[b].state for b in "abg"] == [State.QUEUED, State.QUEUED, State.HELD]
        return
    story.fold(BuildRejected(at=moment(1), by="bob", build="g", why="no"))
    assert [story[b].state for b in "abg"] == [State.FINISHED] * 3
    assert (story["g"].reason, story["g"].message) == (Reason.REJECTED, "no")


def test_the_first_answer_that_fits_counts() -> None:
    story = Story()
    story.request()
    story.ask("early")
    assert story["a"].last_seq == 2
    assert open_questions(story["a"]) == ()
    story.fold(BuildApproved(at=moment(), by="bob", build="a"))
    story.run()
    story.ask("x", type="int")
    story.ask("x", type="int")  # the same, written twice
    story.ask("y", choices=("p", "q"))
    assert [it.number for it in open_questions(story["a"])] == [1, 2]
    story.answer(1, "many")
    story.answer(2, "r")
    story.answer(7, "p")
    assert len(open_questions(story["a"])) == 2
    story.answer(2, "q")
    story.answer(2, "p")
    said = [(it.answer, it.by) for it in story["a"].questions]
    assert said == [(None, ""), ("q", "bob")]
    story.answer(1, timed_out=True)
    story.answer(1, 5)
    assert [it.timed_out for it in story["a"].questions] == [True, False]
    assert open_questions(story["a"]) == ()


def test_a_question_is_its_attempts() -> None:
    story = Story()
    spec = Spec(retry=Retry(times=1, on=(Reason.SCRIPT,)))
    story.fold(BuildRequested(at=moment(), build="a", job="a", spec=spec))
    story.run()
    story.ask("x")
    story.fold(
        BuildFinished(
            at=moment(9), agent="p", build="a", attempt=1, reason=Reason.SCRIPT, exit_code=1
        )
    )
    story.run(attempt=2)
    assert open_questions(story["a"]) == ()
    story.answer(1, "late")
    story.ask("old", attempt=1)
    assert [it.answer for it in story["a"].questions] == [None]
    story.ask("x2", attempt=2)
    assert [it.number for it in open_questions(story["a"])] == [2]


def test_only_the_leader_says_that_time_is_over_and_says_it_once() -> None:
    story = Story()
    story.request(timeout_s=10.0)
    story.fold(LeaderElected(at=moment(), agent="p"))

    def effects(at_s: int, name: str = "p", **view: object) -> list[Expire]:
        mine = View(name=name, labels={}, slots=0, leads=name == "p", **view)  # type: ignore[arg-type]
        decision = decide(story.cluster, mine, moment(at_s))
        return [it for it in decision.effects if isinstance(it, Expire)]

    assert effects(9) == []
    assert effects(11, "q") == []
    assert effects(11) == [Expire(build="a", question=0, fence=2)]
    assert effects(11, expiring={("a", 0)}) == []
    view = View(name="p", labels={}, slots=0, leads=True, since_seal_s=None)
    assert decide(story.cluster, view, moment(9)).wake_at == moment(10)


EVENTS = st.lists(
    st.sampled_from(["approve", "reject", "late", "start", "ask", "answer", "over", "finish"]),
    max_size=30,
)


@given(EVENTS)
def test_whatever_is_said_in_whatever_order_each_thing_is_settled_once(words: list[str]) -> None:
    story = Story()
    story.request(timeout_s=5.0)
    answers: dict[int, object] = {}
    said = None
    for n, word in enumerate(words):
        attempt = max(1, story["a"].attempt)
        events: dict[str, BuildEvent] = {
            "approve": BuildApproved(at=moment(n), by="x", build="a"),
            "reject": BuildRejected(at=moment(n), by="y", build="a"),
            "late": BuildRejected(at=moment(n), by="p", build="a", timed_out=True),
            "start": BuildStarted(at=moment(n), agent="p", build="a", attempt=1),
            "ask": BuildAsked(
                at=moment(n),
                build="a",
                question=Question(
                    number=1, attempt=attempt, text="?", key=str(n), at=moment(n), until=moment(n)
                ),
            ),
            "answer": BuildAnswered(at=moment(n), by="z", build="a", question=n % 3, answer=str(n)),
            "over": BuildAnswered(at=moment(n), by="p", build="a", question=n % 3, timed_out=True),
            "finish": BuildFinished(
                at=moment(n), agent="p", build="a", attempt=1, reason=Reason.SCRIPT, exit_code=0
            ),
        }
        story.fold(events[word])
        build = story["a"]
        assert said is None or build.approval == said
        said = build.approval
        for question in build.questions:
            if question.is_settled:
                assert answers.setdefault(question.number, question) == question
        assert build.state is State.HELD or said is not None


def test_names_and_groups_come_to_people() -> None:
    groups = {"release": ("ann", "bob")}
    assert resolved(("eve", "@release", "@none"), groups) == {"eve", "ann", "bob"}


def script(*lines: str) -> str:
    body = "".join(f"# {line}\n" for line in ("/// script", "[tool.rota]", *lines, "///"))
    return f"#!/bin/sh\n{body}"


def test_a_header_says_who_approves_and_what_comes_last() -> None:
    job, problems = parse_header(
        script(
            'approve = { who = ["ann", "@release"], text = "{v}?", timeout = "1d", self = false }',
            'finally = { run = "rm -rf x", timeout = "2m", required = true }',
            'retry = { times = 3, delay = "1s", max_delay = "9s", jitter = 0.5, exit_codes = [75] }',
            'params = { v = "1" }',
        ),
        name="j",
        path="j",
    )
    assert problems == ()
    assert job is not None
    assert job.spec.approve == Approve(
        who=("ann", "@release"), text="{v}?", timeout_s=86400.0, self_approval=False
    )
    assert job.spec.finaliser == Finaliser(run="rm -rf x", timeout_s=120.0, required=True)
    assert job.spec.retry.exit_codes == (75,)
    story = Story()
    story.fold(BuildRequested(at=moment(), build="a", job="a", spec=job.spec, params={"v": "1.4"}))
    assert asked_text(story["a"]) == "1.4?"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "approve = []",
            "approve is empty, so that nobody could approve (leave it out for anybody)",
        ),
        (
            'approve = ["an n"]',
            (
                "approve[1] is no name of a person or group: 'an n' (a name such as ann, or a group of"
                " settings.toml such as @release)"
            ),
        ),
        (
            'approve = { text = "{version}" }',
            (
                "approve.text asks for {version}, which is no parameter of the job (its parameters:"
                " none)"
            ),
        ),
        ('finally = ""', "finally is empty, so that nothing would run (such as finally ="),
        (
            'finally = { timeout = "1m" }',
            'finally needs run (such as run = "docker rm -f web")',
        ),
        ("finally = 3", "finally must be a string or a table, not an integer (such as finally ="),
        ("retry = { times = 1, jitter = 2 }", "retry.jitter must be a number from 0 to 1"),
        (
            "retry = { times = 1, exit_codes = [0] }",
            "retry.exit_codes[1] must be between 1 and 255",
        ),
    ],
)
def test_faults_are_told(line: str, fault: str) -> None:
    _, problems = parse_header(script(line), name="j", path="j")
    (found,) = [f"{it.message} ({it.hint})" for it in problems]
    assert found.startswith(fault)


def test_groups_stand_in_the_settings() -> None:
    settings, problems = parse_settings('[groups]\nrelease = ["ann", "bob"]\n')
    assert (settings.groups, problems) == ({"release": ("ann", "bob")}, ())
    _, problems = parse_settings('[groups]\na = ["@b"]\n')
    assert [it.message for it in problems] == ["groups.a has the group @b in it"]


def test_a_retry_is_for_its_exit_codes_alone_and_waits_as_told() -> None:
    story = Story()
    policy = Retry(times=9, delay_s=10.0, max_delay_s=25.0, jitter=0.5, exit_codes=(75,))
    story.fold(BuildRequested(at=moment(), build="a", job="a", spec=Spec(retry=policy)))
    for attempt in (1, 2, 3):
        story.run(attempt=attempt)
        story.fold(
            BuildFinished(
                at=moment(9),
                agent="p",
                build="a",
                attempt=attempt,
                reason=Reason.SCRIPT,
                exit_code=75,
            )
        )
        build = story["a"]
        assert build.state is State.QUEUED
        assert build.not_before is not None
        wait_s = (build.not_before - moment(9)).total_seconds()
        most_s = min(10.0 * 2 ** (attempt - 1), 25.0)
        assert most_s / 2 <= wait_s <= most_s
        assert wait_s == pytest.approx(retry_delay_s(build), abs=1e-5)
    story.run(attempt=4)
    story.fold(
        BuildFinished(
            at=moment(9), agent="p", build="a", attempt=4, reason=Reason.SCRIPT, exit_code=1
        )
    )
    assert story["a"].state is State.FINISHED
    assert not wants_retry(story["a"])
