"""An agent that answers what a test wants, over a real socket, and breaks off where it wants."""

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

BUILD: dict[str, Any] = {
    "id": "0123456789abcdef",
    "job": "web/test",
    "number": 7,
    "state": "finished",
    "result": "passed",
    "reason": "script",
    "exit_code": 0,
    "attempt": 1,
    "agent": "a1",
    "requested_at": "2026-01-02T03:04:00.000000Z",
    "started_at": "2026-01-02T03:04:01.000000Z",
    "finished_at": "2026-01-02T03:06:04.000000Z",
    "log_bytes": 12,
    "params": {},
    "trigger": {"by": "anna"},
    "message": "",
}
STATUS: dict[str, Any] = {
    "agent": "a1",
    "version": "0.1.0",
    "pid": 4242,
    "url": "http://127.0.0.1:7070",
    "data": "/var/lib/rota",
    "leader": "a1",
    "leader_since": "2026-01-02T03:04:05.000000Z",
    "started_at": "2026-01-02T03:04:05.000000Z",
    "seq": 41,
    "slots": 4,
    "labels": {"linux": "", "arch": "x86_64"},
    "running": 2,
    "queued": 3,
    "held": 0,
    "jobs": 12,
    "engine": "ok",
    "free_bytes": 12345678901,
    "durability": "what was acknowledged survives a power cut",
    "trouble": [],
}
DATE = "Fri, 02 Jan 2026 03:09:05 GMT"


class Asked(NamedTuple):
    """One request, decoded."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Reply(NamedTuple):
    """An answer. With ``break_at`` the connection breaks after so many bytes of the body."""

    body: bytes = b"{}"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    chunk: int = 0  # send in chunks of so many bytes, 0: with Content-Length
    break_at: int | None = None


def answer(value: object, status: int = 200, **headers: str) -> Reply:
    """Return ``value`` as a JSON answer."""
    named = tuple((name.replace("_", "-"), text) for name, text in headers.items())
    return Reply(json.dumps(value).encode(), status, named)


def problem(status: int, detail: str, **more: object) -> Reply:
    """Return an error as problem details."""
    return answer(
        {"type": "urn:x", "title": "Bad", "status": status, "detail": detail, **more}, status
    )


Responder = Callable[[Asked], Reply | None]
"""What the agent answers; ``None`` breaks the connection before the first byte."""


class FakeAgent:
    """Listens on a Unix socket, or on a TCP port; remembers what it was asked."""

    def __init__(self, respond: Responder, path: Path | None = None) -> None:
        self.respond = respond
        self.path = path
        self.asked: list[Asked] = []
        self._server: _UnixServer | _TcpServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        if self.path is not None:
            return f"unix:{self.path}"
        return f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def up(self) -> None:
        """Begin to listen."""
        handler = _handler(self)
        if self.path is None:
            self._server = _TcpServer(("127.0.0.1", 0), handler)
        else:
            # Relative to its folder, so that a path of any length works.
            here = Path.cwd()
            os.chdir(self.path.parent)
            try:
                self._server = _UnixServer(self.path.name, handler)
            finally:
                os.chdir(here)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def down(self) -> None:
        """Stop to listen; the socket's file goes, too."""
        assert self._server is not None
        assert self._thread is not None
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
        if self.path is not None:
            self.path.unlink()


@contextmanager
def fake_agent(respond: Responder, path: Path | None = None) -> Iterator[FakeAgent]:
    """Give an agent that is up, and take it down afterwards."""
    agent = FakeAgent(respond, path)
    agent.up()
    try:
        yield agent
    finally:
        agent.down()


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = True
    request_queue_size = 64


class _TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    block_on_close = True


def _handler(agent: FakeAgent) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            target = urlsplit(self.path)
            asked = Asked(
                self.command,
                unquote(target.path) if "%23" not in target.path else target.path,
                dict(parse_qsl(target.query, keep_blank_values=True)),
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            )
            agent.asked.append(asked)
            reply = agent.respond(asked)
            self.close_connection = True
            if reply is None:
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self._send(reply)

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            given = {name.lower() for name, _ in reply.headers}
            for name, value in reply.headers:
                self.send_header(name, value)
            if "content-type" not in given:
                self.send_header("Content-Type", "application/json")
            if reply.chunk:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            body = reply.body if reply.break_at is None else reply.body[: reply.break_at]
            for piece in _cut(body, reply.chunk) if reply.chunk else [body]:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if reply.chunk else piece)
            if reply.break_at is not None:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
            elif reply.chunk:
                self.wfile.write(b"0\r\n\r\n")

        def date_time_string(self, timestamp: float | None = None) -> str:
            return DATE

    for method in ("GET", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._answer)
    return Handler


def _cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]
