"""A shell in a build's workspace, from the side of who types: messages with an agent.

One connection, which ends the shell when it breaks: nothing is tried again once it has begun.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rota.client.websocket import BINARY, CLOSE, PING, PONG, TEXT, Reader, frame
from rota.errors import (
    ConflictError,
    DeniedError,
    InputError,
    NotFoundError,
    RotaError,
    UnavailableError,
)

PIECE = 64 * 1024
#: So much input is kept on its way; more is not read from who types.
MAX_WAITING = 256 * 1024


_ERRORS: dict[str, type[RotaError]] = {
    kind.code: kind for kind in (InputError, DeniedError, NotFoundError, UnavailableError)
}


class Output(NamedTuple):
    """What was printed: to stream 1 or 2."""

    stream: int
    data: bytes


class Entered(NamedTuple):
    """Where the shell is."""

    build: str
    attempt: int
    agent: str
    running: bool
    missing: tuple[str, ...]


class Ended(NamedTuple):
    """How it ended: its exit code; and why, if not by itself."""

    code: int
    why: str


Heard = Output | Entered | Ended


class Shell:
    """A shell over an upgraded connection, which this closes. Its socket does not block.

    Wait for :meth:`fileno` to be readable, and for it to be writable while :attr:`is_sending`; then
    call :meth:`hear` and :meth:`flush`.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._reader = Reader()
        self._waiting = bytearray()
        self._is_over = False

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the connection's descriptor."""
        return self._sock.fileno()

    def begin(
        self,
        command: Sequence[str] = (),
        *,
        tty: bool = False,
        rows: int = 24,
        columns: int = 80,
        term: str = "xterm",
    ) -> None:
        """Say what to run: a program and its arguments, or a shell; with a terminal or without."""
        opening: dict[str, Any] = {"command": list(command)}
        if tty:
            opening["tty"] = {"rows": rows, "columns": columns, "term": term}
        self._tell(opening)

    def type(self, data: bytes) -> None:
        """Send input."""
        if data:
            self._waiting += frame(BINARY, data)

    def end_input(self) -> None:
        """Say that there is no more input."""
        self._tell({"eof": True})

    def resize(self, rows: int, columns: int) -> None:
        """Say how large the terminal is now."""
        self._tell({"resize": [rows, columns]})

    def _tell(self, message: dict[str, Any]) -> None:
        self._waiting += frame(TEXT, json.dumps(message).encode())

    @property
    def is_sending(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no more input should be read."""
        return len(self._waiting) > MAX_WAITING

    def flush(self) -> None:
        """Send as much as the connection takes now.

        Raises:
            UnavailableError: it broke.
        """
        while self._waiting:
            try:
                sent = self._sock.send(self._waiting[:PIECE])
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            except OSError as error:
                raise broke() from error
            del self._waiting[:sent]

    def hear(self) -> Iterator[Heard]:
        """Yield all that has arrived.

        Raises:
            UnavailableError: the connection broke, and the shell with it.
            RotaError: nothing was run; the text says why.
        """
        while True:
            try:
                data = self._sock.recv(PIECE)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                raise broke() from error
            yield from self._heard(data)
            if not data:
                if self._is_over:
                    return
                raise broke()

    def _heard(self, data: bytes) -> Iterator[Heard]:
        for message in self._reader.feed(data):
            if message.opcode == BINARY and message.data:
                yield Output(message.data[0], message.data[1:])
            elif message.opcode == TEXT:
                yield self._said(message.data)
            elif message.opcode == PING:
                self._waiting += frame(PONG, message.data)
            elif message.opcode == CLOSE and not self._is_over:
                raise broke()

    def _said(self, text: bytes) -> Heard:
        try:
            said = json.loads(text)
            if "error" in said:
                kind = _ERRORS.get(said.get("code", ""), ConflictError)
                raise kind(str(said["error"]), hint=said.get("hint"))
            if "exit" in said:
                self._is_over = True
                return Ended(int(said["exit"]), str(said.get("why", "")))
            entered = said["entered"]
            return Entered(
                entered["build"],
                entered["attempt"],
                entered["agent"],
                entered["running"],
                tuple(entered["missing"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UnavailableError(
                f"the agent says what this version cannot read: {error}"
            ) from error

    def close(self) -> None:
        """End the shell, if it has not ended. Safe to call twice."""
        self._sock.close()


def broke() -> UnavailableError:
    """Return the error that says what a broken connection means."""
    return UnavailableError(
        "the connection broke, and the shell has ended with it",
        hint="the workspace is where it was: see rota workspaces, and go in again",
    )
