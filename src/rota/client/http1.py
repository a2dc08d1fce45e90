"""HTTP/1.1 as an agent is asked by it: one request on a connection, and its answer as it arrives.

Of our own, and not ``http.client``: importing that takes as long as all else that a command does, for the sake
of a parser of mail. What is here is what agents send: a head, and a body of a known length or in chunks.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import ssl

#: Of one line of a head, and of all of it.
MAX_LINE = 64 * 1024
MAX_LINES = 200
#: So much of a file is read and sent at once.
BLOCK = 1 << 17
_WITH_BODY = ("POST", "PUT", "PATCH")
_WITHOUT_BODY = (204, 304)
_CONTINUE, _SWITCHING = 100, 101
_ILLEGAL = frozenset("\r\n\0")


class ProtocolError(Exception):
    """What came is no answer, or ended before its end."""


class Source(Protocol):
    """Where an answer is read."""

    def read1(self, size: int, /) -> bytes:
        """Return what is there, waiting for the first of it; nothing at the end."""
        ...

    def readline(self, size: int, /) -> bytes:
        """Return a line with its end; shorter at the end, or if it is longer than ``size``."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Fields:
    """A head's fields; their names are the same in capitals."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = list(pairs)
        self._texts: dict[str, str] = {}
        for name, text in self._pairs:
            self._texts.setdefault(name.lower(), text)

    def get(self, name: str, default: str | None = None, /) -> str | None:
        """Return the first field's text of a name."""
        return self._texts.get(name.lower(), default)

    def named(self) -> dict[str, str]:
        """Return them by their names as they were written."""
        return dict(self._pairs)


class Response:
    """An answer, its head read.

    ``length`` is what is to come of the body; ``None`` where nobody said, or it comes in chunks.

    Raises:
        ProtocolError: it is no answer.
        OSError: the connection broke.
    """

    def __init__(self, source: Source, method: str) -> None:
        self._source = source
        self._is_over = False
        self.status, self.reason = self._first()
        self.headers = self._fields()
        while self.status == _CONTINUE:
            self.status, self.reason = self._first()
            self.headers = self._fields()
        self.chunked = "chunked" in (self.headers.get("Transfer-Encoding") or "").lower()
        self._chunk = 0  # of it, what is to come
        self.length = None if self.chunked else self._announced()
        if method == "HEAD" or self.status in _WITHOUT_BODY or self.status == _SWITCHING:
            self.length, self.chunked = 0, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Read no more of it."""
        self._source.close()

    def read1(self, size: int) -> bytes:
        """Return some of the body, waiting for the first of it; nothing at its end.

        Raises:
            ProtocolError: a chunk ended before its end.
            OSError: the connection broke.
        """
        if self.chunked:
            return self._of_chunk(size)
        if self.length is None:
            return self._source.read1(size)
        if self.length == 0:
            return b""
        piece = self._source.read1(min(size, self.length))
        self.length -= len(piece)
        return piece

    def read(self) -> bytes:
        """Return all the rest of the body."""
        return b"".join(iter(lambda: self.read1(BLOCK), b""))

    def _of_chunk(self, size: int) -> bytes:
        if self._is_over:
            return b""
        if self._chunk == 0:
            word = self._line().partition(b";")[0].strip()
            try:
                self._chunk = int(word, 16)
            except ValueError as error:
                raise ProtocolError(f"not the size of a chunk: {word[:20]!r}") from error
            if self._chunk == 0:
                self._fields()
                self._is_over = True
                return b""
        piece = self._source.read1(min(size, self._chunk))
        if not piece:
            raise ProtocolError("it ended within a chunk")
        self._chunk -= len(piece)
        if self._chunk == 0 and self._line():
            raise ProtocolError("a chunk is longer than it says")
        return piece

    def _first(self) -> tuple[int, str]:
        line = self._line().decode("latin-1")
        version, _, rest = line.partition(" ")
        status, _, reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or not (status.isdecimal() and len(status) == 3):
            raise ProtocolError(f"not HTTP: {line[:40]!r}")
        return int(status), reason.strip()

    def _fields(self) -> Fields:
        pairs: list[tuple[str, str]] = []
        for _ in range(MAX_LINES):
            line = self._line()
            if not line:
                return Fields(pairs)
            name, colon, text = line.decode("latin-1").partition(":")
            if not colon:
                raise ProtocolError(f"not a field: {name[:40]!r}")
            pairs.append((name, text.strip()))
        raise ProtocolError("too many fields")

    def _line(self) -> bytes:
        line = self._source.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            raise ProtocolError("half a head" if len(line) < MAX_LINE else "a line without an end")
        return line.rstrip(b"\r\n")

    def _announced(self) -> int | None:
        text = self.headers.get("Content-Length")
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal()):
            raise ProtocolError(f"not a length: {text[:40]!r}")
        return int(text)


class Connection:
    """A connection that is open. For one request.

    Args:
        sock: Connected, and wrapped already where it is TLS.
        host: As the request names it.
    """

    def __init__(self, sock: socket.socket, host: str) -> None:
        self.sock: socket.socket = sock
        self._host = host
        self._method = ""

    def request(
        self, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a request; a body is bytes, or what can be read, then sent in chunks unless it has a length.

        Raises:
            ValueError: the target or a header would be more than one.
            OSError: the connection broke.
        """
        self._method = method
        given = {"Host": self._host, "Accept-Encoding": "identity", **(headers or {})}
        is_file = hasattr(body, "read")
        has_length = any(name.lower() == "content-length" for name in given)
        if not has_length:
            if is_file:
                given["Transfer-Encoding"] = "chunked"
            elif body is not None or method in _WITH_BODY:
                given["Content-Length"] = str(len(body or b""))
        if any(c <= " " or c == "\x7f" for c in target):
            raise ValueError(f"the target has a space or a control character: {target!r}")
        for name, text in given.items():
            if _ILLEGAL.intersection(name + text):
                raise ValueError(f"the header {name!r} has the end of a line in it")
        lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {t}" for n, t in given.items()), "", ""]
        head = "\r\n".join(lines).encode("latin-1")
        if not is_file:
            self.sock.sendall(head + (body or b""))
            return
        self.sock.sendall(head)
        while piece := body.read(BLOCK):
            self.sock.sendall(piece if has_length else b"%x\r\n%b\r\n" % (len(piece), piece))
        if not has_length:
            self.sock.sendall(b"0\r\n\r\n")

    def getresponse(self, source: Source | None = None) -> Response:
        """Return the answer; without a ``source``, nothing is taken of what comes after its head.

        Raises:
            ProtocolError: it is no answer.
            OSError: the connection broke.
        """
        return Response(source or _Unbuffered(self.sock), self._method)

    def close(self) -> None:
        """End it."""
        self.sock.close()


class _Unbuffered:
    """Byte by byte: the connection may become something else after the head."""

    def __init__(self, sock: socket.socket) -> None:
        self._file = sock.makefile("rb", buffering=0)

    def read1(self, size: int, /) -> bytes:
        return self._file.read(size) or b""

    def readline(self, size: int, /) -> bytes:
        return self._file.readline(size)

    def close(self) -> None:
        self._file.close()


def over_tcp(
    host: str, port: int, timeout_s: float, context: ssl.SSLContext | None = None
) -> Connection:
    """Return a connection to a host, by TLS if there is a context.

    Raises:
        OSError: nobody is there, or somebody who is not to be trusted.
        UnicodeError: that is no name of a host.
    """
    sock = socket.create_connection((host, port), timeout_s)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
    name = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
    return Connection(sock, f"{name}:{port}")
