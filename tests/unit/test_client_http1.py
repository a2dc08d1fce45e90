"""HTTP as the client reads it: whole answers however they come, and nothing else taken for one."""

import socket
import threading
from io import BufferedReader, BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.client.http1 import Connection, ProtocolError, Response


def read(raw: bytes, method: str = "GET") -> Response:
    return Response(BufferedReader(BytesIO(raw)), method)


@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(1, 50), max_size=20))
def test_a_body_in_chunks_is_the_body(body: bytes, cuts: list[int]) -> None:
    rest, chunks = body, b""
    for cut in [*cuts, len(body) or 1]:
        piece, rest = rest[:cut], rest[cut:]
        if piece:
            chunks += b"%X;ext=1\r\n%b\r\n" % (len(piece), piece)
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"
    response = read(head + chunks + b"0\r\nTrailer: x\r\n\r\n")
    assert (response.read(), response.length) == (body, None)


@given(body=st.binary(max_size=300), more=st.binary(max_size=20))
def test_a_body_of_a_length_ends_there(body: bytes, more: bytes) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b%b" % (len(body), body, more)
    response = read(raw)
    assert (response.status, response.reason, response.read(), response.length) == (
        200,
        "OK",
        body,
        0,
    )


@given(cut=st.integers(0, 75))
def test_half_an_answer_is_none(cut: int) -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    if cut >= len(raw):
        assert read(raw).read() == b"hello"
        return
    with pytest.raises(ProtocolError):
        read(raw[:cut]).read()


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", "not a field"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not a length"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n", "too many fields"),
        (b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n", "a line without an end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not the size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", "longer than it"),
    ],
)
def test_what_is_no_answer_is_told(raw: bytes, what: str) -> None:
    with pytest.raises(ProtocolError, match=what):
        read(raw).read()


def test_names_of_fields_are_the_same_in_capitals() -> None:
    response = read(b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 \r\netag: "1"\r\nETag: 2\r\n\r\n')
    assert (response.headers.get("ETag"), response.headers.get("Date")) == ('"1"', None)
    assert (response.status, response.read(), response.length) == (204, b"", 0)
    assert read(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD").read() == b""


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a b", {}), ("/a\r\nX: y", {}), ("/a", {"X": "1\r\nY: 2"}), ("/a", {"X\n": "1"})],
)
def test_a_request_is_one_request(target: str, headers: dict[str, str]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match=r"space|end of a line"):
        Connection(ours, "here").request("GET", target, headers=headers)


@pytest.mark.parametrize(
    ("body", "headers", "sent"),
    [
        (None, {}, b"Content-Length: 0\r\n\r\n"),
        (b"abc", {}, b"Content-Length: 3\r\n\r\nabc"),
        (BytesIO(b"abc"), {"content-length": "3"}, b"content-length: 3\r\n\r\nabc"),
        (BytesIO(b"abc"), {}, b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ],
)
def test_a_body_is_sent_as_it_is(body: object, headers: dict[str, str], sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            Connection(ours, "here").request("POST", "/x?y=1", body=body, headers=headers)
        got = b"".join(iter(lambda: theirs.recv(1000), b""))
    head = b"POST /x?y=1 HTTP/1.1\r\nHost: here\r\nAccept-Encoding: identity\r\n"
    assert got == head + sent


def test_what_comes_after_a_switch_is_left_for_others() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\nframes")
        connection = Connection(ours, "here")
        thread = threading.Thread(target=lambda: theirs.recv(1000))
        thread.start()
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (response.status, response.read()) == (101, b"")
        assert ours.recv(100) == b"frames"
        thread.join()
