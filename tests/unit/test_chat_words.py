"""What a message is to the bot, and what is made of it for the command line."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rota.chat.phrase import phrased
from rota.core.build import Build
from rota.core.chat_words import command_in, reply_in
from rota.core.people import APPROVAL
from rota.core.questions import Question
from rota.core.states import State
from rota.errors import InputError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("!run web x=1", "run web x=1"),
        ("  !ps  ", "ps"),
        ("!?", "?"),
        ("rota: status", "status"),
        ("Rota, status", "status"),
        ("rota_: status", "status"),
        ("@rota status", "status"),
        ("@rota: !status", "status"),
        ("!run web\nplease", "run web"),
        ("> !run web\n\n!log web", "log web"),
        ("> !run web", None),
        ("rota is slow today", None),
        ("hello", None),
        ("!", None),
        ("!!", None),
        ("! run", None),
        ("!@#$", None),
        ("so !run web", None),
        ("", None),
        ("rotation: on", None),
    ],
)
def test_a_command_in_a_room_is_known_by_its_prefix_or_by_name(
    text: str, command: str | None
) -> None:
    assert command_in(text, prefix="!", nick="rota") == command


def test_whatever_is_said_to_the_bot_alone_is_a_command() -> None:
    for text in ("status", "!status", "rota: status"):
        assert command_in(text, prefix="!", nick="rota", is_direct=True) == "status"
    assert command_in("> status", prefix="!", nick="rota", is_direct=True) is None


@given(st.text(), st.booleans())
def test_no_message_is_too_strange(text: str, is_direct: bool) -> None:
    found = command_in(text, prefix="!", nick="rota", is_direct=is_direct)
    assert found is None or (found and "\n" not in found)


def build(**changes: object) -> Build:
    """Return a build that runs."""
    running = Build(
        id="x", job="deploy", number=4, state=State.RUNNING, attempt=1, requested_at=NOW
    )
    return replace(running, **changes)


def question(number: int, **changes: object) -> Question:
    """Return an open question."""
    asked = Question(number=number, attempt=1, text="?", choices=("yes", "no"), at=NOW)
    return replace(asked, **changes)


def test_a_plain_word_in_a_thread_answers_the_one_question() -> None:
    asking = build(questions=(question(2),))
    assert reply_in("yes", asking) == "answer deploy#4 2 'yes'"
    assert reply_in(" NO ", asking) == "answer deploy#4 2 'no'"
    assert reply_in("yes please", asking) is None
    assert reply_in("> yes", asking) is None
    assert reply_in("yes", build()) is None
    assert reply_in("yes", build(questions=(question(1), question(2)))) is None
    assert reply_in("yes", build(questions=(question(1, answer="no", by="ann"),))) is None


def test_a_truth_is_answered_by_yes_or_no_and_odd_choices_as_they_are() -> None:
    asking = build(questions=(question(1, type="bool", choices=()),))
    assert reply_in("yes", asking) == "answer deploy#4 1 'true'"
    assert reply_in("false", asking) == "answer deploy#4 1 'false'"
    asking = build(questions=(question(1, choices=("it's so", 3)),))
    assert reply_in("it's so", asking) == "answer deploy#4 1 'it'\\''s so'"
    assert reply_in("3", asking) == "answer deploy#4 1 '3'"


def test_an_approval_is_given_by_its_word() -> None:
    held = build(state=State.HELD, held=(APPROVAL,))
    assert reply_in("approve", held) == "approve deploy#4"
    assert reply_in("Rejected.", held) == "reject deploy#4"
    assert reply_in("yes", held) is None


def words(line: str, about: str = "", known: tuple[str, ...] = ()) -> list[str]:
    """Return what is made of a line in a thread about a build."""
    return phrased(line.split(), build=about, is_build=known.__contains__, prefix="!")


@pytest.mark.parametrize(
    ("line", "about", "made"),
    [
        ("?", "", "help"),
        ("? run", "", "help run"),
        ("tail web#1", "", "log web#1 --tail 20"),
        ("tail web 5", "", "log web --tail 5"),
        ("tail 5", "web#2", "log web#2 --tail 5"),
        ("tail", "web#2", "log web#2 --tail 20"),
        ("log web#1", "", "log web#1 --tail 20"),
        ("log web#1 --tail 3", "", "log web#1 --tail 3"),
        ("log web#1 --grep x", "", "log web#1 --grep x"),
        ("run web -f", "", "run web"),
        ("run web x=1 --wait", "", "run web x=1"),
        ("cancel", "web#2", "cancel web#2"),
        ("cancel wrong branch", "web#2", "cancel web#2 wrong branch"),
        ("cancel web#1", "web#2", "cancel web#1"),
        ("cancel other", "web#2", "cancel other"),
        ("cancel", "", "cancel"),
        ("send hello there", "web#2", "send web#2 hello there"),
        ("send other", "web#2", "send web#2 other"),
        ("answer yes", "web#2", "answer web#2 yes"),
        ("answer web#1 yes", "web#2", "answer web#1 yes"),
        ("answer other yes", "web#2", "answer other yes"),
        ("answer other", "web#2", "answer web#2 other"),
        ("answer 2 yes", "web#2", "answer web#2 2 yes"),
        ("approve", "web#2", "approve web#2"),
        ("status", "web#2", "status"),
        ("nonsense x", "web#2", "nonsense x"),
    ],
)
def test_in_a_thread_its_build_need_not_be_named(line: str, about: str, made: str) -> None:
    assert words(line, about, ("other",)) == made.split()


def test_what_cannot_be_done_in_a_room_is_said() -> None:
    with pytest.raises(InputError, match="what goes on without end is no answer") as wrong:
        words("log web#1 -f")
    assert wrong.value.hint == "a build's log comes here by !follow BUILD"
    with pytest.raises(InputError, match="which log"):
        words("tail")
    with pytest.raises(InputError, match="which log"):
        words("tail 3 4", "web#1")
