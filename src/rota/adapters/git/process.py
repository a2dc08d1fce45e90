"""Running the git executable: a clean environment, a bound on time, nothing left behind.

Every git we start keeps a file descriptor of the store's guard open (see ``repository``), so that
whoever opens the store next knows whether one of them still runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from rota import child
from rota.errors import RotaError, UnavailableError

#: A local git answers in milliseconds; what takes so long hangs on a dead disk.
TIMEOUT_S = 60.0
#: Between asking a git to end, which lets it remove its lock files, and ending it.
GRACE_S = 2.0

_CLEAN = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "rota",
    "GIT_AUTHOR_EMAIL": "rota@localhost",
    "GIT_COMMITTER_NAME": "rota",
    "GIT_COMMITTER_EMAIL": "rota@localhost",
    "LC_ALL": "C",
}


class GitFailedError(RotaError):
    """A git command ended with an error; ``message`` has git's own words. Stays in this package."""

    code = "git"


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return all variables a git runs with; ``settings`` go before those of the repository.

    The owner of the folder is not git's business here: who reaches the store is ours.
    """
    given = {"safe.directory": "*", **settings}
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        **_CLEAN,
        "GIT_CONFIG_COUNT": str(len(given)),
    }
    for number, (key, value) in enumerate(given.items()):
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    return env


class Git:
    """Starts gits on one repository and knows how many of them run."""

    def __init__(self, path: Path, guard: int | None = None) -> None:
        self._path = path
        self._fds = () if guard is None else (guard,)
        self._env = {**environment({"core.hooksPath": "/dev/null"}), "GIT_DIR": str(path)}
        self._running = 0

    @property
    def env(self) -> Mapping[str, str]:
        """All variables that its gits run with."""
        return self._env

    @property
    def is_idle(self) -> bool:
        """Whether no git that was started here runs."""
        return self._running == 0

    async def run(
        self, *args: str, data: bytes = b"", timeout_s: float = TIMEOUT_S, is_nice: bool = False
    ) -> bytes:
        """Run ``git ARGS`` with ``data`` as its input and return what it printed.

        Raises:
            GitFailedError: it ended with an error.
            UnavailableError: it took longer than ``timeout_s``, or there is no git.
        """
        command = ["nice", "-n", "10", "git", *args] if is_nice else ["git", *args]
        async with self.start(*command, env=self._env) as process:
            try:
                async with asyncio.timeout(timeout_s):
                    out, err = await _communicate(process, data)
            except TimeoutError as error:
                raise UnavailableError(
                    f"git {args[0]} took longer than {timeout_s:g} s", hint="look at the disk"
                ) from error
            if process.returncode:
                raise GitFailedError(words(err) or f"git {args[0]} ended by {process.returncode}")
        return out

    @contextlib.asynccontextmanager
    async def talk(self, *args: str) -> AsyncIterator[Process]:
        """Run ``git ARGS`` to be talked to; when the block is done, its output must be at an end.

        Leaving the block early, by an error, ends the process. How long the block takes is its
        own affair: a full pipe makes git wait.

        Raises:
            GitFailedError: it ended with an error, so that its output is not all.
        """
        async with self.start("git", *args, env=self._env) as process:
            yield process
            async with asyncio.timeout(TIMEOUT_S):
                _, err = await converse(process)
            if process.returncode:
                raise GitFailedError(words(err) or f"git {args[0]} ended by {process.returncode}")

    @contextlib.asynccontextmanager
    async def start(
        self, *command: str, env: Mapping[str, str], fds: tuple[int, ...] = ()
    ) -> AsyncIterator[Process]:
        """Start a command in a session of its own; leaving the block ends all of it.

        It inherits the descriptors ``fds`` under their numbers.

        Raises:
            UnavailableError: it could not be started.
        """
        try:
            process = await child.begin(
                *command, stdin=PIPE, env=env, cwd="/", pass_fds=(*self._fds, *fds)
            )
        except FileNotFoundError as error:
            raise UnavailableError(f"no {command[0]} on PATH", hint="install git 2.34+") from error
        except OSError as error:
            raise UnavailableError(f"cannot start {command[0]}: {error.strerror}") from error
        self._running += 1
        try:
            yield process
        finally:
            try:
                await _end(process)
            finally:
                self._running -= 1


async def _communicate(process: Process, data: bytes) -> tuple[bytes, bytes]:
    """Give ``data`` to a process and return its output and its errors, whole."""
    if data:
        try:
            return await process.communicate(data)
        except RuntimeError:
            # uvloop's word for a pipe whose reader has gone: git ended without reading its input.
            if process.stdin is None or not process.stdin.is_closing():
                raise
    elif process.stdin is not None:
        process.stdin.close()
    return await process.communicate()


async def feed(stdin: asyncio.StreamWriter | None, data: bytes) -> None:
    """Write to a process that may be gone, which is no error: its end tells why."""
    if stdin is not None and not stdin.is_closing():
        with contextlib.suppress(ConnectionError):
            stdin.write(data)
            await stdin.drain()


async def converse(process: Process, data: bytes = b"") -> tuple[bytes, bytes]:
    """Give a process the last of its input, and return what it still prints and says.

    Like ``Process.communicate``, which some event loops cannot do once the process is gone.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    _, out, err = await asyncio.gather(
        _feed_last(process, data), process.stdout.read(), process.stderr.read()
    )
    await process.wait()
    return out, err


async def _feed_last(process: Process, data: bytes) -> None:
    await feed(process.stdin, data)
    if process.stdin is not None:
        process.stdin.close()


def words(stderr: bytes) -> str:
    """Return what git said that a person needs, on one line."""
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("fatal: ", "error: "))]
    return "; ".join(said or lines[-1:])


async def _end(process: Process) -> None:
    """Make sure that the process is gone: asked first, so that it removes its locks."""
    if process.returncode is None:
        child.send(process, signal.SIGTERM)
        try:
            await child.is_gone(process, GRACE_S)
        finally:
            await child.end(process)
    if process.stdin is not None:
        process.stdin.close()
