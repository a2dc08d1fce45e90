"""Lines of IRC: what comes may be anything, what goes ends where we end it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rota.adapters.irc.lines import Folding, Line, Source, line_of, parse

WORDS = st.text(
    st.characters(exclude_characters=" \r\n\0", exclude_categories=["Cs"]), min_size=1
).filter(lambda it: it[0] not in ":@")
TEXTS = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))


def test_what_a_server_sends_is_taken_apart() -> None:
    line = parse(
        rb"@time=2026-01-01T00:00:00.000Z;account=ann;+x/y=a\:b\sc\\d :ann!u@h.org PRIVMSG #web :hello  you"
    )
    assert line == Line(
        "PRIVMSG",
        ("#web", "hello  you"),
        Source("ann", "u", "h.org"),
        {"time": "2026-01-01T00:00:00.000Z", "account": "ann", "+x/y": "a;b c\\d"},
    )


@pytest.mark.parametrize(
    ("raw", "command", "params"),
    [
        (b"PING :a b\r\n", "PING", ("a b",)),
        (b":irc.org 001 rota :\n", "001", ("rota", "")),
        (b"  quit", "QUIT", ()),
        (b":s  NOTICE   x  :y :z", "NOTICE", ("x", "y :z")),
        (b"PRIVMSG x :caf\xe9", "PRIVMSG", ("x", "café")),  # Latin-1, as of old
    ],
)
def test_lines_of_old_and_careless_servers(
    raw: bytes, command: str, params: tuple[str, ...]
) -> None:
    line = parse(raw)
    assert line is not None
    assert (line.command, line.params) == (command, params)


@pytest.mark.parametrize("raw", [b"", b"\r\n", b":", b"@a=b", b"@ :x ", b"\0\0"])
def test_what_is_no_line(raw: bytes) -> None:
    assert parse(raw) is None


@given(st.binary())
@example(b"@\\=\\;=x : \xff")
def test_no_bytes_are_too_much(raw: bytes) -> None:
    line = parse(raw)
    if line is not None:
        assert line.command
        assert line.param(99) == ""


@given(st.lists(WORDS, max_size=4), TEXTS, st.dictionaries(st.sampled_from(["a", "+b/c"]), TEXTS))
def test_what_is_written_is_read_again(words: list[str], text: str, tags: dict[str, str]) -> None:
    line = line_of("PRIVMSG", *words, text, tags=tags)
    raw = bytes(line)
    assert raw.count(b"\n") == raw.count(b"\r") == 1
    assert parse(raw) == line


@pytest.mark.parametrize("text", ["a\nQUIT", "a\rQUIT", "a\0b"])
def test_nothing_in_a_line_ends_it(text: str) -> None:
    with pytest.raises(ValueError, match="no such line"):
        bytes(line_of("PRIVMSG", "#web", text))
    with pytest.raises(ValueError, match="no such line"):
        bytes(line_of("JOIN", f"#x {text}", "key"))


def test_names_are_the_same_as_the_server_says() -> None:
    fold = Folding()
    assert fold("Rota[~]") == fold("rOTA{^}")
    fold.settle("ascii")
    assert fold("Rota[") != fold("rota{")
    assert fold("ROTA") == fold("rota")
