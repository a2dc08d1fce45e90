"""Tools that builds can use on this machine: found on the jobs' PATH, as labels.

A tool's version is what it says itself, asked once: the answer is kept in a file, by the program's
path, time and size, so that a restart starts no process. What hangs or prints without end is
killed; the label then stands without a version.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import stat
from asyncio.subprocess import STDOUT
from collections.abc import Awaitable, Callable, Mapping, Sequence
from io import FileIO
from pathlib import Path

import msgspec

from rota import child

logger = logging.getLogger(__name__)

#: Some start a virtual machine to say their name; what takes longer is asked again another day.
ASK_S = 2.0
#: Versions stand in the first lines.
MAX_OUTPUT = 16 * 1024
#: Processes at once: builds want to run, too.
AT_ONCE = max(2, os.cpu_count() or 1)
#: A tool that gave no answer in time is asked again at so many further looks.
TRIES = 3
SOCKET_S = 0.5
#: Between two looks of the watcher; a look costs a few hundred calls of stat(2).
LOOK_S = 600.0


class Tool(msgspec.Struct, frozen=True):
    """How a label is found: a program of one of these names, and what it says of its version.

    Without ``version`` it is not asked, and the label has no value.
    """

    label: str
    names: tuple[str, ...]
    ask: tuple[str, ...] = ()
    version: str = ""


class Answer(msgspec.Struct):
    """What is known of a program's version; ``tries`` counts the answers that did not come."""

    mtime_ns: int
    size: int
    version: str = ""
    tries: int = 0


class _Program(msgspec.Struct, frozen=True):
    tool: Tool
    path: str
    mtime_ns: int
    size: int


_MAJOR = r"(\d+)"
_MINOR = r"(\d+\.\d+)"
_DASHES = ("--version",)

#: Slow to ask, or they ask the network, or their version is not what jobs differ by.
_UNASKED = (
    *("mvn", "gradle", "sbt", "npm", "yarn", "pnpm", "bun", "deno", "composer", "mix"),
    *("ninja", "meson", "bazel", "ghc", "cabal", "stack", "zig", "swift", "ffmpeg"),
    *("kubectl", "helm", "terraform", "ansible", "nix", "buildah", "skopeo"),
)

TOOLS = (
    Tool("docker", ("docker",), _DASHES, rf"version v?{_MAJOR}"),
    Tool("podman", ("podman",), _DASHES, rf"version v?{_MAJOR}"),
    Tool("git", ("git",), _DASHES, rf"version {_MINOR}"),
    Tool("java", ("java",), ("-version",), rf'version "(?:1\.(?=[1-8]\b))?{_MAJOR}'),
    Tool("node", ("node", "nodejs"), _DASHES, rf"^v{_MAJOR}"),
    Tool("python", ("python3", "python"), _DASHES, rf"^Python {_MINOR}"),
    Tool("go", ("go",), ("version",), rf"\bgo{_MINOR}"),
    Tool("rust", ("rustc",), _DASHES, rf"^rustc {_MINOR}"),
    Tool("cargo", ("cargo",), _DASHES, rf"^cargo {_MINOR}"),
    Tool("gcc", ("gcc",), ("-dumpversion",), rf"^{_MAJOR}"),
    Tool("clang", ("clang",), ("-dumpversion",), rf"^{_MAJOR}"),
    Tool("cmake", ("cmake",), _DASHES, rf"version {_MINOR}"),
    Tool("make", ("make", "gmake"), _DASHES, rf"^GNU Make {_MINOR}"),
    Tool("dotnet", ("dotnet",), _DASHES, rf"^{_MAJOR}\."),
    Tool("ruby", ("ruby",), _DASHES, rf"^ruby {_MINOR}"),
    Tool("php", ("php",), _DASHES, rf"^PHP {_MINOR}"),
    Tool("perl", ("perl",), _DASHES, rf"\(v{_MINOR}"),
    Tool("uv", ("uv",), _DASHES, rf"^uv {_MINOR}"),
    *(Tool(name, (name,)) for name in _UNASKED),
)
#: Programs that are of use only while a server answers; relative paths are in $XDG_RUNTIME_DIR.
SOCKETS = {"docker": ("/run/docker.sock", "/var/run/docker.sock", "docker.sock")}


def known_tools(
    path: Sequence[str],
    cache: Path,
    *,
    tools: Sequence[Tool] = TOOLS,
    sockets: Mapping[str, Sequence[str]] = SOCKETS,
) -> dict[str, str]:
    """Return the labels of the tools in the folders ``path``, as far as no process is needed.

    A version that is not known yet is left out: the label stands without a value until
    :func:`find_tools` has asked. Cost: milliseconds, and up to half a second for a server whose
    socket does not answer; not for the event loop.
    """
    known = _read(cache)
    programs = _programs(path, tools, sockets)
    return {each.tool.label: _known(known, each).version for each in programs}


async def find_tools(
    path: Sequence[str],
    cache: Path,
    *,
    tools: Sequence[Tool] = TOOLS,
    sockets: Mapping[str, Sequence[str]] = SOCKETS,
) -> dict[str, str]:
    """Return the labels of the tools in the folders ``path``, such as ``{"java": "17"}``.

    Programs that ``cache`` does not know as they are now are asked for their versions, a few at a
    time, each for two seconds at most, without a shell and with nothing but ``PATH`` and ``HOME``
    in their environment. Never raises: what cannot be found out is left out.
    """
    known = await asyncio.to_thread(_read, cache)
    programs = await asyncio.to_thread(_programs, path, tools, sockets)
    answers = {each.path: _known(known, each) for each in programs}
    turn = asyncio.Semaphore(AT_ONCE)

    async def ask(program: _Program) -> None:
        async with turn:
            version = await _asked(program, path)
        before = answers[program.path]
        before.version = version or ""
        before.tries = before.tries + 1 if version is None else TRIES

    async with asyncio.TaskGroup() as group:
        for program in programs:
            if program.tool.version and answers[program.path].tries < TRIES:
                group.create_task(ask(program))
    if answers != known:
        await asyncio.to_thread(_write, cache, answers)
    return {each.tool.label: answers[each.path].version for each in programs}


async def watch_tools(
    path: Callable[[], Sequence[str]],
    cache: Path,
    changed: Callable[[dict[str, str]], Awaitable[None]],
    *,
    known: Mapping[str, str],
    again: asyncio.Event,
    look_s: float = LOOK_S,
    besides: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Call ``changed`` with all tools whenever they are others than before, for ever.

    It looks at once, then every ten minutes, and whenever ``again`` is set, which is what to do
    when ``path`` may return something else. What ``changed`` raises ends it.

    Args:
        path: Returns the folders of the jobs' PATH.
        cache: The file that remembers versions.
        changed: Told of the labels.
        known: The labels that were told already.
        again: Set to look again now; cleared here.
        look_s: Seconds between two looks.
        besides: Returns labels that are found in another way; called in a thread.
    """
    told = dict(known)
    while True:
        again.clear()
        found = {**await find_tools(path(), cache), **await asyncio.to_thread(besides)}
        if found != told:
            await changed(found)
            told = found
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(again.wait(), look_s)


# -- what is there ------------------------------------------------------------------------------


def _programs(
    path: Sequence[str], tools: Sequence[Tool], sockets: Mapping[str, Sequence[str]]
) -> list[_Program]:
    found = (_program(tool, path) for tool in tools)
    return [
        each
        for each in found
        if each is not None
        and (each.tool.label not in sockets or _answers(sockets[each.tool.label]))
    ]


def _program(tool: Tool, path: Sequence[str]) -> _Program | None:
    for name in tool.names:
        for folder in path:
            full = f"{folder}/{name}"
            try:
                status = os.stat(full)  # noqa: PTH116 - a third of the cost, hundreds of times
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and os.access(full, os.X_OK):
                return _Program(tool, full, status.st_mtime_ns, status.st_size)
    return None


def _answers(paths: Sequence[str]) -> bool:
    """Whether somebody listens at one of the sockets, and lets us in."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
    return any(_listens(runtime / path) for path in paths)


def _listens(path: Path) -> bool:
    try:
        if not path.is_socket():
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(SOCKET_S)
            probe.connect(str(path))
    except OSError:
        return False
    return True


# -- what it says -------------------------------------------------------------------------------


async def _asked(program: _Program, path: Sequence[str]) -> str | None:
    """Return the version that a program says, ``""`` if none can be read, ``None`` if it is late."""
    try:
        output = await _output(program, path)
    except TimeoutError:
        logger.info("%s says no version within %g s", program.path, ASK_S)
        return None
    except OSError as error:
        logger.info("%s cannot be started: %s", program.path, error.strerror)
        return ""
    match = re.search(program.tool.version, output.decode("utf-8", "replace"), re.MULTILINE)
    return match[1] if match else ""


async def _output(program: _Program, path: Sequence[str]) -> bytes:
    """Return the beginning of what a program prints; no process of it is left.

    Raises:
        TimeoutError: it does not come to an end of that in time.
        OSError: it cannot be started.
    """
    # A pipe of our own: asyncio's would make us wait for whoever else holds its other end.
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with open(reading, "rb", buffering=0) as output:  # noqa: PTH123 - a descriptor, not a path
        try:
            process = await child.begin(
                program.path,
                *program.tool.ask,
                stdout=writing,
                stderr=STDOUT,
                env={"PATH": ":".join(path), "HOME": _home()},
                cwd="/",
            )
        finally:
            os.close(writing)
        try:
            async with asyncio.timeout(ASK_S):
                return await _beginning(output)
        finally:
            await child.end(process)


async def _beginning(output: FileIO) -> bytes:
    stream = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(stream)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, output)
    said = b""
    try:
        while len(said) < MAX_OUTPUT and (piece := await stream.read(MAX_OUTPUT)):
            said += piece
    finally:
        transport.close()
    return said


# -- what was said ------------------------------------------------------------------------------


def _known(known: Mapping[str, Answer], program: _Program) -> Answer:
    """Return what is remembered of a program as it is now; nothing of one that was replaced."""
    answer = known.get(program.path)
    if answer is not None and (answer.mtime_ns, answer.size) == (program.mtime_ns, program.size):
        return msgspec.structs.replace(answer)
    return Answer(program.mtime_ns, program.size)


def _read(cache: Path) -> dict[str, Answer]:
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, Answer])
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}  # it is made again


def _write(cache: Path, answers: Mapping[str, Answer]) -> None:
    aside = cache.with_name(cache.name + ".new")
    try:
        aside.write_bytes(msgspec.json.encode(answers))
        aside.rename(cache)
    except OSError as error:
        logger.warning("cannot remember versions in %s: %s", cache, error.strerror)


def _home() -> str:
    try:
        return str(Path.home())
    except RuntimeError:
        return "/"  # a user without an entry, and without $HOME
