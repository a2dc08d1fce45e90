"""A session in a container: of a build that runs, or in one made for it where the build has ended."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rota.adapters.docker.attempt import remove
from rota.adapters.docker.body import container_body
from rota.adapters.docker.engine import Engine
from rota.adapters.docker.home import Home
from rota.adapters.docker.owner import give
from rota.adapters.docker.shell import Shell
from rota.errors import ExecutionError, NotFoundError, RotaError
from rota.ports.executor import Container, Task
from rota.ports.session import STDERR, STDOUT, Tty

if TYPE_CHECKING:
    from rota.adapters.docker.client import Stream

#: From the hang-up to SIGKILL.
GRACE_S = 1.0
#: How long the engine may take to say how a program ended.
CODE_S = 5.0
_LOOK_S = 0.02
_EOF = b"\x04"
#: The program leads a session of its own; its number, in the container, is what it is ended by.
_LAUNCH = 'echo "$$" 2>/dev/null >"$1"; cd -- "$2" || exit 126; unset $3; shift 3; exec "$@"'
_END = 'read -r rota_pid <"$1" && kill "-$2" "-$rota_pid" "$rota_pid"'
_HOLD = "read -r rota_line"


class ContainerSession:
    """Implements :class:`rota.ports.session.Session` with a program of the engine's.

    Args:
        engine: Which runs it.
        shell: What is mounted in the container.
        container: In which it runs.
        exec_id: The engine's name of it.
        stream: Its input and output.
        pid_file: In which its number stands.
        is_tty: Whether it has a terminal.
        is_own: Whether the container was made for it, and goes with it.
    """

    def __init__(
        self,
        engine: Engine,
        shell: Shell,
        *,
        container: str,
        exec_id: str,
        stream: Stream,
        pid_file: Path,
        is_tty: bool,
        is_own: bool,
    ) -> None:
        self._engine, self._shell = engine, shell
        self._container, self._exec, self._stream = container, exec_id, stream
        self._pid_file, self._is_tty, self._is_own = pid_file, is_tty, is_own
        self._code: int | None = None
        self._has_input, self._has_ended = True, False

    @property
    def code(self) -> int | None:
        """Its exit code as a shell would say it; ``None`` while it runs."""
        return self._code

    async def read(self) -> tuple[int, bytes] | None:
        """Return what it printed next; ``None`` once it is over."""
        if self._has_ended:
            return None
        piece = await self._stream.read()
        if piece is not None:
            stream, data = piece
            return (STDERR if stream == STDERR else STDOUT), data
        await self._settle()
        return None

    async def write(self, data: bytes) -> None:
        """Give it input; what nobody reads any more is dropped."""
        if self._has_input and self._code is None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                await self._stream.write(data)

    async def close_input(self) -> None:
        """Say that there is no more input."""
        if not self._has_input:
            return
        if self._is_tty:
            await self.write(_EOF)
            return
        self._has_input = False
        self._stream.end_input()

    def resize(self, rows: int, columns: int) -> None:
        """Say how large the terminal is now; the engine is told in the background."""
        if self._is_tty and self._code is None:
            self._stream.resize(rows, columns)

    async def end(self) -> None:
        """Hang up, then kill it; with a container of its own, all that is in it."""
        if self._has_ended:
            return
        self._has_ended = True
        try:
            if self._code is None:
                await self._signal("HUP")
                await self._settle(GRACE_S)
            if self._code is None:
                await self._signal("KILL")
            if self._is_own:
                await remove(self._engine, self._container)
            await self._settle(GRACE_S)
        finally:
            await self._stream.close()
            with contextlib.suppress(OSError):
                self._pid_file.unlink(missing_ok=True)
        if self._code is None:
            self._code = 137

    async def _signal(self, name: str) -> None:
        words = [*self._shell.words, "-c", _END, "rota", str(self._pid_file), name]
        # It may have ended just now, and the container with it.
        with contextlib.suppress(RotaError):
            body = {"Cmd": words, "User": "0", "AttachStdout": False}
            made = await self._engine.ask("POST", f"containers/{self._container}/exec", body=body)
            await self._engine.ask("POST", f"exec/{made['Id']}/start", body={"Detach": True})

    async def _settle(self, within_s: float = CODE_S) -> None:
        """Wait until the engine says how it ended."""
        if self._code is not None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while (code := await self._ended()) is None:  # noqa: ASYNC110 - the engine is asked
                    await asyncio.sleep(_LOOK_S)
                self._code = code

    async def _ended(self) -> int | None:
        try:
            told = await self._engine.ask("GET", f"exec/{self._exec}/json")
        except NotFoundError:
            return 137  # its container is gone, and with it what the engine knew
        if told.get("Running") or told.get("ExitCode") is None:
            return None
        return int(told["ExitCode"])


async def enter(
    engine: Engine, shell: Shell, task: Task, argv: Sequence[str], tty: Tty | None
) -> ContainerSession:
    """Start a program in the container of an attempt, or in one that is made like it.

    Raises:
        ExecutionError: it could not be started; nothing of it runs.
    """
    assert task.container is not None
    container, mark = task.container, secrets.token_hex(8)
    running = await _running(engine, task)
    name = running or await _made(engine, shell, task, container, mark)
    pid_file = Home(task.home).run / f"shell-{mark}"
    try:
        pid_file.parent.mkdir(mode=0o700, exist_ok=True)
        unset = " ".join(await _unwanted(engine, name, container, task.env))
        words = [*shell.words, "-c", _LAUNCH, "rota", str(pid_file), str(task.cwd), unset, *argv]
        env = {**task.env, **({"TERM": tty.term} if tty is not None else {})}
        body = {
            "Cmd": words,
            "Env": [f"{key}={value}" for key, value in env.items()],
            "User": container.user,
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": tty is not None,
        }
        made = await engine.ask("POST", f"containers/{name}/exec", body=body)
        stream = await engine.stream(str(made["Id"]), is_tty=tty is not None)
    except (RotaError, OSError) as error:
        if not running:
            await asyncio.shield(remove(engine, name))
        if isinstance(error, ExecutionError):
            raise
        text = error.message if isinstance(error, RotaError) else str(error)
        raise ExecutionError(f"cannot start a shell: {text}") from error
    session = ContainerSession(
        engine,
        shell,
        container=name,
        exec_id=str(made["Id"]),
        stream=stream,
        pid_file=pid_file,
        is_tty=tty is not None,
        is_own=not running,
    )
    if tty is not None:
        session.resize(tty.rows, tty.columns)
    return session


async def _running(engine: Engine, task: Task) -> str:
    """Return the name of an attempt's container; empty if it does not run."""
    record = Home(task.home).record()
    if record is None:
        return ""
    try:
        told = await engine.ask("GET", f"containers/{record.name}/json")
    except NotFoundError:
        return ""
    return record.name if told["State"].get("Running") else ""


async def _made(engine: Engine, shell: Shell, task: Task, container: Container, mark: str) -> str:
    """Start a container like that of the attempt, in which nothing runs yet; return its name."""
    body = await asyncio.to_thread(container_body, task, container, shell)
    # It waits for a line that nobody writes. What it is found by makes a sweep remove it, should it be left.
    held = {**body, "Entrypoint": [*shell.words, "-c", _HOLD], "Cmd": [], "OpenStdin": True}
    name = f"rota-shell-{mark}"
    try:
        await engine.ask("POST", "containers/create", params={"name": name}, body=held)
    except NotFoundError as error:
        raise ExecutionError(
            f"the image {container.called} is not there any more: {error.message}",
            hint="build it again: its workspace can be entered with an image alone",
        ) from error
    try:
        await give(engine, name, container.user, task)
        await engine.ask("POST", f"containers/{name}/start")
    except BaseException:
        await asyncio.shield(remove(engine, name))
        raise
    return name


async def _unwanted(
    engine: Engine, name: str, container: Container, env: Mapping[str, str]
) -> list[str]:
    """Return the variables of a container that a shell is not to have: secrets of its script."""
    there = await _variables(engine, f"containers/{name}/json")
    try:
        of_image = await _variables(engine, f"images/{container.image}/json")
    except NotFoundError:
        of_image = {}
    return sorted(it for it, value in there.items() if it not in env and of_image.get(it) != value)


async def _variables(engine: Engine, path: str) -> dict[str, str]:
    told: dict[str, Any] = await engine.ask("GET", path)
    words = (told.get("Config") or {}).get("Env") or ()
    return dict(word.partition("=")[::2] for word in words)
