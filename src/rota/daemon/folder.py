"""The agent's data folder: who holds it, and the small files that a start needs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from rota.errors import ConflictError


class DataFolder:
    """Small texts under a data folder, each in a file of its own; absent ones are empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> str:
        """Return a text; empty if there is none."""
        try:
            return (self.path / name).read_text().strip()
        except OSError:
            return ""

    def write(self, name: str, text: str) -> None:
        """Write a text, for nobody but this user."""
        new = self.path / f"{name}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        new.replace(self.path / name)

    def token(self) -> str:
        """Return the token that callers over TCP must show; made at the first start."""
        token = self.read("token")
        if not token:
            token = secrets.token_urlsafe(32)
            self.write("token", token)
        return token

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process, and write its id down.

        Raises:
            ConflictError: another process holds it.
        """
        path = self.path / "agent.pid"
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise ConflictError(
                    f"an agent runs in {self.path} already, as process {file.read().strip() or '?'}",
                    hint="stop it: rota stop; or give this one another folder: --data DIR",
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)


def digest(token: str) -> str:
    """Return what others may know of a token: its SHA-256 in hex. It is random, so that is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
