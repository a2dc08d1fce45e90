"""The client's side of a shell: frames, messages, and the way out of one that hangs."""

import contextlib
import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.cli.commands.shell import Escape
from rota.client.shell import Ended, Entered, Output, Shell
from rota.client.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Handshake,
    Message,
    Reader,
    frame,
)
from rota.errors import ConflictError, NotFoundError, UnavailableError


def plain(opcode: int, data: bytes, *, last: bool = True) -> bytes:
    """A frame as a server sends it: unmasked."""
    first = opcode | (0x80 if last else 0)
    size = len(data)
    if size < 126:
        return bytes((first, size)) + data
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big") + data
    return bytes((first, 127)) + size.to_bytes(8, "big") + data


def unmasked(raw: bytes) -> tuple[int, bytes]:
    """Read one of our own frames, byte by byte as the RFC says it."""
    assert raw[0] & 0x80
    assert raw[1] & 0x80
    size, at = raw[1] & 0x7F, 2
    if size > 125:
        width = 2 if size == 126 else 8
        size, at = int.from_bytes(raw[2 : 2 + width], "big"), 2 + width
    key, data = raw[at : at + 4], raw[at + 4 :]
    assert len(data) == size
    return raw[0] & 0xF, bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


@given(st.binary(max_size=70_000), st.sampled_from([TEXT, BINARY, PONG]))
def test_a_frame_of_ours_is_what_the_standard_says(data: bytes, opcode: int) -> None:
    assert unmasked(frame(opcode, data)) == (opcode, data)


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 4)), max_size=5),
    st.integers(1, 50),
)
def test_messages_arrive_whole_however_they_are_cut(
    messages: list[tuple[bytes, int]], step: int
) -> None:
    raw = b""
    for data, parts in messages:
        cut = max(1, len(data) // parts)
        pieces = [data[i : i + cut] for i in range(0, len(data), cut)] or [b""]
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            raw += plain(CONTINUATION if number else BINARY, piece, last=last)
            raw += b"" if last else plain(PING, b"in between")
    reader = Reader()
    found = [
        it
        for at in range(0, len(raw), step)
        for it in reader.feed(raw[at : at + step])
        if it.opcode != PING
    ]
    assert found == [Message(BINARY, data) for data, _ in messages]


@given(st.binary(max_size=200))
def test_nonsense_is_told_or_waited_for_and_nothing_else_happens(raw: bytes) -> None:
    reader = Reader()
    with contextlib.suppress(UnavailableError):
        for message in reader.feed(raw):
            assert len(message.data) <= len(raw)


def test_an_answer_that_is_not_for_our_key_is_refused() -> None:
    with pytest.raises(UnavailableError, match="the answer is not a WebSocket's"):
        Handshake().check("c29tZXRoaW5nIGVsc2U=")


@pytest.fixture
def pair() -> tuple[Shell, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    return Shell(ours), theirs


def text(**said: object) -> bytes:
    return plain(TEXT, json.dumps(said).encode())


def test_what_an_agent_says_is_heard(pair: tuple[Shell, socket.socket]) -> None:
    shell, agent = pair
    with shell, agent:
        entered = {"build": "a#1", "attempt": 1, "agent": "b", "running": True, "missing": ["T"]}
        agent.sendall(text(entered=entered) + plain(BINARY, b"\x01out") + plain(BINARY, b"\x02err"))
        agent.sendall(plain(PING, b"p") + text(exit=7, why="late") + plain(CLOSE, b""))
        assert list(shell.hear()) == [
            Entered("a#1", 1, "b", True, ("T",)),
            Output(1, b"out"),
            Output(2, b"err"),
            Ended(7, "late"),
        ]
        shell.flush()
        assert unmasked(agent.recv(100)) == (PONG, b"p")


def test_a_refusal_is_the_error_that_it_says(pair: tuple[Shell, socket.socket]) -> None:
    shell, agent = pair
    with shell, agent:
        agent.sendall(text(error="no", code="not-found", hint="try"))
        with pytest.raises(NotFoundError, match="no") as caught:
            list(shell.hear())
        assert caught.value.hint == "try"
        agent.sendall(text(error="x", code="?"))
        with pytest.raises(ConflictError, match="x"):
            list(shell.hear())


@pytest.mark.parametrize("ending", [b"", plain(CLOSE, b"\x03\xe9")])
def test_a_connection_that_breaks_ends_the_shell(
    pair: tuple[Shell, socket.socket], ending: bytes
) -> None:
    shell, agent = pair
    with shell:
        agent.sendall(plain(BINARY, b"\x01some") + ending)
        agent.close()
        heard = shell.hear()
        assert next(heard) == Output(1, b"some")
        with pytest.raises(UnavailableError, match="broke, and the shell has ended with it"):
            list(heard)


def test_words_that_make_no_sense_are_told(pair: tuple[Shell, socket.socket]) -> None:
    shell, agent = pair
    with shell, agent:
        agent.sendall(text(entered=[1]))
        with pytest.raises(UnavailableError, match="what this version cannot read"):
            list(shell.hear())


def test_much_input_waits_and_says_so(pair: tuple[Shell, socket.socket]) -> None:
    shell, agent = pair
    with shell, agent:
        while not shell.is_full:
            shell.type(b"x" * 65536)
            shell.flush()
        assert shell.is_sending


@pytest.mark.parametrize(
    ("typed", "passed", "leaves"),
    [
        ([b"ls\r"], b"ls\r", False),
        ([b"~."], b"", True),
        ([b"ls\r", b"~", b".", b"rest"], b"ls\r", True),
        ([b"cd ~.\r"], b"cd ~.\r", False),
        ([b"~~x"], b"~x", False),
        ([b"~/bin/x\r"], b"~/bin/x\r", False),
        ([b"a\n~b"], b"a\n~b", False),
    ],
)
def test_enter_tilde_dot_leaves(typed: list[bytes], passed: bytes, leaves: bool) -> None:
    escape, out, left = Escape(), b"", False
    for data in typed:
        if not left:
            some, left = escape.passed(data)
            out += some
    assert (out, left) == (passed, leaves)
