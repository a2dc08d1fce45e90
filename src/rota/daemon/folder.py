"""The agent's data folder: who holds it, and the small files that a start needs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from rota.errors import ConflictError, InputError, UnavailableError

#: What is looked at: no backups, mounts or "lost+found" that somebody has there, too.
_FOLDERS = (
    "artifacts", "bin", "builds", "caches", "containers", "engine",
    "mirrors", "restored", "run", "scripts", "store.git", "tls",
)  # fmt: skip
_FILES = (
    "agent.toml", "bus", "cluster.json", "host", "join-tokens.json",
    "listen", "name", "peer", "token", "tools.json",
)  # fmt: skip
#: Folders of which the daemon reads each file itself; in others, builds have what is theirs.
_INNER = ("engine", "store.git", "tls")
#: Files that are written where they are; others are replaced.
_WRITTEN = ("agent.log", "agent.pid", "index.db", "index.db-shm", "index.db-wal", "tests.db")


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
        """Write a text, for nobody but this user.

        Raises:
            UnavailableError: it cannot be written; what was there is there still.
        """
        new = self.path / f"{name}.new"
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text + "\n")
            new.replace(self.path / name)
        except OSError as error:
            raise UnavailableError(
                f"cannot write {self.path / name}: {error.strerror}",
                hint="is the disk full, or is the folder somebody else's? rota doctor",
            ) from error

    def token(self) -> str:
        """Return the token that callers over TCP must show; made at the first start."""
        token = self.read("token")
        if not token:
            token = secrets.token_urlsafe(32)
            self.write("token", token)
        return token

    def make(self) -> None:
        """Make the folder if it is not there, and see that this user can use what it holds.

        What somebody else left in it, such as root by one start, is found here, and not in the middle of a start.

        Raises:
            InputError: the folder cannot be made, or something in it cannot be used.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the data folder {self.path}: {error.strerror}",
                hint="give another: rota agent --data DIR",
            ) from error
        _refuse_unusable(self.path)
        for name in (*_FOLDERS, *_FILES):
            _refuse_unusable(self.path / name)
        for name in _WRITTEN:
            _refuse_unusable(self.path / name, os.W_OK)
        for folder in (self.path / name for name in _INNER):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                _refuse_unusable(path)

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


def _refuse_unusable(path: Path, also: int = 0) -> None:
    """Refuse what this user cannot use: a folder wholly, a file at least to read.

    Raises:
        InputError: it is so.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return  # it was of a daemon that is just ending
    if stat.S_ISDIR(found.st_mode):
        also = os.W_OK | os.X_OK
    elif not stat.S_ISREG(found.st_mode):
        return
    if os.access(path, os.R_OK | also):
        return
    raise InputError(
        f"{_user(os.geteuid())} cannot use {path}: it belongs to {_user(found.st_uid)}, "
        f"with the rights {stat.filemode(found.st_mode)}",
        hint="all of a data folder belongs to the user that runs the agent, and is open to that user: chown -R, chmod -R u+rwX",
    )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def digest(token: str) -> str:
    """Return what others may know of a token: its SHA-256 in hex. It is random, so that is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
