"""What the bot says of builds: short, and the same whoever says it."""

from datetime import timedelta

import pytest
from msgspec.structs import replace
from tests.harness.facts import moment

from rota.core.build import Build
from rota.core.cases import Tally
from rota.core.chat import Followed
from rota.core.chat_text import answer_id, as_here, ending, marks, told_id
from rota.core.job import Approve, Reason, Spec
from rota.core.people import APPROVAL
from rota.core.questions import Question
from rota.core.states import Result, State

BUILD = Build(
    id="x",
    job="web",
    number=7,
    state=State.FINISHED,
    result=Result.FAILED,
    reason=Reason.SCRIPT,
    exit_code=3,
    attempt=1,
    agent="one",
    requested_at=moment(),
    started_at=moment(),
    finished_at=moment() + timedelta(seconds=5),
)
NOTE = Followed(network="team", room="#r", thread="t", build="x")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "web#7 failed in 5s on one: exit code 3"),
        ({"result": Result.PASSED, "exit_code": 0}, "web#7 passed in 5s"),
        (
            {"step": "tests", "tests": Tally(passed=8, failed=1, errored=1)},
            "web#7 failed in 5s on one: exit code 3, in step tests, 10 tests, 2 failed",
        ),
        (
            {"result": Result.CANCELLED, "reason": Reason.CANCELLED, "cancelled_by": "ann"},
            "web#7 cancelled in 5s on one: by ann",
        ),
        (
            {
                "result": Result.CANCELLED,
                "reason": Reason.SUPERSEDED,
                "superseded_by": "web#8",
                "started_at": None,
                "agent": None,
            },
            "web#7 cancelled: superseded by web#8",
        ),
        (
            {
                "result": Result.CANCELLED,
                "reason": Reason.UNMET,
                "message": "it needs lib#3, failed",
                "started_at": None,
                "agent": None,
            },
            "web#7 did not run: it needs lib#3, failed",
        ),
    ],
)
def test_the_end_of_a_build_is_a_line(changes: dict[str, object], text: str) -> None:
    assert ending(replace(BUILD, **changes)) == text


def said(build: Build, note: Followed = NOTE) -> list[tuple[str, str]]:
    """Return what is to be said of a build."""
    return [it for it in marks(note, build, "!") if it[0] not in note.told]


def test_a_question_is_told_and_then_how_it_was_answered() -> None:
    asked = Question(number=1, attempt=1, text="Deploy?", type="bool", who=("@ops",), at=moment())
    running = replace(BUILD, state=State.RUNNING, result=None, questions=(asked,))
    (mark, text), *rest = said(running)
    assert (mark, rest) == ("ask1", [])
    assert text == "web#7 asks @ops: Deploy?\nanswer here: yes, no; or !answer web#7 …"
    flat = replace(NOTE, thread="")
    assert said(running, flat)[0][1].endswith("\nanswer: !answer web#7 … (yes, no)")
    told = replace(NOTE, told=("ask1",))
    assert said(running, told) == []
    answered = replace(running, questions=(replace(asked, answer=True, by="ann"),))
    assert said(answered, told) == [("said1", "web#7: ann answered true")]
    assert said(answered) == []
    late = replace(
        running, questions=(replace(asked, default=False, answer=False, timed_out=True),)
    )
    assert said(late, told)[0][1] == "web#7: nobody answered in time; false is taken"


def test_an_approval_is_asked_for_and_then_who_gave_it() -> None:
    spec = Spec(approve=Approve(who=("@ops",), text="to production"))
    held = replace(
        BUILD, state=State.HELD, result=None, held=(APPROVAL,), spec=spec, asked_at=moment()
    )
    ((mark, text),) = said(held)
    assert mark == "approve"
    assert text.splitlines() == [
        "web#7 waits for approval of @ops: to production",
        "answer here: approve, reject; or !approve web#7, or !reject web#7",
    ]


def test_ids_are_the_same_for_the_same_and_no_others() -> None:
    assert answer_id("team:m1") == answer_id("team:m1") != answer_id("team:m2")
    assert told_id(NOTE, "end9") == told_id(replace(NOTE, told=("ask1",)), "end9")
    assert told_id(NOTE, "end9") != told_id(replace(NOTE, thread="u"), "end9")


def test_commands_are_told_as_they_are_given_here() -> None:
    text = "again: rota retry web#7\nrota jobs lists them; see `rota log`; how rota works"
    assert as_here("from a shell: rota add", "!") == "from a shell: rota add"
    assert as_here(text, "!") == "again: !retry web#7\n!jobs lists them; see `!log`; how rota works"
