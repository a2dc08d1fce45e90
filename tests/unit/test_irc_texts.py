"""Texts as IRC takes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.adapters.irc.texts import harmless, lines_of, pieces, plain
from rota.ports.networks import Saying


def said(**parts: str) -> list[str]:
    saying = Saying(id="x", room="#web", **parts)
    return lines_of(saying, room=400, most=8, has_colours=False)


def test_a_message_is_its_text_then_its_code_then_its_link() -> None:
    assert said(text="web#7 failed", code="a\n\tb", link="https://ci/x") == [
        "web#7 failed",
        "| a",
        "|     b",
        "https://ci/x",
    ]


def test_of_long_code_the_last_lines_stay() -> None:
    lines = said(text="t", code="\n".join(str(n) for n in range(100)), link="https://ci/x")
    assert len(lines) == 8
    assert lines[0] == "t"
    assert lines[1] == "| … 95 lines before"
    assert lines[-2:] == ["| 99", "https://ci/x"]


def test_a_line_that_another_bot_would_obey_does_not_begin_so() -> None:
    # ChanServ does what an operator of the room says after a "!", and the bot may be one.
    assert said(text="!op mallory") == [" !op mallory"]
    assert said(code="!op mallory") == ["| !op mallory"]
    long = said(text="x" * 387 + " !op mallory")
    assert long[1] == "… !op mallory"


def test_content_commands_no_client() -> None:
    assert harmless("\x01DCC\x01 \x02bold\x0f \x0304,01red\x03 \x04ff0000x \x1b[31m\x07\x85") == (
        "␁DCC␁ ␂bold␏ ␃04,01red␃ ␄ff0000x ␛[31m␇\ufffd"
    )
    assert plain("\x0304!run\x03 web") == "!run web"


@pytest.mark.parametrize(("tone", "begin"), [("good", "\x0303"), ("bad", "\x0304"), ("", "")])
def test_colour_is_on_the_first_word_alone(tone: str, begin: str) -> None:
    saying = Saying(id="x", room="#web", text="web#7 failed", tone=tone)
    (line,) = lines_of(saying, room=400, most=8, has_colours=True)
    assert line == (f"{begin}web#7\x0f failed" if begin else "web#7 failed")
    assert lines_of(saying, room=400, most=8, has_colours=False) == ["web#7 failed"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.integers(8, 60))
def test_pieces_fit_and_lose_nothing_but_spaces(text: str, room: int) -> None:
    found = pieces(text, room)
    assert all(len(piece.encode()) <= room for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())


@given(
    st.text(max_size=3000),
    st.text(max_size=3000),
    st.sampled_from(["", "good", "bad"]),
    st.integers(120, 450),
)
def test_a_message_fits(text: str, code: str, tone: str, room: int) -> None:
    saying = Saying(id="x", room="#web", text=text, code=code, link="https://ci/x", tone=tone)
    lines = lines_of(saying, room=room, most=8, has_colours=True)
    assert len(lines) <= 8
    assert lines[-1].endswith("https://ci/x")
    for line in lines:
        assert len(line.encode(errors="replace")) <= room
        assert not set(line) & {"\r", "\n", "\0", "\x01"}


def test_no_character_is_cut_nor_parted_from_its_accent() -> None:
    assert pieces("e\u0301" * 4, 5) == ["e\u0301", "e\u0301", "e\u0301", "e\u0301"]
    assert pieces("🎉🎉🎉", 9) == ["🎉🎉", "🎉"]


def test_a_link_stands_behind_what_is_one_line() -> None:
    assert said(text="web#7 passed in 34ms", link="https://ci/x") == [
        "web#7 passed in 34ms  https://ci/x"
    ]
    assert said(text="a\nb", link="https://ci/x") == ["a", "b", "https://ci/x"]
    assert said(text="a " * 199, link="https://ci/" + "x" * 20)[-1] == "https://ci/" + "x" * 20
