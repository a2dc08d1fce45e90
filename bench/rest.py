"""A warm connection to an agent, over its Unix socket or over TCP."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 1 << 20


class RefusedError(Exception):
    """The agent answered with an error."""


class Connection:
    """One connection, opened at once and kept. For one thread at a time."""

    def __init__(self, data: Path, *, is_tcp: bool = False) -> None:
        self._headers: dict[str, str] = {}
        if is_tcp:
            host, _, port = (data / "listen").read_text().strip().rpartition(":")
            token = (data / "token").read_text().strip()
            self._headers["Authorization"] = f"Bearer {token}"
            self._http = http.client.HTTPConnection(host, int(port))
        else:
            self._http = _UnixConnection(data / "rota.sock")
        self._http.connect()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def show(self, token: str) -> None:
        """Show a token from now on."""
        self._headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, body: bytes = b"") -> Any:
        """Return the answer's JSON.

        Raises:
            RefusedError: the agent refused it.
        """
        self._http.request(method, path, body, self._headers)
        answer = self._http.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise RefusedError(f"{method} {path}: {answer.status} {data.decode()}")
        return json.loads(data)

    def stream(self, path: str) -> Iterator[memoryview]:
        """Yield the answer's bytes as they come; each piece is good until the next."""
        self._http.request("GET", path, headers=self._headers)
        answer = self._http.getresponse()
        if answer.status >= 400:
            raise RefusedError(f"GET {path}: {answer.status}")
        view = memoryview(bytearray(BLOCK))
        while size := answer.readinto(view):
            yield view[:size]

    def follow(self, path: str) -> Iterator[bytes]:
        """Yield what comes as soon as it does, in pieces of any size; ends with the connection."""
        self._http.request("GET", path, headers=self._headers)
        answer = self._http.getresponse()
        while piece := answer.read1(1 << 16):
            yield piece

    def put(self, job: str, script: str) -> None:
        """Define a job."""
        self.call("PUT", f"/v1/jobs/{job}", script.encode())

    def run(self, job: str) -> dict[str, Any]:
        """Trigger a build and return it."""
        build: dict[str, Any] = self.call("POST", f"/v1/jobs/{job}/builds")
        return build

    def wait(self, build: str) -> dict[str, Any]:
        """Return a build once it has finished.

        Raises:
            RefusedError: it did not pass.
        """
        while True:
            found: dict[str, Any] = self.call("GET", f"/v1/builds/{build}?wait=60")
            if found["state"] == "finished":
                break
        if found["result"] != "passed":
            raise RefusedError(f"{found['job']}#{found['number']} {found['result']}: {found}")
        return found

    def log(self, build: str) -> bytes:
        """Return a build's log."""
        return b"".join(bytes(piece) for piece in self.stream(f"/v1/builds/{build}/log"))

    def unfinished(self) -> int:
        """Return how many builds are queued or run."""
        status = self.call("GET", "/v1/status")
        return int(status["queued"]) + int(status["running"])


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))
