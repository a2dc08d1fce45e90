"""Lines of text as commands: words as in sh, several of them, and what is the shell's."""

import shlex
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.cli.line import LineError, Step, steps, words
from rota.cli.screen import error_text

TEXT = st.text(alphabet=string.ascii_letters + "'\"\\ #;|<>&=-/漢é\t$`*~!")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("  run   web  ", ["run", "web"]),
        ("run web k='a b' x=\"c d\"", ["run", "web", "k=a b", "x=c d"]),
        (r"a\ b c\\d \#e", ["a b", r"c\d", "#e"]),
        (r'"a\"b" "\$x \y"', ['a"b', r"$x \y"]),
        ("''  \"\"", ["", ""]),
        ("a'b'\"c\"d", ["abcd"]),
        ("web#7 #x", ["web#7", "#x"]),
        ("run web a=b;c|d url=x&y > z", ["run", "web", "a=b;c|d", "url=x&y", ">", "z"]),
        ("a\nb\u00a0c", ["a", "b", "c"]),
        ("$HOME * ~ `x` {a,b}", ["$HOME", "*", "~", "`x`", "{a,b}"]),
    ],
)
def test_words_are_those_of_sh_and_nothing_is_expanded(text: str, found: list[str]) -> None:
    assert words(text) == found


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]))))
def test_what_a_shell_would_be_given_quoted_comes_out_as_it_was(given: list[str]) -> None:
    assert words(shlex.join(given)) == given
    assert steps(shlex.join(given)) == ([Step(tuple(given))] if given else [])


@given(TEXT)
def test_any_text_is_words_or_an_error_that_shows_the_place(text: str) -> None:
    try:
        found = words(text)
    except LineError as error:
        is_shown = error.is_open and len(error.problems) == 2
        assert is_shown
        return
    # The standard library reads all of it as we do, but for double quotes' backslashes.
    if "\\" not in text:
        assert found == shlex.split(text)


@given(TEXT)
def test_steps_take_all_of_a_text_or_nothing(text: str) -> None:
    try:
        found = steps(text)
    except LineError as error:
        told = error_text(error)
        assert told.startswith("error: column ")
        return
    for step in found:
        assert step.words or not step.tail or "!" in text
        assert not step.words or step.tail[:1] in ("", "|", ">")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("jobs; ps;; ", [Step(("jobs",)), Step(("ps",))]),
        ("jobs # all\nps", [Step(("jobs",)), Step(("ps",), line=2)]),
        ("# nothing\n\n", []),
        ("log web#7", [Step(("log", "web#7"))]),
        ("log web | grep 'a;b' | wc -l; ps", [Step(("log", "web"), "| grep 'a;b' | wc -l"), Step(("ps",))]),
        ("log web >x.txt", [Step(("log", "web"), ">x.txt")]),
        ("log web >> $HOME/x", [Step(("log", "web"), ">> $HOME/x")]),
        ("!ls *; pwd\njobs", [Step((), "ls *; pwd"), Step(("jobs",), line=2)]),
        ("run web u=a&b v=c<d", [Step(("run", "web", "u=a&b", "v=c<d"))]),
        ("run web 'a\nb'\nps", [Step(("run", "web", "a\nb")), Step(("ps",), line=3)]),
        ("run \\\n web", [Step(("run", "web"))]),
    ],
)  # fmt: skip
def test_a_line_holds_several_commands_and_what_is_the_shells(text: str, found: list[Step]) -> None:
    assert steps(text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "cancel web#7 it's broken",
            "error: column 16: the quote ' is never closed\n  cancel web#7 it's broken\n                 ^\n\nhint: close it; a quote of its own is \"'\" or \\'",
        ),
        ("漢字 \"x", "error: column 4: the quote \" is never closed\n  漢字 \"x\n       ^\n\nhint: close it; a quote of its own is '\"'"),
        ("x \\", "error: column 3: nothing stands behind this backslash\n  x \\\n    ^\n\nhint: a backslash of its own is \\\\ or '\\'"),
        ("jobs\n| wc", "error: column 1: no command stands before |\n  | wc\n  ^\n\nhint: a command of the shell's begins with !, such as !ls | wc -l"),
        ("jobs |", "error: column 6: no command stands behind |\n  jobs |\n       ^\n\nhint: such as: builds web | grep failed, or: log web > log.txt"),
        ("jobs >", "error: column 6: no file stands behind >\n  jobs >\n       ^\n\nhint: such as: builds web | grep failed, or: log web > log.txt"),
        ("jobs || ps", "error: column 6: there is no || here\n  jobs || ps\n       ^\n\nhint: a script stops at the first command that fails; conditions are the shell's"),
        ("jobs && ps", "error: column 6: & has no meaning here\n  jobs && ps\n       ^\n\nhint: there is no && and no & here: put ; between commands; as a word write '&'"),
        ("send web < f", "error: column 10: < has no meaning here\n  send web < f\n           ^\n\nhint: a command of the shell's reads files: !rota send web < FILE; as a word write '<'"),
        (
            "run " + "x" * 100 + " 'y" + "z" * 100,
            "error: column 106: the quote ' is never closed\n  ..." + "x" * 39 + " 'y" + "z" * 38 + "...\n  " + " " * 43 + "^\n\nhint: close it; a quote of its own is \"'\" or \\'",
        ),
        ("a\x1b[2J 'b", "error: column 7: the quote ' is never closed\n  a\\x1b[2J 'b\n           ^\n\nhint: close it; a quote of its own is \"'\" or \\'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_shown_with_its_place(text: str, said: str) -> None:
    with pytest.raises(LineError) as wrong:
        steps(text)
    assert error_text(wrong.value) == said
