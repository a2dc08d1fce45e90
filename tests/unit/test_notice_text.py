"""What notices say: to a person, to a channel, and of many at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from rota.core.build import Build, Edge, Group, Trigger
from rota.core.cases import Failure, Tally
from rota.core.job import Approve, Reason, Spec
from rota.core.notice_text import Facts, is_settled, last_lines, line, wording
from rota.core.outbox import Notice
from rota.core.questions import Question
from rota.core.scm import Commit, Source
from rota.core.states import Result, State

AT = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
SOURCE = Source(
    url="u",
    commit="1a2b3c4d5e6f" + "0" * 28,
    branch="main",
    changes=(
        Commit("1a2b3c4d5e6f" + "0" * 28, "Ann Lee", "ann@example.org", message="Add cart\n\nmore"),
        Commit("b" * 40, "Bob", message="Second\x1b[31m \x07one"),
    ),
    culprits=("Bob <bob@example.org>", "Ann Lee <ann@example.org>"),
)
TESTS = Tally(
    passed=310,
    failed=7,
    failures=tuple(
        Failure(test=f"shop.test_{n}", message="assert 3 == 4\nand more") for n in range(6)
    ),
)


def build(**more: Any) -> Build:
    given: dict[str, Any] = {
        "id": "b7",
        "job": "web",
        "number": 7,
        "state": State.FINISHED,
        "result": Result.FAILED,
        "reason": Reason.SCRIPT,
        "exit_code": 2,
        "attempt": 1,
        "requested_at": AT,
        "started_at": AT,
        "finished_at": AT + timedelta(seconds=65),
        **more,
    }
    return Build(**given)


def notice(target: str = "mail:@ann", occasion: str = "first-failure", **more: Any) -> Notice:
    user = target.partition("@")[2] if ":@" in target else ""
    given = {"id": "n", "build": "b7", "ref": "web#7", **more}
    return Notice(target=target, occasion=occasion, user=user, at=AT, **given)


def said(facts: Facts) -> list[str]:
    return wording([facts], left_out=0, base="https://ci.example").text.split("\n")


def test_a_person_is_told_all_that_helps() -> None:
    it = build(source=SOURCE, tests=TESTS, step="unit tests", message="")
    found = wording(
        [Facts(notice=notice(), build=it, tail="begin\n\x1b[1mFAILED\x1b[0m shop\n\n")],
        left_out=0,
        base="https://ci.example",
    )
    assert found.text == (
        "web#7 failed: exit code 2, in step unit tests, 317 tests, 7 failed\n"
        "of main, 1a2b3c4d5e\n"
        "commits since the build before:\n"
        "- 1a2b3c4d5e Ann Lee: Add cart\n"
        "- bbbbbbbbbb Bob: Second one\n"
        "tests that failed:\n"
        "- shop.test_0: assert 3 == 4 and more\n"
        "- shop.test_1: assert 3 == 4 and more\n"
        "- shop.test_2: assert 3 == 4 and more\n"
        "- shop.test_3: assert 3 == 4 and more\n"
        "- shop.test_4: assert 3 == 4 and more\n"
        "- and 2 more\n"
        "again: rota retry web#7"
    )
    assert found.code == "begin\nFAILED shop"
    assert found.link == "https://ci.example/v1/builds/b7"
    assert (found.tone, found.subject) == ("bad", said(Facts(notice=notice(), build=it))[0])
    assert found.thread.startswith("lane-")


def test_a_channel_is_told_a_line_without_addresses() -> None:
    it = build(source=SOURCE, tests=TESTS)
    assert said(Facts(notice=notice("irc:#web"), build=it)) == [
        (
            "web#7 failed: exit code 2, 317 tests, 7 failed; tests: shop.test_0, shop.test_1 and 5 more; "
            "commits of Bob, Ann Lee on main"
        )
    ]


def test_other_ends() -> None:
    def head(occasion: str = "failed", since: str = "", **more: Any) -> str:
        facts = Facts(notice=notice("irc:#web", occasion, since=since), build=build(**more))
        return said(facts)[0]

    assert head(since="web#5") == "web#7 failed again, since web#5: exit code 2"
    timeout: dict[str, Any] = {
        "reason": Reason.TIMEOUT,
        "result": Result.TIMED_OUT,
        "spec": Spec(timeout_s=60.0),
    }
    assert head(**timeout) == "web#7 timed out: ran longer than 1m"
    assert head(reason=Reason.OOM_KILLED) == "web#7 failed: out of memory"
    assert head(reason=Reason.SIGNAL, signal=11) == "web#7 failed: ended by signal 11"
    lost: dict[str, Any] = {"reason": Reason.LOST, "result": Result.LOST, "message": "a is\nsilent"}
    assert head(**lost) == "web#7 lost: a is silent"
    passed: dict[str, Any] = {"result": Result.PASSED, "exit_code": 0}
    assert head("passed", **passed) == "web#7 passed in 1m5s"
    assert head("fixed", "web#5", **passed) == "web#7 is fixed: web#5 had failed"
    cancelled: dict[str, Any] = {"reason": Reason.CANCELLED, "result": Result.CANCELLED}
    assert head("always", **cancelled) == "web#7 cancelled"
    facts = Facts(notice=notice("irc:#web"))
    assert said(facts) == ["web#7: first-failure, and its record is gone"]


def test_a_tree_and_a_matrix_name_what_failed() -> None:
    root = build(reason=Reason.UNMET, result=Result.CANCELLED, exit_code=None)
    unit = build(id="u", job="web/unit", number=3, pipeline="b7", tests=TESTS)
    lines = said(Facts(notice=notice(), build=root, failed=(unit,)))
    assert lines[:2] == [
        "web#7 failed: web/unit#3 failed",
        "- web/unit#3: exit code 2, 317 tests, 7 failed",
    ]
    assert "- shop.test_0: assert 3 == 4 and more" in lines
    cells = [
        build(id=f"c{n}", number=8 + n, cell={"os": "linux", "py": n}, parent="b7", pipeline="b7")
        for n in (1, 2)
    ]
    edges = tuple(Edge(it.id, it.job) for it in (*cells, cells[0]))
    group = build(reason=Reason.GROUP, group=Group(edges), exit_code=None)
    lines = said(Facts(notice=notice(), build=group, failed=tuple(cells)))
    assert lines[:2] == [
        "web#7 failed: 2 of 3 builds failed: os=linux, py=1; os=linux, py=2",
        "- web#9 (os=linux, py=1): exit code 2",
    ]


def test_questions_say_how_to_answer() -> None:
    question = Question(
        number=2, attempt=1, text="1.4 to\nproduction?", choices=("yes", "no"), at=AT
    )
    running = build(state=State.RUNNING, result=None, questions=(question,))
    asked = notice(occasion="asked", number=2)
    assert said(Facts(notice=asked, build=running)) == [
        "web#7 asks: 1.4 to production? (yes, no)",
        "answer: rota answer web#7 yes",
    ]
    other = replace(question, number=1, text="How?")
    for target, questions, told in (
        ("irc:@ann", (question,), "answer here: yes, no; or: rota answer web#7 yes"),
        ("irc:@ann", (question, other), "answer here: yes, no; or: rota answer web#7 2 yes"),
        ("irc:@ann", (replace(question, choices=()),), "answer: rota answer web#7 ANSWER"),
        (
            "irc:@ann",
            (replace(question, choices=("not yet", "now")),),
            "answer here: not yet, now; or: rota answer web#7 'not yet'",
        ),
    ):
        some = Facts(
            notice=replace(asked, target=target), build=replace(running, questions=questions)
        )
        assert said(some)[1] == told
    assert not is_settled(asked, running)
    assert is_settled(asked, replace(running, questions=(replace(question, answer="yes"),)))
    assert is_settled(asked, replace(running, questions=(replace(question, attempt=2),)))
    assert is_settled(asked, None)
    held = build(
        state=State.HELD,
        result=None,
        held=("approval",),
        spec=Spec(approve=Approve(text="Deploy {v}?")),
        params={"v": "1.4"},
    )
    asked = notice(occasion="asked")
    assert said(Facts(notice=asked, build=held)) == [
        "web#7 waits for your approval: Deploy 1.4?",
        "yes: rota approve web#7   no: rota reject web#7",
    ]
    here = Facts(notice=replace(asked, target="irc:@ann"), build=held)
    assert said(here)[1].startswith("answer here: approve, reject; or yes: rota approve web#7")
    assert not is_settled(asked, held)
    assert is_settled(asked, replace(held, held=()))


def test_many_are_one_list() -> None:
    found = [
        Facts(notice=notice(ref=f"web{n}#1", id=str(n)), build=build(job=f"web{n}", number=1))
        for n in range(40)
    ]
    fixed = notice(occasion="fixed", ref="web0#1")
    found[0] = Facts(notice=fixed, build=build(result=Result.PASSED))
    text = wording(found, left_out=7, base="https://ci.example")
    lines = text.text.split("\n")
    assert lines[0] == text.subject == "39 builds failed, 1 was fixed"
    assert lines[1] == "- and 10 lines before these"
    assert lines[-2] == "- web39#1 failed: exit code 2"
    assert lines[-1] == "and 7 more that were too many to keep"
    assert len(lines) == 33
    assert (text.tone, text.link) == ("bad", "https://ci.example/v1/builds")
    one = wording(found[1:2], left_out=7, base="")
    assert one.text.startswith("1 build failed\n- web1#1 failed")


def test_what_happened_to_several_builds_of_a_job_is_one_line() -> None:
    def of(numbers: range) -> list[Facts]:
        return [
            Facts(notice=notice(ref=f"web#{n}", since="web#2"), build=build(number=n))
            for n in numbers
        ]

    text = wording(of(range(3, 6)), left_out=0, base="").text
    assert text == "3 builds failed\n- web#3, #4, #5 failed again, since web#2: exit code 2"
    text = wording(of(range(3, 33)), left_out=0, base="").text
    assert text.endswith("- web#3, #4 … #32 (30 builds) failed again, since web#2: exit code 2")


def test_a_test_says_that_it_is_one() -> None:
    facts = Facts(notice=notice(occasion="test", build="", ref="root"))
    assert said(facts) == [
        "This is a test of mail:@ann, asked for by root: notices of builds would come here."
    ]


def test_nothing_that_is_quoted_can_do_anything() -> None:
    evil = "a\r\nBcc: x\x1b]0;title\x07\u202e\x00" + "x" * 1000
    assert line(evil) == f"a Bcc: x{'x' * 291}…"
    tail = "one\rtwo\r\n::step id=1::unit\n\x1b[2Jthree\x07\ttab \u202e\n::endstep id=1,status=1::unit\n"
    assert last_lines(tail) == "two\nthree\ttab "
    assert last_lines("x" * 9000) == "x" * 4000
    assert last_lines("\n".join(map(str, range(50))), lines=2) == "48\n49"
    it = build(
        job="web", message=evil, source=replace(SOURCE, branch=evil), trigger=Trigger(by=evil)
    )
    found = wording([Facts(notice=notice(), build=it, tail=evil)], left_out=0, base="")
    assert all(letter.isprintable() or letter == "\n" for letter in found.text + found.code)
    assert found.subject.isprintable()
    assert len(found.subject) <= 120
