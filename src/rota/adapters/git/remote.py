"""Git as it speaks with other people's repositories: no questions, no hooks, no surprises, an end.

The machine's own configuration holds here (credential helpers, proxies, ssh keys, ``insteadOf``), and
nothing that a repository brings along does. No git has a terminal: what would ask a person fails.
"""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from pathlib import Path

from rota.adapters.git.process import Git
from rota.core.scm import SCHEMES, shown
from rota.errors import CheckoutError

Tell = Callable[[str], None]

#: What of the daemon's environment concerns how a git reaches others.
_PASSED = (
    "HOME",
    "PATH",
    "USER",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)
_SAFE = {
    "safe.directory": "*",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "core.logAllRefUpdates": "false",
    "protocol.allow": "never",
    **{f"protocol.{scheme}.allow": "always" for scheme in SCHEMES},
    "fetch.unpackLimit": "1",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "advice.detachedHead": "false",
}
#: Without these a smudge filter of the machine would run on what a repository says it is for.
_NO_LFS = {"filter.lfs.process": "", "filter.lfs.smudge": "", "filter.lfs.required": "false"}
#: All together may take so long, however it moves.
MOST_S = 3600.0
MAX_SAID = 200


def outward(idle_s: float) -> dict[str, str]:
    """Return the environment of a git that reaches others."""
    settings = {
        **_SAFE,
        "http.lowSpeedLimit": "1",
        "http.lowSpeedTime": str(max(1, round(idle_s))),
        "credential.interactive": "false",
    }
    own = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {**own, **_fixed(settings)}


def inward(more: Mapping[str, str], *, lfs: bool = False) -> dict[str, str]:
    """Return the environment of a git that works on a workspace: the machine's settings do not hold."""
    env = {**_fixed({**_SAFE, **({} if lfs else _NO_LFS)}), **more}
    env |= {"PATH": os.environ.get("PATH", os.defpath), "GIT_CONFIG_NOSYSTEM": "1"}
    return {**env, "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": "/nonexistent"}


def _fixed(settings: Mapping[str, str]) -> dict[str, str]:
    env = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ":".join(SCHEMES)}
    env |= {"SSH_ASKPASS": "/bin/false", "GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        env |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return env


async def call(
    git: Git,
    *args: str,
    env: Mapping[str, str],
    idle_s: float,
    fds: tuple[int, ...] = (),
    cwd: Path | None = None,
    good: tuple[int, ...] = (0,),
) -> bytes:
    """Run ``git ARGS`` and return what it printed; ``good`` are the exit codes that are no error.

    Raises:
        CheckoutError: it ended with an error, or said nothing for ``idle_s``, or never came to an
            end; with its own words.
        UnavailableError: it could not be started.
    """
    where = ("-C", str(cwd)) if cwd is not None else ()
    said: list[str] = []
    out = bytearray()
    async with git.start("git", *where, *args, env=env, fds=fds) as process:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(MOST_S), asyncio.timeout(idle_s) as limit:
                await asyncio.gather(
                    _read(process, out, limit, idle_s), _listen(process, said, limit, idle_s)
                )
                await process.wait()
        except TimeoutError:
            raise CheckoutError(
                f"git {args[0]} was given up: nothing came for {idle_s:g} s{_after(said)}"
            ) from None
        if process.returncode not in good:
            words = "; ".join(said[-6:]) or f"git {args[0]} ended with {process.returncode}"
            raise CheckoutError(shown(words), hint=_hint(words))
    return bytes(out)


def _hint(words: str) -> str | None:
    if not any(it in words for it in ("prompts disabled", "Permission denied", "Host key")):
        return None
    return "the agent's git asks nobody: give its user a credential helper, or an ssh key and known hosts"


def _after(said: list[str]) -> str:
    return shown(f", after: {said[-1]}") if said else ""


async def _read(process: Process, out: bytearray, limit: asyncio.Timeout, idle_s: float) -> None:
    assert process.stdout is not None
    while piece := await process.stdout.read(1 << 16):
        out += piece
        limit.reschedule(asyncio.get_running_loop().time() + idle_s)


async def _listen(process: Process, said: list[str], limit: asyncio.Timeout, idle_s: float) -> None:
    """Keep what git says to a person; that it shows progress only says that it lives."""
    assert process.stderr is not None
    rest = b""
    while piece := await process.stderr.read(1 << 12):
        limit.reschedule(asyncio.get_running_loop().time() + idle_s)
        *lines, rest = (rest + piece)[-8192:].split(b"\n")
        said += _words(lines)
        del said[:-MAX_SAID]
    said += _words([rest])


def _words(lines: list[bytes]) -> list[str]:
    """Return lines without those that a progress bar went over."""
    texts = (line.rpartition(b"\r")[2].decode("utf-8", "replace").strip() for line in lines)
    return [
        text for text in texts if text and not text.endswith(("%", "done.")) and "% (" not in text
    ]
