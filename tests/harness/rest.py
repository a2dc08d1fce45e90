"""A plain client of one agent's Unix socket or TCP port, for the load and for looking in.

It is not the product's own client, on purpose: it repeats nothing and moves on to nobody.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class RefusedError(Exception):
    """The agent answered with an error; ``status`` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status


class Told(NamedTuple):
    """One server-sent event."""

    id: str
    event: str
    data: str


class Rest:
    """One connection, opened at the first call. For one thread at a time."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self._http = _UnixConnection(path, timeout_s)

    def __enter__(self) -> Rest:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def call(self, method: str, target: str, body: object = None, **headers: str) -> Any:
        """Return the answer's JSON; ``body`` is sent as JSON unless it is bytes.

        Raises:
            RefusedError: the agent refused it.
            OSError: it does not answer, or broke off. Whether it did what was asked is open.
        """
        with self.open(method, target, body, **headers) as answer:
            try:
                return json.loads(answer.read() or b"null")
            except (http.client.HTTPException, ValueError) as error:
                raise ConnectionError(f"broke off: {error!r}") from error

    def open(
        self, method: str, target: str, body: object = None, **headers: str
    ) -> http.client.HTTPResponse:
        """Return the answer with its body unread.

        Raises:
            RefusedError, OSError: as for :meth:`call`.
        """
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else None
        if body is not None and data is None:
            data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            self._http.request(method, target, data, sent)
            answer = self._http.getresponse()
            if answer.status >= 400:
                raise RefusedError(answer.status, answer.read().decode(errors="replace"))
        except http.client.HTTPException as error:
            self._http.close()
            raise ConnectionError(f"broke off: {error!r}") from error
        except OSError:
            self._http.close()
            raise
        return answer

    def get_bytes(self, target: str) -> bytes:
        """Return the answer's bytes, all of them.

        Raises:
            RefusedError, OSError: as for :meth:`call`.
        """
        with self.open("GET", target) as answer:
            try:
                return answer.read()
            except http.client.HTTPException as error:
                raise ConnectionError(f"broke off: {error!r}") from error

    def events(self, target: str, last_id: str = "") -> Iterator[Told]:
        """Yield server-sent events until the answer ends or breaks off.

        Raises:
            RefusedError, OSError: as for :meth:`call`.
        """
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last_Event_ID"] = last_id
        with self.open("GET", target, **headers) as answer:
            fields: dict[str, str] = {}
            while line := _line(answer):
                name, _, value = line.decode().rstrip("\n").partition(":")
                if name:
                    fields[name] = value.removeprefix(" ")
                elif line == b"\n" and "data" in fields:
                    event = fields.get("event", "message")
                    yield Told(fields.get("id", ""), event, fields["data"])
                    fields = {}


def _line(answer: http.client.HTTPResponse) -> bytes:
    """Return the next whole line; nothing where the answer ends or breaks off."""
    try:
        line = answer.readline()
    except http.client.HTTPException:
        return b""
    return line if line.endswith(b"\n") else b""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            # By way of the folder's descriptor: a path of any length works.
            folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
            finally:
                os.close(folder)
        except OSError:
            self.sock.close()
            raise
