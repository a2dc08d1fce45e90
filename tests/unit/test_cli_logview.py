"""The log on a terminal: what is drawn, what passes, and what never does."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.cli.logview import MAX_COMMAND, MAX_SGR, LogView
from rota.core.workflow import parse_command

#: All that may reach a terminal: text, line ends, tabs, carriage returns, and colours.
HARMLESS = re.compile(r"(?:[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\x1b\[[0-9;:]{0,64}m)*")
#: Pieces that a hostile log is made of.
PARTS = st.sampled_from(
    [
        b"\x1b", b"[", b"]", b"0;", b"31m", b"38:2:1m", b"?1049h", b"2J", b"m", b"\x07", b"\x1b\\",
        b"P", b"_", b"^", b"\x9b", b"\xc2\x9b", b"\xc2\x9d", b"\xc2\x85", b"\x90", b"\xff", b"\xc3",
        b"\n", b"\r", b"\t", b"\x08", b"\x00", b"text", b"::", b":", b"::error::", b"::group::g",
        b"::add-mask::", b"::notice file=a,line=1::", b" ", b"%0A", b"%25", b">4;2", b"(", b"B",
        "ä€".encode(),
    ]
)  # fmt: skip
LOGS = st.lists(PARTS, max_size=40).map(b"".join) | st.binary(max_size=80)


def shown(log: bytes, *places: int, color: bool = True) -> str:
    view = LogView(color=color)
    borders = [0, *sorted(min(place, len(log)) for place in places), len(log)]
    pieces = [log[start:end] for start, end in itertools.pairwise(borders)]
    return "".join(map(view.feed, pieces)) + view.finish()


@settings(deadline=None, max_examples=250)
@given(LOGS, st.booleans())
def test_only_text_and_colours_reach_the_terminal(log: bytes, color: bool) -> None:
    text = shown(log, color=color)
    assert HARMLESS.fullmatch(text)
    assert color or "\x1b" not in text


@settings(deadline=None, max_examples=250)
@given(LOGS, st.lists(st.integers(0, 300), max_size=8))
def test_the_output_does_not_depend_on_how_the_log_is_cut(log: bytes, places: list[int]) -> None:
    assert shown(log, *places) == shown(log)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("\n\t\r")))
def test_plain_text_passes_as_it_is(text: str) -> None:
    if not any(line.startswith("::") for line in text.split("\n")):
        assert shown(text.encode()) == text


@pytest.mark.parametrize(
    ("log", "text"),
    [
        (b"::group::Install\n", "\x1b[1m> Install\x1b[0m\n"),
        (b"::endgroup::\n", ""),
        (b"::add-mask::hunter2\nnext\n", "next\n"),
        (b"::error file=a.py,line=3::bad%0Aworse\n", "\x1b[31merror: a.py:3: bad\nworse\x1b[0m\n"),
        (b"::error title=Lint,file=a%2Cb::x\n", "\x1b[31merror: a,b: Lint: x\x1b[0m\n"),
        (b"::warning::careful\r\n", "\x1b[33mwarning: careful\x1b[0m\n"),
        (b"::notice::so\n", "\x1b[36mnotice: so\x1b[0m\n"),
        (b"::debug::why", "\x1b[2mdebug: why\x1b[0m\n"),
        (b"::set-output name=a::b\n", "::set-output name=a::b\n"),
        (b":: no command\n", ":: no command\n"),
        (b"a ::error::b\n", "a ::error::b\n"),
        (b"\x1b[32mok\n::error::b\nc\n", "\x1b[32mok\n\x1b[0m\x1b[31merror: b\x1b[0m\nc\n"),
        (b"::error::\x1b]0;title\x07x\x1b[2J\n", "\x1b[31merror: x\x1b[0m\n"),
        (b"50%\r100%\n", "50%\r100%\n"),
        (b"\x1b[1;31mred", "\x1b[1;31mred\x1b[0m"),
        (b"\x1b[31mred\x1b[0m\n", "\x1b[31mred\x1b[0m\n"),
        (b"\x1b[2J\x1b[H\x1b[?25l\x1b7x", "x"),
        (b"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\n", "ab\n"),
        (b"\x1bPq\x1b\\\x1b_a\x1b\\c\n", "c\n"),
        (b"\x1b]never ends\nnext\n", "\nnext\n"),
        (b"\xc2\x9b31mC1\xc2\x9d0;t\x07.\n", "\x1b[31mC1.\n\x1b[0m"),
        (b"\x1b[>4;2mx\n", "x\n"),
        (b"\x1b(Bx\x1bcy\n", "xy\n"),
        (b"a\x08b\x00\x7f\n", "ab\n"),
        (b"\xff\xc3\n", "��\n"),
    ],
)
def test_what_a_log_looks_like(log: bytes, text: str) -> None:
    assert shown(log) == text
    for place in range(len(log)):
        assert shown(log, place) == text


def test_without_colours_commands_are_still_drawn() -> None:
    assert shown(b"\x1b[31m::error::x\n::error::x\n", color=False) == "::error::x\nerror: x\n"


def test_an_endless_line_is_shown_while_it_comes() -> None:
    view = LogView(color=True)
    assert view.feed(b"x" * 100_000) == "x" * 100_000
    assert view.feed(b"\n::error::") == "\n"
    assert view.feed(b"y" * MAX_COMMAND).startswith("::error::yyy")
    assert view.feed(b"y" * 100_000) == "y" * 100_000
    assert view.feed(b"\x1b[" + b"1;" * 100_000 + b"m") == ""
    assert len(view._sanitizer._parameters) <= MAX_SGR + 1
    assert view.feed(b"\x1b]" + b"z" * 100_000) == ""
    assert view.feed(b"\x07end") == "end"


@settings(deadline=None)
@given(
    st.sampled_from(["error", "Warning", "notice", "group", "debug"]),
    st.dictionaries(st.sampled_from(["file", "line", "title"]), st.text("ab1%, :", max_size=5)),
    st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20),
)
def test_commands_are_read_as_the_agent_reads_them(
    name: str, properties: dict[str, str], message: str
) -> None:
    given_as = ",".join(f"{key}={value}" for key, value in properties.items())
    line = f"::{name}{' ' + given_as if given_as else ''}::{message}"
    command = parse_command(line.encode())
    if command is None:
        assert shown(line.encode(), color=False) == line
    else:
        text = shown(line.encode(), color=False)
        assert text.endswith(f"{command.message}\n")
        assert text.startswith("> " if name == "group" else f"{command.name}: ")
