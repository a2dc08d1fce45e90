"""Who is told of what: ends, questions and approvals held against what people want to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from rota.core.build import Build, Edge, Group, Trigger
from rota.core.codec import encode
from rota.core.events import NoticesQueued
from rota.core.job import Approve, Reason, Spec
from rota.core.notices import (
    Audience,
    audience,
    lane_of,
    look_at_end,
    look_at_questions,
    speaks_for_itself,
)
from rota.core.outbox import Broken, Outbox, Telling, end_mark, fold_queued
from rota.core.preferences import JobNotices, Preference
from rota.core.questions import Question
from rota.core.quiet import Quiet
from rota.core.scm import Source
from rota.core.states import Result, State
from rota.core.targets import Target, parse_target
from rota.core.users import Claim, User, Users
from rota.ports.journal import MAX_EVENT_BYTES

AT = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
ANN = "Ann Lee <ann@example.org>"
BOB = "Bob <bob@example.org>"


def target(text: str) -> Target:
    found = parse_target(text)
    assert isinstance(found, Target)
    return found


def wish(to: str, on: str = "first-failure fixed asked", **more: Any) -> Preference:
    return Preference(to=tuple(map(target, to.split())), on=tuple(on.split()), **more)


def everybody(
    users: Mapping[str, User] = {},
    channels: Sequence[Preference] = (),
    networks: str = "irc matrix mail pager",
    **more: Any,
) -> Audience:
    known = Users(
        {
            name: (user, tuple(Claim("mail", it) for it in user.emails))
            for name, user in users.items()
        }
    )
    return audience(known, channels, networks=networks.split(), outlets=["pager"], **more)


ann = User(emails=("ann@example.org",), chat={"matrix": ("@ann:example.org",)})
bob = User(emails=("bob@example.org", "bob@home.example"))
TEAM = wish("irc:#web", jobs=("web/**", "web"))
BOTH = everybody({"ann": ann, "bob": bob}, [TEAM])


def build(
    id_: str = "b1",
    job: str = "web",
    number: int = 1,
    result: Result = Result.FAILED,
    culprits: Sequence[str] = (ANN,),
    *,
    at: float = 0,
    seq: int = 1,
    reason: Reason = Reason.SCRIPT,
    branch: str = "main",
    **more: Any,
) -> Build:
    source = Source(url="u", commit="c" * 40, branch=branch, culprits=tuple(culprits))
    return Build(
        id=id_,
        job=job,
        number=number,
        state=State.FINISHED,
        result=result,
        reason=reason,
        attempt=1,
        requested_at=AT,
        finished_at=AT + timedelta(seconds=at),
        seq=seq,
        **{"source": source if culprits else None, "trigger": Trigger(kind="push"), **more},
    )


def told(telling: Telling | None) -> list[tuple[str, str, str]]:
    if telling is None:
        return []
    return [(t.ref, due.target, due.occasion) for t in telling.tales for due in t.notices]


class Story:
    """Ends that are looked at in turn, each folded before the next."""

    def __init__(self, whom: Audience = BOTH) -> None:
        self.whom, self.outbox = whom, Outbox()

    def __call__(self, it: Build, *tree: Build) -> list[tuple[str, str, str]]:
        telling = look_at_end(self.whom, it, tree, self.outbox.broken, AT)
        if telling is not None:
            fold_queued(self.outbox, {it.id: it}, [telling], AT)
        return told(telling)


def test_who_broke_it_is_told_directly_and_once_and_the_channel_too() -> None:
    story = Story()
    assert story(build("1", number=1)) == [
        ("web#1", "matrix:@ann", "first-failure"),
        ("web#1", "irc:#web", "first-failure"),
    ]
    assert story(build("2", number=2)) == []
    assert story(build("3", number=3, culprits=[ANN, BOB])) == [
        ("web#3", "mail:@bob", "first-failure")
    ], "his first failure, though not the first of all"
    assert story(build("4", number=4, result=Result.PASSED, culprits=[])) == []
    assert story(build("5", number=5, result=Result.PASSED)) == [
        ("web#5", "matrix:@ann", "fixed"),
        ("web#5", "mail:@bob", "fixed"),
        ("web#5", "irc:#web", "fixed"),
    ]
    assert story(build("6", number=6, result=Result.PASSED)) == []
    assert len(story(build("7", number=7))) == 2, "broken anew"


def test_several_committers_are_each_told() -> None:
    assert {to for _, to, _ in Story()(build(culprits=[ANN, BOB]))} == {
        "matrix:@ann",
        "mail:@bob",
        "irc:#web",
    }


def test_branches_break_apart_from_each_other() -> None:
    story = Story()
    assert story(build("1"))
    assert story(build("2", branch="next")), "its own first failure"
    assert not story(build("3", branch="next"))
    assert story(build("4", result=Result.PASSED, branch="next"))
    assert not story(build("5"))


def test_who_is_no_user_is_told_nothing_and_what_nobody_is_told_leaves_no_trace() -> None:
    story = Story(everybody({"bob": bob}))
    assert story(build()) == []
    assert story.outbox == Outbox()


def test_what_is_no_ones_fault_is_told_to_channels_and_who_asked() -> None:
    for reason, result in (
        (Reason.LOST, Result.LOST),
        (Reason.AGENT_ERROR, Result.ERRORED),
        (Reason.CHECKOUT, Result.ERRORED),
    ):
        it = build(result=result, reason=reason, trigger=Trigger(by="bob"))
        assert [to for _, to, _ in Story()(it)] == ["mail:@bob", "irc:#web"]


def test_what_was_cancelled_superseded_or_waited_in_vain_is_told_to_nobody() -> None:
    for reason in (Reason.CANCELLED, Reason.SUPERSEDED, Reason.UNMET, Reason.REJECTED):
        assert Story()(build(result=Result.CANCELLED, reason=reason)) == []
    whom = everybody({}, [wish("irc:#all", "always")])
    cancelled = build(result=Result.CANCELLED, reason=Reason.CANCELLED)
    assert Story(whom)(cancelled) == [("web#1", "irc:#all", "always")]
    superseded = build(result=Result.CANCELLED, reason=Reason.SUPERSEDED)
    assert Story(whom)(superseded) == []


def test_names_in_commits_of_a_fork_are_nobodys_word() -> None:
    fork = Trigger(kind="pull", data={"fork": "true", "number": "7"})
    assert [to for _, to, _ in Story()(build(trigger=fork))] == ["irc:#web"]
    spam = Spec(notify=JobNotices((wish("mail:victim@x.example", "always", whose="all"),)))
    assert [to for _, to, _ in Story()(build(trigger=fork, spec=spam))] == ["irc:#web"]
    waiting = replace(
        build(trigger=fork, spec=spam),
        state=State.HELD,
        result=None,
        finished_at=None,
        held=("approval",),
        asked_at=AT,
    )
    [telling] = look_at_questions(BOTH, waiting, set(), AT)
    assert [to for _, to, _ in told(telling)] == ["irc:#web"]


def test_flaky_tests_are_nobodys_fault() -> None:
    it = build(trigger=Trigger(by="bob"))
    telling = look_at_end(BOTH, it, (), {}, AT, flaky={it.id})
    assert [to for _, to, _ in told(telling)] == ["mail:@bob", "irc:#web"]


def test_a_header_says_who_is_told() -> None:
    own = Spec(notify=JobNotices((wish("irc:#own", "always", whose="all"),)))
    assert [to for _, to, _ in Story()(build(spec=own))] == ["matrix:@ann", "irc:#own"]
    none = Spec(notify=JobNotices((), committers=False))
    assert Story()(build(spec=none)) == []
    quiet = Spec(notify=JobNotices(committers=False))
    assert [to for _, to, _ in Story()(build(spec=quiet))] == ["irc:#web"]
    eager = replace(ann, preferences=(wish("matrix", "failed", whose="all"),))
    whom = everybody({"ann": eager})
    assert [to for _, to, _ in Story(whom)(build(spec=none))] == ["matrix:@ann"], "she asked"


def test_what_a_user_says_counts() -> None:
    def of(*wishes: Preference, it: Build | None = None) -> list[tuple[str, str]]:
        whom = everybody({"ann": replace(ann, preferences=wishes)})
        return [(to, what) for _, to, what in Story(whom)(it or build())]

    assert of() == [], "nothing is nothing"
    assert of(wish("mail", "passed")) == []
    assert of(wish("mail irc:#me pager", "failed")) == [
        ("mail:@ann", "failed"),
        ("irc:#me", "failed"),
        ("pager", "failed"),
    ]
    assert of(wish("mail", jobs=("app",))) == []
    assert of(wish("mail"), wish("mail", "always")) == [("mail:@ann", "first-failure")]
    assert of(wish("slack")) == [], "that is not set up"
    good = build(result=Result.PASSED, culprits=[BOB])
    assert of(wish("mail", "passed"), it=good) == []
    assert of(wish("mail", "passed", whose="all"), it=good) == [("mail:@ann", "passed")]


def test_only_what_is_fixed() -> None:
    whom = everybody({}, [wish("irc:#web", "fixed")])
    story = Story(whom)
    assert story(build("1")) == []
    assert story(build("2", number=2, result=Result.PASSED)) == [("web#2", "irc:#web", "fixed")]
    assert story(build("3", result=Result.PASSED)) == []


def test_one_place_is_told_once_whatever_it_is_called() -> None:
    whom = everybody({"ann": replace(ann, chat={})}, [wish("mail:Ann@Example.org", "always")])
    assert [to for _, to, _ in Story(whom)(build())] == ["mail:@ann"]
    twice = everybody({}, [TEAM, wish("irc:#web", "always")])
    assert len(Story(twice)(build())) == 1


def test_quiet_hours_are_for_persons() -> None:
    asleep = replace(
        ann, quiet=Quiet(11 * 60, 13 * 60), preferences=(wish("matrix irc:#me pager"),)
    )
    whom = everybody({"ann": asleep}, [TEAM])
    telling = look_at_end(whom, build(), (), {}, AT)
    assert telling is not None
    after = {due.target: due.after for due in telling.tales[0].notices}
    until = AT + timedelta(hours=1)
    assert after == {"matrix:@ann": until, "irc:#me": None, "pager": until, "irc:#web": None}


def test_a_tree_is_told_once_when_its_root_ends() -> None:
    unit = build("u", "web/unit", seq=1, pipeline="r", culprits=[ANN])
    lint = build("l", "web/lint", seq=2, pipeline="r", culprits=[BOB])
    other = build("o", "app", seq=3, pipeline="r", result=Result.PASSED, culprits=[])
    root = build("r", "web", seq=4, at=9, result=Result.CANCELLED, reason=Reason.UNMET, culprits=[])
    running = replace(root, state=State.RUNNING, finished_at=None, result=None)
    assert not speaks_for_itself(unit, running)
    assert not speaks_for_itself(unit, root)
    assert speaks_for_itself(root, root)
    assert speaks_for_itself(unit, None)
    story = Story()
    assert story(root, unit, lint, other) == [
        ("web#1", "matrix:@ann", "first-failure"),
        ("web#1", "mail:@bob", "first-failure"),
        ("web#1", "irc:#web", "first-failure"),
    ]
    [notice] = story.outbox.queues["irc:#web"].notices
    assert notice.failed == ("u", "l")
    assert story(replace(root, id="r2", number=2), replace(unit, id="u2")) == []


def test_who_cares_for_a_part_of_a_tree_alone_is_told_of_that() -> None:
    whom = everybody({}, [wish("irc:#unit", jobs=("web/unit",)), wish("irc:#all", jobs=("web*",))])
    unit = build("u", "web/unit", pipeline="r")
    root = build("r", "web", at=9, result=Result.CANCELLED, reason=Reason.UNMET)
    assert Story(whom)(root, unit) == [
        ("web#1", "irc:#all", "first-failure"),
        ("web/unit#1", "irc:#unit", "first-failure"),
    ]


def test_a_failure_under_a_root_that_passes_is_told_all_the_same() -> None:
    unit = build("u", "web/unit", pipeline="r")
    lint = build("l", "web/lint", seq=2, pipeline="r", culprits=[BOB])
    root = build("r", "web", at=9, result=Result.PASSED)
    assert Story()(root, unit, lint) == [
        ("web/unit#1", "matrix:@ann", "first-failure"),
        ("web/unit#1", "mail:@bob", "first-failure"),
        ("web/unit#1", "irc:#web", "first-failure"),
    ]
    late = replace(unit, finished_at=AT + timedelta(seconds=20))
    assert speaks_for_itself(late, root)
    assert Story()(root, late) == []


def test_of_a_matrix_the_group_speaks() -> None:
    cells = [build(f"c{n}", seq=n, cell={"n": n}, parent="g", pipeline="g") for n in (1, 2)]
    edges = tuple(Edge(it.id, it.job, result=it.result, number=1) for it in cells)
    group = build("g", at=9, reason=Reason.GROUP, culprits=[], group=Group(edges))
    assert not speaks_for_itself(cells[0], group)
    assert Story()(group, *cells) == [
        ("web#1", "matrix:@ann", "first-failure"),
        ("web#1", "irc:#web", "first-failure"),
    ]


def test_an_approval_is_asked_of_those_who_may_give_it() -> None:
    whom = everybody({"ann": ann, "bob": bob}, [TEAM], groups={"release": ["ann", "bob"]})
    approve = Approve(who=("@release",), self_approval=False)
    waiting = replace(
        build(trigger=Trigger(by="bob")),
        state=State.HELD,
        result=None,
        finished_at=None,
        held=("approval",),
        asked_at=AT,
        spec=Spec(approve=approve),
    )
    [telling] = look_at_questions(whom, waiting, set(), AT)
    assert told(telling) == [
        ("web#1", "matrix:@ann", "asked"),
        ("web#1", "irc:#web", "asked"),
    ]
    assert not list(look_at_questions(whom, waiting, {telling.mark}, AT))
    again = replace(waiting, asked_at=AT + timedelta(hours=1))
    assert list(look_at_questions(whom, again, {telling.mark}, AT)), "asked anew after a retry"


def test_a_question_is_asked_of_whom_it_names_or_of_who_asked_for_the_build() -> None:
    question = Question(number=1, attempt=1, text="1.4?", at=AT, who=("bob",))
    running = replace(
        build(trigger=Trigger(by="ann")),
        state=State.RUNNING,
        result=None,
        finished_at=None,
        questions=(question,),
    )
    [telling] = look_at_questions(everybody({"ann": ann, "bob": bob}), running, set(), AT)
    assert told(telling) == [("web#1", "mail:@bob", "asked")]
    anybody = replace(running, questions=(replace(question, who=()),))
    [telling] = look_at_questions(everybody({"ann": ann, "bob": bob}), anybody, set(), AT)
    assert told(telling) == [("web#1", "matrix:@ann", "asked")]
    settled = replace(running, questions=(replace(question, timed_out=True),))
    assert not list(look_at_questions(BOTH, settled, set(), AT))


def test_a_session_is_an_identity_as_long_as_it_lasts() -> None:
    known = everybody({"bob": replace(bob, emails=())}, sessions={"irc": {"session:1": "bob"}})
    by_hand = build(culprits=[], trigger=Trigger(by="bob"))
    assert told(look_at_end(known, by_hand, (), {}, AT)) == [("web#1", "irc:@bob", "first-failure")]


def test_an_event_holds_what_is_told_of_one_end() -> None:
    eager = replace(ann, preferences=(wish("mail", "always", whose="all"),), chat={})
    whom = everybody(
        {f"user-{n}": replace(eager, emails=(f"{n}@example.org",)) for n in range(5000)}
    )
    telling = look_at_end(whom, build(), (), {}, AT)
    assert len(told(telling)) == 2000
    assert telling is not None
    assert len(encode(NoticesQueued(at=AT, tellings=(telling,)))) < MAX_EVENT_BYTES / 2


def test_lanes() -> None:
    assert lane_of(build()) == "web main"
    assert lane_of(build(culprits=[])) == "web "
    pull = Trigger(kind="pull", data={"number": "7", "branch": "main"})
    assert lane_of(build(culprits=[], trigger=pull)) == "web #7"


def test_what_is_broken_says_since_when() -> None:
    story = Story()
    story(build("1", number=1))
    story(build("2", number=2, culprits=[ANN, BOB]))
    [notice] = story.outbox.queues["mail:@bob"].notices
    assert notice.since == "web#1"
    story(build("3", number=3, result=Result.PASSED))
    assert story.outbox.queues["irc:#web"].notices[-1].since == "web#1"
    assert story.outbox.broken == {}


def test_an_end_has_one_mark_and_another_end_another() -> None:
    first = build()
    assert end_mark(first) == end_mark(replace(first, seq=9))
    assert end_mark(first) != end_mark(build(at=1))


def test_broken_is_told_of_the_build_that_broke_it() -> None:
    broken = {"web main": Broken("web#1", "1", ("@ann",))}
    telling = look_at_end(BOTH, build("2", number=2), (), broken, AT)
    assert told(telling) == [("web#2", "irc:#web", "first-failure")], "the channel is new"


def test_who_may_not_see_a_job_is_told_nothing_of_it() -> None:
    eager = replace(ann, preferences=(wish("mail", "failed", whose="all"),))
    whom = everybody({"ann": eager})
    assert [to for _, to, _ in Story(whom)(build())] == ["mail:@ann"]
    blind = replace(whom, sees=lambda user, job: (user, job) != ("ann", "web"))
    assert Story(blind)(build()) == []
