"""An agent that answers what a test wants, over a real socket, and breaks off where it wants."""

import contextlib
import io
import json
import os
import socket
import socketserver
import ssl
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
    "leader_why": "a2 stopped",
    "members": 3,
    "voters": ["a1", "a2", "a3"],
    "tolerates": 1,
    "stale_since": None,
    "draining": False,
    "peer": "https://10.0.0.1:7071",
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
    "level": 2,
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
    """An answer. With ``break_at`` the connection breaks after so many bytes of the body.

    With ``cut_at`` it breaks after so many bytes of all of it, head and chunk sizes included; with
    ``dies`` the agent is gone by then; with ``hangs`` nothing breaks, and nothing more comes.
    """

    body: bytes = b"{}"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    chunk: int = 0  # send in chunks of so many bytes, 0: with Content-Length
    break_at: int | None = None
    cut_at: int | None = None
    dies: bool = False
    hangs: bool = False


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
    """Listens on a Unix socket, or on a TCP port; remembers what it was asked.

    With ``tls`` it speaks HTTPS.
    """

    def __init__(
        self, respond: Responder, path: Path | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.respond = respond
        self.path = path
        self.tls = tls
        self.asked: list[Asked] = []
        self.hanging = threading.Event()  # set: it does nothing more, and connections stay
        self.released = threading.Event()
        self._server: _UnixServer | _TcpServer | None = None
        self._thread: threading.Thread | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Where it listens, or did."""
        assert self._url
        return self._url

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
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        if self.path is not None:
            self._url = f"unix:{self.path}"
        else:
            scheme = "http" if self.tls is None else "https"
            self._url = f"{scheme}://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def die(self) -> None:
        """Be gone for those who connect from now on; also from within an answer."""
        assert self._server is not None
        self._server.shutdown()
        self._server.socket.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def down(self) -> None:
        """Stop to listen; the socket's file goes, too."""
        assert self._server is not None
        assert self._thread is not None
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
        if self.path is not None:
            self.path.unlink(missing_ok=True)


@contextmanager
def fake_agent(
    respond: Responder, path: Path | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[FakeAgent]:
    """Give an agent that is up, and take it down afterwards."""
    agent = FakeAgent(respond, path, tls)
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
            if agent.hanging.is_set():
                agent.released.wait(60)
                self.close_connection = True
                return
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
                self._break()
            elif reply.cut_at is None:
                with contextlib.suppress(ConnectionError):  # who asked may have gone meanwhile
                    self._send(reply)
            else:
                self._send_part(reply, reply.cut_at)

        def _send_part(self, reply: Reply, end: int) -> None:
            raw = wire_bytes(self, reply)
            with contextlib.suppress(OSError):
                self.connection.sendall(raw[:end])
            if reply.hangs:
                agent.hanging.set()
                agent.released.wait(60)
            if reply.dies:
                agent.die()
            self._break()

        def _break(self) -> None:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

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
                self._break()
            elif reply.chunk:
                self.wfile.write(b"0\r\n\r\n")

        def date_time_string(self, timestamp: float | None = None) -> str:
            return DATE

    for method in ("GET", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._answer)
    return Handler


def wire_bytes(handler: Any, reply: Reply) -> bytes:
    """Return all that an answer is on the wire."""
    kept, handler.wfile = handler.wfile, io.BytesIO()
    try:
        handler._send(reply._replace(cut_at=None))
        return bytes(handler.wfile.getvalue())
    finally:
        handler.wfile = kept


def _cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]
